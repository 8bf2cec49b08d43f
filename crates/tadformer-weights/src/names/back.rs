//! Our names back to published ones, for files that others read.

use super::microsoft::{shift_downsample, without_linear};
use super::{Naming, hugging_face};
use crate::error::{Error, Result};
use crate::state_dict::StateDict;

/// Renames a backbone of ours to a published layout: the way back from [`map`](super::map) for files that others read.
/// Hugging Face names are those of transformers 4; tensors outside of the backbone keep their names.
///
/// # Errors
/// A layout that is only read; a joined query, key and value tensor whose rows are not a multiple of three.
pub fn unmap(ours: &StateDict, naming: Naming) -> Result<StateDict> {
    let mut out = StateDict::new();
    for tensor in ours {
        let Some(name) = tensor.name().strip_prefix("backbone.") else {
            out.insert(tensor.clone())?;
            continue;
        };
        match naming {
            Naming::Reference => out.insert(tensor.clone())?,
            Naming::Microsoft => out.insert(tensor.renamed(without_linear(name)))?,
            Naming::Timm => out.insert(tensor.renamed(shift_downsample(&without_linear(name), 1)))?,
            Naming::HuggingFace => hugging_face::unmap(tensor, &without_linear(name), &mut out)?,
            Naming::TimmFeatures | Naming::Torchvision | Naming::SimMim | Naming::OpenMmlab => {
                return Err(Error::Names(format!(
                    "files are not written under names of {naming:?}; timm's are read everywhere"
                )));
            }
        }
    }
    Ok(out)
}
