//! Command line of TADFormer: arguments in, calls out.

mod args;
mod process;
mod say;
mod progress;
mod signals;
mod commands;

use anyhow::Result;
use args::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    process::prepare();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => return explain(&message),
    };
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            say::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints what is wrong with the arguments, or the help that they ask for.
fn explain(message: &clap::Error) -> ExitCode {
    if message.use_stderr() {
        // Where it cannot be printed, the exit code has to tell.
        let _ = message.print();
        return ExitCode::from(2);
    }
    // Help is the result of its command.
    match message.print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => say::end_as_if_by_a_closed_pipe(),
        Err(error) => {
            say::error(&anyhow::Error::new(error).context("cannot write to the standard output"));
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
