//! Names of Hugging Face transformers 4 and 5: queries, keys and values apart.

use super::{Place, Reason, microsoft};
use crate::error::{Error, Result};
use crate::state_dict::{StateDict, Tensor};

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

/// A name in Hugging Face's layout, without `swin.`.
pub(super) fn place(local: &str) -> Place {
    for (theirs, ours) in HF_TOP {
        if let Some(rest) = local.strip_prefix(theirs) {
            return microsoft::place(&format!("{ours}{rest}"));
        }
    }
    let Some(local) = local.strip_prefix("encoder.") else { return Place::Nowhere(Reason::Unknown) };
    let Some((block, inside)) = split_block(local) else {
        let is_downsample = local.split('.').nth(2) == Some("downsample");
        return if is_downsample { microsoft::place(local) } else { Place::Nowhere(Reason::Unknown) };
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
            return microsoft::place(&format!("{block}{ours}{rest}"));
        }
    }
    Place::Nowhere(Reason::Unknown)
}

pub(super) fn unmap(tensor: &Tensor, name: &str, out: &mut StateDict) -> Result<()> {
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

/// Three tensors as the row blocks of one.
pub(super) fn joined(name: &str, rows: [&Tensor; 3]) -> Result<Tensor> {
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
