//! A model with its tensors, built from a configuration.

use crate::checkpoint::Checkpoint;
use crate::params::outline;
use crate::pretrained::{Origin, Pretrained};
use crate::{Config, Error, MultiTaskModel, Result};
use std::sync::Arc;
use tadformer_data::TaskSpec;
use tadformer_ops::ParamStore;

/// A model ready for use or for training.
#[derive(Debug)]
pub struct Session {
    /// What it was built from.
    pub config: Config,
    /// The network.
    pub model: MultiTaskModel,
    /// Its tensors.
    pub store: Arc<ParamStore>,
    /// Its tasks.
    pub specs: Vec<TaskSpec>,
    /// The weight file under it.
    pub origin: Option<Origin>,
}

impl Session {
    /// A fresh model: pretrained weights where the configuration names some, the rest drawn from its seed.
    ///
    /// # Errors
    /// A configuration that does not fit, or weights that cannot be read.
    pub fn fresh(config: Config) -> Result<Self> {
        let specs = config.data.specs()?;
        let pretrained = Pretrained::read(&config.model.weights, &outline(&config.model, &specs)?)?;
        Self::build(config, specs, pretrained)
    }

    /// The model of a checkpoint.
    ///
    /// # Errors
    /// A checkpoint of another model, or a weight file that is not the one it was trained on.
    pub fn restored(config: Config, checkpoint: &Checkpoint) -> Result<Self> {
        let specs = config.data.specs()?;
        let mut pretrained = Pretrained::read(&config.model.weights, &outline(&config.model, &specs)?)?;
        if let Some(trained_on) = &checkpoint.state.origin
            && pretrained.origin.as_ref().map(|origin| &origin.sha256) != Some(&trained_on.sha256)
        {
            return Err(Error::Config(format!(
                "the checkpoint was trained on `{}` (SHA-256 {}), and `model.weights` is another file; set it with \
                 `--set model.weights=PATH`",
                trained_on.path, trained_on.sha256
            )));
        }
        let trained = checkpoint.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        pretrained.values.extend(trained);
        let session = Self::build(config, specs, pretrained).map_err(|error| match error {
            Error::Tensor(error) => checkpoint.misfit(&error),
            other => other,
        })?;
        checkpoint.check(&session.store.entries())?;
        Ok(session)
    }

    fn build(config: Config, specs: Vec<TaskSpec>, pretrained: Pretrained) -> Result<Self> {
        let store = ParamStore::with_values(config.seed, pretrained.values);
        let model = MultiTaskModel::new(&config.model, &specs, &store.params())?;
        Ok(Self { config, model, store, specs, origin: pretrained.origin })
    }
}
