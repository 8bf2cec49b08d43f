//! From pixels to tokens.

use candle_core::{Result, Tensor, bail};
use tadformer_ops::{Init, LayerNorm, Params, image_patches, linear};

/// Cuts an image into patches and embeds each: a convolution whose stride is its side, then a LayerNorm.
///
/// Swin Transformer (arXiv 2103.14030), section 3.1; state-dict names `proj.weight` `(c, 3, p, p)`, `proj.bias`, `norm`.
#[derive(Debug, Clone)]
pub struct PatchEmbed {
    weight: Tensor,
    bias: Tensor,
    norm: LayerNorm,
}

impl PatchEmbed {
    /// Patches of `side × side` RGB pixels to `dim` channels.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(side: usize, dim: usize, params: &Params) -> Result<Self> {
        let (proj, init) = (params.pp("proj"), Init::fan_in_uniform(3 * side * side));
        Ok(Self {
            weight: proj.trainable("weight", (dim, 3, side, side), init)?,
            bias: proj.trainable("bias", dim, init)?,
            norm: LayerNorm::new(dim, &params.pp("norm"))?,
        })
    }

    /// `(b, 3, H, W)` to `(b, H/p, W/p, c)`.
    ///
    /// # Errors
    /// A side that is not a multiple of the patch's.
    pub fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let (_, channels, height, width) = image.dims4()?;
        let side = self.weight.dims()[2];
        if channels != 3 || side == 0 || height % side != 0 || width % side != 0 {
            bail!(
                "patch embedding: an image of shape {:?} is not RGB in patches of {side}x{side}",
                image.dims()
            );
        }
        let patches = image_patches(image, side)?;
        self.norm.forward(&linear(&patches, &self.weight.flatten_from(1)?, Some(&self.bias))?)
    }
}
