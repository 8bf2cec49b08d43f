//! A trained model on disk, in whichever of its forms.

use crate::checkpoint::Checkpoint;
use crate::complete::Complete;
use crate::export;
use crate::export::adapter::{self, AdapterConfig};
use crate::folder::is_file;
use crate::from_file::{all_to_candle, refused};
use crate::report::Report;
use crate::run::RunDir;
use crate::shared_backbone::SharedBackbone;
use crate::{Config, Error, MultiTaskModel, Origin, Override, Result};
use candle_core::Tensor;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tadformer_data::TaskSpec;
use tadformer_ops::{Entry, Role};
use tadformer_weights::StateDict;

/// A trained model as a run keeps it or as `export` wrote it: its configuration and its tensors, without the weights
/// that it may share.
#[derive(Debug)]
pub struct SavedModel {
    file: PathBuf,
    config: Config,
    tensors: HashMap<String, Tensor>,
    base: Base,
    report: Option<Report>,
}

/// What its tensors stand on.
#[derive(Debug)]
enum Base {
    /// Nothing: they are all there.
    Nothing,
    /// The weight file of this checksum, or weights drawn from the configuration's seed.
    File(Option<Origin>),
    /// Frozen weights with this fingerprint.
    Fingerprint(String),
}

/// What a folder holds.
enum Form {
    Run,
    Adapter,
    Whole,
}

impl Form {
    fn of(folder: &Path) -> Result<Self> {
        let has = |name: &str| is_file(&folder.join(name));
        if has(adapter::CONFIG)? {
            Ok(Self::Adapter)
        } else if has("config.toml")? {
            Ok(if has(export::MODEL)? { Self::Whole } else { Self::Run })
        } else {
            Err(Error::file(
                folder,
                "holds no run: there is no `config.toml` in it, and no `adapter_config.json` of an exported adapter",
            ))
        }
    }
}

impl SavedModel {
    /// The model in `folder`: of a run the best one, or the last where no best one was kept; otherwise an exported adapter,
    /// full or merged model.
    ///
    /// # Errors
    /// A folder with none of these, or files that are damaged.
    pub fn open(folder: &Path, overrides: &[Override]) -> Result<Self> {
        let config = Self::config_of(folder, overrides)?;
        let mut report = Report::find(folder)?;
        match Form::of(folder)? {
            Form::Run => {
                let run = RunDir::open(folder)?;
                let checkpoints = run.checkpoints();
                let best = checkpoints.best();
                let checkpoint = if is_file(&best)? {
                    Checkpoint::read(&best)?
                } else {
                    checkpoints.newest()?.ok_or_else(|| run.without_checkpoint())?.checkpoint
                };
                let file = checkpoint.path().to_owned();
                let Checkpoint { state, tensors, .. } = checkpoint;
                if let Some(report) = report.as_mut().filter(|_| file == best) {
                    report.best_is(state.epoch);
                }
                Ok(Self { file, config, tensors, base: Base::File(state.origin), report })
            }
            Form::Adapter => {
                let file = folder.join(adapter::TENSORS);
                let tensors = adapter::read_tensors(&file)?;
                let AdapterConfig { frozen_blake3, .. } = AdapterConfig::read(&folder.join(adapter::CONFIG))?;
                Ok(Self { file, config, tensors, base: Base::Fingerprint(frozen_blake3), report })
            }
            Form::Whole => {
                let file = folder.join(export::MODEL);
                let dict = StateDict::read(&file)?;
                let tensors = all_to_candle(dict.iter().as_slice()).map_err(refused(&file, &dict))?;
                Ok(Self { file, config, tensors, base: Base::Nothing, report })
            }
        }
    }

    /// The configuration of the model in `folder`, with changes; its tensors are not read.
    ///
    /// # Errors
    /// A folder without a model, or a configuration that cannot be understood.
    pub fn config_of(folder: &Path, overrides: &[Override]) -> Result<Config> {
        match Form::of(folder)? {
            Form::Run | Form::Whole => RunDir::open(folder)?.config(overrides),
            Form::Adapter => {
                let path = folder.join(adapter::CONFIG);
                let text = AdapterConfig::read(&path)?.config.to_toml()?;
                Config::parse(&text, &path.display().to_string(), overrides)
            }
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its scores, where they were kept with it.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Configuration, scores and the file, after [`build`](Self::build) has taken the tensors.
    pub(crate) fn into_parts(self) -> (Config, Option<Report>, PathBuf) {
        (self.config, self.report, self.file)
    }

    /// Whether all its tensors are its own: it then needs no backbone.
    pub fn is_whole(&self) -> bool {
        matches!(self.base, Base::Nothing)
    }

    /// The network and its tensors, on a backbone where it needs one.
    pub(crate) fn build(
        &mut self,
        backbone: Option<&SharedBackbone>,
    ) -> Result<(MultiTaskModel, Vec<Entry>, Vec<TaskSpec>)> {
        let specs = self.config.data.specs().map_err(|error| {
            if !self.config.data.labels.is_empty() {
                return error;
            }
            Error::file(
                &self.file,
                format!(
                    "the model does not say what it predicts, as models of earlier versions do not, and its data set does \
                     not either: {error}. Say where that is with `--set data.root=FOLDER`"
                ),
            )
        })?;
        // What is exported carries it, also from a run of an earlier version.
        self.config.data.labels.clone_from(&specs);
        if let Some(backbone) = backbone {
            backbone.check(&self.config.model)?;
        }
        let shared = backbone.map(|backbone| backbone.tensors().clone()).unwrap_or_default();
        let complete = Complete { own: std::mem::take(&mut self.tensors), shared };
        let (model, entries) = complete.build(&self.file, &self.config.model, &specs)?;
        if let Some(backbone) = backbone {
            self.check_base(backbone, &entries)?;
        }
        Ok((model, entries, specs))
    }

    /// Refuses a backbone with other frozen weights than the model was trained on.
    fn check_base(&self, backbone: &SharedBackbone, entries: &[Entry]) -> Result<()> {
        let weights = String::from(self.config.model.weights.clone());
        match &self.base {
            Base::File(Some(trained_on)) => {
                let found = backbone.origin()?;
                if found.as_ref().map(|origin| &origin.sha256) == Some(&trained_on.sha256) {
                    return Ok(());
                }
                Err(Error::Config(format!(
                    "the checkpoint was trained on `{}` (SHA-256 {}), and `model.weights` (`{weights}`) is another file; \
                     set it with `--set model.weights=PATH`",
                    trained_on.path, trained_on.sha256
                )))
            }
            Base::Fingerprint(expected) => {
                let frozen = entries.iter().filter(|entry| entry.role == Role::Frozen);
                let found = backbone.fingerprint(frozen.map(|entry| entry.name.as_str()));
                if found.as_ref() == Some(expected) {
                    return Ok(());
                }
                Err(Error::file(
                    &self.file,
                    format!(
                        "the adapter was trained on other frozen weights than those of `{weights}` (fingerprint {}, \
                         expected {expected}); give the right ones with `--weights FILE`",
                        found.as_deref().unwrap_or("none")
                    ),
                ))
            }
            Base::File(None) | Base::Nothing => Ok(()),
        }
    }
}
