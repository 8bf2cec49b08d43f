//! The moments of a pickled AdamW, by name.
//!
//! PyTorch numbers parameters in the order of the optimiser's groups. The published code groups them before it freezes
//! any: first all that decay (two or more dimensions), then the others, each in the order of the model's state dict.

use super::pickled::Result;
use crate::from_file::to_candle;
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use tadformer_ops::{Entry, Role};
use tadformer_weights::{Checkpoint, PickleValue, StateDict};

/// Moments for [`AdamW::load_state`](crate::optim::AdamW::load_state), and the number of updates behind them.
pub(super) struct Moments {
    pub(super) state: Vec<(String, Tensor)>,
    pub(super) updates: u64,
}

/// Buffers, which are in a state dict and are no parameters.
const BUFFERS: [&str; 5] =
    ["running_mean", "running_var", "num_batches_tracked", "relative_position_index", "attn_mask"];

/// The optimiser's state in `file` for the trainable tensors among `entries`; nothing if it holds none.
pub(super) fn moments(
    file: &StateDict,
    entries: &[Entry],
    notes: &mut Vec<String>,
) -> Result<Option<Moments>> {
    let Some(checkpoint) = file.checkpoint() else { return Ok(None) };
    let Some(optimizer) = checkpoint.root().get("optimizer") else { return Ok(None) };
    let Some(states) = optimizer.get("state").filter(|state| state.items().len() > 0) else {
        return Ok(None);
    };
    let names = numbered(file, optimizer)?;
    let trainable: HashMap<&str, &Entry> = entries
        .iter()
        .filter(|entry| entry.role == Role::Trainable)
        .map(|entry| (entry.name.as_str(), entry))
        .collect();
    let mut moments = Moments { state: Vec::new(), updates: 0 };
    let mut frozen = 0;
    for (index, state) in states.items() {
        let name = index.as_i64().and_then(|index| names.get(&index)).ok_or_else(|| {
            format!(
                "its state has the number {:?}, which is none of its {} parameters",
                index.as_i64(),
                names.len()
            )
        })?;
        let Some(entry) = trainable.get(name.as_str()) else {
            frozen += 1;
            continue;
        };
        for moment in ["exp_avg", "exp_avg_sq"] {
            let tensor = moment_of(checkpoint, state, name, moment)?;
            if tensor.dims() != entry.tensor.dims() {
                let (found, expected) = (tensor.dims(), entry.tensor.dims());
                return Err(format!("`{moment}` of `{name}` has shape {found:?}, expected {expected:?}"));
            }
            moments.state.push((format!("{name}.{moment}"), tensor));
        }
        let step = steps(checkpoint, state, name)?;
        moments.updates = moments.updates.max(step);
        let step = Tensor::new(step.cast_signed(), &Device::Cpu).map_err(|error| error.to_string())?;
        moments.state.push((format!("{name}.step"), step));
    }
    if frozen > 0 {
        notes.push(format!("the moments of {frozen} tensors that are frozen here were left out"));
    }
    Ok(Some(moments))
}

/// The name of each number in the optimiser's groups.
fn numbered(file: &StateDict, optimizer: PickleValue<'_>) -> Result<HashMap<i64, String>> {
    let is_buffer = |name: &str| BUFFERS.contains(&name.rsplit('.').next().unwrap_or(name));
    let (decayed, others): (Vec<_>, Vec<_>) = file
        .iter()
        .filter(|tensor| !is_buffer(tensor.name()))
        .partition(|tensor| tensor.shape().len() > 1 && !tensor.name().ends_with(".bias"));
    let groups: Vec<Vec<i64>> = optimizer.get("param_groups").map_or_else(Vec::new, |groups| {
        let numbers = |group: PickleValue<'_>| {
            let params = group.get("params");
            params.map_or_else(Vec::new, |list| list.members().filter_map(PickleValue::as_i64).collect())
        };
        groups.members().map(numbers).collect()
    });
    let counts: Vec<usize> = groups.iter().map(Vec::len).collect();
    if counts != [decayed.len(), others.len()] {
        return Err(format!(
            "its groups have {counts:?} parameters, expected {} that decay and {} that do not",
            decayed.len(),
            others.len()
        ));
    }
    let names = decayed.into_iter().chain(others).map(|tensor| tensor.name().to_owned());
    Ok(groups.into_iter().flatten().zip(names).collect())
}

fn moment_of(checkpoint: &Checkpoint, state: PickleValue<'_>, name: &str, moment: &str) -> Result<Tensor> {
    let missing = || format!("`{name}` has no tensor `{moment}`");
    let full = format!("{name}.{moment}");
    let tensor = state.get(moment).and_then(|value| checkpoint.tensor(&full, value)).ok_or_else(missing)?;
    to_candle(&tensor).map_err(|error| error.to_string())
}

/// Updates made: a number, or a tensor of one since PyTorch 1.12.
fn steps(checkpoint: &Checkpoint, state: PickleValue<'_>, name: &str) -> Result<u64> {
    let value = state.get("step").ok_or_else(|| format!("`{name}` has no `step`"))?;
    let number = match checkpoint.tensor("step", value) {
        Some(tensor) => tensor.to_f32().first().map(|&step| f64::from(step)),
        None => value.as_f64(),
    };
    match number {
        Some(step) if (0.0..=1e15).contains(&step) => Ok(step as u64),
        _ => Err(format!("`step` of `{name}` is {}, expected a count", value.kind())),
    }
}
