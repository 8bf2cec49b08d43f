//! Low-rank updates as a folder of Hugging Face PEFT: `adapter_config.json` and `adapter_model.safetensors`.

use crate::LoraConfig;
use candle_core::{DType, Device, Result, Tensor, bail};
use config::PeftConfig;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use tadformer_files::{Durability, WholeFile};
use tadformer_ops::{Entry, ParamStore, Role};

mod config;

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
    config: LoraConfig,
    /// Modules whose updates are of another size, by name.
    others: BTreeMap<String, LoraConfig>,
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
        Self { config: *config, others: BTreeMap::new(), values: HashMap::new() }.with_entries(entries)
    }

    /// The same sizes with the updates among `entries`: what an adapter becomes that was read and trained further.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_entries(&self, entries: &[Entry]) -> Result<Self> {
        let values = entries.iter().map(|entry| (entry.name.clone(), entry.tensor.detach())).collect();
        let adapter = Self { config: self.config, others: self.others.clone(), values };
        adapter.modules()?;
        Ok(adapter)
    }

    /// The size of the update of `module`, such as `encoder.fc1`. Folders of PEFT may give each module its own
    /// (`rank_pattern`, `alpha_pattern`).
    pub fn config_of(&self, module: &str) -> LoraConfig {
        self.others.get(module).copied().unwrap_or(self.config)
    }

    /// Writes the folder, making it if need be; files that were there are replaced whole.
    ///
    /// # Errors
    /// Values as [`new`](Self::new) refuses them, or a folder that cannot be written to.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let modules = self.modules()?;
        let names: Vec<&str> = modules.keys().copied().collect();
        let config = config::to_json(&self.config, &names, &self.others);
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
    /// Files that are missing or damaged, numbers that are not finite, an adapter of another kind than LoRA, or a kind of LoRA
    /// that these layers do not compute: DoRA and other variants, transposed weights, trained biases, a base that PEFT changed
    /// before training (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ), or a key that is not known and not off.
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
        let sizes = config.sizes().map_err(|problem| {
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
            let tensor = tensor.to_dtype(DType::F32)?;
            if let Some(problem) = not_finite(&tensor)? {
                bail!(
                    "`{}` has {problem} in `{name}`; a training that diverged writes such files",
                    path.display()
                );
            }
            values.insert(ours, tensor);
        }
        let config = sizes.usual();
        let modules = values.keys().filter_map(|name| factor(name)).map(|(module, _)| module.to_owned());
        let others = modules.map(|module| (sizes.of(&module), module)).filter(|(size, _)| *size != config);
        let others = others.map(|(size, module)| (module, size)).collect();
        let adapter = Self { config, others, values };
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
        found
            .into_iter()
            .map(|(module, factors)| (module, factors, self.config_of(module).rank))
            .map(|(module, factors, rank)| match factors {
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

/// How many numbers are NaN or infinite, and where the first is; nothing if there are none.
fn not_finite(tensor: &Tensor) -> Result<Option<String>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let Some(first) = values.iter().position(|value| !value.is_finite()) else { return Ok(None) };
    let count = values.iter().filter(|value| !value.is_finite()).count();
    let sides = tensor.dims().iter().rev();
    let (mut index, _) = sides.fold((Vec::new(), first), |(mut index, rest), side| {
        index.push(rest % side);
        (index, rest / side)
    });
    index.reverse();
    Ok(Some(format!("{count} numbers that are not finite, the first {} at {index:?},", values[first])))
}

fn failed(action: &str, path: &Path, error: std::io::Error) -> candle_core::Error {
    candle_core::Error::msg(format!("cannot {action} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests;
