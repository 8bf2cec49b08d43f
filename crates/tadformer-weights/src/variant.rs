//! Which Swin a set of tensors is, for messages and for building the model that fits a file.

use std::fmt;

use crate::position_bias::window_of;

/// The sizes that tell one Swin from another, read off the shapes of its tensors under our names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Channels of the first stage.
    pub embed_dim: usize,
    /// Blocks a stage.
    pub depths: Vec<usize>,
    /// Heads a stage; empty if the bias tables are missing.
    pub num_heads: Vec<usize>,
    /// Side of the attention window in tokens, the largest of all stages; `None` if the bias tables are missing.
    pub window: Option<usize>,
}

impl Variant {
    /// Reads the sizes off names and shapes; `None` if there is no backbone among them.
    pub fn of<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Option<Self> {
        /// Stages and blocks of no model; a file may claim any number.
        const MOST: usize = 256;
        let mut embed_dim = None;
        let (mut depths, mut num_heads, mut window) = (Vec::new(), Vec::new(), None);
        for (name, shape) in tensors {
            if name == "backbone.patch_embed.proj.weight" {
                embed_dim = shape.first().copied();
            }
            let Some(rest) = name.strip_prefix("backbone.layers.") else { continue };
            let mut parts = rest.split('.');
            let stage: Option<usize> = parts.next().and_then(|n| n.parse().ok());
            let is_block = parts.next() == Some("blocks");
            let block: Option<usize> = parts.next().and_then(|n| n.parse().ok());
            let (Some(stage), true, Some(block)) = (stage, is_block, block) else { continue };
            if stage >= MOST || block >= MOST {
                continue;
            }
            if depths.len() <= stage {
                depths.resize(stage + 1, 0);
                num_heads.resize(stage + 1, 0);
            }
            depths[stage] = depths[stage].max(block + 1);
            if let (true, &[rows, heads]) = (name.ends_with(".relative_position_bias_table"), shape) {
                num_heads[stage] = heads;
                window = window.max(window_of(rows));
            }
        }
        if num_heads.iter().all(|&heads| heads == 0) {
            num_heads.clear();
        }
        Some(Self { embed_dim: embed_dim?, depths, num_heads, window })
    }

    /// `swin-tiny`, `swin-small`, `swin-base` or `swin-large` (arXiv 2103.14030, table 7), or `None` for other sizes.
    pub fn name(&self) -> Option<&'static str> {
        match (self.embed_dim, &self.depths[..]) {
            (96, [2, 2, 6, 2]) => Some("swin-tiny"),
            (96, [2, 2, 18, 2]) => Some("swin-small"),
            (128, [2, 2, 18, 2]) => Some("swin-base"),
            (192, [2, 2, 18, 2]) => Some("swin-large"),
            _ => None,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depths: Vec<String> = self.depths.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{} (embed_dim {}, depths {}",
            self.name().unwrap_or("a Swin"),
            self.embed_dim,
            depths.join("-")
        )?;
        match self.window {
            Some(window) => write!(f, ", window {window})"),
            None => f.write_str(")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_off_names_and_shapes() {
        let tensors: [(&str, &[usize]); 4] = [
            ("backbone.patch_embed.proj.weight", &[128, 3, 4, 4]),
            ("backbone.layers.2.blocks.17.norm1.weight", &[512]),
            ("backbone.layers.0.blocks.1.attn.relative_position_bias_table", &[529, 4]),
            ("decoders.layers.9.blocks.9.norm1.weight", &[1]),
        ];
        let variant = Variant::of(tensors).unwrap();
        assert_eq!(variant.depths, [2, 0, 18]);
        assert_eq!(variant.window, Some(12));
        assert_eq!(variant.to_string(), "a Swin (embed_dim 128, depths 2-0-18, window 12)");
        assert_eq!(Variant::of([("x", &[1usize][..])]), None);
    }
}
