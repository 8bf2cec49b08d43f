//! From arguments to a configuration.

use crate::args::ConfigArgs;
use anyhow::{Context, Result, bail};
use std::path::Path;
use tadformer::config::DataConfig;
use tadformer::{Config, Override};
use tadformer_data::did_you_mean;

/// The configurations that come with the program, by name.
const PRESETS: [(&str, &str); 5] = [
    ("quickstart", include_str!("../../../../configs/quickstart.toml")),
    ("pascal-context", include_str!("../../../../configs/pascal-context.toml")),
    ("nyud", include_str!("../../../../configs/nyud.toml")),
    ("cityscapes", include_str!("../../../../configs/cityscapes.toml")),
    ("bsds500", include_str!("../../../../configs/bsds500.toml")),
];

/// The configuration that the arguments ask for, and a name for its run; `otherwise` is the preset where they name
/// neither a file nor a data set with a preset of its own.
pub(crate) fn resolve(args: &ConfigArgs, otherwise: &str) -> Result<(Config, String)> {
    let mut tasks = None;
    let (text, name) = match (&args.config, args.data.as_deref()) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration `{}`", path.display()))?;
            (text, path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
        }
        (None, Some("synthetic")) => preset("quickstart")?,
        (None, Some(data)) if args.root.is_some() && !PRESETS.iter().any(|(name, _)| *name == data) => {
            // A folder with a descriptor of its own, under the name that it gives itself or as `folder`.
            tasks = descriptor_tasks(args, data)?;
            (preset("pascal-context")?.0, data.to_owned())
        }
        (None, Some(data)) => preset(data)?,
        (None, None) => preset(otherwise)?,
    };
    let origin = match &args.config {
        Some(path) => path.display().to_string(),
        None => format!("preset `{name}`"),
    };
    Ok((changed(args, &text, &origin, tasks)?, name))
}

/// All tasks that the descriptor in the folder `--root` labels; nothing where `--tasks` says which.
fn descriptor_tasks(args: &ConfigArgs, data: &str) -> Result<Option<Override>> {
    let Some(root) = args.root.as_ref().filter(|_| args.tasks.is_empty()) else { return Ok(None) };
    let descriptor = tadformer_data::dataset::descriptor(data, root)?;
    let tasks: Vec<String> = descriptor.tasks.iter().map(|task| task.task.clone()).collect();
    Ok(Some(Override::new("data.tasks", Override::list(&tasks))))
}

/// The configuration of the text `text`, which came from `origin`, with what the arguments change.
pub(crate) fn change(args: &ConfigArgs, text: &str, origin: &str) -> Result<Config> {
    changed(args, text, origin, None)
}

/// The same, after `first`; what the arguments say goes before it.
fn changed(args: &ConfigArgs, text: &str, origin: &str, first: Option<Override>) -> Result<Config> {
    let base = Config::parse(text, origin, &[])?;
    let mut changes: Vec<Override> = first.into_iter().collect();
    changes.extend(overrides(args, &base)?);
    changes.extend(args.set.iter().cloned());
    let mut config = Config::parse(text, origin, &changes)?;
    let set = |config: &Config| {
        let DataConfig { name, root, synthetic, .. } = &config.data;
        (name.clone(), root.clone(), synthetic.domain)
    };
    if set(&config) != set(&base) {
        // They were those of another data set.
        config.data.labels.clear();
    }
    Ok(config)
}

fn preset(name: &str) -> Result<(String, String)> {
    match PRESETS.iter().find(|(known, _)| *known == name) {
        Some((name, text)) => Ok(((*text).to_owned(), (*name).to_owned())),
        None => {
            let known: Vec<_> = PRESETS.iter().skip(1).map(|(name, _)| *name).collect();
            let nearest = did_you_mean(name, known.iter().copied().chain(["synthetic", "folder"]));
            bail!(
                "`--data {name}`: expected `synthetic`, `{}`, or with `--root` a folder that has a `dataset.toml`{nearest}",
                known.join("`, `")
            )
        }
    }
}

/// What the flags change.
fn overrides(args: &ConfigArgs, base: &Config) -> Result<Vec<Override>> {
    let mut changes = Vec::new();
    if let Some(data) = &args.data {
        changes.push(Override::flag("--data", "data.name", data.as_str()));
    }
    if let Some(root) = &args.root {
        changes.push(Override::flag("--root", "data.root", utf8("--root", root)?));
    }
    if !args.tasks.is_empty() {
        changes.push(Override::flag("--tasks", "data.tasks", Override::list(&args.tasks)));
    }
    if let Some(backbone) = &args.backbone {
        changes.push(Override::flag("--backbone", "model.backbone", backbone.as_str()));
    }
    if let Some(weights) = &args.weights {
        changes.push(Override::flag("--weights", "model.weights", weights.as_str()));
    }
    if let Some(epochs) = args.epochs {
        let warmup = base.train.schedule.warmup_epochs as i64;
        let warmup = (warmup.saturating_mul(epochs) / base.train.epochs as i64).min(warmup);
        // The warm-up goes first: every single change must leave a valid configuration.
        changes.push(Override::new("train.schedule.warmup_epochs", warmup.max(0)));
        changes.push(Override::flag("--epochs", "train.epochs", epochs));
    }
    let numbers = [
        ("--rank", "model.adaptation.rank", args.rank),
        ("--batch-size", "train.batch_size", args.batch_size),
        ("--seed", "seed", args.seed),
    ];
    for (flag, key, value) in numbers {
        changes.extend(value.map(|value| Override::flag(flag, key, value)));
    }
    Ok(changes)
}

/// A path as a configuration holds it. TOML is UTF-8, and a name that is only like the folder's would be another folder.
pub(crate) fn utf8<'a>(flag: &str, path: &'a Path) -> Result<&'a str> {
    path.to_str().with_context(|| {
        format!(
            "`{flag} {}`: the name is not UTF-8, and the run's configuration, a UTF-8 text, has to hold it; rename the folder \
             or give a link to it",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_resolves() {
        for (name, text) in PRESETS {
            Config::parse(text, name, &[]).unwrap();
        }
    }

    #[test]
    fn presets_that_are_compared_with_published_figures_pad_as_published_readers_do() {
        for name in ["pascal-context", "nyud", "cityscapes"] {
            let (_, text) = PRESETS.into_iter().find(|(known, _)| *known == name).unwrap();
            let config = Config::parse(text, name, &[]).unwrap();
            assert!(config.to_toml().unwrap().contains("window_padding = \"zeros\""), "{name}");
        }
    }
}
