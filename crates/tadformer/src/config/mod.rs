//! One typed configuration, read from TOML, changed by `--set a.b=c`, written back fully resolved.

mod data;
mod model;
mod overrides;
mod train;

pub use data::{DataConfig, SyntheticSource};
pub use model::{AdaptationConfig, BackboneConfig, Method, ModelConfig, PositionBiasResize, WeightsSource};
pub use overrides::Override;
pub use train::TrainConfig;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tadformer_data::{toml_error, with_suggestion};
use tadformer_ops::Precision;

/// Everything a run depends on, apart from the files that it names.
///
/// ```
/// use tadformer::Config;
/// let config = Config::parse("seed = 3\n[data]\ntasks = [\"semseg\"]\n", "example", &["train.epochs=200".parse()?])?;
/// assert_eq!((config.seed, config.train.epochs), (3, 200));
/// let message = Config::parse("sead = 3\n", "example", &[]).unwrap_err().to_string();
/// assert!(message.contains("sead"), "{message}");
/// # Ok::<(), tadformer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seed of everything random.
    pub seed: u64,
    /// What operands of the linear layers' products are rounded to, in training and in use: `f32` (not at all) or `bf16`.
    #[serde(with = "PrecisionName")]
    pub precision: Precision,
    /// The network.
    pub model: ModelConfig,
    /// What it learns from.
    pub data: DataConfig,
    /// How it learns.
    pub train: TrainConfig,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Precision", rename_all = "lowercase")]
enum PrecisionName {
    F32,
    Bf16,
}

impl Config {
    /// Reads a file and applies overrides.
    ///
    /// # Errors
    /// A file that cannot be read; otherwise as [`parse`](Self::parse).
    pub fn read(path: &Path, overrides: &[Override]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read the configuration", path))?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// Parses TOML text that came from `origin` and applies overrides.
    ///
    /// # Errors
    /// Unknown keys and wrong values, with their place; values out of range, all at once.
    pub fn parse(text: &str, origin: &str, overrides: &[Override]) -> Result<Self> {
        let wrong = |message: String| Error::Config(format!("{origin}: {message}"));
        let mut config: Self = toml::from_str(text).map_err(|error| wrong(toml_error(text, &error)))?;
        let mut document: toml_edit::DocumentMut =
            text.parse().map_err(|error: toml_edit::TomlError| wrong(error.message().to_owned()))?;
        let own = config.all_problems(&document)?;
        for change in overrides {
            change.apply(&mut document)?;
            config = toml::from_str(&document.to_string()).map_err(|error| {
                Error::Config(format!("`{change}`: {}", with_suggestion(error.message())))
            })?;
        }
        let blame = |problem: String| {
            let named: Vec<_> = overrides.iter().filter(|change| change.is_named_in(&problem)).collect();
            let who = match named.last() {
                Some(change) => format!("`{change}`"),
                None if own.contains(&problem) => origin.to_owned(),
                // It takes all of them together.
                None => format!(
                    "{origin} with {}",
                    overrides.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ")
                ),
            };
            (who, problem)
        };
        let mut problems = config.all_problems(&document)?.into_iter().map(blame);
        let Some((first, problem)) = problems.next() else {
            return Ok(config);
        };
        let (mut last, mut message) = (first.clone(), format!("{first}: {problem}"));
        for (who, problem) in problems {
            message += &if who == last { format!("; {problem}") } else { format!("; {who}: {problem}") };
            last = who;
        }
        Err(Error::Config(message))
    }

    /// What is wrong with the configuration, and what of the document it was read from is not in it.
    fn all_problems(&self, document: &toml_edit::DocumentMut) -> Result<Vec<String>> {
        let given = toml::from_str(&document.to_string())
            .map_err(|error| Error::Config(format!("cannot be read again: {}", error.message())))?;
        let mut problems = unread_elements(&given, self)?;
        problems.extend(self.problems());
        Ok(problems)
    }

    /// The configuration as TOML, every key spelled out.
    ///
    /// # Errors
    /// None in practice: every configuration has a TOML form.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::Config(format!("cannot be written as TOML: {error}")))
    }

    /// Every value that is out of range or does not fit another, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        [self.model.problems(), self.data.problems(), self.train.problems()].concat()
    }
}

/// A sentence for each list of which only the beginning was read: serde fills a fixed number of places and does not look
/// at what follows.
fn unread_elements(given: &toml::Table, config: &Config) -> Result<Vec<String>> {
    let read = toml::Table::try_from(config)
        .map_err(|error| Error::Config(format!("cannot be written as TOML: {error}")))?;
    let mut problems = Vec::new();
    compare_lengths(&given.clone().into(), &read.into(), "", &mut problems);
    Ok(problems)
}

fn compare_lengths(given: &toml::Value, read: &toml::Value, key: &str, problems: &mut Vec<String>) {
    match (given, read) {
        (toml::Value::Table(given), toml::Value::Table(read)) => {
            for (name, given) in given {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                if let Some(read) = read.get(name) {
                    compare_lengths(given, read, &key, problems);
                }
            }
        }
        (toml::Value::Array(given), toml::Value::Array(read)) if given.len() != read.len() => {
            problems.push(format!("`{key}` has {} values, expected {}", given.len(), read.len()));
        }
        _ => {}
    }
}

/// Adds a sentence for each number that is not in its range.
pub(crate) fn out_of_range(
    problems: &mut Vec<String>,
    checks: &[(&str, f64, std::ops::RangeInclusive<f64>)],
) {
    for (name, value, range) in checks {
        if !range.contains(value) {
            problems.push(format!("`{name}` is {value}, expected {} to {}", range.start(), range.end()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolved_configuration_reads_back_as_itself() {
        let config = Config::default();
        let text = config.to_toml().unwrap();
        assert_eq!(Config::parse(&text, "resolved", &[]).unwrap(), config);
        // Beside a backbone by name as beside one by its sizes.
        for backbone in [
            "\"swin-tiny\"",
            "{ embed_dim = 8, depths = [1, 1, 1, 1], num_heads = [1, 1, 1, 1], window_size = 4 }",
        ] {
            let keys = "window_padding = \"zeros\"\nposition_bias_resize = \"geometric\"";
            let text = format!("[model]\n{keys}\nbackbone = {backbone}\n[model.adaptation]\nrank = 4\n");
            let config = Config::parse(&text, "c.toml", &[]).unwrap();
            assert_eq!(config.model.swin().window_padding, tadformer_backbone::WindowPadding::Zeros);
            let again = Config::parse(&config.to_toml().unwrap(), "resolved", &[]).unwrap();
            assert_eq!(again, config);
            assert_eq!(again.model.position_bias_resize, PositionBiasResize::Geometric);
        }
    }

    #[test]
    fn typos_wrong_types_and_values_out_of_range_are_named() {
        let message = |text: &str, set: &[&str]| {
            let set: Vec<Override> = set.iter().map(|s| s.parse().unwrap()).collect();
            Config::parse(text, "c.toml", &set).unwrap_err().to_string()
        };
        assert!(message("[train]\nepoch = 3\n", &[]).contains("unknown field `epoch`"));
        assert!(message("[train]\nepochs = \"x\"\n", &[]).contains("line 2"));
        let typo = message("", &["train.batchsize=3"]);
        assert!(typo.contains("--set train.batchsize=3") && typo.contains("batch_size"), "{typo}");
        let several = message("[train]\nbatch_size = 0\n[data]\nsize = [0, 224]\n", &[]);
        assert!(several.contains("train.batch_size") && several.contains("data.size"), "{several}");
        assert!(message("[data]\ntasks = [\"segsem\"]\n", &[]).contains("segsem"));
        let stages = message("", &["train.grad_checkpointing=[4, 1, 1]"]);
        assert!(
            stages.contains("`train.grad_checkpointing` names stage 4, expected some of 0 to 3"),
            "{stages}"
        );
        assert!(stages.contains("`train.grad_checkpointing` names stage 1 twice"), "{stages}");
        let set = ["train.grad_checkpointing=[0,1]".parse().unwrap()];
        assert_eq!(Config::parse("", "c.toml", &set).unwrap().train.grad_checkpointing, [0, 1]);
    }

    #[test]
    fn a_value_is_blamed_on_where_it_came_from() {
        let message = |text: &str, changes: &[Override]| {
            Config::parse(text, "c.toml", changes).unwrap_err().to_string()
        };
        let set = |text: &str| text.parse::<Override>().unwrap();
        let rank = Override::flag("--rank", "model.adaptation.rank", 0);
        let found = message("", std::slice::from_ref(&rank));
        assert!(found.starts_with("configuration: `--rank 0`: `model.adaptation.rank` is 0"), "{found}");
        let found = message("", &[set("train.batch_size=0"), rank]);
        assert!(found.contains("`--set train.batch_size=0`: `train.batch_size` is 0"), "{found}");
        assert!(
            found.contains("`--rank 0`: `model.adaptation.rank` is 0") && !found.contains("c.toml"),
            "{found}"
        );
        let found = message("[train]\nbatch_size = 0\n", &[set("seed=3")]);
        assert!(found.starts_with("configuration: c.toml: `train.batch_size` is 0"), "{found}");
        let found = message("[train]\nbatch_size = 0\n", &[set("data.size=[0,32]")]);
        assert!(found.contains("`--set data.size=[0,32]`: `data.size[0]` is 0"), "{found}");
        assert!(found.contains("c.toml: `train.batch_size` is 0"), "{found}");
        let found = message("", &[Override::flag("--epochs", "train.epochs", 10)]);
        assert!(found.contains("--epochs 10") && found.contains("warmup_epochs"), "{found}");
        let found = message("", &[Override::flag("--seed", "seed", -1)]);
        assert!(found.starts_with("configuration: `--seed -1`: ") && found.contains("expected"), "{found}");
    }

    #[test]
    fn what_was_probably_meant_is_said() {
        let message = |text: &str, set: &[&str]| {
            let set: Vec<Override> = set.iter().map(|s| s.parse().unwrap()).collect();
            Config::parse(text, "c.toml", &set).unwrap_err().to_string()
        };
        for (text, set, right) in [
            ("[train]\nepoch = 3\n", vec![], "epochs"),
            ("", vec!["train.batchsize=3"], "batch_size"),
            ("", vec!["trian.epochs=3"], "train"),
            ("", vec!["model.method=tadfromer"], "tadformer"),
            ("", vec!["model.backbone=swin-tinny"], "swin-tiny"),
            ("[data]\ntasks = [\"segsem\"]\n", vec![], "semseg"),
        ] {
            let found = message(text, &set);
            assert!(found.ends_with(&format!("; did you mean `{right}`?")), "{found}");
        }
    }

    #[test]
    fn a_list_of_the_wrong_length_is_refused() {
        let message = |text: &str, set: &[&str]| {
            let set: Vec<Override> = set.iter().map(|s| s.parse().unwrap()).collect();
            Config::parse(text, "c.toml", &set).unwrap_err().to_string()
        };
        let three = message("", &["data.size=[32,32,32]"]);
        assert!(three.contains("`data.size` has 3 values, expected 2"), "{three}");
        let five = message("[model.decoder]\ntype = \"hrnet\"\nchannels = [1, 2, 3, 4, 5]\n", &[]);
        assert!(five.contains("[model.decoder]") && five.contains("length 5, expected 4"), "{five}");
        assert!(message("", &["data.size=[32]"]).contains("data.size"));
        // Lists whose length is free are read whole.
        assert!(Config::parse("[data]\ntasks = [\"sal\", \"depth\", \"edge\"]\n", "c.toml", &[]).is_ok());
    }
}
