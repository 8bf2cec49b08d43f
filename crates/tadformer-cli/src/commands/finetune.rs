//! `finetune`.

use super::config::{change, resolve};
use super::weights;
use crate::args::{ConfigArgs, Finetune};
use crate::progress::TrainingProgress;
use crate::say::{note, out};
use crate::signals::Signals;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::ExitCode;
use tadformer::{Config, Override, ParameterCount, Predictor, RunDir, SavedModel, Session, Trainer};

pub(crate) fn run(args: &Finetune) -> Result<ExitCode> {
    let mut trainer = match &args.resume {
        Some(path) => {
            if args.config.changes_more_than_settings() {
                bail!(
                    "`--resume` goes on with the run's own configuration; change single settings with `--set`"
                );
            }
            let run = RunDir::open(path)?;
            let config = run.config(&args.config.set)?;
            weights::fetch(&config)?;
            Trainer::resume(config, run)?
        }
        None => {
            let (mut config, name) = match &args.from {
                Some(folder) => continued(&args.config, folder)?,
                None => resolve(&args.config, "quickstart")?,
            };
            // A new run is made for what the data mean now, whatever configuration it begins with.
            config.data.describe()?;
            // Data or weights that are not there should not leave a folder behind.
            config.data.open_train(config.seed)?;
            config.data.open_val(config.seed)?;
            for warning in config.data.look_at_labels()? {
                note!("warning: {warning}");
            }
            weights::fetch(&config)?;
            let session = match &args.from {
                Some(folder) => begun_with(folder, config, args)?,
                None => Session::fresh(config)?,
            };
            if !session.unknown.is_empty() {
                note!("left out of the weight file: `{}`", session.unknown.join("`, `"));
            }
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
        note!(
            "{} of {} parameters train, for {}, products in {}; the run is in `{}`",
            grouped(count.trainable),
            grouped(count.total),
            tasks.join(", "),
            trainer.session().config.precision,
            trainer.run_dir().path().display()
        );
    }
    for note in trainer.notes() {
        note!("warning: {note}");
    }
    let deadline = trainer.session().config.train.save_deadline;
    let signals = Signals::listen(trainer.control(), deadline).context("cannot listen for signals")?;
    let mut progress = TrainingProgress::new(args.quiet);
    let result = trainer.run(&mut progress).map(tadformer::Report::table);
    progress.finish();
    let table = result?;
    if !trainer.is_finished() {
        let (done, of) = trainer.updates();
        let run = trainer.run_dir().path().display();
        note!(
            "stopped and saved after update {done} of {of}; go on with `tadformer-cli finetune --resume {run}`"
        );
        return Ok(ExitCode::from(signals.exit_code()));
    }
    out!("{table}")?;
    out!("Pictures, scores and checkpoints are in `{}`.", trainer.run_dir().path().display())?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration of the model in `folder` with what the arguments change, and a name for the new run.
fn continued(args: &ConfigArgs, folder: &Path) -> Result<(Config, String)> {
    if args.config.is_some() {
        bail!("`--from` brings the configuration of its model; change it with flags and `--set`");
    }
    let text = SavedModel::config_of(folder, &[])?.to_toml()?;
    let config = change(args, &text, &folder.display().to_string())?;
    let name = config.data.name.clone();
    Ok((config, name))
}

/// The model of `config`, begun with the trained weights of the one in `folder`.
fn begun_with(folder: &Path, config: Config, args: &Finetune) -> Result<Session> {
    let model = on_its_weights(folder, &config)?;
    let (session, transfer) = Session::starting_from(config, &model)?;
    if args.strict && !transfer.is_complete() {
        bail!("`--strict`: `{}` does not fit the new model whole\n{transfer}", folder.display());
    }
    if !args.quiet {
        eprintln!("from `{}`:\n{transfer}", folder.display());
    }
    Ok(session)
}

/// The model in `folder` on the weights that `config` names.
fn on_its_weights(folder: &Path, config: &Config) -> Result<Predictor> {
    let weights = String::from(config.model.weights.clone());
    Ok(Predictor::open(folder, &[Override::new("model.weights", weights.as_str())])?)
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
