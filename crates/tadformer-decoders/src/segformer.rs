//! The all-MLP head of SegFormer.

use crate::conv::PointwiseConv;
use crate::fuse::{fuse, fuse_then};
use candle_core::{DType, Result, Tensor, bail};
use tadformer_ops::{BatchNorm, Before, Features, Init, Linear, Mode, Params, dropout};

/// A linear for each stage, resize to the finest grid, concatenate, 1×1 convolution with BatchNorm and ReLU, channel
/// dropout, 1×1 convolution.
///
/// SegFormer (arXiv 2105.15203, section 3.2); state-dict names `linear_c1.proj` to `linear_c4.proj`, `linear_fuse.conv`,
/// `linear_fuse.bn` and `linear_pred`. As published, the concatenation begins with the coarsest stage.
#[derive(Debug, Clone)]
pub struct SegformerHead {
    linear_c: Vec<Linear>,
    linear_fuse: PointwiseConv,
    norm: BatchNorm,
    dropout: f64,
    linear_pred: PointwiseConv,
}

impl SegformerHead {
    /// A head that takes stages of widths `in_dims`.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(
        in_dims: [usize; 4],
        embed_dim: usize,
        dropout: f64,
        outputs: usize,
        params: &Params,
    ) -> Result<Self> {
        let linear_c = in_dims
            .iter()
            .zip(1..)
            .map(|(&dim, i)| {
                let init = Init::fan_in_uniform(dim);
                Linear::new(dim, embed_dim, init, Some(init), &params.pp(format!("linear_c{i}.proj")))
            })
            .collect::<Result<_>>()?;
        let fusion = params.pp("linear_fuse");
        Ok(Self {
            linear_c,
            linear_fuse: PointwiseConv::no_bias(4 * embed_dim, embed_dim, &fusion.pp("conv"))?,
            norm: BatchNorm::new(embed_dim, &fusion.pp("bn"))?,
            dropout,
            linear_pred: PointwiseConv::new(embed_dim, outputs, &params.pp("linear_pred"))?,
        })
    }

    /// Four stages `(b, h_i, w_i, c_i)` to `(b, h_0, w_0, outputs)`.
    ///
    /// # Errors
    /// Shapes that do not fit, or a single point in training, which has no variance.
    pub fn forward<F: Clone + Into<Features>>(&self, features: &[F], mode: &mut Mode<'_>) -> Result<Tensor> {
        let features: Vec<Features> = features.iter().cloned().map(Into::into).collect();
        let Some(finest) = features.first() else {
            bail!("segformer head: there are no features");
        };
        let mut embedded: Vec<Tensor> = self
            .linear_c
            .iter()
            .zip(&features)
            .map(|(linear, xs)| xs.linear(&linear.weight, linear.bias.as_ref()))
            .collect::<Result<_>>()?;
        embedded.reverse();
        let finest = (finest.dims()[1], finest.dims()[2]);
        if matches!(mode, Mode::Eval) {
            let before = Before::BatchNormRelu(&self.norm);
            return fuse_then(&self.linear_fuse, &embedded, finest, before, &self.linear_pred);
        }
        let fused = fuse(&self.linear_fuse, &embedded, finest)?;
        let fused = self.norm.forward_relu(&fused, mode)?;
        self.linear_pred.forward(&drop_channels(&fused, self.dropout, mode)?)
    }
}

/// Zeroes each channel of each sample with probability `p` and divides the rest by `1 − p` (`torch.nn.Dropout2d`).
fn drop_channels(xs: &Tensor, p: f64, mode: &mut Mode<'_>) -> Result<Tensor> {
    match mode {
        Mode::Train(rng) if p > 0.0 => {
            let (b, _, _, c) = xs.dims4()?;
            let ones = Tensor::ones((b, 1, 1, c), DType::F32, xs.device())?;
            xs.broadcast_mul(&dropout(&ones, p, rng)?)
        }
        _ => Ok(xs.clone()),
    }
}
