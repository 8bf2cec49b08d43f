//! The learned mix of two streams.

use crate::host::read;
use crate::rows::make;
use crate::simd::{Kernel, lane_sum2, vectorize};
use crate::tape::{Output, record_one};
use crate::vector::{Level, Vector};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// `g · skip + (1 − g) · xs` with `g = sigmoid(gate)`.
///
/// Kept for the backward: both streams.
///
/// # Shapes
/// - `skip` and `xs` of one shape; `gate` `(1)`
///
/// # Errors
/// Shapes that do not fit.
pub fn gated_mix(skip: &Tensor, xs: &Tensor, gate: &Tensor) -> Result<Tensor> {
    const OP: &str = "gated mix";
    if skip.dims() != xs.dims() || gate.elem_count() != 1 {
        bail!("{OP}: skip {:?}, input {:?} and gate {:?} do not fit", skip.dims(), xs.dims(), gate.dims());
    }
    let (skip, xs) = (skip.contiguous()?, xs.contiguous()?);
    let g = 1.0 / (1.0 + (-read(OP, gate)?[0]).exp());
    let ys = {
        let (s, x) = (read(OP, &skip)?, read(OP, &xs)?);
        make(xs.elem_count(), STRIP, |first, block| {
            let range = first * STRIP..first * STRIP + block.len();
            for ((y, s), x) in block.iter_mut().zip(&s[range.clone()]).zip(&x[range]) {
                *y = g * s + (1.0 - g) * x;
            }
        })
    };
    let (kept_skip, kept_xs, gate_shape) = (skip.clone(), xs.clone(), gate.shape().clone());
    record_one(OP, &[&skip, &xs, gate], Output::new(ys, xs.shape()), move |grad| {
        let (s, x, grad) = (read(OP, &kept_skip)?, read(OP, &kept_xs)?, grad.contiguous()?);
        let dy = read(OP, &grad)?;
        let share = |share: f32| {
            let part = make(dy.len(), STRIP, |first, block| {
                vectorize(Scale(share, &dy[first * STRIP..][..block.len()], block));
            });
            Tensor::from_vec(part, kept_xs.shape(), grad.device())
        };
        let mix: f64 = (s.par_chunks(CHUNK).zip(x.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK)))
            .map(|((s, x), dy)| f64::from(vectorize(Mix(s, x, dy))))
            .collect::<Vec<_>>()
            .into_iter()
            .sum();
        let dgate = (mix * f64::from(g * (1.0 - g))) as f32;
        let dgate = Tensor::from_vec(vec![dgate], gate_shape, grad.device())?;
        Ok(vec![Some(share(g)?), Some(share(1.0 - g)?), Some(dgate)])
    })
}

const STRIP: usize = 64;

/// Numbers whose sum is made in `f32`; the sums are added in `f64`, in their order.
const CHUNK: usize = 4096;

/// `ys = share · xs`.
struct Scale<'a>(f32, &'a [f32], &'a mut [f32]);

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(share, xs, ys) = self;
        ys.iter_mut().zip(xs).for_each(|(y, x)| *y = share * x);
    }
}

/// `Σ dy (s − x)`.
struct Mix<'a>(&'a [f32], &'a [f32], &'a [f32]);

impl Kernel for Mix<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) -> f32 {
        let Self(s, x, dy) = self;
        lane_sum2(s, dy, |s, d| s * d) - lane_sum2(x, dy, |x, d| x * d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gradcheck, named_tensor};

    #[test]
    fn a_gate_of_zero_takes_half_of_each_and_gradients_match_the_differences() {
        let (a, b) =
            (named_tensor("a", (3, 50), 0.0, 1.0).unwrap(), named_tensor("b", (3, 50), 0.0, 1.0).unwrap());
        let zero = Tensor::zeros(1, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let half = ((&a + &b).unwrap() / 2.0).unwrap();
        crate::testing::assert_close("mix", &gated_mix(&a, &b, &zero).unwrap(), &half, 1e-6);
        let gate = named_tensor("gate", 1, 0.3, 0.1).unwrap();
        gradcheck("gated mix", &[a, b, gate], 1e-2, |i| gated_mix(&i[0], &i[1], &i[2]));
    }
}
