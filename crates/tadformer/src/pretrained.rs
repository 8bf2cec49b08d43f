//! Pretrained weights into a model's tensors.

use crate::config::{ModelConfig, PositionBiasResize, WeightsSource};
use crate::embedded;
use crate::from_file::{all_to_candle, refused};
use crate::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use tadformer_ops::Entry;
use tadformer_weights::names::{self, Mapped, Reason};
use tadformer_weights::{StateDict, Variant};

/// Values for a model's tensors, by full name, and where they came from.
#[derive(Debug, Default)]
pub struct Pretrained {
    /// The values.
    pub values: HashMap<String, Tensor>,
    /// The file they came from; `embedded` for the one inside the program.
    pub origin: Option<Origin>,
    /// What the file holds besides that belongs to no Swin Transformer, by its name there.
    pub unknown: Vec<String>,
}

/// A weight file, so that a later start can tell whether it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Where it was.
    pub path: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

impl Origin {
    /// The file that `source` names; none for [`WeightsSource::None`].
    ///
    /// # Errors
    /// A file that is missing.
    pub(crate) fn of(source: &WeightsSource) -> Result<Option<Self>> {
        let (path, sha256): (PathBuf, String) = match source {
            WeightsSource::None => return Ok(None),
            WeightsSource::Embedded => (EMBEDDED.into(), hex(&Sha256::digest(embedded::BACKBONE))),
            WeightsSource::File(path) => {
                let path = tadformer_weights::locate(&path.to_string_lossy())?;
                let sha256 = sha256(&path)?;
                (path, sha256)
            }
        };
        Ok(Some(Self { path: path.display().to_string(), sha256 }))
    }
}

/// What the weights inside the program are called where others have a path.
const EMBEDDED: &str = "embedded";

/// The weights that `source` names, files by `read`, and where they are; nothing for [`WeightsSource::None`].
pub(crate) fn open(
    source: &WeightsSource,
    read: impl FnOnce(&Path) -> Result<StateDict>,
) -> Result<Option<(PathBuf, StateDict)>> {
    Ok(match source {
        WeightsSource::None => None,
        WeightsSource::Embedded => {
            let path = PathBuf::from(EMBEDDED);
            let file = StateDict::from_bytes(&path, embedded::BACKBONE.to_vec())?;
            Some((path, file))
        }
        WeightsSource::File(path) => {
            let path = tadformer_weights::locate(&path.to_string_lossy())?;
            let file = read(&path)?;
            Some((path, file))
        }
    })
}

impl Pretrained {
    /// Reads the weights that `model` names for its tensors `entries`; nothing for [`WeightsSource::None`].
    ///
    /// Names of timm, Microsoft, torchvision, Hugging Face, SimMIM, OpenMMLab and of the published TADFormer code are understood.
    /// Position bias tables made for other windows are resized.
    ///
    /// # Errors
    /// A file that is missing, damaged, not a Swin Transformer, of another size than the model's backbone, or with numbers
    /// that are not finite.
    pub fn read(model: &ModelConfig, entries: &[Entry]) -> Result<Self> {
        let source = &model.weights;
        let Some((path, file)) = open(source, |path| Ok(StateDict::read(path)?))? else {
            return Ok(Self::default());
        };
        let origin = Origin::of(source)?;
        Ok(Self { origin, ..Self::of(&path, &file, model.position_bias_resize, entries)? })
    }

    /// The values of `file`, which was read from `path`, for a model with the tensors `entries`.
    ///
    /// # Errors
    /// A file that is no Swin Transformer, of another size than the model's backbone, or with numbers that are not finite.
    pub(crate) fn of(
        path: &Path,
        file: &StateDict,
        resize: PositionBiasResize,
        entries: &[Entry],
    ) -> Result<Self> {
        let mut mapped = names::map(file).map_err(|error| Error::file(path, error.to_string()))?;
        let wanted: Vec<_> = entries.iter().map(|e| (e.name.clone(), e.tensor.dims().to_vec())).collect();
        mapped.resize_position_bias(&wanted, resize.chosen())?;
        check(path, file, &mapped, entries)?;
        let needed: HashSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        let needed: Vec<_> = mapped.tensors.iter().filter(|tensor| needed.contains(tensor.name())).collect();
        let values = all_to_candle(needed).map_err(refused(path, file))?;
        let unknown = mapped.ignored.into_iter().filter(|ignored| ignored.reason == Reason::Unknown);
        Ok(Self { values, origin: None, unknown: unknown.map(|ignored| ignored.name).collect() })
    }
}

/// Checks that a file has every tensor of the plain backbone in the model's shape, and none besides: a weight that is silently
/// drawn at random would spoil all others, and blocks that are left out make another network of the rest. Every difference
/// is listed.
fn check(path: &Path, file: &StateDict, mapped: &Mapped, entries: &[Entry]) -> Result<()> {
    let plain: Vec<&Entry> = entries.iter().filter(|entry| is_plain(&entry.name)).collect();
    let there = plain.iter().filter(|entry| mapped.tensors.get(&entry.name).is_some()).count();
    if there * FEW < plain.len() {
        let wanted = plain.iter().map(|entry| entry.name.as_str());
        return Err(Error::file(
            path,
            format!(
                "its names are not those of the backbone: {there} of {} tensors are there. The file has {}; wanted are {}, or \
                 the same under a published name. Nothing was loaded",
                plain.len(),
                some(file.iter().map(tadformer_weights::Tensor::name)),
                some(wanted)
            ),
        ));
    }
    let mut wrong = Vec::new();
    for entry in plain {
        let expected = entry.tensor.dims();
        match mapped.tensors.get(&entry.name) {
            Some(found) if found.shape() == expected && found.dtype().is_float() => {}
            Some(found) => wrong.push(format!(
                "`{}` is {} {:?}, expected floats {expected:?}",
                entry.name,
                found.dtype(),
                found.shape()
            )),
            None => wrong.push(format!("`{}` is missing", entry.name)),
        }
    }
    let names: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let others = mapped.tensors.iter().map(tadformer_weights::Tensor::name);
    let others = others.filter(|name| is_plain(name) && !names.contains(name));
    wrong.extend(others.map(|name| format!("`{name}` has no place in the model")));
    if wrong.is_empty() {
        return Ok(());
    }
    let variant = Variant::of(mapped.tensors.iter().map(|tensor| (tensor.name(), tensor.shape())));
    let found = variant.map_or_else(String::new, |found| format!("; it holds {found}"));
    Err(Error::file(
        path,
        format!(
            "does not fit the backbone{found}; is `model.backbone` of the size of the weights? `--weights none` draws \
             them at random. Nothing was loaded, {} tensors differ:\n  {}",
            wrong.len(),
            wrong.join("\n  ")
        ),
    ))
}

/// Where fewer than one of so many wanted tensors are in a file, its names are the trouble and not its size.
const FEW: usize = 4;

/// A few names, the first and some between, for messages.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 4;
    let names: Vec<&str> = names.collect();
    let step = names.len().div_ceil(SHOWN).max(1);
    let shown: Vec<String> = names.iter().step_by(step).map(|name| format!("`{name}`")).collect();
    if shown.len() < names.len() { format!("{}, …", shown.join(", ")) } else { shown.join(", ") }
}

/// Whether a tensor is one of the plain backbone, without what any method adds.
pub(crate) fn is_plain(name: &str) -> bool {
    name.starts_with("backbone.") && !name.contains("lora_") && !name.contains("prompt")
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut HashWriter(&mut hash)).map_err(Error::io("read", path))?;
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::plain_outline;
    use tadformer_backbone::SwinConfig;
    use tadformer_weights::Tensor as Weight;

    fn sizes() -> SwinConfig {
        let (depths, num_heads) = ([1; 4], [1; 4]);
        SwinConfig { embed_dim: 4, depths, num_heads, window_size: 3, ..SwinConfig::tiny() }
    }

    /// A file with a backbone's tensors, those of them that `named` gives a name.
    fn file(named: impl Fn(&str) -> Option<String>) -> StateDict {
        let mut file = StateDict::new();
        for entry in plain_outline(&sizes()).unwrap() {
            if let Some(name) = named(&entry.name) {
                let values = vec![0.5; entry.tensor.elem_count()];
                file.insert(Weight::from_f32(name, entry.tensor.dims().to_vec(), &values).unwrap()).unwrap();
            }
        }
        file
    }

    fn read(file: &StateDict, sizes: &SwinConfig) -> Result<Pretrained> {
        Pretrained::of(Path::new("w.pth"), file, PositionBiasResize::Auto, &plain_outline(sizes).unwrap())
    }

    #[test]
    fn names_are_blamed_where_names_are_at_fault_and_sizes_where_sizes_are() {
        let whole = file(|name| Some(name.to_owned()));
        assert!(!read(&whole, &sizes()).unwrap().values.is_empty());

        // The first block alone is called as it should be.
        let renamed = file(|name| {
            let known = name.starts_with("backbone.layers.0.blocks.0.");
            Some(if known { name.to_owned() } else { name.replace("backbone.", "backbone.trunk.") })
        });
        let message = read(&renamed, &sizes()).unwrap_err().to_string();
        assert!(message.contains("its names are not those of the backbone: "), "{message}");
        assert!(message.contains("`backbone.trunk.") && message.contains("`backbone.layers."), "{message}");
        assert!(!message.contains("of the size"), "{message}");

        let message = read(&whole, &SwinConfig { embed_dim: 8, ..sizes() }).unwrap_err().to_string();
        assert!(message.contains("of the size of the weights?"), "{message}");
    }
}
