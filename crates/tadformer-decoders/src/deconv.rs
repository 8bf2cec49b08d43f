//! The deconvolution head of Simple Baselines.

use crate::conv::{PointwiseConv, neighbourhoods};
use candle_core::{Result, Tensor};
use tadformer_ops::{BatchNorm, Init, Mode, Params, linear};

/// Three 4×4 deconvolutions of stride 2, each with BatchNorm and ReLU, then a 1×1 convolution.
///
/// Simple Baselines (arXiv 1804.06208, section 2); state-dict names `deconv_layers.0` to `deconv_layers.7` (each
/// deconvolution, its BatchNorm, its ReLU) and `final_layer`.
///
/// Only the last stage is used: no gradient reaches the task features of earlier ones.
#[derive(Debug, Clone)]
pub struct DeconvHead {
    deconv_layers: Vec<(Deconv, BatchNorm)>,
    final_layer: PointwiseConv,
}

impl DeconvHead {
    /// A head that takes a map of width `in_dim`.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(in_dim: usize, channels: usize, outputs: usize, params: &Params) -> Result<Self> {
        let layers = params.pp("deconv_layers");
        let deconv_layers = [in_dim, channels, channels]
            .into_iter()
            .zip([0, 3, 6])
            .map(|(dim, i)| {
                let deconv = Deconv::new(dim, channels, &layers.pp(i))?;
                Ok((deconv, BatchNorm::new(channels, &layers.pp(i + 1))?))
            })
            .collect::<Result<_>>()?;
        let final_layer = PointwiseConv::new(channels, outputs, &params.pp("final_layer"))?;
        Ok(Self { deconv_layers, final_layer })
    }

    /// `(b, h, w, c)` to `(b, 8h, 8w, outputs)`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, xs: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let mut xs = xs.clone();
        for (deconv, norm) in &self.deconv_layers {
            xs = norm.forward_relu(&deconv.forward(&xs)?, mode)?;
        }
        self.final_layer.forward(&xs)
    }
}

/// A 4×4 transposed convolution of stride 2 and padding 1, without bias; state-dict name `weight` `(in, out, 4, 4)`.
///
/// Output row `2i` sees source rows `i − 1` and `i` through taps 3 and 1; row `2i + 1` sees `i` and `i + 1` through taps
/// 2 and 0; columns alike. So each of the four parities is a product over 2×2 neighbours, and nothing is scattered.
#[derive(Debug, Clone)]
struct Deconv {
    weight: Tensor,
}

/// For each parity the source offsets, and the tap at each of them.
const PARITIES: [([isize; 2], [u32; 2]); 2] = [([-1, 0], [3, 1]), ([0, 1], [2, 0])];

impl Deconv {
    fn new(in_dim: usize, out_dim: usize, params: &Params) -> Result<Self> {
        let init = Init::fan_in_uniform(16 * out_dim);
        Ok(Self { weight: params.trainable("weight", (in_dim, out_dim, 4, 4), init)? })
    }

    /// `(b, h, w, in)` to `(b, 2h, 2w, out)`.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (b, h, w, _) = xs.dims4()?;
        let out = self.weight.dim(1)?;
        let weight = self.weight.permute((1, 2, 3, 0))?.contiguous()?; // (out, row tap, column tap, in)
        let mut rows = Vec::with_capacity(2);
        for (row_offsets, row_taps) in &PARITIES {
            let weight = weight.index_select(&Tensor::new(row_taps, xs.device())?, 1)?;
            let mut cols = Vec::with_capacity(2);
            for (col_offsets, col_taps) in &PARITIES {
                let weight = weight.index_select(&Tensor::new(col_taps, xs.device())?, 2)?;
                let near = neighbourhoods(xs, row_offsets, col_offsets)?;
                cols.push(linear(&near, &weight.flatten_from(1)?, None)?);
            }
            rows.push(Tensor::stack(&cols, 3)?); // (b, h, w, column parity, out)
        }
        Tensor::stack(&rows, 2)?.reshape((b, 2 * h, 2 * w, out)) // (b, h, row parity, w, column parity, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tadformer_ops::testing::{GoldenStore, assert_close, gradcheck, named_tensor};

    #[test]
    fn deconvolutions_match_the_planar_ones() {
        for (h, w) in [(1, 1), (1, 4), (5, 3)] {
            let deconv = Deconv::new(3, 5, &GoldenStore::new().params()).unwrap();
            let xs = named_tensor("xs", (2, h, w, 3), 0.0, 1.0).unwrap();
            let planes = xs.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let expected = planes.conv_transpose2d(&deconv.weight, 1, 0, 2, 1).unwrap();
            let found = deconv.forward(&xs).unwrap().permute((0, 3, 1, 2)).unwrap();
            assert_close(&format!("{h}×{w}"), &found, &expected, 2e-6);
            gradcheck("deconv", &[xs, deconv.weight.detach()], 1e-2, |i| {
                Deconv { weight: i[1].clone() }.forward(&i[0])
            });
        }
    }
}
