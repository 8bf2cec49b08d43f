//! Updates folded into the weights they update.

use crate::config::Method;
use crate::params::outline;
use crate::{Config, Error, Predictor, Result};
use candle_core::Tensor;
use std::collections::{HashMap, HashSet};
use tadformer_ops::{Entry, Role};

/// The merged model's configuration and tensors: `W + s · B A` wherever the task streams do not share `W` or the factors.
///
/// At the task-adapting sites the streams of the tasks stand on `W x + b` without the shared update, and pass between `A`
/// and `B`: there nothing can be folded.
///
/// # Errors
/// A model without low-rank updates.
pub(crate) fn merge(model: &Predictor, mut config: Config) -> Result<(Config, Vec<Entry>)> {
    if config.model.method != Method::Tadformer {
        return Err(Error::Config(
            "only a model of method `tadformer` has updates to merge; export `full`".to_owned(),
        ));
    }
    config.model.method = Method::Merged;
    let wanted: HashSet<String> =
        outline(&config.model, model.tasks())?.into_iter().map(|entry| entry.name).collect();
    let tensors: HashMap<&str, &Tensor> =
        model.entries().iter().map(|entry| (entry.name.as_str(), &entry.tensor)).collect();
    let scale = config.model.adaptation.scale;
    let merged = model.entries().iter().filter(|entry| wanted.contains(&entry.name)).map(|entry| {
        let site = entry.name.strip_suffix("linear.weight");
        let factor = |name: &str| {
            let name = format!("{}{name}", site?);
            tensors.get(name.as_str()).filter(|_| !wanted.contains(&name))
        };
        let tensor = match (factor("lora_shared_A"), factor("lora_shared_B")) {
            (Some(a), Some(b)) => (&entry.tensor + (b.matmul(a)? * scale)?)?,
            _ => entry.tensor.clone(),
        };
        Ok(Entry { name: entry.name.clone(), role: Role::Frozen, tensor, loaded: true })
    });
    let entries = merged.collect::<Result<_>>()?;
    Ok((config, entries))
}
