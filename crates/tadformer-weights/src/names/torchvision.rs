//! torchvision's names: layers by their number in a sequence.

use super::{Place, Reason, microsoft};

/// Names inside a block, and Microsoft's.
const BLOCK: [(&str, &str); 2] = [("mlp.0.", "mlp.fc1."), ("mlp.3.", "mlp.fc2.")];

/// A name in torchvision's layout: `features.0` is the patch embedding; then come stages and patch mergings in turn.
pub(super) fn place(name: &str) -> Place {
    match name.strip_prefix("features.") {
        Some(feature) => match in_microsoft_layout(feature) {
            Some(name) => microsoft::place(&name),
            None => Place::Nowhere(Reason::Unknown),
        },
        None => microsoft::place(name),
    }
}

fn in_microsoft_layout(feature: &str) -> Option<String> {
    let (at, rest) = feature.split_once('.')?;
    let at: usize = at.parse().ok()?;
    if at == 0 {
        let (layer, rest) = rest.split_once('.')?;
        let part = match layer {
            "0" => "proj",
            "2" => "norm",
            _ => return None,
        };
        return Some(format!("patch_embed.{part}.{rest}"));
    }
    let stage = (at - 1) / 2;
    if at.is_multiple_of(2) {
        return Some(format!("layers.{stage}.downsample.{rest}"));
    }
    let (block, inside) = rest.split_once('.')?;
    let renamed =
        BLOCK.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", inside.strip_prefix(theirs)?)));
    Some(format!("layers.{stage}.blocks.{block}.{}", renamed.unwrap_or_else(|| inside.to_owned())))
}
