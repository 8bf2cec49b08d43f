//! Published Swin state-dict names to ours: the only place that renames.
//!
//! Ours are the Microsoft names with `.linear` after the four sites and `backbone.` in front, which are those of the
//! reference implementation. Layouts are told apart by their names, never assumed:
//! - Microsoft's release files and timm before 0.9: `layers.i.downsample` ends stage i;
//! - timm since 0.9: `layers.(i+1).downsample` begins stage i + 1; `features_only` writes `layers_i`;
//! - Hugging Face transformers 4 and 5: `encoder.layers.i.…`, queries, keys and values apart;
//! - torchvision: `features.i.…`;
//! - SimMIM: Microsoft's names behind `encoder.`, with a mask token and a decoder;
//! - OpenMMLab: `stages.i.…`, and another order of channels in patch merging;
//! - the reference's training checkpoints: `backbone.…` and `decoders.…`.
//!
//! Training scripts and larger models put something before all of these (`model.`, `module.`, `backbone.`, …): it is what
//! stands before the names of the first block, and is taken off.

mod back;
mod hugging_face;
mod layout;
mod microsoft;
mod open_mmlab;
mod torchvision;

pub use back::unmap;

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::state_dict::{StateDict, Tensor};
use layout::Layout;

/// Whose names a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Microsoft's release files, and timm before 0.9.
    Microsoft,
    /// timm since 0.9.
    Timm,
    /// timm with `features_only`.
    TimmFeatures,
    /// Hugging Face transformers, `AutoBackbone` among them.
    HuggingFace,
    /// torchvision.
    Torchvision,
    /// Microsoft's masked pretraining, SimMIM.
    SimMim,
    /// OpenMMLab: mmsegmentation, mmdetection, mmpretrain.
    OpenMmlab,
    /// The reference implementation's training checkpoints: whole models, names kept.
    Reference,
}

/// Why a tensor of a file was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Computed from the geometry: position indices, shift masks.
    Buffer,
    /// Batch counters of `BatchNorm`.
    Counter,
    /// A normalisation after a stage, for what was put there; multi-task models have none.
    FinalNorm,
    /// The classification head, of 1,000 or 21,841 classes.
    Classifier,
    /// What another task put on the backbone: decoder, neck, heads, mask token.
    OtherTask,
    /// A name that belongs to no part of a Swin Transformer.
    Unknown,
}

/// A tensor of a file that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Its name in the file.
    pub name: String,
    /// Why.
    pub reason: Reason,
}

/// A file's tensors under our names, and what was left out.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// Whose names the file used.
    pub naming: Naming,
    /// The tensors, `backbone.…` (and `decoders.…` of a reference checkpoint), in the file's order.
    pub tensors: StateDict,
    /// Every other tensor of the file.
    pub ignored: Vec<Ignored>,
}

/// Renames a file's tensors to ours, whatever layout it follows.
///
/// ```
/// use tadformer_weights::{StateDict, Tensor, names};
///
/// let mut file = StateDict::new();
/// file.insert(Tensor::from_f32("patch_embed.proj.bias", vec![1], &[0.5])?)?;
/// file.insert(Tensor::from_f32("layers.0.blocks.0.attn.qkv.bias", vec![3], &[1.0, 2.0, 3.0])?)?;
/// let mapped = names::map(&file)?;
/// assert!(mapped.tensors.get("backbone.layers.0.blocks.0.attn.qkv.linear.bias").is_some());
/// # Ok::<(), tadformer_weights::Error>(())
/// ```
///
/// # Errors
/// No layout is recognised, the names contradict each other, there is more than one backbone, it is a Swin Transformer V2, or a
/// query has no key and value beside it.
pub fn map(file: &StateDict) -> Result<Mapped> {
    let layout = Layout::detect(file)?;
    let mut mapped = Mapped { naming: layout.naming, tensors: StateDict::new(), ignored: Vec::new() };
    let mut parts: HashMap<String, [Option<&Tensor>; 3]> = HashMap::new();
    for tensor in file {
        match layout.place(tensor.name()) {
            Place::Here(name) => mapped.tensors.insert(tensor.renamed(name))?,
            Place::Part(name, row) => {
                let rows = parts.entry(name.clone()).or_default();
                rows[row] = Some(tensor);
                if let [Some(q), Some(k), Some(v)] = *rows {
                    mapped.tensors.insert(hugging_face::joined(&name, [q, k, v])?)?;
                    parts.remove(&name);
                }
            }
            Place::Unfolded(name) => mapped.tensors.insert(open_mmlab::from_unfolded(tensor, name)?)?,
            Place::Nowhere(reason) => mapped.ignored.push(Ignored { name: tensor.name().to_owned(), reason }),
        }
    }
    let mut alone: Vec<&str> = parts.values().flatten().flatten().map(|tensor| tensor.name()).collect();
    alone.sort_unstable();
    if let [first, ..] = alone[..] {
        return Err(Error::Names(format!(
            "queries, keys and values come in threes, and {} tensors are without the others, `{first}` first",
            alone.len()
        )));
    }
    Ok(mapped)
}

/// Where a tensor of a file belongs.
enum Place {
    /// Our name.
    Here(String),
    /// Rows 0, 1 or 2 (query, key, value) of three.
    Part(String, usize),
    /// Our name, for a tensor whose last dimension is in the order of `nn.Unfold`.
    Unfolded(String),
    Nowhere(Reason),
}
