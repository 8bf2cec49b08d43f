//! Logistic loss with positives and negatives in balance.

use super::UNLABELLED;
use super::logits::DenseLogits;
use super::pixels::{Channels, LossValue, PixelLoss, count, mean};
use crate::elementary::exp;
use crate::host::read;
use crate::simd::{Kernel, vectorize};
use crate::vector::{Level, Vector};
use candle_core::{Result, Tensor, bail};

const OP: &str = "balanced bce";

/// Entries side by side in a kernel.
const STRIP: usize = 64;

/// `L = (w Σ_pos log(1 + e^−x) + (1 − w) Σ_neg log(1 + e^x)) / n` over all `n` entries, as the published TADFormer and
/// MTI-Net compute it.
///
/// `positive_weight` is `w`, `0..=1`; `None` takes the share of negatives in the batch, so a batch with one kind only costs 0. A
/// label of 0.5 or more is positive, **and so is 255**: a quirk of the published loss, kept here so that its numbers can
/// be had. [`balanced_bce_labelled`] leaves such pixels out; without them the two are equal.
///
/// Kept for the backward: `∂L/∂x`.
///
/// # Shapes
/// - `logits`: [`DenseLogits`]; planes may be of any shape
/// - `labels` of the shape of the planes
///
/// # Errors
/// Shapes that differ, or a weight outside `0..=1`.
pub fn balanced_bce<'a>(
    logits: impl Into<DenseLogits<'a>>,
    labels: &Tensor,
    positive_weight: Option<f64>,
) -> Result<LossValue> {
    weighted(logits.into(), labels, positive_weight, |_| true)
}

/// [`balanced_bce`] over labelled pixels alone: pixels of label 255 count neither in the sums, nor in `n`, nor in the share
/// of negatives.
///
/// # Errors
/// As [`balanced_bce`].
pub fn balanced_bce_labelled<'a>(
    logits: impl Into<DenseLogits<'a>>,
    labels: &Tensor,
    positive_weight: Option<f64>,
) -> Result<LossValue> {
    weighted(logits.into(), labels, positive_weight, |y| y != UNLABELLED)
}

fn weighted(
    logits: DenseLogits<'_>,
    labels: &Tensor,
    positive_weight: Option<f64>,
    counts: fn(f32) -> bool,
) -> Result<LossValue> {
    logits.require_same_shape(OP, labels)?;
    let labels = labels.contiguous()?;
    let (labelled, w) = {
        let y = read(OP, &labels)?;
        let labelled = count(&y, counts);
        let w = match positive_weight {
            Some(w) if (0.0..=1.0).contains(&w) => w,
            Some(w) => bail!("{OP}: the weight of the positives is {w}, expected 0 to 1"),
            None => count(&y, |y| counts(y) && !positive(y)) as f64 / labelled.max(1) as f64,
        };
        (labelled, w)
    };
    let loss = BalancedBce {
        counts,
        positive: w as f32,
        negative: 1.0 - w as f32,
        scale: 1.0 / labelled.max(1) as f32,
    };
    mean(OP, logits, &labels, labelled, Channels::Apart, &loss)
}

struct BalancedBce {
    /// Whether an entry with this label counts at all.
    counts: fn(f32) -> bool,
    /// The weight of positives.
    positive: f32,
    /// The weight of negatives.
    negative: f32,
    /// The factor of the gradient.
    scale: f32,
}

impl BalancedBce {
    fn weight(&self, label: f32) -> f32 {
        if !(self.counts)(label) {
            0.0
        } else if positive(label) {
            self.positive
        } else {
            self.negative
        }
    }

    fn sum_channel(&self, xs: &[f32], ys: &[f32], gradient: &mut [f32]) -> f64 {
        let mut sum = 0.0;
        for (i, (xs, ys)) in xs.chunks(STRIP).zip(ys.chunks(STRIP)).enumerate() {
            let (mut losses, mut slopes) = ([0f32; STRIP], [0f32; STRIP]);
            vectorize(Logistic(xs, ys, &mut losses, &mut slopes));
            for (loss, y) in losses.iter().zip(ys) {
                sum += f64::from(self.weight(*y) * loss);
            }
            for ((g, slope), y) in gradient.iter_mut().skip(i * STRIP).zip(&slopes).zip(ys) {
                *g = self.weight(*y) * self.scale * slope;
            }
        }
        sum
    }
}

impl PixelLoss for BalancedBce {
    fn sum(&self, logits: &[&[f32]], labels: &[&[f32]], gradient: &mut [&mut [f32]]) -> f64 {
        let mut gradient = gradient.iter_mut();
        let mut sum = 0.0;
        for (xs, ys) in logits.iter().zip(labels) {
            sum += self.sum_channel(xs, ys, gradient.next().map_or(&mut [], |run| run));
        }
        sum
    }
}

#[inline(always)]
fn positive(label: f32) -> bool {
    label >= 0.5
}

/// With `s = −x` for positives and `x` for negatives: `ℓ = log(1 + e^s) = max(s, 0) + log(1 + e^−|x|)`, `dℓ/ds = σ(s)`.
struct Logistic<'a>(&'a [f32], &'a [f32], &'a mut [f32; STRIP], &'a mut [f32; STRIP]);

impl Kernel for Logistic<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, ys, losses, slopes) = self;
        for (((x, y), loss), slope) in xs.iter().zip(ys).zip(losses).zip(slopes) {
            let sign = if positive(*y) { -1.0 } else { 1.0 };
            let s = sign * x;
            let e = exp::<V>(-x.abs());
            let hinge = if s > 0.0 { s } else { 0.0 };
            *loss = hinge + log_1p(e);
            *slope = sign * (if s > 0.0 { 1.0 } else { e }) / (1.0 + e);
        }
    }
}

/// `log(1 + e)` for `e` in `0..=1`, within 2e-7 of itself: `2 artanh z = 2 (z + z³/3 + z⁵/5 + …)` with `z = e/(2 + e) <= 1/3`;
/// the first term left out is below 2e-9.
#[inline(always)]
fn log_1p(e: f32) -> f32 {
    let z = e / (2.0 + e);
    let q = z * z;
    let tail = q
        * (1.0 / 3.0
            + q * (1.0 / 5.0
                + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0 + q / 15.0))))));
    2.0 * (z + z * tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};
    use candle_core::{Device, Var};

    fn labels(shape: (usize, usize, usize, usize)) -> Tensor {
        let values = (0..shape.0 * shape.1 * shape.2 * shape.3).map(|i| f32::from(u8::from(i % 3 == 1)));
        Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(shape).unwrap()
    }

    #[test]
    fn gradients_match_the_difference_quotient() {
        let x = named_tensor("x", (2, 1, 4, 3), 0.0, 2.0).unwrap();
        let y = labels((2, 1, 4, 3));
        for weight in [None, Some(0.95)] {
            gradcheck("balanced bce", std::slice::from_ref(&x), 1e-2, |x| {
                Ok(balanced_bce(&x[0], &y, weight)?.value)
            });
        }
    }

    #[test]
    fn the_value_is_the_formula_on_more_than_one_block() {
        let (x, y) = (named_tensor("x", (1, 1, 101, 97), 0.0, 6.0).unwrap(), labels((1, 1, 101, 97)));
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let n = 101.0 * 97.0;
        let w = flat(&y).iter().filter(|y| **y == 0.0).count() as f64 / n;
        let expected: f64 = flat(&x)
            .iter()
            .zip(flat(&y))
            .map(|(x, y)| {
                let x = f64::from(*x);
                if y == 1.0 { w * (1.0 + (-x).exp()).ln() } else { (1.0 - w) * (1.0 + x.exp()).ln() }
            })
            .sum();
        let found = balanced_bce(&x, &y, None).unwrap();
        let expected = Tensor::new((expected / n) as f32, &Device::Cpu).unwrap();
        assert_close("balanced bce", &found.value, &expected, 1e-6);
        assert_eq!(found.labelled, 101 * 97);
    }

    #[test]
    fn leaving_out_unlabelled_pixels_is_the_loss_of_the_others() {
        let x = named_tensor("x", (1, 1, 2, 6), 0.0, 2.0).unwrap();
        let y = labels((1, 1, 2, 6));
        let row = |t: &Tensor| t.narrow(2, 0, 1).unwrap();
        let y = Tensor::cat(&[row(&y), row(&y).affine(0.0, 255.0).unwrap()], 2).unwrap();
        for weight in [None, Some(0.95)] {
            let var = Var::from_tensor(&x).unwrap();
            let all = balanced_bce_labelled(&var, &y, weight).unwrap();
            let labelled = balanced_bce(&row(&x), &row(&y), weight).unwrap();
            assert_close("value", &all.value, &labelled.value, 1e-6);
            assert_eq!(all.labelled, 6);
            let grads = all.value.backward().unwrap();
            let unlabelled = grads.get(&var).unwrap().narrow(2, 1, 1).unwrap();
            assert_eq!(unlabelled.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
        }
    }

    #[test]
    fn nothing_labelled_costs_nothing() {
        let x = Var::from_tensor(&named_tensor("x", (1, 1, 2, 6), 0.0, 2.0).unwrap()).unwrap();
        let y = x.as_tensor().detach().affine(0.0, 255.0).unwrap();
        let loss = balanced_bce_labelled(&x, &y, Some(0.95)).unwrap();
        assert_eq!((loss.value.to_scalar::<f32>().unwrap(), loss.labelled), (0.0, 0));
        let grads = loss.value.backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0.0; 12]);
    }

    #[test]
    fn the_logarithm_is_as_good_as_libm() {
        for e in (0..=100_000).map(|i| i as f32 * 1e-5).chain([1e-30, 1e-10, 3e-7]) {
            let (ours, exact) = (f64::from(log_1p(e)), f64::from(e).ln_1p());
            assert!((ours - exact).abs() <= 2e-7 * exact, "log_1p({e}) = {ours}, exactly {exact}");
        }
    }

    #[test]
    fn a_weight_is_a_share() {
        let x = named_tensor("x", (1, 1, 2, 2), 0.0, 2.0).unwrap();
        for weight in [-0.1, 1.5, f64::NAN] {
            let message = balanced_bce(&x, &x, Some(weight)).unwrap_err().to_string();
            assert!(message.contains("expected 0 to 1"), "{message}");
        }
    }
}
