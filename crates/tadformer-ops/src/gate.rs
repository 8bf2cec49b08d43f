//! The learned mix of two streams.

use crate::host::read;
use crate::rows::make;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};

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
        let mix: f64 =
            dy.iter().zip(s.iter().zip(x.iter())).map(|(d, (s, x))| f64::from(*d) * f64::from(s - x)).sum();
        let dgate = (mix * f64::from(g * (1.0 - g))) as f32;
        let dgate = Tensor::from_vec(vec![dgate], gate_shape, grad.device())?;
        Ok(vec![
            Some(grad.affine(f64::from(g), 0.0)?),
            Some(grad.affine(f64::from(1.0 - g), 0.0)?),
            Some(dgate),
        ])
    })
}

const STRIP: usize = 64;

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
