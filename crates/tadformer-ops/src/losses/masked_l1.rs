//! Mean absolute difference over labelled entries.

use super::UNLABELLED;
use super::logits::DenseLogits;
use super::pixels::{Channels, LossValue, PixelLoss, count_labelled, mean};
use crate::host::read;
use crate::simd::{Kernel, vectorize};
use crate::vector::{Level, Vector};
use candle_core::{Result, Tensor};

const OP: &str = "masked l1";

/// `L = 1/n Σ abs(x − label)` over the `n` entries whose label is not 255.
///
/// Kept for the backward: `∂L/∂x = sign(x − label)/n`, 0 where they are equal.
///
/// # Shapes
/// - `prediction`: [`DenseLogits`]; planes may be of any shape
/// - `labels` of the shape of the planes
///
/// # Errors
/// Shapes that differ.
pub fn masked_l1<'a>(prediction: impl Into<DenseLogits<'a>>, labels: &Tensor) -> Result<LossValue> {
    let prediction = prediction.into();
    prediction.require_same_shape(OP, labels)?;
    let labels = labels.contiguous()?;
    let labelled = count_labelled(&read(OP, &labels)?);
    let loss = MaskedL1 { scale: 1.0 / labelled.max(1) as f32 };
    mean(OP, prediction, &labels, labelled, Channels::Apart, &loss)
}

struct MaskedL1 {
    /// The factor of the gradient.
    scale: f32,
}

impl PixelLoss for MaskedL1 {
    fn sum(&self, logits: &[&[f32]], labels: &[&[f32]], gradient: &mut [&mut [f32]]) -> f64 {
        let mut gradient = gradient.iter_mut();
        let mut sum = 0.0;
        for (xs, ys) in logits.iter().zip(labels) {
            let slopes: &mut [f32] = gradient.next().map_or(&mut [], |run| run);
            sum += vectorize(SumRun(xs, ys, self.scale, slopes));
        }
        sum
    }
}

struct SumRun<'a>(&'a [f32], &'a [f32], f32, &'a mut [f32]);

impl Kernel for SumRun<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) -> f64 {
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
