//! Whose names a file uses, and what stands before them.

use super::{Naming, Place, Reason, hugging_face, microsoft, open_mmlab, torchvision};
use crate::error::{Error, Result};
use crate::state_dict::{StateDict, Tensor};
use std::collections::BTreeSet;

/// Beginnings of names that only one layout has, the more telling first: Hugging Face's names end as Microsoft's begin.
const SIGNS: [(&str, Naming); 6] = [
    ("stages.0.blocks.0.attn.w_msa.", Naming::OpenMmlab),
    ("features.1.0.attn.", Naming::Torchvision),
    ("layers_0.blocks.0.", Naming::TimmFeatures),
    ("encoder.layers.0.blocks.0.attention.", Naming::HuggingFace),
    ("encoder.layers.0.blocks.0.layernorm_before.", Naming::HuggingFace),
    ("layers.0.blocks.0.", Naming::Microsoft),
];
/// What tells the layout of a file without the first block.
const WEAK_SIGNS: [(&str, Naming); 2] =
    [("embeddings.patch_embeddings.", Naming::HuggingFace), ("patch_embed.", Naming::Microsoft)];
/// Parts of names that only a Swin Transformer V2 has, in the layouts of Microsoft, timm, torchvision and Hugging Face.
const OF_V2: [&str; 3] = [".cpb_mlp.", ".continuous_position_bias_mlp.", ".relative_coords_table"];

/// How the names of one file are to be read.
pub(super) struct Layout {
    pub(super) naming: Naming,
    /// What training scripts and larger models put before every name of the backbone: `model.`, `module.`, `encoder.`, …
    prefix: String,
    /// `layers.i.downsample` begins stage i instead of ending it.
    begins_stage: bool,
}

impl Layout {
    /// Finds the layout and the prefix by the names of the first block.
    ///
    /// # Errors
    /// No layout is recognised, or several; a Swin Transformer V2; several backbones.
    pub(super) fn detect(file: &StateDict) -> Result<Self> {
        if let Some(tensor) = file.iter().find(|tensor| OF_V2.iter().any(|part| tensor.name().contains(part)))
        {
            return Err(Error::Names(format!(
                "`{}` belongs to a Swin Transformer V2, whose attention is another (cosine similarities, a network for the \
                 position bias); weights of a Swin Transformer, the first version, are wanted",
                tensor.name()
            )));
        }
        let Some((naming, prefixes)) =
            [&SIGNS[..], &WEAK_SIGNS].into_iter().find_map(|signs| find(file, signs))
        else {
            return Err(Error::Names(format!(
                "the names follow no Swin layout of Microsoft, timm, torchvision, Hugging Face, SimMIM, OpenMMLab or the \
                 reference; they begin with {}",
                first_names(file)
            )));
        };
        let prefix = match prefixes.first() {
            Some(prefix) if prefix.is_empty() || prefixes.len() == 1 => prefix.clone(),
            _ => {
                let prefixes: Vec<String> = prefixes.iter().map(|prefix| format!("`{prefix}`")).collect();
                return Err(Error::Names(format!(
                    "the file holds several Swin Transformers, whose names begin with {}; keep one of them",
                    prefixes.join(" and ")
                )));
            }
        };
        let begins_stage = match naming {
            Naming::Microsoft => microsoft::downsample_begins_stage(file, &prefix)?,
            naming => naming == Naming::TimmFeatures,
        };
        Ok(Self::of_microsoft(file, naming, begins_stage, prefix))
    }

    /// Tells apart those who share Microsoft's names.
    fn of_microsoft(file: &StateDict, naming: Naming, begins_stage: bool, mut prefix: String) -> Self {
        let has = |name: String| file.iter().any(|tensor| tensor.name().starts_with(&name));
        let naming = if naming != Naming::Microsoft {
            naming
        } else if prefix == "backbone."
            || prefix.ends_with(".backbone.") && has(format!("{prefix}layers.0.blocks.0.attn.qkv.linear."))
        {
            // The whole model keeps its names.
            prefix.truncate(prefix.len() - "backbone.".len());
            Naming::Reference
        } else if prefix.ends_with("encoder.") && has(format!("{prefix}mask_token")) {
            Naming::SimMim
        } else if begins_stage {
            Naming::Timm
        } else {
            Naming::Microsoft
        };
        Self { naming, prefix, begins_stage }
    }

    /// Where the tensor `name` belongs.
    pub(super) fn place(&self, name: &str) -> Place {
        let Some(local) = name.strip_prefix(&self.prefix) else {
            return Place::Nowhere(outside(name));
        };
        let place = match self.naming {
            Naming::HuggingFace => hugging_face::place(local),
            Naming::Torchvision => torchvision::place(local),
            Naming::OpenMmlab => open_mmlab::place(local),
            Naming::TimmFeatures => self.place_microsoft(&local.replacen("layers_", "layers.", 1)),
            Naming::Microsoft | Naming::Timm | Naming::SimMim => self.place_microsoft(local),
            Naming::Reference => match local.strip_prefix("backbone.") {
                // A training checkpoint's backbone has parts of its own.
                Some(inside) => match self.place_microsoft(inside) {
                    Place::Nowhere(Reason::Unknown) => Place::Here(local.to_owned()),
                    place => place,
                },
                None if local.ends_with(".num_batches_tracked") => Place::Nowhere(Reason::Counter),
                None => Place::Here(local.to_owned()),
            },
        };
        match place {
            Place::Nowhere(Reason::Unknown) => Place::Nowhere(outside(local)),
            place => place,
        }
    }

    fn place_microsoft(&self, local: &str) -> Place {
        let shift = if self.begins_stage { -1 } else { 0 };
        microsoft::place(&microsoft::shift_downsample(local, shift))
    }
}

/// The naming that the signs tell, and the prefixes before them.
fn find(file: &StateDict, signs: &[(&str, Naming)]) -> Option<(Naming, BTreeSet<String>)> {
    let with = |wanted: Naming| {
        let prefixes = file.iter().flat_map(|tensor| {
            let name = tensor.name();
            let of_naming = signs.iter().filter(move |(_, naming)| *naming == wanted);
            of_naming.filter_map(move |(sign, _)| Some(name[..beginning(name, sign)?].to_owned()))
        });
        prefixes.collect::<BTreeSet<String>>()
    };
    signs.iter().map(|(_, naming)| (*naming, with(*naming))).find(|(_, prefixes)| !prefixes.is_empty())
}

/// Where `sign` begins in a name, if that is where a part of the name begins.
fn beginning(name: &str, sign: &str) -> Option<usize> {
    name.match_indices(sign).map(|(at, _)| at).find(|&at| at == 0 || name.as_bytes()[at - 1] == b'.')
}

/// What a name says that stands beside the backbone.
fn outside(name: &str) -> Reason {
    let is = |parts: &[&str]| name.split('.').any(|part| parts.contains(&part));
    let ends = |ends: &[&str]| name.split('.').any(|part| ends.iter().any(|end| part.ends_with(end)));
    if is(&["num_batches_tracked"]) {
        Reason::Counter
    } else if is(&["classifier", "head", "fc"]) && !ends(&["_head"]) {
        Reason::Classifier
    } else if is(&["hidden_states_norms"]) {
        Reason::FinalNorm
    } else if is(&["decoder", "neck", "mask_token"]) || ends(&["_head", "_decoder"]) {
        Reason::OtherTask
    } else {
        Reason::Unknown
    }
}

/// The first names of a file, for messages.
pub(super) fn first_names(file: &StateDict) -> String {
    const SHOWN: usize = 3;
    let first: Vec<String> =
        file.iter().take(SHOWN).map(|tensor: &Tensor| format!("`{}`", tensor.name())).collect();
    first.join(", ")
}
