//! Pretrained weights into a model's tensors.

use crate::config::WeightsSource;
use crate::embedded;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tadformer_ops::Entry;
use tadformer_weights::{StateDict, names};

/// Values for a model's tensors, by full name, and where they came from.
#[derive(Debug, Default)]
pub struct Pretrained {
    /// The values.
    pub values: HashMap<String, Tensor>,
    /// The file they came from; `embedded` for the one inside the program.
    pub origin: Option<Origin>,
}

/// A weight file, so that a later start can tell whether it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Where it was.
    pub path: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

impl Pretrained {
    /// Reads what `source` names for a model with the tensors `entries`; nothing for [`WeightsSource::None`].
    ///
    /// Names of timm, Microsoft, Hugging Face and of the published TADFormer code are understood. Position bias tables made
    /// for other windows are resized.
    ///
    /// # Errors
    /// A file that is missing, damaged, not a Swin Transformer, or of another size than the model's backbone.
    pub fn read(source: &WeightsSource, entries: &[Entry]) -> Result<Self> {
        let (path, file, sha256) = match source {
            WeightsSource::None => return Ok(Self::default()),
            WeightsSource::Embedded => {
                let path = PathBuf::from("embedded");
                let file = StateDict::from_bytes(&path, embedded::BACKBONE.to_vec())?;
                (path, file, hex(&Sha256::digest(embedded::BACKBONE)))
            }
            WeightsSource::File(path) => {
                let path = tadformer_weights::locate(&path.to_string_lossy())?;
                let file = StateDict::read(&path)?;
                let sha256 = sha256(&path)?;
                (path, file, sha256)
            }
        };
        let mut mapped = names::map(&file).map_err(|error| Error::file(&path, error.to_string()))?;
        let wanted: Vec<_> = entries.iter().map(|e| (e.name.clone(), e.tensor.dims().to_vec())).collect();
        mapped.resize_position_bias(&wanted)?;
        let tensors = &mapped.tensors;
        check(&path, entries, |name| tensors.get(name).map(tadformer_weights::Tensor::shape))?;
        let needed = tensors.iter().filter(|tensor| wanted.iter().any(|(name, _)| name == tensor.name()));
        let values =
            needed.map(|tensor| Ok((tensor.name().to_owned(), to_candle(tensor)?))).collect::<Result<_>>()?;
        let origin = Origin { path: path.display().to_string(), sha256 };
        Ok(Self { values, origin: Some(origin) })
    }
}

/// Checks that a file has every tensor of the plain backbone in the model's shape: a weight that is silently drawn at random
/// would spoil all others.
fn check<'a>(path: &Path, entries: &[Entry], shape: impl Fn(&str) -> Option<&'a [usize]>) -> Result<()> {
    let plain =
        |name: &str| name.starts_with("backbone.") && !name.contains("lora_") && !name.contains("prompt");
    let mut wrong = Vec::new();
    for entry in entries.iter().filter(|entry| plain(&entry.name)) {
        match shape(&entry.name) {
            Some(found) if found == entry.tensor.dims() => {}
            Some(found) => {
                wrong.push(format!(
                    "`{}` has shape {found:?}, expected {:?}",
                    entry.name,
                    entry.tensor.dims()
                ));
            }
            None => wrong.push(format!("`{}` is missing", entry.name)),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let more = if wrong.len() > 5 { format!(" and {} more", wrong.len() - 5) } else { String::new() };
    wrong.truncate(5);
    Err(Error::file(
        path,
        format!(
            "does not fit the backbone: {}{more}; is `model.backbone` of the size of the weights? `--weights none` draws \
             them at random",
            wrong.join(", ")
        ),
    ))
}

/// A weight file's tensor as one of candle's, `f32` in main memory.
///
/// # Errors
/// None in practice: the shape was checked when the file was read.
pub(crate) fn to_candle(tensor: &tadformer_weights::Tensor) -> Result<Tensor> {
    Ok(Tensor::from_vec(tensor.to_f32(), tensor.shape(), &Device::Cpu)?)
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
