//! `finetune`.

use super::config::resolve;
use crate::args::Finetune;
use crate::progress::TrainingProgress;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::ExitCode;
use tadformer::{ParameterCount, RunDir, Session, Trainer};

pub(crate) fn run(args: &Finetune) -> Result<ExitCode> {
    let mut trainer = match &args.resume {
        Some(path) => {
            if args.config.changes_more_than_settings() {
                bail!(
                    "`--resume` goes on with the run's own configuration; change single settings with `--set`"
                );
            }
            let run = RunDir::open(path)?;
            Trainer::resume(run.config(&args.config.set)?, run)?
        }
        None => {
            let (config, name) = resolve(&args.config, "quickstart")?;
            // Data or weights that are not there should not leave a folder behind.
            config.data.open_train(config.seed)?;
            config.data.open_val(config.seed)?;
            let session = Session::fresh(config)?;
            let run = match &args.output {
                Some(path) => RunDir::create(path, &session.config)?,
                None => RunDir::create_numbered(Path::new("runs"), &name, &session.config)?,
            };
            Trainer::new(session, run)?
        }
    };
    if !args.quiet {
        let count = ParameterCount::of(&trainer.session().store.entries());
        let tasks: Vec<_> = trainer.session().specs.iter().map(|spec| spec.task.name).collect();
        eprintln!(
            "{} of {} parameters train, for {}; the run is in `{}`",
            grouped(count.trainable),
            grouped(count.total),
            tasks.join(", "),
            trainer.run_dir().path().display()
        );
    }
    let mut progress = TrainingProgress::new(args.quiet);
    let result = trainer.run(&mut progress).map(tadformer::Report::table);
    progress.finish();
    println!("{}", result?);
    println!("Pictures, scores and checkpoints are in `{}`.", trainer.run_dir().path().display());
    Ok(ExitCode::SUCCESS)
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!(
            ["7", "1,234", "7,379,262"],
            [7, 1234, 7_379_262].map(super::grouped).each_ref().map(String::as_str)
        );
    }
}
