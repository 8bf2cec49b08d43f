//! Halves the grid, doubles the channels.

use crate::Tuning;
use candle_core::{Result, Tensor};
use tadformer_ops::{Features, Init, LayerNorm, Params, merge_patches};

/// Each 2×2 neighbourhood becomes one token: concat, LayerNorm, linear `4c → 2c` without bias.
///
/// Swin Transformer (arXiv 2103.14030), section 3.1; state-dict names `norm`, `reduction.weight`.
#[derive(Debug, Clone)]
pub struct PatchMerging {
    norm: LayerNorm,
    reduction: Tensor,
}

impl PatchMerging {
    /// For tokens of `dim` channels; the reduction trains only under [`Tuning::Full`].
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(dim: usize, tuning: &Tuning, params: &Params) -> Result<Self> {
        let (shape, place) = ((2 * dim, 4 * dim), params.pp("reduction"));
        let reduction = match tuning {
            Tuning::Full => place.trainable("weight", shape, Init::swin())?,
            Tuning::Frozen | Tuning::Adapted(_) | Tuning::Merged(_) => {
                place.frozen("weight", shape, Init::swin())?
            }
        };
        Ok(Self { reduction, norm: LayerNorm::new(4 * dim, &params.pp("norm"))? })
    }

    /// `(n, h, w, c)` to `(n, h/2, w/2, 2c)`, whose linear is still to be done: heads join it with their own.
    ///
    /// # Errors
    /// A grid with an odd side.
    pub fn forward(&self, xs: &Tensor) -> Result<Features> {
        Features::reduced(merge_patches(xs)?, &self.norm, &self.reduction)
    }
}
