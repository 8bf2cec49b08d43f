//! The sizes of a Swin Transformer.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};
use tadformer_peft::{Filter, LoraConfig, SiteKind};

/// Sizes of a Swin Transformer (arXiv 2103.14030, section 3.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwinConfig {
    /// Channels of the first stage; every stage doubles them.
    pub embed_dim: usize,
    /// Blocks of each of the four stages.
    pub depths: [usize; 4],
    /// Attention heads of each stage.
    pub num_heads: [usize; 4],
    /// Side of a window in tokens.
    pub window_size: usize,
    /// Side of a patch in pixels.
    #[serde(default = "default_patch_size")]
    pub patch_size: usize,
    /// Hidden channels of an MLP, as a multiple of its channels.
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: usize,
    /// Side in pixels of the images that the position bias tables are made for: in a stage whose grid is then no larger
    /// than the window, the window is the grid, unless it is padded with [zeros](WindowPadding::Zeros). Images of any size can
    /// be passed.
    #[serde(default = "default_image_size")]
    pub image_size: usize,
    /// Probability of dropping the last block's residual branches while training; earlier ones less, linearly from 0.
    /// Part of how a network is trained rather than of its sizes, so it is not read or written with them.
    #[serde(skip, default = "default_drop_path_rate")]
    pub drop_path_rate: f64,
    /// What lies beyond the edge of a grid that is no multiple of the window. Likewise no size.
    #[serde(skip)]
    pub window_padding: WindowPadding,
}

/// What windows find where they hang over the edge of the grid, at the right and at the bottom.
///
/// Where every grid is a multiple of the window, and longer than it along both sides, the two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowPadding {
    /// Nothing: tokens and prompts attend to what is on the grid. A grid whose shorter side is no longer than the window is
    /// cut into windows of that side, without a shift.
    #[default]
    Masked,
    /// Tokens of zeros, as in torchvision and in code for dense tasks. They are added after the norm, before `qkv`, so their
    /// queries, keys and values are `qkv`'s bias, and what is on the grid attends to them; the grid is padded before it is
    /// rolled; an axis that is then one window is not shifted, and a grid smaller than the window is padded up to it.
    ///
    /// They are keys and values only: their own outputs are cut off before anything sees them. Prompts attend to them in the
    /// windows that hang over, and are averaged over all windows as ever. The streams of tasks have no padding: a dynamic
    /// filter is made of a window's tokens on the grid, and beyond them it sees zeros, as it does beyond the window.
    Zeros,
}

fn default_patch_size() -> usize {
    4
}

fn default_mlp_ratio() -> usize {
    4
}

fn default_image_size() -> usize {
    448
}

fn default_drop_path_rate() -> f64 {
    0.2
}

/// The published variants: name, channels, depths, heads.
const VARIANTS: [(&str, usize, [usize; 4], [usize; 4]); 4] = [
    ("swin-tiny", 96, [2, 2, 6, 2], [3, 6, 12, 24]),
    ("swin-small", 96, [2, 2, 18, 2], [3, 6, 12, 24]),
    ("swin-base", 128, [2, 2, 18, 2], [4, 8, 16, 32]),
    ("swin-large", 192, [2, 2, 18, 2], [6, 12, 24, 48]),
];

impl SwinConfig {
    /// The published variant called `name` (`swin-tiny`, `swin-small`, `swin-base`, `swin-large`), window 7.
    pub fn from_name(name: &str) -> Option<Self> {
        let (_, embed_dim, depths, num_heads) = VARIANTS.into_iter().find(|variant| variant.0 == name)?;
        Some(Self {
            embed_dim,
            depths,
            num_heads,
            window_size: 7,
            patch_size: default_patch_size(),
            mlp_ratio: default_mlp_ratio(),
            image_size: default_image_size(),
            drop_path_rate: default_drop_path_rate(),
            window_padding: WindowPadding::Masked,
        })
    }

    /// Names that [`from_name`](Self::from_name) knows.
    pub fn names() -> [&'static str; 4] {
        VARIANTS.map(|variant| variant.0)
    }

    /// Swin-T: 96 channels, depths 2, 2, 6, 2.
    pub fn tiny() -> Self {
        Self::from_name("swin-tiny").expect("a published variant")
    }

    /// Swin-S: 96 channels, depths 2, 2, 18, 2.
    pub fn small() -> Self {
        Self::from_name("swin-small").expect("a published variant")
    }

    /// Swin-B: 128 channels, depths 2, 2, 18, 2.
    pub fn base() -> Self {
        Self::from_name("swin-base").expect("a published variant")
    }

    /// Swin-L: 192 channels, depths 2, 2, 18, 2.
    pub fn large() -> Self {
        Self::from_name("swin-large").expect("a published variant")
    }

    /// Channels within stage `stage`.
    pub fn dim(&self, stage: usize) -> usize {
        self.embed_dim << stage
    }

    /// Channels of the features that stage `stage` gives: doubled by patch merging, except at the end.
    pub fn feature_dim(&self, stage: usize) -> usize {
        self.dim((stage + 1).min(3))
    }

    /// Side of the windows of stage `stage`, and `m` of its position bias table.
    pub fn stage_window(&self, stage: usize) -> usize {
        match self.window_padding {
            WindowPadding::Masked => {
                ((self.image_size / self.patch_size) >> stage).clamp(1, self.window_size)
            }
            WindowPadding::Zeros => self.window_size,
        }
    }

    /// Sides of an image must be multiples of this many pixels.
    pub fn stride(&self) -> usize {
        self.patch_size << 3
    }

    /// Every problem with these sizes, one sentence each; empty if there is none.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |good: bool, message: String| {
            if !good {
                problems.push(message);
            }
        };
        for (name, value, most) in [
            ("embed_dim", self.embed_dim, 4096),
            ("window_size", self.window_size, 64),
            ("patch_size", self.patch_size, 64),
            ("mlp_ratio", self.mlp_ratio, 16),
            ("image_size", self.image_size, 8192),
        ] {
            check((1..=most).contains(&value), format!("`{name}` is {value}, expected 1..={most}"));
        }
        for stage in 0..4 {
            let (heads, depth, dim) = (self.num_heads[stage], self.depths[stage], self.embed_dim << stage);
            check((1..=128).contains(&depth), format!("`depths[{stage}]` is {depth}, expected 1..=128"));
            check(
                heads > 0 && dim % heads.max(1) == 0,
                format!("`num_heads[{stage}]` is {heads}, expected a divisor of the stage's {dim} channels"),
            );
        }
        let rate = self.drop_path_rate;
        check((0.0..1.0).contains(&rate), format!("`drop_path_rate` is {rate}, expected 0 <= rate < 1"));
        problems
    }

    /// Refuses sizes with [problems](Self::problems).
    pub(crate) fn check(&self) -> Result<()> {
        let problems = self.problems();
        if !problems.is_empty() {
            bail!("backbone: {}", problems.join("; "));
        }
        Ok(())
    }
}

/// What TADFormer adds to the backbone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptation {
    /// Number of tasks, each with a stream of its own in the last block of every stage.
    pub tasks: usize,
    /// Prompts a task.
    pub prompts_per_task: usize,
    /// The low-rank updates.
    pub lora: LoraConfig,
    /// What lies between the low-rank factors in the task streams.
    pub filter: Filter,
    /// Whether the scores between prompts and tokens condition the task streams (TPC).
    pub condition: bool,
    /// How the skip feature joins a stage's features.
    pub skip: Skip,
}

/// How the skip feature `f_t` joins a task's stream at the end of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// `g f_t + (1 − g) x_t` with a learned gate.
    #[default]
    Gated,
    /// The mean of both (an ablation).
    Average,
    /// Not at all (an ablation).
    None,
}

/// How the backbone is tuned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tuning {
    /// Nothing trains.
    Frozen,
    /// Everything trains.
    Full,
    /// Low-rank updates, prompts and task streams on frozen weights; norms, position bias and patch embedding train.
    Adapted(Adaptation),
    /// As [`Adapted`](Self::Adapted), with the low-rank updates that no task stream shares already added to the frozen
    /// weights: the same outputs with fewer products. For use, not for training.
    Merged(Adaptation),
}

impl Tuning {
    /// What sits at the sites of a block: `qkv`, and `proj`, `fc1`, `fc2`.
    pub(crate) fn sites(&self, last_of_stage: bool) -> (SiteKind, SiteKind) {
        match *self {
            Self::Frozen => (SiteKind::Frozen, SiteKind::Frozen),
            Self::Full => (SiteKind::Trainable, SiteKind::Trainable),
            Self::Adapted(Adaptation { lora, filter, .. }) => {
                let others = if last_of_stage {
                    SiteKind::TaskAdapting(lora, filter)
                } else {
                    SiteKind::LowRank(lora)
                };
                (SiteKind::LowRank(lora), others)
            }
            Self::Merged(Adaptation { lora, filter, .. }) if last_of_stage => {
                (SiteKind::Frozen, SiteKind::TaskAdapting(lora, filter))
            }
            Self::Merged(_) => (SiteKind::Frozen, SiteKind::Frozen),
        }
    }

    /// The adaptation, if there is one.
    pub fn adaptation(&self) -> Option<&Adaptation> {
        match self {
            Self::Adapted(adaptation) | Self::Merged(adaptation) => Some(adaptation),
            Self::Frozen | Self::Full => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_smaller_than_the_window_is_one_window() {
        let config = SwinConfig { window_size: 4, image_size: 64, ..SwinConfig::tiny() };
        assert_eq!([0, 1, 2, 3].map(|stage| config.stage_window(stage)), [4, 4, 4, 2]);
        assert_eq!([0, 1, 2, 3].map(|stage| SwinConfig::tiny().stage_window(stage)), [7; 4]);
        let padded = SwinConfig { window_padding: WindowPadding::Zeros, ..config };
        assert_eq!([0, 1, 2, 3].map(|stage| padded.stage_window(stage)), [4; 4]);
    }

    #[test]
    fn every_problem_is_named_at_once() {
        assert!(SwinConfig::large().problems().is_empty());
        let config = SwinConfig { embed_dim: 50, window_size: 0, drop_path_rate: 1.0, ..SwinConfig::tiny() };
        let problems = config.problems().join("; ");
        for expected in ["`window_size` is 0", "`num_heads[0]` is 3", "`drop_path_rate` is 1"] {
            assert!(problems.contains(expected), "{problems}");
        }
    }
}
