//! The low-rank update of a linear layer.

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};
use tadformer_ops::{
    Around, Before, DropoutMask, Init, Kept, LowRankUpdate, Mode, Params, Residual, linear_around,
    linear_kept, low_rank_up,
};

/// How large a low-rank update is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank `r` of the update.
    pub rank: usize,
    /// Factor `s` of the update (`lora_alpha / r` elsewhere).
    pub scale: f64,
    /// Dropout on the update's input while training.
    pub dropout: f64,
}

impl Default for LoraConfig {
    /// The paper's largest: rank 64, scale 4, dropout 0.05.
    fn default() -> Self {
        Self { rank: 64, scale: 4.0, dropout: 0.05 }
    }
}

impl LoraConfig {
    /// The same with another rank.
    pub fn with_rank(self, rank: usize) -> Self {
        Self { rank, ..self }
    }
}

/// `s · B A drop(x)`: LoRA (arXiv 2106.09685); state-dict names `lora_shared_A` `(r, in)` and `lora_shared_B` `(out, r)`.
#[derive(Debug, Clone)]
pub struct LowRank {
    lora_a: Tensor,
    lora_b: Tensor,
    scale: f64,
    dropout: f64,
}

impl LowRank {
    /// An update that starts as zero: `A` Kaiming-uniform (a = √5), `B` zeros.
    ///
    /// # Errors
    /// A rank of zero or above `min(in, out)`, a dropout outside `0..1`, or a loaded value of another shape.
    pub fn new(in_dim: usize, out_dim: usize, config: &LoraConfig, params: &Params) -> Result<Self> {
        let LoraConfig { rank, scale, dropout } = *config;
        if rank == 0 || rank > in_dim.min(out_dim) {
            bail!(
                "low-rank update of a {out_dim}x{in_dim} weight: rank {rank} is not in 1..={}",
                in_dim.min(out_dim)
            );
        }
        if !(0.0..1.0).contains(&dropout) {
            bail!("low-rank update: dropout {dropout} is not in 0..1");
        }
        Ok(Self {
            lora_a: params.trainable("lora_shared_A", (rank, in_dim), Init::fan_in_uniform(in_dim))?,
            lora_b: params.trainable("lora_shared_B", (out_dim, rank), Init::ZEROS)?,
            scale,
            dropout,
        })
    }

    /// The rank.
    pub fn rank(&self) -> usize {
        self.lora_a.dims()[0]
    }

    /// `A`, `(r, in)`.
    pub fn lora_a(&self) -> &Tensor {
        &self.lora_a
    }

    /// `B`, `(out, r)`.
    pub fn lora_b(&self) -> &Tensor {
        &self.lora_b
    }

    /// Factor `s` of the update.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// What dropout keeps of the update's input this time; everything outside training.
    ///
    /// # Errors
    /// None in practice: the probability was checked at construction.
    pub fn draw_mask(&self, mode: &mut Mode<'_>) -> Result<Option<DropoutMask>> {
        DropoutMask::draw(self.dropout, mode)
    }

    /// The update as the kernels take it.
    pub(crate) fn update(&self, mask: Option<DropoutMask>) -> LowRankUpdate<'_> {
        LowRankUpdate { down: &self.lora_a, up: &self.lora_b, scale: self.scale, mask }
    }

    /// `A x`, `(…, in)` to `(…, r)`.
    ///
    /// # Errors
    /// A last dimension other than `in`.
    pub fn down(&self, xs: &Tensor) -> Result<Tensor> {
        self.down_after(Before::Nothing, xs)
    }

    /// `A u`, whose backward needs `kept` of `u`.
    ///
    /// # Errors
    /// A last dimension other than `in`.
    pub(crate) fn down_kept(&self, us: &Tensor, kept: Kept) -> Result<Tensor> {
        linear_kept(us, kept, &self.lora_a, None)
    }

    /// `A u`, with `u` what `before` makes of the input.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn down_after(&self, before: Before<'_>, xs: &Tensor) -> Result<Tensor> {
        linear_around(xs, &self.lora_a, None, Around::after(before))
    }

    /// `base + s · B z`, `(…, r)` to `(…, out)`; `base` is repeated for each part of `zs`. With `onto`, that is what ends in the
    /// residual.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn add_up(&self, base: &Tensor, zs: &Tensor, onto: Option<&Residual>) -> Result<Tensor> {
        low_rank_up(base, zs, &self.lora_b, self.scale, onto)
    }

    /// `s · B A`, `(out, in)`: what the update adds to the weight.
    ///
    /// # Errors
    /// None in practice: the shapes were checked at construction.
    pub fn delta(&self) -> Result<Tensor> {
        self.lora_b.matmul(&self.lora_a)? * self.scale
    }
}
