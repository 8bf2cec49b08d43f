//! A model with its tensors, built from a configuration.

use crate::checkpoint::Checkpoint;
use crate::complete::Complete;
use crate::params::outline;
use crate::pretrained::{Origin, Pretrained};
use crate::{Config, Error, MultiTaskModel, Predictor, Result};
use std::collections::HashMap;
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
    /// What the weight file holds besides that belongs to no Swin Transformer, by its name there.
    pub unknown: Vec<String>,
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

    /// A model that begins with the weights of another of the same kind.
    ///
    /// # Errors
    /// A configuration whose model is another, or a full or merged model, whose frozen weights are in no file of their own.
    pub fn starting_from(config: Config, model: &Predictor) -> Result<Self> {
        if model.is_whole() {
            return Err(Error::Config(
                "training begins with a run or an adapter: a checkpoint refers to its frozen weights by their file. \
                 Export the `adapter` and the `backbone` of the full model"
                    .to_owned(),
            ));
        }
        let specs = config.data.specs()?;
        let values: HashMap<_, _> =
            model.entries().iter().map(|entry| (entry.name.clone(), entry.tensor.clone())).collect();
        // A tensor that does not fit would be drawn instead: the model must be the same.
        let complete = Complete { own: values.clone(), shared: HashMap::new() };
        complete.build(model.file(), &config.model, &specs)?;
        let origin = Origin::of(&config.model.weights)?;
        Self::build(config, specs, Pretrained { values, origin, unknown: Vec::new() })
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
        let mut model = MultiTaskModel::new(&config.model, &specs, &store.params())?;
        model.set_grad_checkpointing(&config.train.grad_checkpointing)?;
        Ok(Self { config, model, store, specs, origin: pretrained.origin, unknown: pretrained.unknown })
    }
}
