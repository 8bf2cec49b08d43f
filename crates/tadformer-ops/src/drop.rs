//! Dropout, from a named stream.

use crate::host::read;
use crate::rng::{Mode, Rng, mix};
use crate::rows::make;
use crate::simd::{Kernel, LANES, vectorize};
use crate::tape::{Output, record_one};
use crate::vector::{Level, Vector};
use candle_core::{Result, Tensor, bail};

/// Numbers that sixteen hashes decide.
const STRIP: usize = 64;

/// Which numbers of a tensor dropout keeps: a 64-bit key instead of a stored mask.
///
/// Whether element `i` stays is decided by sixteen bits of a hash of key and `i`, so probabilities are multiples of 2⁻¹⁶.
#[derive(Debug, Clone, Copy)]
pub struct DropoutMask {
    key: u64,
    threshold: u64,
    keep: f32,
}

impl DropoutMask {
    /// Draws a mask; none where nothing is dropped: outside training, or for `p = 0`.
    ///
    /// # Errors
    /// `p` outside `0..1`.
    pub fn draw(p: f64, mode: &mut Mode<'_>) -> Result<Option<Self>> {
        if !(0.0..1.0).contains(&p) {
            bail!("dropout: the probability {p} is not in 0..1");
        }
        Ok(match mode {
            Mode::Train(rng) if p > 0.0 => Some(Self {
                key: rng.next_u64(),
                threshold: (p * 65536.0).round() as u64,
                keep: (1.0 / (1.0 - p)) as f32,
            }),
            _ => None,
        })
    }

    /// Zeroes what is dropped of `xs` and divides the rest by `1 − p`, any shape.
    ///
    /// # Errors
    /// A tensor that is not `f32` on the CPU.
    pub fn apply(self, xs: &Tensor) -> Result<Tensor> {
        let xs = xs.contiguous()?;
        let ys = Output::new(self.masked(&xs)?, xs.shape());
        record_one("dropout", &[&xs], ys, move |grad| {
            let grad = grad.contiguous()?;
            Ok(vec![Some(Tensor::from_vec(self.masked(&grad)?, grad.shape(), grad.device())?)])
        })
    }

    fn masked(self, xs: &Tensor) -> Result<Vec<f32>> {
        let x = read("dropout", xs)?;
        Ok(make(x.len(), STRIP, |first, block| {
            let start = first * STRIP;
            block.copy_from_slice(&x[start..start + block.len()]);
            vectorize(MaskStrips(self, start, block));
        }))
    }
}

/// The fewest rows of `width` numbers that are whole strips.
pub(crate) fn strip_rows(width: usize) -> usize {
    STRIP >> width.trailing_zeros().min(STRIP.trailing_zeros())
}

/// Masks the numbers at `start..`, a multiple of 64, of a tensor.
pub(crate) struct MaskStrips<'a>(pub(crate) DropoutMask, pub(crate) usize, pub(crate) &'a mut [f32]);

impl Kernel for MaskStrips<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(mask, start, xs) = self;
        let DropoutMask { key, threshold, keep } = mask;
        for (i, xs) in xs.chunks_mut(STRIP).enumerate() {
            let first = ((start / STRIP + i) * LANES) as u64;
            let mut bits = [0u64; LANES];
            for (lane, bits) in bits.iter_mut().enumerate() {
                *bits = mix(key.wrapping_add((first + lane as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            }
            for (quarter, xs) in xs.chunks_mut(LANES).enumerate() {
                for (x, bits) in xs.iter_mut().zip(&bits) {
                    *x = if (bits >> (16 * quarter)) & 0xffff < threshold { 0.0 } else { *x * keep };
                }
            }
        }
    }
}

/// Zeroes each element with probability `p` and divides the rest by `1 − p` (`torch.nn.Dropout` while training).
///
/// Kept for the backward: one 64-bit key.
///
/// # Errors
/// `p` outside `0..1`, or a tensor that is not `f32` on the CPU.
pub fn dropout(xs: &Tensor, p: f64, rng: &mut Rng) -> Result<Tensor> {
    match DropoutMask::draw(p, &mut Mode::Train(rng))? {
        Some(mask) => mask.apply(xs),
        None => Ok(xs.clone()),
    }
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
}
