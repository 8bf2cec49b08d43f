//! Names of OpenMMLab's models (mmsegmentation, mmdetection, mmpretrain), and the channel order of their patch merging.

use super::{Place, Reason, microsoft};
use crate::error::{Error, Result};
use crate::state_dict::Tensor;

/// Names inside a block, and Microsoft's.
const BLOCK: [(&str, &str); 3] =
    [("attn.w_msa.", "attn."), ("ffn.layers.0.0.", "mlp.fc1."), ("ffn.layers.1.", "mlp.fc2.")];

/// A name in OpenMMLab's layout.
pub(super) fn place(name: &str) -> Place {
    if let Some(rest) = name.strip_prefix("patch_embed.projection.") {
        return microsoft::place(&format!("patch_embed.proj.{rest}"));
    }
    // A norm for the output of each stage.
    if let Some((stage, _)) = name.strip_prefix("norm").and_then(|rest| rest.split_once('.'))
        && !stage.is_empty()
        && stage.bytes().all(|digit| digit.is_ascii_digit())
    {
        return Place::Nowhere(Reason::FinalNorm);
    }
    let Some((stage, rest)) = name.strip_prefix("stages.").and_then(|rest| rest.split_once('.')) else {
        return microsoft::place(name);
    };
    if rest.starts_with("downsample.") {
        return match microsoft::place(&format!("layers.{stage}.{rest}")) {
            Place::Here(name) => Place::Unfolded(name),
            place => place,
        };
    }
    let block = rest.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    let Some((block, inside)) = block else { return Place::Nowhere(Reason::Unknown) };
    let renamed =
        BLOCK.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", inside.strip_prefix(theirs)?)));
    let inside = renamed.unwrap_or_else(|| inside.to_owned());
    microsoft::place(&format!("layers.{stage}.blocks.{block}.{inside}"))
}

/// Puts the last dimension of a patch merging's norm or reduction into our order, as the tensor `name`.
///
/// `nn.Unfold` gives a channel's four neighbours (row by row) before the next channel's; here all channels of a neighbour stand
/// together, and neighbours go column by column, as in Microsoft's code.
///
/// # Errors
/// A last dimension that is no multiple of four.
pub(super) fn from_unfolded(tensor: &Tensor, name: String) -> Result<Tensor> {
    let (shape, size) = (tensor.shape().to_vec(), tensor.dtype().size());
    let Some(width) = shape.last().copied().filter(|width| *width > 0 && width.is_multiple_of(4)) else {
        return Err(Error::tensor(
            "reorder the patch merging",
            tensor.name(),
            format!("its shape {shape:?} does not end in four neighbours' channels"),
        ));
    };
    let channels = width / 4;
    let mut bytes = Vec::with_capacity(tensor.bytes().len());
    for row in tensor.bytes().chunks_exact(width * size) {
        for (dx, dy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for channel in 0..channels {
                let from = channel * 4 + dy * 2 + dx;
                bytes.extend_from_slice(&row[from * size..][..size]);
            }
        }
    }
    Tensor::new(name, tensor.dtype(), shape, bytes)
}
