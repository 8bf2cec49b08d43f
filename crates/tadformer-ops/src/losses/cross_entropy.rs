//! Softmax cross-entropy over classes in planes.

use super::logits::DenseLogits;
use super::pixels::{Channels, LossValue, PixelLoss, mean};
use super::{BLOCK, UNLABELLED};
use crate::elementary::exp;
use crate::host::read;
use crate::simd::{Kernel, vectorize};
use crate::vector::{Level, Vector};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

const OP: &str = "cross entropy";

/// Pixels side by side in a kernel. Their logits are copied together first: planes lie a multiple of the page size apart
/// at common picture sizes, and would drive each other out of the cache.
const STRIP: usize = 64;

/// `L = 1/n Σ (log Σ_c exp(x_c) − x_label)` over the `n` labelled pixels (`torch.nn.functional.cross_entropy` with
/// `ignore_index=255`); the largest logit is taken out first, so nothing overflows.
///
/// Kept for the backward: `∂L/∂x = (softmax(x) − [c = label])/n`.
///
/// # Shapes
/// - `logits`: [`DenseLogits`] of `c` channels
/// - `labels` `(b, 1, h, w)`, `0.0..c` in whole numbers, or 255 for a pixel without a label
///
/// # Errors
/// Shapes that do not fit, or a label that is no class: the message names pixel, label and number of classes.
pub fn cross_entropy<'a>(logits: impl Into<DenseLogits<'a>>, labels: &Tensor) -> Result<LossValue> {
    let logits = logits.into();
    let [b, classes, h, w] = logits.beside(OP, labels)?;
    if labels.dims() != [b, 1, h, w] {
        bail!(
            "{OP}: logits {:?} need labels {:?}, found {:?}",
            [b, classes, h, w],
            [b, 1, h, w],
            labels.dims()
        );
    }
    let labels = labels.contiguous()?;
    let labelled = count_labelled(&read(OP, &labels)?, classes, h, w)?;
    let loss = CrossEntropy { scale: 1.0 / labelled.max(1) as f32 };
    mean(OP, logits, &labels, labelled, Channels::Together, &loss)
}

struct CrossEntropy {
    /// The factor of each pixel's gradient.
    scale: f32,
}

impl PixelLoss for CrossEntropy {
    fn sum(&self, logits: &[&[f32]], labels: &[&[f32]], gradient: &mut [&mut [f32]]) -> f64 {
        let mut strip = vec![[0f32; STRIP]; logits.len()];
        sum_run(logits, labels[0], self.scale, &mut strip, gradient)
    }
}

/// The number of labelled pixels, once every label is known to be a class.
fn count_labelled(labels: &[f32], classes: usize, height: usize, width: usize) -> Result<usize> {
    let is_class = |y: f32| y >= 0.0 && y < classes as f32 && y as i32 as f32 == y;
    let blocks: Vec<(usize, Option<usize>)> = labels
        .par_chunks(BLOCK)
        .map(|block| {
            let labelled = block.iter().filter(|y| **y != UNLABELLED).count();
            let wrong = block.iter().position(|y| !is_class(*y) && *y != UNLABELLED);
            (labelled, wrong)
        })
        .collect();
    if let Some((block, wrong)) = blocks.iter().enumerate().find_map(|(i, (_, wrong))| Some((i, (*wrong)?))) {
        let at = block * BLOCK + wrong;
        let (image, row, column) = (at / (height * width), at / width % height, at % width);
        bail!(
            "{OP}: the label of image {image} at row {row}, column {column} is {}, but there are {classes} classes; \
             expected a whole number below {classes}, or 255 for a pixel without a label",
            labels[at],
        );
    }
    Ok(blocks.iter().map(|(labelled, _)| labelled).sum())
}

/// The sum over the labelled pixels of a run; `scale` is the factor of each pixel's gradient.
fn sum_run(
    logits: &[&[f32]],
    labels: &[f32],
    scale: f32,
    strip: &mut [[f32; STRIP]],
    gradient: &mut [&mut [f32]],
) -> f64 {
    let mut sum = 0.0;
    for first in (0..labels.len()).step_by(STRIP) {
        let range = first..(first + STRIP).min(labels.len());
        // Lanes past the last pixel hold leftovers that nothing reads.
        for (row, plane) in strip.iter_mut().zip(logits) {
            row[..range.len()].copy_from_slice(&plane[range.clone()]);
        }
        let (mut max, mut total) = ([f32::NEG_INFINITY; STRIP], [0f32; STRIP]);
        vectorize(Exponentials(strip, &mut max, &mut total));
        let mut factor = [0f32; STRIP];
        for (i, label) in labels[range.clone()].iter().enumerate() {
            if *label != UNLABELLED {
                let logit = logits[*label as usize][first + i];
                sum += f64::from(max[i]) - f64::from(logit) + f64::from(total[i]).ln();
                factor[i] = scale / total[i];
            }
        }
        if gradient.is_empty() {
            continue;
        }
        for (row, plane) in strip.iter().zip(gradient.iter_mut()) {
            for ((g, e), f) in plane[range.clone()].iter_mut().zip(row).zip(&factor) {
                *g = e * f;
            }
        }
        for (i, label) in labels[range].iter().enumerate() {
            if *label != UNLABELLED {
                gradient[*label as usize][first + i] -= scale;
            }
        }
    }
    sum
}

/// Turns logits into `e^(x − max)`, whose sum is `total`.
struct Exponentials<'a>(&'a mut [[f32; STRIP]], &'a mut [f32; STRIP], &'a mut [f32; STRIP]);

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(strip, max, total) = self;
        for row in strip.iter() {
            for (max, x) in max.iter_mut().zip(row) {
                *max = if *x > *max { *x } else { *max };
            }
        }
        for row in strip.iter_mut() {
            for ((x, max), total) in row.iter_mut().zip(max.iter()).zip(total.iter_mut()) {
                *x = exp::<V>(*x - max);
                *total += *x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};
    use candle_core::{D, DType, Device, Var};

    /// Labels `0..classes` with every fifth pixel unlabelled.
    fn labels(b: usize, classes: usize, h: usize, w: usize) -> Tensor {
        let values: Vec<f32> =
            (0..b * h * w).map(|i| if i % 5 == 3 { UNLABELLED } else { (i * 7 % classes) as f32 }).collect();
        Tensor::from_vec(values, (b, 1, h, w), &Device::Cpu).unwrap()
    }

    /// The same loss of candle operations, in `f64`.
    fn plain(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let classes = logits.dim(1)?;
        let x = logits.to_dtype(DType::F64)?.permute((0, 2, 3, 1))?.reshape(((), classes))?;
        let x = x.broadcast_sub(&x.max_keepdim(1)?.detach())?;
        let log_softmax = x.broadcast_sub(&x.exp()?.sum_keepdim(1)?.log()?)?;
        let y = labels.flatten_all()?;
        let kept = y.ne(255f64)?.to_dtype(DType::F64)?;
        let index = (&y * y.ne(255f64)?.to_dtype(DType::F32)?)?.to_dtype(DType::U32)?.unsqueeze(1)?;
        let picked = (log_softmax.gather(&index, D::Minus1)?.squeeze(1)? * &kept)?;
        picked.sum_all()?.neg()?.div(&kept.sum_all()?)?.to_dtype(DType::F32)
    }

    #[test]
    fn value_and_gradient_are_those_of_the_plain_composition() {
        for (b, classes, h, w) in
            [(1, 1, 1, 1), (2, 21, 8, 10), (1, 7, 65, 67), (3, 2, 13, 5), (1, 40, 1, 129)]
        {
            let x = Var::from_tensor(&named_tensor("x", (b, classes, h, w), 0.0, 9.0).unwrap()).unwrap();
            let y = labels(b, classes, h, w);
            let (ours, theirs) = (cross_entropy(&x, &y).unwrap(), plain(&x, &y).unwrap());
            assert_close("value", &ours.value, &theirs, 1e-6);
            let theirs = theirs.backward().unwrap();
            let grads = (ours.value * 3.0).unwrap().backward().unwrap();
            let expected = (theirs.get(&x).unwrap() * 3.0).unwrap();
            assert_close("gradient", grads.get(&x).unwrap(), &expected, 1e-5);
        }
    }

    #[test]
    fn the_gradient_matches_the_difference_quotient() {
        let x = named_tensor("x", (2, 5, 4, 3), 0.0, 2.0).unwrap();
        let y = labels(2, 5, 4, 3);
        gradcheck("cross entropy", &[x], 1e-2, |x| Ok(cross_entropy(&x[0], &y)?.value));
    }

    #[test]
    fn enormous_logits_do_not_overflow() {
        let x = Var::new(&[[[[3e38f32]], [[-3e38]]]], &Device::Cpu).unwrap();
        let loss = |label: f32| {
            let y = Tensor::new(&[[[[label]]]], &Device::Cpu).unwrap();
            cross_entropy(&x, &y).unwrap().value
        };
        assert_eq!(loss(0.0).to_scalar::<f32>().unwrap(), 0.0);
        let grads = loss(1.0).backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, -1.0]);
    }

    #[test]
    fn a_label_that_is_no_class_is_named() {
        let x = Tensor::zeros((2, 3, 100, 50), DType::F32, &Device::Cpu).unwrap();
        for wrong in [3.0f32, -1.0, 0.5, f32::NAN, 254.0] {
            let mut values = vec![0f32; 2 * 100 * 50];
            values[5000 + 98 * 50 + 7] = wrong;
            values[5000 + 99 * 50] = 77.0;
            let y = Tensor::from_vec(values, (2, 1, 100, 50), &Device::Cpu).unwrap();
            let message = cross_entropy(&x, &y).unwrap_err().to_string();
            let expected =
                format!("the label of image 1 at row 98, column 7 is {wrong}, but there are 3 classes");
            assert!(message.contains(&expected), "{message}");
        }
        let y = Tensor::zeros((2, 100, 50), DType::F32, &Device::Cpu).unwrap();
        let message = cross_entropy(&x, &y).unwrap_err().to_string();
        assert!(message.contains("need labels [2, 1, 100, 50], found [2, 100, 50]"), "{message}");
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let x = named_tensor("x", (2, 6, 97, 101), 0.0, 4.0).unwrap();
        let y = labels(2, 6, 97, 101);
        let with_threads = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let x = Var::from_tensor(&x).unwrap();
                let value = cross_entropy(&x, &y).unwrap().value;
                let grads = value.backward().unwrap();
                let grad = grads.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                (value.to_scalar::<f32>().unwrap(), grad)
            })
        };
        assert_eq!(with_threads(1), with_threads(5));
    }
}
