//! LayerNorm over the last dimension, with a backward (candle's own gives no gradient, and no error).

use crate::host::read;
use crate::kept::Kept;
use crate::rows::{make, make_and_sum};
use crate::simd::{Kernel, for_vectors, lane_sum, lane_sum2, vectorize};
use crate::tape::{Output, record_one};
use crate::vector::{Level, Vector};
use crate::{Init, Params};
use candle_core::{Result, Tensor, bail};

/// The epsilon of every LayerNorm in Swin.
pub const LAYER_NORM_EPS: f32 = 1e-5;

/// A LayerNorm; state-dict names `weight` and `bias`, both `(c)`.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// Scale, `(c)`.
    pub weight: Tensor,
    /// Shift, `(c)`.
    pub bias: Tensor,
}

impl LayerNorm {
    /// A LayerNorm of `dim` features, scale 1 and shift 0.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(dim: usize, params: &Params) -> Result<Self> {
        Ok(Self {
            weight: params.trainable("weight", dim, Init::ONES)?,
            bias: params.trainable("bias", dim, Init::ZEROS)?,
        })
    }

    /// `(…, c)` to the same shape.
    ///
    /// # Errors
    /// A last dimension other than `c`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        layer_norm(xs, &self.weight, &self.bias, LAYER_NORM_EPS)
    }

    /// [`forward`](Self::forward) that keeps `kept` for its backward instead of the input.
    pub(crate) fn forward_kept(&self, xs: &Tensor, kept: Kept) -> Result<Tensor> {
        layer_norm_kept(xs, kept, &self.weight, &self.bias, LAYER_NORM_EPS)
    }

    /// Refuses an input of `dims` that it does not fit.
    pub(crate) fn check(&self, op: &'static str, dims: &[usize]) -> Result<()> {
        check(op, dims, &self.weight, &self.bias).map(|_| ())
    }
}

/// `y = (x − mean) / √(var + eps) · weight + bias` over the last dimension, biased variance (`torch.nn.LayerNorm`).
///
/// Kept for the backward: `x`; mean and deviation of each row are computed again.
///
/// # Shapes
/// - `xs` `(…, c)`, `weight` and `bias` `(c)`
/// - output as `xs`
///
/// # Errors
/// Shapes that do not fit, a width of 0, or tensors that are not `f32` on the CPU.
pub fn layer_norm(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    layer_norm_kept(&xs, xs.clone().into(), weight, bias, eps)
}

/// [`layer_norm`] that keeps `kept` for its backward instead of `x`.
fn layer_norm_kept(xs: &Tensor, kept: Kept, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    const OP: &str = "layer norm";
    let c = check(OP, xs.dims(), weight, bias)?;
    let xs = xs.contiguous()?;
    let ys = {
        let (x, w, b) = (read(OP, &xs)?, read(OP, weight)?, read(OP, bias)?);
        make(x.len(), c, |first, block| {
            let x = &x[first * c..first * c + block.len()];
            normalize_rows(x, &w, &b, eps, block);
        })
    };
    let (weight, shape) = (weight.clone(), xs.shape().clone());
    record_one(OP, &[&xs, &weight.clone(), bias], Output::new(ys, xs.shape()), move |grad| {
        let (xs, grad) = (kept.get_for(OP, &shape)?, grad.contiguous()?);
        let (x, w, g) = (read(OP, &xs)?, read(OP, &weight)?, read(OP, &grad)?);
        let (dx, sums) = make_and_sum(x.len(), c, 2 * c, |first, block, sum| {
            let range = first * c..first * c + block.len();
            vectorize(BackwardRows(&x[range.clone()], &w, &g[range], eps, block, sum));
        });
        let parameter = |values: &[f32]| Tensor::from_slice(values, c, grad.device());
        let dx = Tensor::from_vec(dx, xs.shape(), grad.device())?;
        Ok(vec![Some(dx), Some(parameter(&sums[..c])?), Some(parameter(&sums[c..])?)])
    })
}

/// The width of a LayerNorm that fits an input of those `dims`.
fn check(op: &'static str, dims: &[usize], weight: &Tensor, bias: &Tensor) -> Result<usize> {
    let c = weight.dims1()?;
    if dims.last() != Some(&c) || bias.dims() != [c] || c == 0 {
        bail!("{op}: input {dims:?}, weight {:?}, bias {:?} do not fit", weight.dims(), bias.dims());
    }
    Ok(c)
}

/// [`layer_norm`] of rows that are in the cache.
pub(crate) fn normalize_rows(xs: &[f32], weight: &[f32], bias: &[f32], eps: f32, ys: &mut [f32]) {
    vectorize(ForwardRows(xs, weight, bias, eps, ys));
}

/// Mean and reciprocal deviation of a row.
#[inline(always)]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = lane_sum(row, |x| x) / n;
    let variance = lane_sum(row, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

struct ForwardRows<'a>(&'a [f32], &'a [f32], &'a [f32], f32, &'a mut [f32]);

impl Kernel for ForwardRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, level: Level<V>) {
        let Self(xs, weight, bias, eps, ys) = self;
        let c = weight.len();
        for (x, y) in xs.chunks_exact(c).zip(ys.chunks_exact_mut(c)) {
            let (mean, rstd) = statistics(x, eps);
            let (mean, rstd) = (level.splat(mean), level.splat(rstd));
            for_vectors(level, y, [x, weight, bias], |_, [x, w, b]| x.sub(mean).mul(rstd).mul_add(w, b));
        }
    }
}

/// With `n = (x − mean) · rstd` and `h = g · weight`: `dx = rstd · (h − mean(h) − n · mean(h · n))`; adds `g · n` to the
/// first half of `sum` and `g` to the second.
struct BackwardRows<'a>(&'a [f32], &'a [f32], &'a [f32], f32, &'a mut [f32], &'a mut [f32]);

impl Kernel for BackwardRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, level: Level<V>) {
        let Self(xs, weight, grads, eps, dxs, sum) = self;
        let c = weight.len();
        let (dweight, dbias) = sum.split_at_mut(c);
        for ((x, g), dx) in xs.chunks_exact(c).zip(grads.chunks_exact(c)).zip(dxs.chunks_exact_mut(c)) {
            let (mean, rstd) = statistics(x, eps);
            // First `dx` holds h, and n is computed again where it is needed: it costs less than storing it.
            let (means, rstds) = (level.splat(mean), level.splat(rstd));
            for_vectors(level, dweight, [x, g], |sum, [x, g]| sum.add(g.mul(x.sub(means).mul(rstds))));
            for_vectors(level, dbias, [g], |sum, [g]| sum.add(g));
            for_vectors(level, dx, [g, weight], |_, [g, w]| g.mul(w));
            let mean_h = lane_sum(dx, |h| h) / c as f32;
            let mean_hn = lane_sum2(dx, x, |h, x| h * (x - mean)) * rstd / c as f32;
            let (mean_h, mean_hn) = (level.splat(mean_h), level.splat(mean_hn));
            for_vectors(level, dx, [x], |h, [x]| {
                rstds.mul(h.sub(mean_h).sub(x.sub(means).mul(rstds).mul(mean_hn)))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};

    fn composed(xs: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let mean = xs.mean_keepdim(candle_core::D::Minus1)?;
        let centred = xs.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(candle_core::D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + f64::from(LAYER_NORM_EPS))?.sqrt()?)?;
        normal.broadcast_mul(weight)?.broadcast_add(bias)
    }

    #[test]
    fn it_matches_the_composition_and_its_gradient_the_differences() {
        for shape in [vec![1, 1, 17], vec![3, 5, 96], vec![70, 33]] {
            let c = *shape.last().unwrap();
            let xs = named_tensor("xs", shape, 0.3, 1.5).unwrap();
            let (w, b) = (named_tensor("w", c, 1.0, 0.2).unwrap(), named_tensor("b", c, 0.0, 0.2).unwrap());
            let found = layer_norm(&xs, &w, &b, LAYER_NORM_EPS).unwrap();
            assert_close("layer norm", &found, &composed(&xs, &w, &b).unwrap(), 2e-6);
            gradcheck("layer norm", &[xs, w, b], 1e-2, |i| layer_norm(&i[0], &i[1], &i[2], LAYER_NORM_EPS));
        }
    }
}
