//! A model from a complete set of tensors: each must be there, none may be left over, and none is copied.

use crate::config::ModelConfig;
use crate::{Error, MultiTaskModel, Result};
use candle_core::{DType, Device, Shape, Tensor};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tadformer_data::TaskSpec;
use tadformer_ops::{Entry, Init, Params, Role, Source};

/// Tensors for a model, by full name.
pub(crate) struct Complete {
    /// The model's own: all of them must be wanted.
    pub(crate) own: HashMap<String, Tensor>,
    /// What stands in for frozen tensors that are not among its own.
    pub(crate) shared: HashMap<String, Tensor>,
}

impl Complete {
    /// The model of `config`, and its tensors in the order in which its layers asked for them.
    ///
    /// # Errors
    /// Tensors that are missing, of another shape, or left over, all of them listed; `path` is where they came from.
    pub(crate) fn build(
        self,
        path: &Path,
        config: &ModelConfig,
        tasks: &[TaskSpec],
    ) -> Result<(MultiTaskModel, Vec<Entry>)> {
        let source = Arc::new(Asked { tensors: self, state: Mutex::default() });
        let built = MultiTaskModel::new(config, tasks, &Params::new(Arc::clone(&source) as Arc<dyn Source>));
        let mut state = std::mem::take(&mut *source.state.lock().unwrap_or_else(PoisonError::into_inner));
        let asked: HashSet<&str> = state.entries.iter().map(|entry| entry.name.as_str()).collect();
        let mut extra: Vec<&String> =
            source.tensors.own.keys().filter(|name| !asked.contains(name.as_str())).collect();
        extra.sort_unstable();
        let extra: Vec<String> =
            extra.into_iter().map(|name| format!("`{name}` has no place in the model")).collect();
        state.problems.extend(extra);
        if state.problems.is_empty() {
            return Ok((built?, state.entries));
        }
        let number = state.problems.len();
        Err(Error::file(
            path,
            format!(
                "the weights are of another model than the configuration's; nothing was loaded, {number} tensors \
                 differ:\n  {}",
                state.problems.join("\n  ")
            ),
        ))
    }
}

struct Asked {
    tensors: Complete,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    problems: Vec<String>,
}

impl Source for Asked {
    fn get(&self, name: &str, shape: &Shape, _: Init, role: Role) -> candle_core::Result<Tensor> {
        let Complete { own, shared } = &self.tensors;
        let found = own.get(name).or_else(|| shared.get(name).filter(|_| role == Role::Frozen));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let tensor = match found {
            Some(tensor) if tensor.shape() == shape => tensor.clone(),
            other => {
                let found = other.map_or_else(
                    || "is missing".to_owned(),
                    |tensor| format!("has shape {:?}, expected {:?}", tensor.dims(), shape.dims()),
                );
                state.problems.push(format!("`{name}` {found}"));
                // Stands in so that every other problem is found as well.
                Tensor::zeros(1, DType::F32, &Device::Cpu)?.broadcast_as(shape.clone())?
            }
        };
        state.entries.push(Entry { name: name.to_owned(), role, tensor: tensor.clone(), loaded: true });
        Ok(tensor)
    }
}
