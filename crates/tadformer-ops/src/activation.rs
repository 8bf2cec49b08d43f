//! GELU and ReLU.

use crate::elementary::{self, gelu_slope};
use crate::host::read;
use crate::kept::Kept;
use crate::rows::make;
use crate::simd::{Kernel, vectorize};
use crate::tape::{Output, record_one};
use crate::vector::{Level, Vector};
use candle_core::{Result, Tensor};

/// Elements a row when a tensor is worked through without regard to its shape.
const STRIP: usize = 64;

/// What comes between the input and a linear whose gradient is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputActivation {
    /// Nothing.
    Identity,
    /// GELU, computed again where it is needed instead of being kept.
    Gelu,
}

impl InputActivation {
    /// What it makes of `xs`, in `space` where that is needed.
    pub(crate) fn of<'a>(self, xs: &'a [f32], space: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            Self::Identity => xs,
            Self::Gelu => {
                space.resize(xs.len(), 0.0);
                vectorize(GeluStrip(xs, space));
                space
            }
        }
    }
}

/// `x · Φ(x)`, the exact (erf) form (`torch.nn.GELU()`), of a tensor of any shape. Kept for the backward: `x`.
///
/// # Errors
/// A tensor that is not `f32` on the CPU.
pub fn gelu(xs: &Tensor) -> Result<Tensor> {
    gelu_kept(xs, xs.clone().into())
}

/// [`gelu`] that keeps `kept` for its backward instead of `x`.
pub(crate) fn gelu_kept(xs: &Tensor, kept: Kept) -> Result<Tensor> {
    elementwise(
        "gelu",
        xs,
        kept,
        |x, y| vectorize(GeluStrip(x, y)),
        |x, g, d| vectorize(GeluBackwardStrip(x, g, d)),
    )
}

/// `max(x, 0)` of a tensor of any shape; the gradient at exactly 0 is 0, as in PyTorch. Kept for the backward: `x`.
///
/// # Errors
/// A tensor that is not `f32` on the CPU.
pub fn relu(xs: &Tensor) -> Result<Tensor> {
    elementwise(
        "relu",
        xs,
        xs.clone().into(),
        |x, y| vectorize(ReluStrip(x, y)),
        |x, g, d| vectorize(ReluBackwardStrip(x, g, d)),
    )
}

fn elementwise(
    op: &'static str,
    xs: &Tensor,
    kept: Kept,
    forward: impl Fn(&[f32], &mut [f32]) + Sync,
    backward: impl Fn(&[f32], &[f32], &mut [f32]) + Sync + Send + 'static,
) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let ys = {
        let x = read(op, &xs)?;
        make(x.len(), STRIP, |first, block| forward(&x[first * STRIP..][..block.len()], block))
    };
    let shape = xs.shape().clone();
    record_one(op, &[&xs], Output::new(ys, xs.shape()), move |grad| {
        let (xs, grad) = (kept.get_for(op, &shape)?, grad.contiguous()?);
        let (x, g) = (read(op, &xs)?, read(op, &grad)?);
        let dx = make(x.len(), STRIP, |first, block| {
            let range = first * STRIP..first * STRIP + block.len();
            backward(&x[range.clone()], &g[range], block);
        });
        Ok(vec![Some(Tensor::from_vec(dx, xs.shape(), grad.device())?)])
    })
}

/// `ys = GELU(xs)`.
pub(crate) struct GeluStrip<'a>(pub(crate) &'a [f32], pub(crate) &'a mut [f32]);

impl Kernel for GeluStrip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, ys) = self;
        for (y, &x) in ys.iter_mut().zip(xs) {
            *y = elementary::gelu::<V>(x);
        }
    }
}

/// `dxs = grads · GELU'(xs)`.
pub(crate) struct GeluBackwardStrip<'a>(pub(crate) &'a [f32], pub(crate) &'a [f32], pub(crate) &'a mut [f32]);

impl Kernel for GeluBackwardStrip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, grads, dxs) = self;
        for ((dx, &x), &g) in dxs.iter_mut().zip(xs).zip(grads) {
            *dx = g * gelu_slope::<V>(x);
        }
    }
}

/// `grads *= GELU'(xs)`.
pub(crate) struct GeluSlopes<'a>(pub(crate) &'a [f32], pub(crate) &'a mut [f32]);

impl Kernel for GeluSlopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, grads) = self;
        for (g, &x) in grads.iter_mut().zip(xs) {
            *g *= gelu_slope::<V>(x);
        }
    }
}

/// `xs = GELU(xs)`.
pub(crate) struct GeluInPlace<'a>(pub(crate) &'a mut [f32]);

impl Kernel for GeluInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        for x in self.0 {
            *x = elementary::gelu::<V>(*x);
        }
    }
}

struct ReluStrip<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for ReluStrip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, ys) = self;
        for (y, &x) in ys.iter_mut().zip(xs) {
            *y = x.max(0.0);
        }
    }
}

struct ReluBackwardStrip<'a>(&'a [f32], &'a [f32], &'a mut [f32]);

impl Kernel for ReluBackwardStrip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, grads, dxs) = self;
        for ((dx, &x), &g) in dxs.iter_mut().zip(xs).zip(grads) {
            *dx = if x > 0.0 { g } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};

    #[test]
    fn they_match_candle_and_their_gradients_the_differences() {
        let xs = named_tensor("xs", (3, 67), 0.0, 4.0).unwrap();
        assert_close("gelu", &gelu(&xs).unwrap(), &xs.gelu_erf().unwrap(), 1e-6);
        assert_close("relu", &relu(&xs).unwrap(), &xs.relu().unwrap(), 0.0);
        gradcheck("gelu", std::slice::from_ref(&xs), 1e-2, |i| gelu(&i[0]));
        gradcheck("relu", std::slice::from_ref(&xs), 1e-2, |i| relu(&i[0]));
    }

    #[test]
    fn relu_has_no_slope_at_zero() {
        let zero = candle_core::Var::zeros(3, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let grads = relu(&zero).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&zero).unwrap().to_vec1::<f32>().unwrap(), [0.0; 3]);
    }
}
