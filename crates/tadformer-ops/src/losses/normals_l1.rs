//! Distance of predicted directions from surface normals.

use super::UNLABELLED;
use super::logits::DenseLogits;
use super::pixels::{Channels, LossValue, PixelLoss, count_labelled, mean};
use crate::host::read;
use crate::simd::{Kernel, vectorize};
use crate::vector::{Level, Vector};
use candle_core::{Result, Tensor, bail};

const OP: &str = "normals l1";

/// Pixels side by side in a kernel.
const STRIP: usize = 64;

/// Added to the length of a prediction.
const EPS: f64 = 1e-12;

/// `L = 1/n Σ abs(x_c/(‖x‖ + 1e-12) − label_c)` over the `n` labelled entries; an entry is one channel of one pixel, unlabelled
/// where its label is 255.
///
/// Kept for the backward: with `d = ‖x‖ + 1e-12` and `s` the signs of the differences (0 where unlabelled),
/// `∂L/∂x = (s/d − x (s·x)/(d² ‖x‖))/n`. A prediction of length 0 has no direction and its second term counts as 0, as in
/// PyTorch; its gradient is finite but enormous (`1e12/n`). All arithmetic is `f64`.
///
/// # Shapes
/// - `prediction`: [`DenseLogits`] of 3 channels
/// - `labels` `(b, 3, h, w)`
///
/// # Errors
/// Other shapes.
pub fn normals_l1<'a>(prediction: impl Into<DenseLogits<'a>>, labels: &Tensor) -> Result<LossValue> {
    let prediction = prediction.into();
    prediction.require_same_shape(OP, labels)?;
    if prediction.beside(OP, labels)?[1] != 3 {
        bail!("{OP}: the prediction is {:?}, expected 3 channels", prediction.tensor().dims());
    }
    let labels = labels.contiguous()?;
    let labelled = count_labelled(&read(OP, &labels)?);
    let loss = NormalsL1 { scale: 1.0 / labelled.max(1) as f64 };
    mean(OP, prediction, &labels, labelled, Channels::Together, &loss)
}

struct NormalsL1 {
    /// The factor of the gradient.
    scale: f64,
}

impl PixelLoss for NormalsL1 {
    fn sum(&self, logits: &[&[f32]], labels: &[&[f32]], gradient: &mut [&mut [f32]]) -> f64 {
        let runs: Runs<'_> = std::array::from_fn(|c| (logits[c], labels[c]));
        sum_run(&runs, self.scale, gradient)
    }
}

/// Prediction and label of each channel.
type Runs<'a> = [(&'a [f32], &'a [f32]); 3];

/// The sum of a run; `scale` is the factor of its gradient.
fn sum_run(runs: &Runs<'_>, scale: f64, gradient: &mut [&mut [f32]]) -> f64 {
    let len = runs[0].0.len();
    let mut sum = 0.0;
    for first in (0..len).step_by(STRIP) {
        let range = first..(first + STRIP).min(len);
        let strip = runs.map(|(x, y)| (&x[range.clone()], &y[range.clone()]));
        let (mut losses, mut slopes) = ([0f64; STRIP], [[0f32; STRIP]; 3]);
        vectorize(Distances(&strip, scale, &mut losses, &mut slopes));
        sum += losses[..range.len()].iter().sum::<f64>();
        for (plane, slopes) in gradient.iter_mut().zip(&slopes) {
            plane[range.clone()].copy_from_slice(&slopes[..range.len()]);
        }
    }
    sum
}

struct Distances<'a>(&'a Runs<'a>, f64, &'a mut [f64; STRIP], &'a mut [[f32; STRIP]; 3]);

impl Kernel for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(runs, scale, losses, slopes) = self;
        let n = runs[0].0.len().min(STRIP);
        let ([x0, x1, x2], [y0, y1, y2]) = (runs.map(|(x, _)| &x[..n]), runs.map(|(_, y)| &y[..n]));
        for i in 0..n {
            let x = [x0[i], x1[i], x2[i]].map(f64::from);
            let norm = (x[0] * x[0] + x[1] * x[1] + x[2] * x[2]).sqrt();
            let d = norm + EPS;
            let compared = [(x[0], y0[i]), (x[1], y1[i]), (x[2], y2[i])].map(|(x, y)| compare(x / d, y));
            losses[i] = compared[0].0 + compared[1].0 + compared[2].0;
            let along = compared[0].1 * x[0] + compared[1].1 * x[1] + compared[2].1 * x[2];
            let pull = if norm > 0.0 { along / (d * d * norm) } else { 0.0 };
            for c in 0..3 {
                slopes[c][i] = ((compared[c].1 / d - x[c] * pull) * scale) as f32;
            }
        }
    }
}

/// `abs(x − label)` and its slope, both 0 without a label.
#[inline(always)]
fn compare(x: f64, label: f32) -> (f64, f64) {
    let difference = x - f64::from(label);
    let sign = if difference > 0.0 { 1.0 } else { 0.0 } - if difference < 0.0 { 1.0 } else { 0.0 };
    if label == UNLABELLED { (0.0, 0.0) } else { (difference.abs(), sign) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gradcheck, named_tensor};
    use candle_core::{Device, Var};

    #[test]
    fn the_gradient_matches_the_difference_quotient() {
        let x = named_tensor("x", (2, 3, 4, 3), 0.0, 2.0).unwrap();
        let labels = named_tensor("labels", (2, 3, 4, 3), 0.0, 1.0).unwrap();
        gradcheck("normals l1", &[x], 1e-2, |x| Ok(normals_l1(&x[0], &labels)?.value));
    }

    #[test]
    fn only_the_direction_counts() {
        let x = named_tensor("x", (1, 3, 70, 70), 0.0, 2.0).unwrap();
        let labels = named_tensor("labels", (1, 3, 70, 70), 0.0, 1.0).unwrap();
        let value = |x: Tensor| normals_l1(&x, &labels).unwrap().value.to_scalar::<f32>().unwrap();
        let one = value(x.clone());
        for factor in [1e-5, 7.0, 1e30] {
            let other = value((&x * factor).unwrap());
            assert!((one - other).abs() < 1e-6, "{one} {other}");
        }
    }

    #[test]
    fn entries_are_labelled_one_by_one() {
        let x = Var::new(&[[[[3f32]], [[0.0]], [[4.0]]]], &Device::Cpu).unwrap();
        let labels = Tensor::new(&[[[[1f32]], [[UNLABELLED]], [[0.0]]]], &Device::Cpu).unwrap();
        let loss = normals_l1(&x, &labels).unwrap();
        // |0.6 - 1| + |0.8 - 0| over two entries.
        assert!((loss.value.to_scalar::<f32>().unwrap() - 0.6).abs() < 1e-7);
        assert_eq!(loss.labelled, 2);
    }

    #[test]
    fn a_prediction_has_three_channels() {
        let x = named_tensor("x", (1, 2, 3, 3), 0.0, 1.0).unwrap();
        assert!(normals_l1(&x, &x).unwrap_err().to_string().contains("expected 3 channels"));
    }
}
