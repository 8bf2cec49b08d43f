//! Convolutions of channels-last tokens whose weights have the shapes of PyTorch's planar ones.

use candle_core::{Result, Tensor};
use tadformer_ops::{Features, Init, Kept, Params, linear, linear_kept};

/// A 1×1 convolution; state-dict names `weight` `(out, in, 1, 1)` and, where there is one, `bias` `(out)`.
#[derive(Debug, Clone)]
pub(crate) struct PointwiseConv {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl PointwiseConv {
    /// PyTorch's initial values.
    pub(crate) fn new(in_dim: usize, out_dim: usize, params: &Params) -> Result<Self> {
        let bias = params.trainable("bias", out_dim, Init::fan_in_uniform(in_dim))?;
        Ok(Self { bias: Some(bias), ..Self::no_bias(in_dim, out_dim, params)? })
    }

    /// The same without a bias.
    pub(crate) fn no_bias(in_dim: usize, out_dim: usize, params: &Params) -> Result<Self> {
        let weight = params.trainable("weight", (out_dim, in_dim, 1, 1), Init::fan_in_uniform(in_dim))?;
        Ok(Self { weight, bias: None })
    }

    /// `(b, h, w, in)` to `(b, h, w, out)`.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        linear(xs, &self.matrix()?, self.bias.as_ref())
    }

    /// [`forward`](Self::forward) whose backward needs `kept` of the input.
    pub(crate) fn forward_kept(&self, xs: &Tensor, kept: Kept) -> Result<Tensor> {
        linear_kept(xs, kept, &self.matrix()?, self.bias.as_ref())
    }

    /// [`forward`](Self::forward) of features that may still be reduced.
    pub(crate) fn forward_features(&self, xs: &Features) -> Result<Tensor> {
        xs.linear(&self.matrix()?, self.bias.as_ref())
    }

    /// The weight as `(out, in)`.
    pub(crate) fn matrix(&self) -> Result<Tensor> {
        self.weight.flatten_from(1)
    }

    /// The bias `(out)`.
    pub(crate) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// A 3×3 convolution with a dilation, padded so that the grid stays, without bias; state-dict name `weight`
/// `(out, in, 3, 3)`.
#[derive(Debug, Clone)]
pub(crate) struct DilatedConv {
    weight: Tensor,
    rate: usize,
}

impl DilatedConv {
    /// PyTorch's initial values.
    pub(crate) fn new(in_dim: usize, out_dim: usize, rate: usize, params: &Params) -> Result<Self> {
        let weight = params.trainable("weight", (out_dim, in_dim, 3, 3), Init::fan_in_uniform(9 * in_dim))?;
        Ok(Self { weight, rate })
    }

    /// `(b, h, w, in)` to `(b, h, w, out)`.
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (_, h, w, _) = xs.dims4()?;
        // Where the rate exceeds the grid, all taps but the middle one see padding only.
        let rows = if self.rate < h { 0..3 } else { 1..2 };
        let cols = if self.rate < w { 0..3 } else { 1..2 };
        let weight = self
            .weight
            .narrow(2, rows.start, rows.len())?
            .narrow(3, cols.start, cols.len())?
            .permute((0, 2, 3, 1))?
            .contiguous()?
            .flatten_from(1)?; // (out, taps · in)
        let offsets = |taps: std::ops::Range<usize>| taps.map(|tap| (tap as isize - 1) * self.rate as isize);
        let (rows, cols): (Vec<_>, Vec<_>) = (offsets(rows).collect(), offsets(cols).collect());
        linear(&neighbourhoods(xs, &rows, &cols)?, &weight, None)
    }
}

/// For each point of `(b, h, w, c)` its neighbours at all pairs of the row and column offsets (ascending), one after the
/// other, zeros outside: `(b, h, w, rows · cols · c)`.
pub(crate) fn neighbourhoods(xs: &Tensor, rows: &[isize], cols: &[isize]) -> Result<Tensor> {
    let cols: Vec<Tensor> = cols.iter().map(|&by| shifted(xs, 2, by)).collect::<Result<_>>()?;
    let wide = Tensor::cat(&cols, 3)?;
    let rows: Vec<Tensor> = rows.iter().map(|&by| shifted(&wide, 1, by)).collect::<Result<_>>()?;
    Tensor::cat(&rows, 3)
}

/// At position `i` of `dim` what was at `i + by`, or zero; `|by|` is less than the side.
fn shifted(xs: &Tensor, dim: usize, by: isize) -> Result<Tensor> {
    let (side, gap) = (xs.dim(dim)?, by.unsigned_abs());
    match by {
        0 => Ok(xs.clone()),
        1.. => xs.narrow(dim, gap, side - gap)?.pad_with_zeros(dim, 0, gap),
        _ => xs.narrow(dim, 0, side - gap)?.pad_with_zeros(dim, gap, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tadformer_ops::testing::{GoldenStore, assert_close, gradcheck, named_tensor};

    #[test]
    fn dilated_convolutions_match_the_planar_ones() {
        for ((h, w), rate) in [((5, 7), 1), ((5, 7), 2), ((4, 9), 6), ((1, 1), 1), ((3, 3), 18)] {
            let conv = DilatedConv::new(3, 4, rate, &GoldenStore::new().params()).unwrap();
            let xs = named_tensor("xs", (2, h, w, 3), 0.0, 1.0).unwrap();
            let planes = xs.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let expected = planes.conv2d(&conv.weight, rate, 1, rate, 1).unwrap();
            let found = conv.forward(&xs).unwrap().permute((0, 3, 1, 2)).unwrap();
            assert_close(&format!("{h}×{w}, rate {rate}"), &found, &expected, 2e-6);
            gradcheck("dilated", &[xs, conv.weight.detach()], 1e-2, |i| {
                DilatedConv { weight: i[1].clone(), rate }.forward(&i[0])
            });
        }
    }
}
