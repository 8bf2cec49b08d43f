//! From the widths of the backbone's stages to the channels of a head.

use crate::conv::PointwiseConv;
use candle_core::{Result, Tensor};
use tadformer_ops::{Features, Params};

/// One 1×1 convolution without bias for each stage; state-dict names `downsample_0.weight` to `downsample_3.weight`.
///
/// What it brings down is the number of channels; grids stay as they are.
#[derive(Debug, Clone)]
pub struct Downsampler {
    downsample: Vec<PointwiseConv>,
}

impl Downsampler {
    /// From `in_dims[i]` to `channels[i]` at stage `i`.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(in_dims: [usize; 4], channels: [usize; 4], params: &Params) -> Result<Self> {
        let downsample = (0..4)
            .map(|i| PointwiseConv::no_bias(in_dims[i], channels[i], &params.pp(format!("downsample_{i}"))))
            .collect::<Result<_>>()?;
        Ok(Self { downsample })
    }

    /// `(b, h_i, w_i, in_i)` to `(b, h_i, w_i, channels_i)` for each stage; where features are still to be reduced, both linears
    /// are joined.
    ///
    /// # Errors
    /// A stage of another width.
    pub fn forward<F: Clone + Into<Features>>(&self, features: &[F]) -> Result<Vec<Tensor>> {
        self.downsample
            .iter()
            .zip(features)
            .map(|(conv, xs)| conv.forward_features(&xs.clone().into()))
            .collect()
    }
}
