//! Published Swin state-dict names to ours: the only place that renames.
//!
//! Ours are the Microsoft names with `.linear` after the four sites and `backbone.` in front, which are those of the
//! reference implementation. Four layouts are told apart by their names, never assumed:
//! - Microsoft's release files and timm before 0.9: `layers.i.downsample` ends stage i;
//! - timm since 0.9: `layers.(i+1).downsample` begins stage i + 1;
//! - Hugging Face transformers 4 and 5: `encoder.layers.i.…`, queries, keys and values apart;
//! - the reference's training checkpoints: `backbone.…` and `decoders.…`.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::state_dict::{StateDict, Tensor};

/// The four linear layers of a block that may carry an update.
const SITES: [&str; 4] = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];
/// Hugging Face names inside a block, versions 4 and 5, and ours; of the same length for the way back.
const HF_BLOCK: [(&str, &str); 12] = [
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("attention.output.dense.", "attn.proj."),
    ("attention.self.relative_position_bias_table", "attn.relative_position_bias_table"),
    ("attention.self.relative_position_index", "attn.relative_position_index"),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
    ("attention.o_proj.", "attn.proj."),
    ("attention.relative_position_bias.relative_position_bias_table", "attn.relative_position_bias_table"),
    ("attention.relative_position_bias.relative_position_index", "attn.relative_position_index"),
    ("mlp.fc1.", "mlp.fc1."),
    ("mlp.fc2.", "mlp.fc2."),
];
/// Hugging Face names of queries, keys and values, by version.
const HF_QKV: [[&str; 3]; 2] = [
    ["attention.self.query.", "attention.self.key.", "attention.self.value."],
    ["attention.q_proj.", "attention.k_proj.", "attention.v_proj."],
];
const HF_TOP: [(&str, &str); 3] = [
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("embeddings.norm.", "patch_embed.norm."),
    ("layernorm.", "norm."),
];

/// Whose names a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Microsoft's release files, and timm before 0.9.
    Microsoft,
    /// timm since 0.9.
    Timm,
    /// Hugging Face transformers.
    HuggingFace,
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
    /// The normalisation after the last stage, which multi-task models do not have.
    FinalNorm,
    /// The classification head, of 1,000 or 21,841 classes.
    Classifier,
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
/// No layout is recognised, the names contradict each other, or a query has no key and value beside it.
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
                    mapped.tensors.insert(joined(&name, [q, k, v])?)?;
                    parts.remove(&name);
                }
            }
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

/// Renames a backbone of ours to a published layout: the way back from [`map`] for files that others read.
/// Hugging Face names are those of transformers 4; tensors outside of the backbone keep their names.
///
/// # Errors
/// A joined query, key and value tensor whose rows are not a multiple of three.
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
            Naming::HuggingFace => unmap_hugging_face(tensor, &without_linear(name), &mut out)?,
        }
    }
    Ok(out)
}

struct Layout {
    naming: Naming,
    /// `layers.i.downsample` begins stage i instead of ending it.
    begins_stage: bool,
}

enum Place {
    Here(String),
    /// Rows 0, 1 or 2 (query, key, value) of three.
    Part(String, usize),
    Nowhere(Reason),
}

impl Layout {
    fn detect(file: &StateDict) -> Result<Self> {
        let has = |prefix: &str| file.iter().any(|tensor| tensor.name().starts_with(prefix));
        let naming = if has("backbone.") {
            Naming::Reference
        } else if has("swin.encoder.layers.") || has("encoder.layers.") {
            Naming::HuggingFace
        } else if has("patch_embed.") || has("layers.0.blocks.") {
            Naming::Microsoft
        } else {
            let first: Vec<String> =
                file.iter().take(3).map(|tensor| format!("`{}`", tensor.name())).collect();
            return Err(Error::Names(format!(
                "the names follow no Swin layout of Microsoft, timm, Hugging Face or the reference; they begin with {}",
                first.join(", ")
            )));
        };
        if naming == Naming::HuggingFace {
            return Ok(Self { naming, begins_stage: false });
        }
        let prefix = if naming == Naming::Reference { "backbone." } else { "" };
        let begins_stage = downsample_begins_stage(file, prefix)?;
        let naming = if begins_stage && naming == Naming::Microsoft { Naming::Timm } else { naming };
        Ok(Self { naming, begins_stage })
    }

    fn place(&self, name: &str) -> Place {
        let local = match self.naming {
            Naming::HuggingFace => return place_hugging_face(name),
            Naming::Reference => match name.strip_prefix("backbone.") {
                Some(local) => local,
                None if name.ends_with(".num_batches_tracked") => return Place::Nowhere(Reason::Counter),
                None => return Place::Here(name.to_owned()),
            },
            Naming::Microsoft | Naming::Timm => name,
        };
        let shift = if self.begins_stage { -1 } else { 0 };
        match place_microsoft(&shift_downsample(local, shift)) {
            // A training checkpoint's backbone has parts of its own.
            Place::Nowhere(Reason::Unknown) if self.naming == Naming::Reference => {
                Place::Here(name.to_owned())
            }
            place => place,
        }
    }
}

/// Whether downsampling stands at the beginning of its stage, from the stages that have one; the widths must agree.
fn downsample_begins_stage(file: &StateDict, prefix: &str) -> Result<bool> {
    let stage = |tensor: &Tensor| -> Option<(usize, bool)> {
        let rest = tensor.name().strip_prefix(prefix)?.strip_prefix("layers.")?;
        let (stage, rest) = rest.split_once('.')?;
        // Per-task downsampling of a reference checkpoint follows the stage's own.
        Some((stage.parse().ok()?, rest.starts_with("downsample.")))
    };
    let stages: Vec<(usize, bool)> = file.iter().filter_map(stage).collect();
    let last = stages.iter().map(|&(stage, _)| stage).max().unwrap_or(0);
    let at = |wanted: usize| stages.contains(&(wanted, true));
    let begins = match (at(0), last > 0 && at(last)) {
        (false, begins) => begins,
        (true, false) => false,
        (true, true) => {
            return Err(Error::Names(format!(
                "stages 0 and {last} both have a `downsample`; Microsoft's names have none in the last stage, timm's none in the first"
            )));
        }
    };
    let width = |name: String| file.get(&name).and_then(|tensor| tensor.shape().first().copied());
    let Some(embed) = width(format!("{prefix}patch_embed.proj.weight")) else { return Ok(begins) };
    for stage in 0..last.min(8) {
        let norm = format!("{prefix}layers.{}.downsample.norm.weight", stage + usize::from(begins));
        let expected = embed.checked_mul(4 << stage);
        if let Some(found) = width(norm.clone())
            && Some(found) != expected
        {
            return Err(Error::Names(format!(
                "`{norm}` has {found} channels, expected {} (4 times those of stage {stage}); are the names of two layouts mixed?",
                expected.unwrap_or(0)
            )));
        }
    }
    Ok(begins)
}

/// A name in Microsoft's layout, without prefix.
fn place_microsoft(name: &str) -> Place {
    let last = name.rsplit('.').next().unwrap_or(name);
    match last {
        "relative_position_index" | "attn_mask" => return Place::Nowhere(Reason::Buffer),
        "num_batches_tracked" => return Place::Nowhere(Reason::Counter),
        _ => {}
    }
    if name.starts_with("norm.") {
        return Place::Nowhere(Reason::FinalNorm);
    }
    if name.starts_with("head.") || name.starts_with("classifier.") {
        return Place::Nowhere(Reason::Classifier);
    }
    let known = ["patch_embed.", "layers.", "absolute_pos_embed", "task_prompts"];
    if !known.iter().any(|known| name.starts_with(known)) {
        return Place::Nowhere(Reason::Unknown);
    }
    Place::Here(format!("backbone.{}", with_linear(name)))
}

fn place_hugging_face(name: &str) -> Place {
    let local = name.strip_prefix("swin.").unwrap_or(name);
    if local.starts_with("classifier.") {
        return Place::Nowhere(Reason::Classifier);
    }
    for (theirs, ours) in HF_TOP {
        if let Some(rest) = local.strip_prefix(theirs) {
            return place_microsoft(&format!("{ours}{rest}"));
        }
    }
    let Some(local) = local.strip_prefix("encoder.") else { return Place::Nowhere(Reason::Unknown) };
    let Some((block, inside)) = split_block(local) else {
        let is_downsample = local.split('.').nth(2) == Some("downsample");
        return if is_downsample { place_microsoft(local) } else { Place::Nowhere(Reason::Unknown) };
    };
    for version in HF_QKV {
        for (row, theirs) in version.into_iter().enumerate() {
            if let Some(rest) = inside.strip_prefix(theirs) {
                return Place::Part(format!("backbone.{block}attn.qkv.linear.{rest}"), row);
            }
        }
    }
    for (theirs, ours) in HF_BLOCK {
        if let Some(rest) = inside.strip_prefix(theirs) {
            return place_microsoft(&format!("{block}{ours}{rest}"));
        }
    }
    Place::Nowhere(Reason::Unknown)
}

fn unmap_hugging_face(tensor: &Tensor, name: &str, out: &mut StateDict) -> Result<()> {
    for (theirs, ours) in HF_TOP {
        if let Some(rest) = name.strip_prefix(ours) {
            return out.insert(tensor.renamed(format!("swin.{theirs}{rest}")));
        }
    }
    let Some((block, inside)) = split_block(name) else {
        return out.insert(tensor.renamed(format!("swin.encoder.{name}")));
    };
    if let Some(rest) = inside.strip_prefix("attn.qkv.") {
        let names = HF_QKV[0].map(|theirs| format!("swin.encoder.{block}{theirs}{rest}"));
        return split(tensor, names)?.into_iter().try_for_each(|part| out.insert(part));
    }
    for (theirs, ours) in HF_BLOCK {
        if let Some(rest) = inside.strip_prefix(ours) {
            return out.insert(tensor.renamed(format!("swin.encoder.{block}{theirs}{rest}")));
        }
    }
    out.insert(tensor.renamed(format!("swin.encoder.{name}")))
}

/// `layers.i.blocks.j.` and the rest of a name.
fn split_block(name: &str) -> Option<(&str, &str)> {
    let mut dots = name.match_indices('.').map(|(at, _)| at);
    let is_block = name.starts_with("layers.") && name.split('.').nth(2) == Some("blocks");
    let end = dots.nth(3)? + 1;
    is_block.then(|| name.split_at(end))
}

/// `….attn.qkv.weight` to `….attn.qkv.linear.weight`, at the four sites.
fn with_linear(name: &str) -> String {
    for site in SITES {
        for last in ["weight", "bias"] {
            if name.strip_suffix(last).and_then(|n| n.strip_suffix('.')).is_some_and(|n| n.ends_with(site)) {
                return format!("{}linear.{last}", &name[..name.len() - last.len()]);
            }
        }
    }
    name.to_owned()
}

fn without_linear(name: &str) -> String {
    for last in ["weight", "bias"] {
        if let Some(site) = name.strip_suffix(last).and_then(|n| n.strip_suffix(".linear."))
            && SITES.iter().any(|known| site.ends_with(known))
        {
            return format!("{site}.{last}");
        }
    }
    name.to_owned()
}

/// Moves a `layers.i.downsample.…` by `by` stages; other names, and stages that would be negative, stay.
fn shift_downsample(name: &str, by: isize) -> String {
    let moved = || {
        let (stage, rest) = name.strip_prefix("layers.")?.split_once('.')?;
        let stage = stage.parse::<usize>().ok()?.checked_add_signed(by)?;
        rest.starts_with("downsample.").then(|| format!("layers.{stage}.{rest}"))
    };
    moved().unwrap_or_else(|| name.to_owned())
}

/// Three tensors as the row blocks of one.
fn joined(name: &str, rows: [&Tensor; 3]) -> Result<Tensor> {
    let [first, ..] = rows;
    for part in rows {
        if part.dtype() != first.dtype() || part.shape() != first.shape() || part.shape().is_empty() {
            let reason = format!(
                "`{}` is {} {:?} and `{}` is {} {:?}",
                first.name(),
                first.dtype(),
                first.shape(),
                part.name(),
                part.dtype(),
                part.shape()
            );
            return Err(Error::tensor("join queries, keys and values into", name, reason));
        }
    }
    let mut shape = first.shape().to_vec();
    shape[0] = shape[0].saturating_mul(3);
    let bytes: Vec<u8> = rows.iter().flat_map(|part| part.bytes().iter().copied()).collect();
    Tensor::new(name, first.dtype(), shape, bytes)
}

/// The three row blocks of a tensor, sharing its bytes.
fn split(tensor: &Tensor, names: [String; 3]) -> Result<Vec<Tensor>> {
    let mut shape = tensor.shape().to_vec();
    let Some(rows) = shape.first().copied().filter(|rows| rows.is_multiple_of(3)) else {
        return Err(Error::tensor(
            "split",
            tensor.name(),
            format!("its shape {shape:?} is not three blocks of rows"),
        ));
    };
    shape[0] = rows / 3;
    let size = tensor.bytes().len() / 3;
    let part = |(row, name): (usize, String)| {
        let bytes = tensor.bytes().slice(row * size..(row + 1) * size).expect("a third lies inside");
        Tensor::new(name, tensor.dtype(), shape.clone(), bytes)
    };
    names.into_iter().enumerate().map(part).collect()
}
