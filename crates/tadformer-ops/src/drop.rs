//! Dropout and drop path, from a named stream.

use crate::host::read;
use crate::rng::{Rng, mix};
use crate::rows::for_blocks;
use crate::simd::vectorize;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};

const STRIP: usize = 64;

/// Zeroes each element with probability `p` and divides the rest by `1 − p` (`torch.nn.Dropout` while training).
///
/// Kept for the backward: one 64-bit key; whether element `i` stays is a hash of key and `i`, so the mask is never stored.
///
/// # Errors
/// `p` outside `0..1`, or a tensor that is not `f32` on the CPU.
pub fn dropout(xs: &Tensor, p: f64, rng: &mut Rng) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout: the probability {p} is not in 0..1");
    }
    if p == 0.0 {
        return Ok(xs.clone());
    }
    let key = rng.next_u64();
    let xs = xs.contiguous()?;
    let ys = Output::new(masked("dropout", &xs, key, p)?, xs.shape());
    record_one("dropout", &[&xs], ys, move |grad| {
        let grad = grad.contiguous()?;
        let dx = masked("dropout", &grad, key, p)?;
        Ok(vec![Some(Tensor::from_vec(dx, grad.shape(), grad.device())?)])
    })
}

fn masked(op: &'static str, xs: &Tensor, key: u64, p: f64) -> Result<Vec<f32>> {
    let x = read(op, xs)?;
    let mut ys = vec![0f32; x.len()];
    // Each hash decides four elements by sixteen bits each: probabilities are multiples of 2^-16.
    let threshold = (p * 65536.0).round() as u64;
    let keep = (1.0 / (1.0 - p)) as f32;
    for_blocks(&mut ys, STRIP, |first, block| {
        let start = first * STRIP;
        let x = &x[start..start + block.len()];
        vectorize(mask_strip, (x, (start / 4) as u64, key, threshold, keep, block));
    });
    Ok(ys)
}

#[inline(always)]
fn mask_strip((xs, first, key, threshold, keep, ys): (&[f32], u64, u64, u64, f32, &mut [f32])) {
    for (i, (x, y)) in xs.chunks(4).zip(ys.chunks_mut(4)).enumerate() {
        let bits = mix(key.wrapping_add((first + i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        for (lane, (x, y)) in x.iter().zip(y).enumerate() {
            *y = if (bits >> (16 * lane)) & 0xffff < threshold { 0.0 } else { x * keep };
        }
    }
}

/// For each of `n` samples the factor of its residual branch: 0 with probability `rate`, otherwise `1 / (1 − rate)`
/// (stochastic depth, arXiv 1603.09382).
///
/// # Errors
/// A rate outside `0..1`.
pub fn drop_path_factors(n: usize, rate: f64, rng: &mut Rng) -> Result<Vec<f32>> {
    if !(0.0..1.0).contains(&rate) {
        bail!("drop path: the rate {rate} is not in 0..1");
    }
    Ok((0..n).map(|_| if rng.bernoulli(rate) { 0.0 } else { (1.0 / (1.0 - rate)) as f32 }).collect())
}

/// `shortcut + factor[i] · branch` for each sample `i` of the leading dimension, or the plain sum without factors.
///
/// Kept for the backward: the factors.
///
/// # Shapes
/// - `branch` `(n, …)`; `shortcut` the same, or `(m, …)` with `n` a multiple of `m`, then repeated
/// - output as `branch`
///
/// # Errors
/// Shapes that do not fit.
pub fn residual(shortcut: &Tensor, branch: &Tensor, factors: Option<Vec<f32>>) -> Result<Tensor> {
    const OP: &str = "residual";
    let n = branch.dim(0)?;
    let m = shortcut.dim(0)?;
    let fits = m > 0 && n % m == 0 && shortcut.dims()[1..] == branch.dims()[1..];
    if !fits || factors.as_ref().is_some_and(|factors| factors.len() != n) {
        bail!("{OP}: shortcut {:?} and branch {:?} do not fit", shortcut.dims(), branch.dims());
    }
    let (shortcut, branch) = (shortcut.contiguous()?, branch.contiguous()?);
    let sample = branch.elem_count() / n;
    let factor = move |i: usize| factors.as_ref().map_or(1.0, |factors| factors[i]);
    let mut ys = vec![0f32; branch.elem_count()];
    {
        let (s, b) = (read(OP, &shortcut)?, read(OP, &branch)?);
        let row = row_length(sample);
        for_blocks(&mut ys, row, |first, block| {
            for (i, y) in block.chunks_exact_mut(row).enumerate() {
                let at = (first + i) * row;
                let (s, b, factor) = (&s[at % s.len()..], &b[at..], factor(at / sample));
                for ((y, s), b) in y.iter_mut().zip(s).zip(b) {
                    *y = s + factor * b;
                }
            }
        });
    }
    let shape = shortcut.shape().clone();
    record_one(OP, &[&shortcut, &branch], Output::new(ys, branch.shape()), move |grad| {
        let grad = grad.contiguous()?;
        let g = read(OP, &grad)?;
        let mut ds = g[..shape.elem_count()].to_vec();
        for repeat in g.chunks_exact(shape.elem_count()).skip(1) {
            for (d, g) in ds.iter_mut().zip(repeat) {
                *d += g;
            }
        }
        let mut db = g.to_vec();
        for (i, row) in db.chunks_exact_mut(sample).enumerate() {
            let factor = factor(i);
            if factor != 1.0 {
                row.iter_mut().for_each(|d| *d *= factor);
            }
        }
        drop(g);
        let ds = Tensor::from_vec(ds, &shape, grad.device())?;
        let db = Tensor::from_vec(db, grad.shape(), grad.device())?;
        Ok(vec![Some(ds), Some(db)])
    })
}

/// The longest row of at most 4096 elements that divides a sample.
fn row_length(sample: usize) -> usize {
    (1..=sample.min(4096)).rev().find(|row| sample.is_multiple_of(*row)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn dropout_keeps_the_mean_and_the_asked_share() {
        let xs = Tensor::ones(100_000, DType::F32, &Device::Cpu).unwrap();
        let ys = dropout(&xs, 0.05, &mut Rng::named(0, "dropout", 0)).unwrap().to_vec1::<f32>().unwrap();
        let dropped = ys.iter().filter(|y| **y == 0.0).count() as f64 / ys.len() as f64;
        assert!((dropped - 0.05).abs() < 0.003, "{dropped}");
        let mean = ys.iter().sum::<f32>() / ys.len() as f32;
        assert!((mean - 1.0).abs() < 0.003, "{mean}");
    }

    #[test]
    fn the_backward_of_dropout_uses_the_mask_of_the_forward() {
        let xs = candle_core::Var::ones(1001, DType::F32, &Device::Cpu).unwrap();
        let ys = dropout(&xs, 0.3, &mut Rng::named(1, "dropout", 0)).unwrap();
        let grads = ys.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&xs).unwrap().to_vec1::<f32>().unwrap(), ys.to_vec1::<f32>().unwrap());
    }

    #[test]
    fn a_residual_repeats_its_shortcut_and_drops_whole_samples() {
        let s = candle_core::Var::from_vec(vec![1f32, 2.], (1, 2), &Device::Cpu).unwrap();
        let b = candle_core::Var::from_vec(vec![10f32, 20., 30., 40.], (2, 2), &Device::Cpu).unwrap();
        let y = residual(&s, &b, Some(vec![0.0, 2.0])).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[1., 2.], [61., 82.]]);
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&s).unwrap().to_vec2::<f32>().unwrap(), [[2., 2.]]);
        assert_eq!(grads.get(&b).unwrap().to_vec2::<f32>().unwrap(), [[0., 0.], [2., 2.]]);
        assert!(residual(&b, &s, None).is_err());
    }
}
