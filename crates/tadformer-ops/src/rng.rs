//! Named, seeded random streams: everything random in this project draws from one of these.
//!
//! A stream is addressed by `(seed, name, index)`: the same address gives the same numbers on every machine and for every
//! number of threads, and two addresses give unrelated numbers. ChaCha8 is the generator, because its output is fixed by
//! its specification and any position in it is reached in constant time. Candle's own CPU generator takes no seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A stream of random numbers.
///
/// ```
/// use tadformer_ops::Rng;
/// let mut a = Rng::named(7, "dropout", 3);
/// let mut b = Rng::named(7, "dropout", 3);
/// assert_eq!(a.next_u64(), b.next_u64());
/// assert_ne!(Rng::named(7, "dropout", 4).next_u64(), Rng::named(7, "dropout", 3).next_u64());
/// ```
#[derive(Debug, Clone)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream `index` of the family `name` under `seed`; an index is a step, a sample, or 0.
    pub fn named(seed: u64, name: &str, index: u64) -> Self {
        let mut state = fnv1a(name) ^ mix(seed);
        let mut key = [0u8; 32];
        for chunk in key.chunks_exact_mut(8) {
            state = state.wrapping_add(GOLDEN_GAMMA);
            chunk.copy_from_slice(&mix(state).to_le_bytes());
        }
        let mut core = ChaCha8Rng::from_seed(key);
        core.set_stream(index);
        Self(core)
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform number in `0.0..1.0`.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A uniform number in `low..high`.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A uniform integer in `0..n`.
    ///
    /// # Panics
    /// If `n` is zero.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "no integer is below zero");
        // Multiply-shift: the bias is below n/2^64.
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// `true` with probability `p`.
    pub fn bernoulli(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// A standard normal number (Box-Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Puts `items` in uniformly random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Whether a layer with randomness (dropout, drop path) draws, and from which stream.
#[derive(Debug)]
pub enum Mode<'a> {
    /// Nothing random; BatchNorm uses its running statistics.
    Eval,
    /// Random parts draw from the stream; BatchNorm uses the batch's statistics and updates the running ones.
    Train(&'a mut Rng),
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// FNV-1a, 64 bits, of the UTF-8 bytes.
pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of splitmix64: a bijection of 64 bits in which every output bit depends on every input bit.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distribution() {
        let mut rng = Rng::named(1, "moments", 0);
        let n = 200_000;
        let normal: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = normal.iter().sum::<f64>() / n as f64;
        let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
        let uniform = (0..n).map(|_| rng.uniform()).sum::<f64>() / n as f64;
        assert!((uniform - 0.5).abs() < 0.005, "uniform mean {uniform}");
    }

    #[test]
    fn names_seeds_and_indices_separate_streams() {
        let mut seen: Vec<u64> = Vec::new();
        for seed in 0..4 {
            for name in ["a", "b"] {
                for index in 0..4 {
                    seen.push(Rng::named(seed, name, index).next_u64());
                }
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 32);
    }

    #[test]
    fn a_shuffle_is_a_permutation_that_every_seed_repeats() {
        let shuffled = |seed| {
            let mut items: Vec<usize> = (0..50).collect();
            Rng::named(seed, "shuffle", 0).shuffle(&mut items);
            items
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
}
