//! Where in a PyTorch file the state dict is: training scripts wrap it, and wrap its names.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::pickle::PickleValue;
use crate::state_dict::StateDict;

/// Keys under which training scripts keep a state dict, the preferred first.
const WRAPPERS: &[&str] =
    &["model", "state_dict", "model_state_dict", "module", "net", "model_ema", "state_dict_ema"];
/// Prefixes that `DataParallel` and `torch.compile` put before every name.
const NAME_PREFIXES: &[&str] = &["module.", "_orig_mod."];
/// Wrappers inside of wrappers.
const MAX_WRAPPERS: usize = 3;

impl Checkpoint {
    /// The tensors under `key`, or under the usual keys if it is `None`; the rest of the file stays reachable from it.
    ///
    /// # Errors
    /// There are no tensors there, one name stands for two tensors, or the tensors view the same storage in so many
    /// ways that copying them apart would need several times the file's length.
    pub fn into_state_dict(self, key: Option<&str>) -> Result<StateDict> {
        let refused = |reason: String| Error::Refused { path: self.path().to_owned(), reason };
        let root = self.root();
        let mut at = match key {
            Some(key) => root.get(key).ok_or_else(|| {
                refused(format!("it has nothing under `{key}`; its keys are {}", keys(root)))
            })?,
            None => root,
        };
        for _ in 0..MAX_WRAPPERS {
            if holds_tensors(at) {
                break;
            }
            match WRAPPERS.iter().find_map(|wrapper| at.get(wrapper).filter(|value| value.is_dict())) {
                Some(inner) => at = inner,
                None => break,
            }
        }
        if !holds_tensors(at) {
            let found = if at.is_dict() {
                format!("its keys are {}", keys(at))
            } else {
                format!("it holds {}", at.kind())
            };
            return Err(refused(format!(
                "it holds no state dict, at its top or under `model`, `state_dict`, …; {found}"
            )));
        }
        let mut dict = StateDict::new();
        let strip = shared_prefix(at);
        let mut budget = self.storage_bytes().saturating_mul(2);
        for (key, value) in at.items() {
            let Some(name) = key.as_str() else {
                dict.add_skipped(format!("({})", key.kind()), value.kind());
                continue;
            };
            let name = name.strip_prefix(strip).unwrap_or(name);
            let Some(tensor) = self.tensor(name, value) else {
                dict.add_skipped(name.to_owned(), value.kind());
                continue;
            };
            match budget.checked_sub(tensor.bytes().len()) {
                Some(left) => budget = left,
                None => {
                    return Err(refused(
                        "its tensors together are larger than the storages they view".to_owned(),
                    ));
                }
            }
            dict.insert(tensor).map_err(|e| refused(e.to_string()))?;
        }
        dict.set_checkpoint(self);
        Ok(dict)
    }
}

fn holds_tensors(value: PickleValue<'_>) -> bool {
    value.items().any(|(key, value)| key.as_str().is_some() && value.is_tensor())
}

/// The prefix that all names have, or the empty text.
fn shared_prefix(dict: PickleValue<'_>) -> &'static str {
    let has =
        |prefix: &str| dict.items().filter_map(|(key, _)| key.as_str()).all(|name| name.starts_with(prefix));
    NAME_PREFIXES.iter().find(|prefix| has(prefix)).copied().unwrap_or("")
}

/// The first keys of a dict, for messages.
fn keys(dict: PickleValue<'_>) -> String {
    const SHOWN: usize = 12;
    let mut keys: Vec<String> = dict
        .items()
        .take(SHOWN)
        .map(|(key, _)| key.as_str().map_or_else(|| key.kind(), |k| format!("`{k}`")))
        .collect();
    if dict.items().len() > SHOWN {
        keys.push(format!("… ({} in all)", dict.items().len()));
    }
    if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
}
