//! Command line of TADFormer: arguments in, calls out.

mod args;
mod process;
mod progress;
mod commands;

use anyhow::Result;
use args::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    process::prepare();
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    tadformer::simd_limit()?;
    match command {
        Command::Finetune(arguments) => commands::finetune::run(&arguments),
        Command::Eval(arguments) => commands::eval::run(&arguments),
        Command::Predict(arguments) => commands::predict::run(&arguments),
        Command::Import(arguments) => commands::import::run(&arguments),
        Command::Export(arguments) => commands::export::run(&arguments),
        Command::Params(arguments) => commands::params::run(&arguments),
        Command::Data(arguments) => commands::data::run(&arguments),
    }
}
