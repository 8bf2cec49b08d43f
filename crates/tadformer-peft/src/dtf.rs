//! The Dynamic Task Filter: a depthwise convolution whose filters are made from what they filter.

use candle_core::{Result, Tensor};
use tadformer_ops::{Init, Params, Windows, dynamic_conv, filter_norm, linear, window_mean};

/// Side of the generated filters.
pub const FILTER_SIDE: usize = 3;

/// FilterNorm with learned scale and shift; state-dict names `std` and `mean`, both `(c · k²)`.
#[derive(Debug, Clone)]
pub struct FilterNorm {
    std: Tensor,
    mean: Tensor,
    taps: usize,
}

impl FilterNorm {
    /// For `channels` filters of `side × side`: scale normal with deviation `√2 / side`, shift normal.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(channels: usize, side: usize, params: &Params) -> Result<Self> {
        let taps = side * side;
        let scale = Init::Normal { mean: 0.0, std: std::f64::consts::SQRT_2 / side as f64 };
        Ok(Self {
            std: params.trainable("std", channels * taps, scale)?,
            mean: params.trainable("mean", channels * taps, Init::Normal { mean: 0.0, std: 1.0 })?,
            taps,
        })
    }

    /// `(n, c · k²)` to the same shape.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, filters: &Tensor) -> Result<Tensor> {
        filter_norm(filters, &self.std, &self.mean, self.taps)
    }
}

/// `θ = FilterNorm(Conv1×1(GAP(z)))`, then a depthwise convolution of `z` with `θ`: TADFormer (arXiv 2501.04293),
/// dynamic task filter; state-dict names `conv.weight` `(r·k², r, 1, 1)`, `conv.bias` and `chan_FilterNorm`.
///
/// One generator serves every task; each window of each sample gets filters of its own.
#[derive(Debug, Clone)]
pub struct DynamicTaskFilter {
    weight: Tensor,
    bias: Tensor,
    norm: FilterNorm,
}

impl DynamicTaskFilter {
    /// For maps of `channels` channels; the generator starts as PyTorch's convolutions do.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(channels: usize, params: &Params) -> Result<Self> {
        let outputs = channels * FILTER_SIDE * FILTER_SIDE;
        let (conv, init) = (params.pp("conv"), Init::fan_in_uniform(channels));
        Ok(Self {
            weight: conv.trainable("weight", (outputs, channels, 1, 1), init)?,
            bias: conv.trainable("bias", outputs, init)?,
            norm: FilterNorm::new(channels, FILTER_SIDE, &params.pp("chan_FilterNorm"))?,
        })
    }

    /// Filters every window of `zs` `(n, h, w, r)` with filters made from that window; the shape stays.
    ///
    /// # Errors
    /// A grid other than that of `windows`.
    pub fn forward(&self, zs: &Tensor, windows: &Windows) -> Result<Tensor> {
        let pooled = window_mean(zs, windows)?;
        let generated = linear(&pooled, &self.weight.flatten_from(1)?, Some(&self.bias))?;
        dynamic_conv(zs, &self.norm.forward(&generated)?, windows, FILTER_SIDE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tadformer_ops::ParamStore;
    use tadformer_ops::testing::{assert_close, named_tensor};

    #[test]
    fn each_sample_and_window_is_filtered_by_itself() {
        let filter = DynamicTaskFilter::new(5, &ParamStore::new(0).params()).unwrap();
        let xs = named_tensor("xs", (2, 8, 8, 5), 0.0, 1.0).unwrap();
        let windows = Windows::new(8, 8, 4, 0).unwrap();
        let whole = filter.forward(&xs, &windows).unwrap();
        let alone = filter.forward(&xs.narrow(0, 1, 1).unwrap(), &windows).unwrap();
        assert_close("second sample", &whole.narrow(0, 1, 1).unwrap(), &alone, 1e-6);
        let corner = xs.narrow(1, 4, 4).unwrap().narrow(2, 0, 4).unwrap();
        let corner = filter.forward(&corner, &Windows::whole(4, 4).unwrap()).unwrap();
        assert_close("one window", &whole.narrow(1, 4, 4).unwrap().narrow(2, 0, 4).unwrap(), &corner, 1e-6);
    }
}
