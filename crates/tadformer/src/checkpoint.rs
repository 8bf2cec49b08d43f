//! What a run keeps on disk: everything needed to go on as if never stopped, in one file.

use crate::from_file::{all_to_candle, refused, to_candle};
use crate::optim::AdamW;
use crate::pretrained::Origin;
use crate::seal::{open_seal, seal};
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tadformer_ops::{Entry, ParamStore, Role};
use tadformer_weights::StateDict;

/// Where training stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Epochs finished.
    pub epoch: usize,
    /// Updates made.
    pub update: u64,
    /// Batches of the epoch under way that are done.
    #[serde(default)]
    pub batch: usize,
    /// Gain of the best evaluation so far in percent, if it has one, and the epoch after which it was.
    pub best: Option<(Option<f64>, usize)>,
    /// The weight file under the trained tensors; without one they are on weights drawn from the run's seed.
    pub origin: Option<Origin>,
}

/// The metadata entry that holds the [`TrainState`].
const STATE: &str = "tadformer.state";
/// Prefix of the optimiser's tensors.
const OPTIMIZER: &str = "optimizer.";

/// Trainable tensors, running statistics, optimiser moments and the state of training; frozen weights are referred to
/// by file and checksum, not copied.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    /// Where training stands.
    pub state: TrainState,
    /// Trainable tensors and running statistics by name.
    pub tensors: HashMap<String, Tensor>,
    /// The optimiser's tensors, empty in a checkpoint that is only for use.
    pub optimizer: Vec<(String, Tensor)>,
}

impl Checkpoint {
    /// Writes a checkpoint beside `path` and renames it: what was there stays good until the new one is whole.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn write(
        path: &Path,
        store: &ParamStore,
        optimizer: Option<&AdamW>,
        state: &TrainState,
    ) -> Result<()> {
        let mut dict = StateDict::new();
        for entry in store.entries().iter().filter(|entry| entry.role != Role::Frozen) {
            insert(&mut dict, &entry.name, &entry.tensor)?;
        }
        if let Some(optimizer) = optimizer {
            for (name, tensor) in optimizer.state()? {
                insert(&mut dict, &format!("{OPTIMIZER}{name}"), &tensor)?;
            }
        }
        let json = serde_json::to_string(state).expect("a state is plain data");
        dict.metadata_mut().insert(STATE.to_owned(), json);
        seal(&mut dict, STATE);
        Ok(dict.write_safetensors(path)?)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// A file that is missing, damaged, no checkpoint, or with numbers that are not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let mut dict = StateDict::read(path)?;
        if !dict.metadata().contains_key(STATE) {
            return Err(Error::file(path, format!("no checkpoint: its metadata has no `{STATE}`")));
        }
        open_seal(&mut dict, STATE).map_err(|reason| Error::file(path, format!("is damaged: {reason}")))?;
        let state = serde_json::from_str(&dict.metadata()[STATE])
            .map_err(|error| Error::file(path, format!("its `{STATE}` cannot be understood: {error}")))?;
        let of_optimizer = |tensor: &&tadformer_weights::Tensor| tensor.name().starts_with(OPTIMIZER);
        let (optimizer, model): (Vec<_>, Vec<_>) = dict.iter().partition(of_optimizer);
        let moment = |tensor: &tadformer_weights::Tensor| {
            Ok((tensor.name()[OPTIMIZER.len()..].to_owned(), optimizer_tensor(tensor)?))
        };
        Ok(Self {
            path: path.to_owned(),
            state,
            tensors: all_to_candle(model).map_err(refused(path, &dict))?,
            optimizer: optimizer
                .into_par_iter()
                .map(moment)
                .collect::<Result<_>>()
                .map_err(refused(path, &dict))?,
        })
    }

    /// The file it was read from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the checkpoint is one of the model that `entries` were made for: the same names, none more or less.
    ///
    /// # Errors
    /// Names that are missing or left over; the first few of each are listed.
    pub fn check(&self, entries: &[Entry]) -> Result<()> {
        let expected: Vec<&str> =
            entries.iter().filter(|e| e.role != Role::Frozen).map(|e| e.name.as_str()).collect();
        let missing: Vec<&str> =
            expected.iter().copied().filter(|name| !self.tensors.contains_key(*name)).collect();
        let mut extra: Vec<&str> =
            self.tensors.keys().map(String::as_str).filter(|name| !expected.contains(name)).collect();
        extra.sort_unstable();
        if missing.is_empty() && extra.is_empty() {
            return Ok(());
        }
        let list = |names: &[&str]| {
            let shown = names.iter().take(3).copied().collect::<Vec<_>>().join("`, `");
            format!("{} (`{shown}`{})", names.len(), if names.len() > 3 { ", …" } else { "" })
        };
        let mut reason = "the checkpoint is of another model:".to_owned();
        if !missing.is_empty() {
            reason += &format!(" it lacks {} tensors", list(&missing));
        }
        if !extra.is_empty() {
            reason += &format!(" it has {} tensors that the configuration has no place for", list(&extra));
        }
        Err(Error::file(&self.path, reason))
    }

    /// The error of a tensor that has no place in the model of the configuration.
    pub(crate) fn misfit(&self, error: &candle_core::Error) -> Error {
        Error::file(&self.path, format!("the checkpoint is of another model: {error}"))
    }
}

/// Adds a tensor of ours to those of a file; counts stay `i64`, everything else is `f32`.
pub(crate) fn insert(dict: &mut StateDict, name: &str, tensor: &Tensor) -> Result<()> {
    let made = if tensor.dtype() == candle_core::DType::I64 {
        let values = tensor.flatten_all()?.to_vec1::<i64>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tadformer_weights::Tensor::new(name, tadformer_weights::Dtype::I64, tensor.dims().to_vec(), bytes)?
    } else {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        tadformer_weights::Tensor::from_f32(name, tensor.dims().to_vec(), &values)?
    };
    Ok(dict.insert(made)?)
}

/// Moments are `f32`, counts of steps `i64`.
fn optimizer_tensor(tensor: &tadformer_weights::Tensor) -> Result<Tensor> {
    if tensor.dtype() != tadformer_weights::Dtype::I64 {
        return to_candle(tensor);
    }
    let values: Vec<i64> =
        tensor.bytes().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    Ok(Tensor::from_vec(values, tensor.shape(), &candle_core::Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_also_by_earlier_versions() {
        for best in [None, Some((None, 0)), Some((Some(12.5), 3))] {
            let state = TrainState { best, ..TrainState::default() };
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<TrainState>(&text).unwrap(), state);
        }
        let earlier = r#"{"epoch":4,"update":64,"best":[12.5,3],"origin":null}"#;
        assert_eq!(serde_json::from_str::<TrainState>(earlier).unwrap().best, Some((Some(12.5), 3)));
    }
}
