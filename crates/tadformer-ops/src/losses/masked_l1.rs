//! Mean absolute difference over labelled entries.

use super::{LossValue, Planes, UNLABELLED, count, gradient_for, loss_value, require_same_shape};
use crate::host::read;
use crate::simd::{Kernel, vectorize};
use candle_core::{Result, Tensor};

const OP: &str = "masked l1";

/// `L = 1/n Σ abs(x − label)` over the `n` entries whose label is not 255.
///
/// Kept for the backward: `∂L/∂x = sign(x − label)/n`, 0 where they are equal.
///
/// # Shapes
/// - `prediction` and `labels` of one shape
///
/// # Errors
/// Shapes that differ.
pub fn masked_l1(prediction: &Tensor, labels: &Tensor) -> Result<LossValue> {
    require_same_shape(OP, prediction, labels)?;
    let (prediction, labels) = (prediction.contiguous()?, labels.contiguous()?);
    let mut gradient = gradient_for(&prediction);
    let (sum, labelled) = {
        let (x, y) = (read(OP, &prediction)?, read(OP, &labels)?);
        let labelled = count(&y, |y| y != UNLABELLED);
        let scale = 1.0 / labelled.max(1) as f32;
        let planes = Planes::flat(x.len());
        let sum = planes.sum(&mut gradient, |mut block| {
            let (x, y) = (planes.run(&x, &block, 0), planes.run(&y, &block, 0));
            let gradient = block.gradient.pop().unwrap_or_default();
            vectorize(SumBlock(x, y, scale, gradient))
        });
        (sum, labelled)
    };
    loss_value(OP, &prediction, sum / labelled.max(1) as f64, gradient, labelled)
}

struct SumBlock<'a>(&'a [f32], &'a [f32], f32, &'a mut [f32]);

impl Kernel for SumBlock<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f64 {
        let Self(xs, ys, scale, gradient) = self;
        let mut sum = 0.0;
        for (x, y) in xs.iter().zip(ys) {
            if *y != UNLABELLED {
                sum += (f64::from(*x) - f64::from(*y)).abs();
            }
        }
        for ((g, x), y) in gradient.iter_mut().zip(xs).zip(ys) {
            *g = if *y == UNLABELLED || x == y { 0.0 } else { scale.copysign(x - y) };
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gradcheck, named_tensor};
    use candle_core::{Device, Var};

    #[test]
    fn the_gradient_matches_the_difference_quotient() {
        let x = named_tensor("x", (2, 1, 4, 3), 0.0, 2.0).unwrap();
        let labels = named_tensor("labels", (2, 1, 4, 3), 3.0, 0.5).unwrap();
        gradcheck("masked l1", &[x], 1e-2, |x| Ok(masked_l1(&x[0], &labels)?.value));
    }

    #[test]
    fn unlabelled_entries_count_nowhere() {
        let x = Var::new(&[1f32, 9.0, -2.0, 5.0], &Device::Cpu).unwrap();
        let labels = Tensor::new(&[3f32, UNLABELLED, -3.0, 5.0], &Device::Cpu).unwrap();
        let loss = masked_l1(&x, &labels).unwrap();
        assert_eq!((loss.value.to_scalar::<f32>().unwrap(), loss.labelled), (1.0, 3));
        let grads = (loss.value * 3.0).unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec1::<f32>().unwrap(), [-1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn nothing_at_all_costs_nothing() {
        let none = Tensor::zeros((0, 1, 4, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let loss = masked_l1(&none, &none).unwrap();
        assert_eq!((loss.value.to_scalar::<f32>().unwrap(), loss.labelled), (0.0, 0));
    }

    #[test]
    fn shapes_agree() {
        let (x, y) = (
            named_tensor("x", (1, 1, 3, 3), 0.0, 1.0).unwrap(),
            named_tensor("y", (1, 3, 3), 0.0, 1.0).unwrap(),
        );
        let message = masked_l1(&x, &y).unwrap_err().to_string();
        assert!(message.contains("[1, 1, 3, 3] and labels [1, 3, 3] differ"), "{message}");
    }
}
