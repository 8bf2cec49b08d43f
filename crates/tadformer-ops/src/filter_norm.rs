//! FilterNorm: every generated filter is standardised, then scaled and shifted by learned vectors.

use crate::host::read;
use crate::rows::{make, sum_blocks};
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};

/// Added to the standard deviation of a filter.
const EPS: f32 = 1e-10;

/// Each run of `taps` values is centred and divided by (its unbiased standard deviation + 1e-10); then
/// `y = n · std + mean`. Decoupled Dynamic Filter Networks (arXiv 2104.14107), the "channel" form.
///
/// Kept for the backward: `filters`.
///
/// # Shapes
/// - `filters` `(n, c · taps)`, `std` and `mean` `(c · taps)`
/// - output as `filters`
///
/// # Errors
/// Fewer than two taps, or shapes that do not fit.
pub fn filter_norm(filters: &Tensor, std: &Tensor, mean: &Tensor, taps: usize) -> Result<Tensor> {
    const OP: &str = "filter norm";
    let (_, width) = filters.dims2()?;
    if taps < 2 || width == 0 || width % taps != 0 || std.dims() != [width] || mean.dims() != [width] {
        bail!(
            "{OP}: filters {:?} of {taps} taps, std {:?} and mean {:?} do not fit",
            filters.dims(),
            std.dims(),
            mean.dims()
        );
    }
    let filters = filters.contiguous()?;
    let ys = {
        let (x, scale, shift) = (read(OP, &filters)?, read(OP, std)?, read(OP, mean)?);
        make(filters.elem_count(), width, |first, block| {
            for (x, y) in x[first * width..].chunks_exact(width).zip(block.chunks_exact_mut(width)) {
                for start in (0..width).step_by(taps) {
                    let (centre, rstd) = statistics(&x[start..start + taps]);
                    for i in start..start + taps {
                        y[i] = (x[i] - centre) * rstd * scale[i] + shift[i];
                    }
                }
            }
        })
    };
    let (kept, scale) = (filters.clone(), std.clone());
    record_one(OP, &[&filters, std, mean], Output::new(ys, filters.shape()), move |grad| {
        let grad = grad.contiguous()?;
        let (x, scale, g) = (read(OP, &kept)?, read(OP, &scale)?, read(OP, &grad)?);
        let dx = make(x.len(), width, |first, block| {
            let rows = x[first * width..].chunks_exact(width).zip(g[first * width..].chunks_exact(width));
            for ((x, g), dx) in rows.zip(block.chunks_exact_mut(width)) {
                for start in (0..width).step_by(taps) {
                    let range = start..start + taps;
                    filter_gradient(
                        &x[range.clone()],
                        &scale[range.clone()],
                        &g[range.clone()],
                        &mut dx[range],
                    );
                }
            }
        });
        let sums = sum_blocks(x.len() / width, 2 * width, |first, last, sum| {
            let (dscale, dshift) = sum.split_at_mut(width);
            let range = first * width..last * width;
            for (x, g) in x[range.clone()].chunks_exact(width).zip(g[range].chunks_exact(width)) {
                for start in (0..width).step_by(taps) {
                    let (centre, rstd) = statistics(&x[start..start + taps]);
                    for i in start..start + taps {
                        dscale[i] += g[i] * (x[i] - centre) * rstd;
                        dshift[i] += g[i];
                    }
                }
            }
        });
        let dx = Tensor::from_vec(dx, kept.shape(), grad.device())?;
        let vector = |values: &[f32]| Tensor::from_slice(values, width, grad.device());
        Ok(vec![Some(dx), Some(vector(&sums[..width])?), Some(vector(&sums[width..])?)])
    })
}

/// Mean and 1 / (unbiased deviation + eps) of one filter.
fn statistics(filter: &[f32]) -> (f32, f32) {
    let n = filter.len() as f32;
    let mean = filter.iter().sum::<f32>() / n;
    let deviation = (filter.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / (n - 1.0)).sqrt();
    (mean, 1.0 / (deviation + EPS))
}

/// With `u = x − mean`, `σ` the deviation, `r = 1/(σ + eps)` and `h = g · scale`:
/// `dx = r (h − mean(h)) − u · r² Σ(h u) / ((n − 1) σ)`.
fn filter_gradient(x: &[f32], scale: &[f32], g: &[f32], dx: &mut [f32]) {
    let n = x.len() as f32;
    let (mean, r) = statistics(x);
    let sigma = 1.0 / r - EPS;
    let mean_h = g.iter().zip(scale).map(|(g, s)| g * s).sum::<f32>() / n;
    let hu: f32 = g.iter().zip(scale).zip(x).map(|((g, s), x)| g * s * (x - mean)).sum();
    let pull = if sigma > 0.0 { r * r * hu / ((n - 1.0) * sigma) } else { 0.0 };
    for i in 0..x.len() {
        dx[i] = r * (g[i] * scale[i] - mean_h) - (x[i] - mean) * pull;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gradcheck, named_tensor};

    #[test]
    fn filters_are_standardised_with_the_unbiased_deviation() {
        let filters = named_tensor("filters", (3, 12), 0.4, 1.0).unwrap();
        let ones = Tensor::ones(12, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let y =
            filter_norm(&filters, &ones, &ones.zeros_like().unwrap(), 4).unwrap().to_vec2::<f32>().unwrap();
        for filter in y.iter().flat_map(|row| row.chunks(4)) {
            assert!(filter.iter().sum::<f32>().abs() < 1e-5);
            assert!((filter.iter().map(|x| x * x).sum::<f32>() - 3.0).abs() < 1e-5);
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let filters = named_tensor("filters", (5, 18), 0.0, 1.0).unwrap();
        let (std, mean) =
            (named_tensor("std", 18, 0.5, 0.25).unwrap(), named_tensor("mean", 18, 0.0, 0.25).unwrap());
        gradcheck("filter norm", &[filters, std, mean], 1e-2, |i| filter_norm(&i[0], &i[1], &i[2], 9));
    }

    #[test]
    fn a_constant_filter_gives_the_mean_and_a_finite_gradient() {
        let filters =
            candle_core::Var::ones((1, 9), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let mean = named_tensor("mean", 9, 0.0, 1.0).unwrap();
        let y = filter_norm(&filters, &mean, &mean, 9).unwrap();
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), mean.to_vec1::<f32>().unwrap());
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(
            grads
                .get(&filters)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .all(|g| g.is_finite())
        );
    }
}
