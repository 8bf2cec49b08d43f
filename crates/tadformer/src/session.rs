//! A model with its tensors, built from a configuration.

use crate::checkpoint::Checkpoint;
use crate::config::WeightsSource;
use crate::params::outline;
use crate::pretrained::{Origin, Pretrained};
use crate::transfer::{Plan, Transfer};
use crate::{Config, Error, MultiTaskModel, Predictor, Result};
use std::sync::Arc;
use tadformer_data::TaskSpec;
use tadformer_ops::{ParamStore, Role};

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
    pub fn fresh(mut config: Config) -> Result<Self> {
        let specs = config.data.specs()?;
        config.data.labels.clone_from(&specs);
        let pretrained = Pretrained::read(&config.model, &outline(&config.model, &specs)?)?;
        Self::build(config, specs, pretrained)
    }

    /// A model that begins with the weights of another: what fits of its trained tensors is taken over, by name of task and
    /// class where rows belong to those, and the rest is drawn from the seed.
    ///
    /// # Errors
    /// A model of another backbone or one of which nothing fits; a full or merged model, whose frozen weights are in no file
    /// of their own; frozen weights that were drawn from another seed.
    pub fn starting_from(mut config: Config, model: &Predictor) -> Result<(Self, Transfer)> {
        if model.is_whole() {
            return Err(Error::Config(
                "training begins with a run or an adapter: a checkpoint refers to its frozen weights by their file. \
                 Export the `adapter` and the `backbone` of the full model"
                    .to_owned(),
            ));
        }
        let specs = config.data.specs()?;
        config.data.labels.clone_from(&specs);
        let wanted = outline(&config.model, &specs)?;
        let drawn_from = model.config().seed;
        let drawn = config.model.weights == WeightsSource::None
            && model.config().model.weights == WeightsSource::None;
        if drawn && config.seed != drawn_from && wanted.iter().any(|entry| entry.role == Role::Frozen) {
            return Err(Error::Config(format!(
                "the frozen weights of `{}` were drawn from seed {drawn_from}, and those of the new run would be drawn from \
                 {}: give `--seed {drawn_from}`, or export its `backbone` and name that with `--weights`",
                model.file().display(),
                config.seed
            )));
        }
        let Plan { values, patchworks, transfer } = Plan::new(&config.model, &specs, &wanted, model)?;
        let mut pretrained = Pretrained::read(&config.model, &wanted)?;
        pretrained.values.extend(values);
        if !patchworks.is_empty() {
            // What is drawn depends on the tensor's name and the seed alone, so it is the same the second time.
            let store = ParamStore::with_values(config.seed, pretrained.values.clone());
            MultiTaskModel::new(&config.model, &specs, &store.params())?;
            for patchwork in patchworks {
                let drawn = store.get(&patchwork.name).expect("it is among the tensors that are wanted");
                let value = patchwork.over(&drawn.tensor)?;
                pretrained.values.insert(patchwork.name, value);
            }
        }
        Ok((Self::build(config, specs, pretrained)?, transfer))
    }

    /// The model of a checkpoint.
    ///
    /// # Errors
    /// A checkpoint of another model, or a weight file that is not the one it was trained on.
    pub fn restored(config: Config, checkpoint: &Checkpoint) -> Result<Self> {
        let specs = config.data.specs()?;
        let mut pretrained = Pretrained::read(&config.model, &outline(&config.model, &specs)?)?;
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
