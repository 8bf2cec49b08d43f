//! A loss of tokens that are resized on the way: a few output rows at a time go from interpolation through the loss and
//! back through the transposed interpolation.

use super::pixels::PixelLoss;
use crate::interpolate::{ResizedRows, RowGradients, RowResize, token_row};
use candle_core::{Result, bail};
use rayon::prelude::*;

/// Output rows a task. Neighbouring tasks widen at most two source rows twice.
const ROWS: usize = 32;

/// Adds up `loss` over the pixels of the labels `(b, channels, rows, columns)`, and writes the gradient of the `tokens`
/// `(b, h, w, c)`, times `weight`, unless there is no room for one.
pub(super) fn sum(
    (tokens, (images, h, w, c)): (&[f32], (usize, usize, usize, usize)),
    (size, weight): ((usize, usize), f32),
    (labels, (_, label_channels, rows, columns)): (&[f32], (usize, usize, usize, usize)),
    gradient: &mut [f32],
    loss: &dyn PixelLoss,
) -> Result<f64> {
    if tokens.is_empty() {
        return Ok(0.0);
    }
    if size.0.checked_mul(size.1).is_none_or(|area| area > isize::MAX as usize / c / size_of::<f32>()) {
        bail!("a loss of logits at {size:?}: a map of that size fits the memory of no machine");
    }
    let resize = RowResize::new((h, w), size, (rows, columns), c);
    let wanted = !gradient.is_empty();
    let blocks: Vec<(usize, usize)> =
        (0..images).flat_map(|image| (0..rows).step_by(ROWS).map(move |first| (image, first))).collect();
    let parts: Vec<(f64, Option<(usize, Vec<f32>)>)> = blocks
        .par_iter()
        .map(|&(image, first)| {
            let tokens = &tokens[image * h * w * c..][..h * w * c];
            let labels =
                &labels[image * label_channels * rows * columns..][..label_channels * rows * columns];
            let range = first..(first + ROWS).min(rows);
            let mut resized = ResizedRows::new(&resize);
            let mut gradients = wanted.then(|| RowGradients::new(&resize, &range));
            let mut slopes = vec![0f32; if wanted { resize.row() } else { 0 }];
            let mut sum = 0.0;
            for y in range {
                let row = resized.row(y, |source, row| token_row(tokens, c, source, row));
                let x: Vec<&[f32]> = row.chunks_exact(columns).collect();
                let labels: Vec<&[f32]> = labels
                    .chunks_exact(rows * columns)
                    .map(|plane| &plane[y * columns..][..columns])
                    .collect();
                let mut channels: Vec<&mut [f32]> = slopes.chunks_exact_mut(columns).collect();
                sum += loss.sum(&x, &labels, &mut channels);
                if let Some(gradients) = &mut gradients {
                    if weight != 1.0 {
                        slopes.iter_mut().for_each(|slope| *slope *= weight);
                    }
                    gradients.add(y, &slopes);
                }
            }
            (sum, gradients.map(RowGradients::finish))
        })
        .collect();
    for ((image, _), (_, part)) in blocks.iter().zip(&parts) {
        let Some((first, part)) = part else { continue };
        let start = (image * h + first) * w * c;
        for (row, tokens) in part.chunks_exact(w * c).zip(gradient[start..].chunks_exact_mut(w * c)) {
            add_tokens(row, c, tokens);
        }
    }
    Ok(parts.iter().map(|(sum, _)| sum).sum())
}

/// Adds a row of each channel to a row of tokens.
fn add_tokens(row: &[f32], channels: usize, tokens: &mut [f32]) {
    let columns = tokens.len() / channels;
    for (channel, plane) in row.chunks_exact(columns).enumerate() {
        plane.iter().zip(tokens.chunks_exact_mut(channels)).for_each(|(x, token)| token[channel] += x);
    }
}

#[cfg(test)]
mod tests {
    use crate::losses::{
        DenseLogits, LossValue, UNLABELLED, balanced_bce, balanced_bce_labelled, cross_entropy, masked_l1,
        normals_l1,
    };
    use crate::testing::{assert_close, gradcheck, named_tensor};
    use crate::{Rng, interpolate_planes};
    use candle_core::{DType, Device, Result, Tensor, Var};

    type Grid = (usize, usize);

    /// Grid, size and the part of it that has labels.
    const SIZES: [(Grid, Grid, Grid); 8] = [
        ((5, 4), (40, 32), (40, 32)),
        ((5, 7), (33, 61), (33, 61)),
        ((6, 9), (96, 100), (71, 93)),
        ((1, 1), (7, 9), (7, 9)),
        ((13, 11), (5, 4), (5, 3)),
        ((8, 9), (8, 70), (8, 70)),
        ((9, 6), (65, 6), (64, 5)),
        ((37, 41), (37, 41), (37, 41)),
    ];

    type Loss = fn(DenseLogits<'_>, &Tensor) -> Result<LossValue>;

    /// Every loss with its channels and those of its labels.
    const LOSSES: [(&str, usize, usize, Loss); 6] = [
        ("cross entropy", 6, 1, |x, y| cross_entropy(x, y)),
        ("balanced bce", 1, 1, |x, y| balanced_bce(x, y, None)),
        ("labelled bce", 2, 2, |x, y| balanced_bce_labelled(x, y, None)),
        ("weighted bce", 1, 1, |x, y| balanced_bce_labelled(x, y, Some(0.95))),
        ("normals l1", 3, 3, |x, y| normals_l1(x, y)),
        ("masked l1", 2, 2, |x, y| masked_l1(x, y)),
    ];

    /// Labels that the loss `name` takes, an eighth of them 255; all of them with `empty`.
    fn labels(name: &str, shape: (usize, usize, usize, usize), empty: bool) -> Tensor {
        let mut rng = Rng::named(0, name, 0);
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let label = |rng: &mut Rng| match name {
            _ if empty || rng.bernoulli(0.125) => UNLABELLED,
            "cross entropy" => rng.below(6) as f32,
            "normals l1" | "masked l1" => rng.range(-1.0, 1.0) as f32,
            _ => f32::from(u8::from(rng.bernoulli(0.3))),
        };
        let values: Vec<f32> = (0..count).map(|_| label(&mut rng)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// The value, the labelled entries and the gradient of `3 · loss`.
    fn run(tokens: &Tensor, loss: impl Fn(&Tensor) -> Result<LossValue>) -> (Tensor, usize, Tensor) {
        let tokens = Var::from_tensor(tokens).unwrap();
        let loss = loss(&tokens).unwrap();
        let grads = (&loss.value * 3.0).unwrap().backward().unwrap();
        (loss.value, loss.labelled, grads.get(&tokens).unwrap().clone())
    }

    #[test]
    fn every_loss_of_tokens_is_that_of_the_resized_planes() {
        for (name, channels, label_channels, loss) in LOSSES {
            for (grid, size, kept) in SIZES {
                for empty in [false, true] {
                    let what = format!("{name}, {grid:?} to {size:?}, labels {kept:?}, empty {empty}");
                    let tokens = named_tensor("tokens", (2, grid.0, grid.1, channels), 0.0, 3.0).unwrap();
                    let y = labels(name, (2, label_channels, kept.0, kept.1), empty);
                    let (value, labelled, gradient) =
                        run(&tokens, |grid| loss(DenseLogits::Tokens { grid, size, weight: 3.0 }, &y));
                    let (plain, count, expected) = run(&tokens, |grid| {
                        let planes = interpolate_planes(&grid.permute((0, 3, 1, 2))?, size)?;
                        loss((&planes.narrow(2, 0, kept.0)?.narrow(3, 0, kept.1)?).into(), &y)
                    });
                    assert_eq!(labelled, count, "{what}");
                    assert_close(&what, &value, &plain, 1e-7);
                    assert_close(&what, &gradient, &expected, 2e-6);
                }
            }
        }
    }

    #[test]
    fn whatever_the_weight_the_gradient_is_that_of_the_loss() {
        let tokens = named_tensor("tokens", (1, 5, 6, 3), 0.0, 3.0).unwrap();
        let y = labels("normals l1", (1, 3, 19, 23), false);
        let gradient = |weight: f32| {
            let size = (19, 23);
            run(&tokens, |grid| normals_l1(DenseLogits::Tokens { grid, size, weight }, &y)).2
        };
        for weight in [3.0, 0.1, -2.0, 0.0, f32::NAN] {
            assert_close(&format!("weight {weight}"), &gradient(weight), &gradient(1.0), 1e-6);
        }
    }

    #[test]
    fn gradients_match_the_difference_quotient() {
        for (name, channels, label_channels, loss) in LOSSES {
            let tokens = named_tensor("tokens", (1, 3, 2, channels), 0.0, 2.0).unwrap();
            // Far from the predictions, where an absolute value has a slope.
            let y = match name {
                "masked l1" => named_tensor("labels", (1, label_channels, 7, 5), 4.0, 0.5).unwrap(),
                _ => labels(name, (1, label_channels, 7, 5), false),
            };
            if name != "normals l1" {
                gradcheck(name, &[tokens], 1e-2, |x| {
                    Ok(loss(DenseLogits::Tokens { grid: &x[0], size: (7, 5), weight: 1.0 }, &y)?.value)
                });
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit_and_nobody_pays_for_an_unwanted_gradient() {
        for (name, channels, label_channels, loss) in LOSSES {
            let tokens = named_tensor("tokens", (2, 11, 13, channels), 0.0, 3.0).unwrap();
            let y = labels(name, (2, label_channels, 83, 101), false);
            let with_threads = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let (value, _, gradient) = run(&tokens, |grid| {
                        loss(DenseLogits::Tokens { grid, size: (83, 101), weight: 2.0 }, &y)
                    });
                    let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    (value.to_scalar::<f32>().unwrap(), gradient)
                })
            };
            assert_eq!(with_threads(1), with_threads(5), "{name}");
            let plain =
                loss(DenseLogits::Tokens { grid: &tokens, size: (83, 101), weight: 2.0 }, &y).unwrap().value;
            assert!(!plain.track_op());
            assert_eq!(plain.to_scalar::<f32>().unwrap(), with_threads(2).0, "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let tokens = named_tensor("tokens", (2, 4, 4, 3), 0.0, 1.0).unwrap();
        let message = |labels: (usize, usize, usize, usize), size| {
            let y = Tensor::zeros(labels, DType::F32, &Device::Cpu).unwrap();
            normals_l1(DenseLogits::Tokens { grid: &tokens, size, weight: 1.0 }, &y).unwrap_err().to_string()
        };
        assert!(message((2, 3, 9, 8), (8, 8)).contains("larger than the (8, 8)"));
        assert!(message((1, 3, 8, 8), (8, 8)).contains("[2, 3, 8, 8] and labels [1, 3, 8, 8] differ"));
        assert!(message((2, 1, 8, 8), (8, 8)).contains("[2, 3, 8, 8] and labels [2, 1, 8, 8] differ"));
        assert!(message((2, 3, 0, 8), (8, 8)).contains("empty"));
        let y = Tensor::zeros((2, 3, 8, 8), DType::F32, &Device::Cpu).unwrap();
        let vast = DenseLogits::Tokens { grid: &tokens, size: (usize::MAX / 4, 8), weight: 1.0 };
        assert!(normals_l1(vast, &y).unwrap_err().to_string().contains("fits the memory of no machine"));
        let none = Tensor::zeros((0, 4, 4, 1), DType::F32, &Device::Cpu).unwrap();
        let y = Tensor::zeros((0, 1, 8, 8), DType::F32, &Device::Cpu).unwrap();
        let loss = cross_entropy(DenseLogits::Tokens { grid: &none, size: (8, 8), weight: 1.0 }, &y).unwrap();
        assert_eq!((loss.value.to_scalar::<f32>().unwrap(), loss.labelled), (0.0, 0));
    }
}
