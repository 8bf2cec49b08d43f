//! The folder layout of Hugging Face PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Keys are PEFT's, `base_model.model.<module>.lora_A.weight` and so on. The type is our own, `TADFORMER`: dynamic
//! filters, task prompts and decoders have no PEFT type, and a folder that called itself `LORA` would load and be wrong.

use crate::checkpoint::insert;
use crate::config::{Method, WeightsSource};
use crate::from_file::{refused, to_candle};
use crate::{Config, Error, Predictor, Result, shared_backbone};
use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use tadformer_ops::Role;
use tadformer_weights::StateDict;

/// Names of the two files.
pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const TENSORS: &str = "adapter_model.safetensors";

const PEFT_TYPE: &str = "TADFORMER";
const PREFIX: &str = "base_model.model.";
/// Last parts of names, ours and PEFT's.
const LORA: [(&str, &str); 2] = [("lora_shared_A", "lora_A.weight"), ("lora_shared_B", "lora_B.weight")];
/// The largest `adapter_config.json` that is read.
const MAX_CONFIG: u64 = 1 << 20;

/// What `adapter_config.json` says beyond PEFT's own keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AdapterConfig {
    /// BLAKE3 of the frozen weights under the adapter, name by name.
    pub(crate) frozen_blake3: String,
    /// The run's configuration.
    pub(crate) config: Config,
}

/// `adapter_config.json`: PEFT's keys that have a meaning here, and ours under a key of its own.
#[derive(Debug, Serialize, Deserialize)]
struct AdapterFile {
    peft_type: String,
    base_model_name_or_path: Option<String>,
    task_type: Option<String>,
    inference_mode: bool,
    r: usize,
    lora_alpha: f64,
    lora_dropout: f64,
    bias: String,
    target_modules: Vec<String>,
    tadformer: AdapterConfig,
}

impl AdapterConfig {
    /// Reads `adapter_config.json`; PEFT's other keys are not looked at.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        if length > MAX_CONFIG {
            return Err(Error::file(path, format!("has {length} bytes, expected at most {MAX_CONFIG}")));
        }
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        let json: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|error| Error::file(path, format!("cannot be understood: {error}")))?;
        if json["peft_type"] != PEFT_TYPE {
            let found = json["peft_type"].as_str().unwrap_or("none");
            return Err(Error::file(path, format!("its `peft_type` is `{found}`, expected `{PEFT_TYPE}`")));
        }
        let own: Self = serde_json::from_value(json["tadformer"].clone())
            .map_err(|error| Error::file(path, format!("its `tadformer` cannot be understood: {error}")))?;
        let problems = own.config.problems();
        if problems.is_empty() { Ok(own) } else { Err(Error::file(path, problems.join("; "))) }
    }
}

/// Writes both files; the adapter's configuration is returned.
pub(crate) fn write(model: &Predictor, config: Config, folder: &Path) -> Result<Config> {
    let reason = match config.model.method {
        Method::Tadformer | Method::DecodersOnly => None,
        Method::Full => Some("every weight was trained; export `full`"),
        Method::Merged => Some("its updates are folded into the weights; export from the run or full model"),
    };
    if let Some(reason) = reason {
        return Err(Error::Config(format!("the model has no adapter: {reason}")));
    }
    let (frozen, own): (Vec<_>, Vec<_>) =
        model.entries().iter().partition(|entry| entry.role == Role::Frozen);
    let mut dict = StateDict::new();
    for entry in own {
        insert(&mut dict, &to_peft(&entry.name), &entry.tensor)?;
    }
    dict.metadata_mut().insert("format".to_owned(), "pt".to_owned());
    dict.write_safetensors(folder.join(TENSORS))?;

    let adaptation = config.model.adaptation;
    let frozen: Vec<_> = frozen.iter().map(|entry| (entry.name.as_str(), &entry.tensor)).collect();
    let file = AdapterFile {
        peft_type: PEFT_TYPE.to_owned(),
        base_model_name_or_path: match &config.model.weights {
            WeightsSource::None => None,
            named => Some(named.clone().into()),
        },
        task_type: None,
        inference_mode: true,
        r: adaptation.rank,
        lora_alpha: adaptation.scale * adaptation.rank as f64,
        lora_dropout: adaptation.dropout,
        bias: "none".to_owned(),
        target_modules: ["qkv", "proj", "fc1", "fc2"].map(str::to_owned).to_vec(),
        tadformer: AdapterConfig {
            frozen_blake3: shared_backbone::fingerprint(&frozen),
            config: config.clone(),
        },
    };
    let json = serde_json::to_vec_pretty(&file).expect("a configuration is plain data");
    super::put(&folder.join(CONFIG), &json)?;
    Ok(config)
}

/// The adapter's tensors under our names.
///
/// # Errors
/// A file that is missing or damaged, a name without PEFT's prefix, or numbers that are not finite.
pub(crate) fn read_tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let dict = StateDict::read(path)?;
    let tensor = |tensor: &tadformer_weights::Tensor| match from_peft(tensor.name()) {
        Some(name) => Ok((name, to_candle(tensor)?)),
        None => Err(Error::file(
            path,
            format!("`{}` is no name of an adapter's tensor: those begin with `{PREFIX}`", tensor.name()),
        )),
    };
    dict.iter().as_slice().par_iter().map(tensor).collect::<Result<_>>().map_err(refused(path, &dict))
}

fn to_peft(name: &str) -> String {
    for (ours, theirs) in LORA {
        if let Some(module) = name.strip_suffix(ours) {
            return format!("{PREFIX}{module}{theirs}");
        }
    }
    format!("{PREFIX}{name}")
}

fn from_peft(name: &str) -> Option<String> {
    let local = name.strip_prefix(PREFIX)?;
    for (ours, theirs) in LORA {
        if let Some(module) = local.strip_suffix(theirs) {
            return Some(format!("{module}{ours}"));
        }
    }
    Some(local.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_peft_and_come_back() {
        let site = "backbone.layers.0.blocks.1.attn.qkv";
        let ours = format!("{site}.lora_shared_A");
        assert_eq!(to_peft(&ours), format!("base_model.model.{site}.lora_A.weight"));
        for name in [ours.as_str(), "backbone.task_prompts", "decoders.decoders.sal.last_layer.0.weight"] {
            assert_eq!(from_peft(&to_peft(name)).as_deref(), Some(name));
        }
        assert_eq!(from_peft("backbone.task_prompts"), None);
    }

    #[test]
    fn what_an_adapter_says_of_itself_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG);
        let mut config = Config::default();
        config.data.describe().unwrap();
        let own = AdapterConfig { frozen_blake3: "ab".repeat(32), config };
        let mut json = serde_json::json!({ "peft_type": PEFT_TYPE, "tadformer": own });
        std::fs::write(&path, json.to_string()).unwrap();
        assert_eq!(AdapterConfig::read(&path).unwrap(), own);
        json["tadformer"].as_object_mut().unwrap().remove("frozen_blake3").unwrap();
        std::fs::write(&path, json.to_string()).unwrap();
        let message = AdapterConfig::read(&path).unwrap_err().to_string();
        assert!(message.contains("missing field `frozen_blake3`"), "{message}");
    }
}
