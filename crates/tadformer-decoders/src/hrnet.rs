//! The head of HRNet v2: all scales at the finest grid, two 1×1 convolutions.

use crate::conv::PointwiseConv;
use crate::fuse::{fuse, fuse_then, grid};
use candle_core::{Result, Tensor, bail};
use tadformer_ops::{BatchNorm, Before, Mode, Params};

/// Resize to the finest grid, concatenate, 1×1 convolution to four times the channels, BatchNorm, ReLU, 1×1 convolution.
///
/// HRNet v2 (arXiv 1908.07919, section 3.2) as multi-task benchmarks use it, that is with the fourfold width in between;
/// state-dict names `last_layer.0`, `last_layer.1` and `last_layer.3`.
#[derive(Debug, Clone)]
pub struct HrnetHead {
    fusion: PointwiseConv,
    norm: BatchNorm,
    predict: PointwiseConv,
}

impl HrnetHead {
    /// A head that takes `channels[i]` channels of scale `i`.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(channels: [usize; 4], outputs: usize, params: &Params) -> Result<Self> {
        let params = params.pp("last_layer");
        let sum = channels.iter().sum();
        Ok(Self {
            fusion: PointwiseConv::new(sum, 4 * sum, &params.pp(0))?,
            norm: BatchNorm::new(4 * sum, &params.pp(1))?,
            predict: PointwiseConv::new(4 * sum, outputs, &params.pp(3))?,
        })
    }

    /// Four scales `(b, h_i, w_i, c_i)` to `(b, h_0, w_0, outputs)`.
    ///
    /// # Errors
    /// Shapes that do not fit, or a single point in training, which has no variance.
    pub fn forward(&self, features: &[Tensor], mode: &mut Mode<'_>) -> Result<Tensor> {
        let Some(finest) = features.first() else {
            bail!("hrnet head: there are no features");
        };
        let finest = grid(finest)?;
        if matches!(mode, Mode::Eval) {
            let before = Before::BatchNormRelu(&self.norm);
            return fuse_then(&self.fusion, features, finest, before, &self.predict);
        }
        let fused = fuse(&self.fusion, features, finest)?;
        let (activated, kept) = self.norm.forward_relu_kept(&fused, mode)?;
        self.predict.forward_kept(&activated, kept)
    }
}
