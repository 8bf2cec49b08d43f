//! Low-rank updates as a folder of Hugging Face PEFT: `adapter_config.json` and `adapter_model.safetensors`.

use crate::LoraConfig;
use candle_core::{DType, Device, Result, Tensor, bail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use tadformer_files::{Durability, WholeFile};
use tadformer_ops::{Entry, ParamStore, Role};

/// What PEFT puts in front of the wrapped model's own names.
const PREFIX: &str = "base_model.model.";
/// Our name of a factor in its layer, and PEFT's.
const FACTORS: [(&str, &str); 2] = [("lora_shared_A", "lora_A.weight"), ("lora_shared_B", "lora_B.weight")];
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// Longest configuration that is read, in bytes.
const MOST_CONFIG: u64 = 1 << 20;

/// Low-rank updates away from their model, to be written and read as a folder of Hugging Face PEFT.
///
/// A layer that was built at `params.pp("encoder").pp("fc1")` is the PEFT module `encoder.fc1`.
#[derive(Debug, Clone)]
pub struct LoraAdapter {
    /// Size of the updates.
    pub config: LoraConfig,
    /// The factors by full name, as a [`ParamStore`] has them: hand them to [`ParamStore::with_values`].
    pub values: HashMap<String, Tensor>,
}

impl LoraAdapter {
    /// The updates among `entries`, each of the size `config`.
    ///
    /// # Errors
    /// An entry that is no low-rank factor: prompts, filters and heads have no place in PEFT's LoRA, and leaving them
    /// out would lose what they learned. A layer without a name, or of another rank.
    pub fn new(entries: &[Entry], config: &LoraConfig) -> Result<Self> {
        let values = entries.iter().map(|entry| (entry.name.clone(), entry.tensor.detach())).collect();
        let adapter = Self { config: *config, values };
        adapter.modules()?;
        Ok(adapter)
    }

    /// Writes the folder, making it if need be; files that were there are replaced whole.
    ///
    /// # Errors
    /// Values as [`new`](Self::new) refuses them, or a folder that cannot be written to.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let modules = self.modules()?;
        let config = PeftConfig {
            peft_type: LORA.to_owned(),
            task_type: None,
            base_model_name_or_path: None,
            r: self.config.rank,
            lora_alpha: self.config.scale * self.config.rank as f64,
            lora_dropout: self.config.dropout,
            target_modules: Some(modules.keys().map(|module| (*module).to_owned()).collect()),
            bias: NO_BIAS.to_owned(),
            inference_mode: true,
            ..PeftConfig::default()
        };
        let json = serde_json::to_string_pretty(&config).map_err(candle_core::Error::wrap)?;
        let tensors: HashMap<String, Tensor> = modules
            .iter()
            .flat_map(|(module, factors)| {
                FACTORS.iter().zip(factors).map(move |((_, theirs), factor)| {
                    (format!("{PREFIX}{module}.{theirs}"), (*factor).clone())
                })
            })
            .collect();
        fs::create_dir_all(folder).map_err(|error| failed("make the folder", folder, error))?;
        let path = folder.join(WEIGHTS);
        let file = WholeFile::create(&path).map_err(|error| failed("write", &path, error))?;
        candle_core::safetensors::save(&tensors, file.beside())?;
        file.commit(Durability::Synced).map_err(|error| failed("write", &path, error))?;
        let path = folder.join(CONFIG);
        tadformer_files::write(&path, json.as_bytes(), Durability::Synced)
            .map_err(|error| failed("write", &path, error))
    }

    /// Reads a folder that this crate or Hugging Face PEFT wrote; values become `f32`.
    ///
    /// # Errors
    /// Files that are missing or damaged, an adapter of another kind than LoRA, or a kind of LoRA that these layers do
    /// not compute (DoRA, transposed weights, trained biases, ranks or scales that differ between layers).
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let length = fs::metadata(&path).map_err(|error| failed("read", &path, error))?.len();
        if length > MOST_CONFIG {
            bail!(
                "`{}` has {length} bytes, expected at most {MOST_CONFIG}; is it a configuration?",
                path.display()
            );
        }
        let json = fs::read(&path).map_err(|error| failed("read", &path, error))?;
        let config: PeftConfig = serde_json::from_slice(&json).map_err(|error| {
            candle_core::Error::msg(format!("cannot understand `{}`: {error}", path.display()))
        })?;
        let config = config.lora().map_err(|problem| {
            candle_core::Error::msg(format!("cannot use the adapter of `{}`: {problem}", path.display()))
        })?;
        let path = folder.join(WEIGHTS);
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu)
            .map_err(|error| candle_core::Error::msg(format!("cannot read `{}`: {error}", path.display())))?;
        let mut values = HashMap::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let Some(ours) = our_name(&name) else {
                bail!(
                    "`{}` has a tensor `{name}`, expected only `{PREFIX}<module>.lora_A.weight` and `.lora_B.weight`",
                    path.display()
                );
            };
            values.insert(ours, tensor.to_dtype(DType::F32)?);
        }
        let adapter = Self { config, values };
        adapter
            .modules()
            .map_err(|error| candle_core::Error::msg(format!("`{}`: {error}", path.display())))?;
        Ok(adapter)
    }

    /// Checks that a model whose tensors are in `store` took every value, and has no low-rank factor beside them.
    ///
    /// # Errors
    /// Names on one side only; all are listed.
    pub fn check(&self, store: &ParamStore) -> Result<()> {
        let held: BTreeSet<&str> = self.values.keys().map(String::as_str).collect();
        let entries = store.with_role(Role::Trainable);
        let wanted: BTreeSet<&str> =
            entries.iter().map(|entry| entry.name.as_str()).filter(|name| factor(name).is_some()).collect();
        let list = |names: Vec<&str>| format!("`{}`", names.join("`, `"));
        let (missing, unused): (Vec<_>, Vec<_>) =
            (wanted.difference(&held).copied().collect(), held.difference(&wanted).copied().collect());
        match (missing.is_empty(), unused.is_empty()) {
            (true, true) => Ok(()),
            (false, true) => bail!("the adapter lacks {}", list(missing)),
            (true, false) => bail!("the model has no place for {}", list(unused)),
            (false, false) => {
                bail!("the adapter lacks {}; the model has no place for {}", list(missing), list(unused))
            }
        }
    }

    /// Both factors of each module, by its name.
    fn modules(&self) -> Result<BTreeMap<&str, [&Tensor; 2]>> {
        let mut found: BTreeMap<&str, [Option<&Tensor>; 2]> = BTreeMap::new();
        for (name, tensor) in &self.values {
            let Some((module, index)) = factor(name) else {
                bail!(
                    "`{name}` is no factor of a low-rank update, and PEFT's LoRA has no place for anything else; keep it \
                     in a file of its own"
                );
            };
            if module.is_empty() {
                bail!("`{name}` has no module's name before it; build the layer at `params.pp(name)`");
            }
            found.entry(module).or_default()[index] = Some(tensor);
        }
        let rank = self.config.rank;
        found
            .into_iter()
            .map(|(module, factors)| match factors {
                [Some(a), Some(b)] if a.dims2()?.0 == rank && b.dims2()?.1 == rank => Ok((module, [a, b])),
                [Some(a), Some(b)] => bail!(
                    "the update of `{module}` has factors {:?} and {:?}, expected the rank {rank} of its configuration",
                    a.dims(),
                    b.dims()
                ),
                _ => bail!("the update of `{module}` has one factor, expected two"),
            })
            .collect()
    }
}

/// The module that a factor of ours belongs to, and which factor it is.
fn factor(name: &str) -> Option<(&str, usize)> {
    let (module, last) = name.rsplit_once('.').unwrap_or(("", name));
    let index = FACTORS.iter().position(|(ours, _)| *ours == last)?;
    Some((module, index))
}

/// Our name of a tensor of a PEFT file.
fn our_name(theirs: &str) -> Option<String> {
    let name = theirs.strip_prefix(PREFIX)?;
    FACTORS.iter().find_map(|(ours, theirs)| {
        let module = name.strip_suffix(theirs)?.strip_suffix('.')?;
        Some(format!("{module}.{ours}"))
    })
}

const LORA: &str = "LORA";
const NO_BIAS: &str = "none";

/// The keys of `adapter_config.json` that say what a LoRA computes, and those that PEFT needs to find its layers.
/// Others are not read; those with defaults are not written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PeftConfig {
    peft_type: String,
    task_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f64,
    lora_dropout: f64,
    /// Names, or one pattern in files of others: which tensors there are says the same.
    #[serde(deserialize_with = "any")]
    target_modules: Option<Vec<String>>,
    bias: String,
    inference_mode: bool,
    #[serde(skip_serializing)]
    use_dora: bool,
    #[serde(skip_serializing)]
    use_rslora: bool,
    #[serde(skip_serializing)]
    fan_in_fan_out: bool,
    #[serde(skip_serializing)]
    rank_pattern: Option<BTreeMap<String, f64>>,
    #[serde(skip_serializing)]
    alpha_pattern: Option<BTreeMap<String, f64>>,
}

/// Accepts and forgets a value of any type.
fn any<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Vec<String>>, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| None)
}

impl PeftConfig {
    /// The same in our words, or what these layers cannot do.
    fn lora(&self) -> std::result::Result<LoraConfig, String> {
        if self.peft_type != LORA {
            return Err(format!("`peft_type` is `{}`, expected `{LORA}`", self.peft_type));
        }
        if self.r == 0 || !self.lora_alpha.is_finite() || !(0.0..1.0).contains(&self.lora_dropout) {
            return Err(format!(
                "`r` is {}, `lora_alpha` {}, `lora_dropout` {}; expected a rank of at least 1, a finite factor and a \
                 probability below 1",
                self.r, self.lora_alpha, self.lora_dropout
            ));
        }
        let patterned = [&self.rank_pattern, &self.alpha_pattern]
            .into_iter()
            .flatten()
            .any(|pattern| !pattern.is_empty());
        let foreign = [
            ("use_dora", self.use_dora),
            ("fan_in_fan_out", self.fan_in_fan_out),
            ("bias", !["", NO_BIAS].contains(&self.bias.as_str())),
            ("rank_pattern or alpha_pattern", patterned),
        ];
        if let Some((key, _)) = foreign.iter().find(|(_, set)| *set) {
            return Err(format!("it sets `{key}`, which these layers do not compute"));
        }
        let rank = self.r as f64;
        let scale = self.lora_alpha / if self.use_rslora { rank.sqrt() } else { rank };
        Ok(LoraConfig { rank: self.r, scale, dropout: self.lora_dropout })
    }
}

fn failed(action: &str, path: &Path, error: std::io::Error) -> candle_core::Error {
    candle_core::Error::msg(format!("cannot {action} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests;
