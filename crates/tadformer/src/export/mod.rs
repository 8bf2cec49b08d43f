//! A trained model as a folder for others: adapter, full model, backbone, or merged.

pub(crate) mod adapter;
mod card;
mod merged;

use crate::checkpoint::insert;
use crate::config::{Method, WeightsSource};
use crate::pretrained::is_plain;
use crate::{Config, Error, Predictor, Result, folder, report};
use std::path::Path;
use tadformer_files::Durability;
use tadformer_ops::Entry;
use tadformer_weights::StateDict;
use tadformer_weights::names::{self, Naming};

/// The tensors of an exported full or merged model, or of a backbone.
pub(crate) const MODEL: &str = "model.safetensors";

/// What to export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// What was trained, without the frozen weights: `adapter_config.json`, `adapter_model.safetensors`.
    Adapter,
    /// Every tensor: `config.toml`, `model.safetensors`.
    Full,
    /// The plain Swin Transformer with its norms, position bias tables and patch embedding as they are now, under timm's
    /// names: `model.safetensors`.
    Backbone,
    /// As `Full`, with the updates that no task stream shares folded into the frozen weights.
    Merged,
}

impl Export {
    /// Writes the folder `path`, with a model card `README.md` and the scores where the model has some.
    ///
    /// # Errors
    /// A folder that is there already or cannot be written; a model that has no such part, or that was packed.
    pub fn write(self, model: &Predictor, path: &Path) -> Result<()> {
        if model.entries().is_empty() {
            return Err(Error::Config(
                "the model was packed for prediction, so its tensors are gone; export from one opened anew"
                    .to_owned(),
            ));
        }
        let config = portable(model.config());
        folder::write(path, |folder| {
            let config = match self {
                Self::Adapter => adapter::write(model, config, folder)?,
                Self::Full => whole(config, model.entries(), folder)?,
                Self::Merged => {
                    let (config, entries) = merged::merge(model, config)?;
                    whole(config, &entries, folder)?
                }
                Self::Backbone => {
                    backbone(model, &folder.join(MODEL))?;
                    config
                }
            };
            if let Some(report) = model.report() {
                put(&folder.join(report::FILE), &report.to_json())?;
            }
            put(&folder.join("README.md"), card::card(self, model, &config)?.as_bytes())
        })
    }
}

/// The configuration without where this machine keeps the data set; what the model needs to know of it goes along.
fn portable(config: &Config) -> Config {
    let mut config = config.clone();
    config.data.root = None;
    config
}

/// Configuration and every tensor; the weights that the model was trained on are among them.
fn whole(mut config: Config, entries: &[Entry], folder: &Path) -> Result<Config> {
    config.model.weights = WeightsSource::None;
    let mut dict = StateDict::new();
    for entry in entries {
        insert(&mut dict, &entry.name, &entry.tensor)?;
    }
    dict.write_safetensors(folder.join(MODEL))?;
    put(&folder.join("config.toml"), config.to_toml()?.as_bytes())?;
    Ok(config)
}

/// Writes the plain Swin Transformer of a model under timm's names.
///
/// # Errors
/// A merged model, which has no plain weights, or a folder that cannot be written to.
pub(crate) fn backbone(model: &Predictor, path: &Path) -> Result<()> {
    if model.config().model.method == Method::Merged {
        return Err(Error::Config(
            "a merged model has no plain backbone: updates are folded into it; export from the run or full model"
                .to_owned(),
        ));
    }
    write_backbone(model.entries(), path)
}

/// Writes the plain Swin Transformer among `entries` under timm's names.
pub(crate) fn write_backbone(entries: &[Entry], path: &Path) -> Result<()> {
    let mut ours = StateDict::new();
    for entry in entries.iter().filter(|entry| is_plain(&entry.name)) {
        insert(&mut ours, &entry.name, &entry.tensor)?;
    }
    Ok(names::unmap(&ours, Naming::Timm)?.write_safetensors(path)?)
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    tadformer_files::write(path, bytes, Durability::Synced).map_err(Error::io("write", path))
}
