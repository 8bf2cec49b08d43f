//! Microsoft's names, and timm's: ours but for `.linear` and `backbone.`.

use super::{Place, Reason};
use crate::error::{Error, Result};
use crate::state_dict::{StateDict, Tensor};

/// The four linear layers of a block that may carry an update.
const SITES: [&str; 4] = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];

/// Whether downsampling stands at the beginning of its stage, from the stages that have one; the widths must agree.
pub(super) fn downsample_begins_stage(file: &StateDict, prefix: &str) -> Result<bool> {
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
pub(super) fn place(name: &str) -> Place {
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

/// `….attn.qkv.weight` to `….attn.qkv.linear.weight`, at the four sites.
pub(super) fn with_linear(name: &str) -> String {
    for site in SITES {
        for last in ["weight", "bias"] {
            if name.strip_suffix(last).and_then(|n| n.strip_suffix('.')).is_some_and(|n| n.ends_with(site)) {
                return format!("{}linear.{last}", &name[..name.len() - last.len()]);
            }
        }
    }
    name.to_owned()
}

pub(super) fn without_linear(name: &str) -> String {
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
pub(super) fn shift_downsample(name: &str, by: isize) -> String {
    let moved = || {
        let (stage, rest) = name.strip_prefix("layers.")?.split_once('.')?;
        let stage = stage.parse::<usize>().ok()?.checked_add_signed(by)?;
        rest.starts_with("downsample.").then(|| format!("layers.{stage}.{rest}"))
    };
    moved().unwrap_or_else(|| name.to_owned())
}
