//! Which samples make up which batch, as a function of the seed and the epoch alone.

use serde::{Deserialize, Serialize};
use tadformer_ops::Rng;

use crate::{Error, Result};

/// How the samples of a split are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Samples a batch, at least 1.
    pub batch_size: usize,
    /// A new random order each epoch; otherwise the order of the split.
    pub shuffle: bool,
    /// Leave out a last batch that is not full; otherwise it is short.
    pub drop_last: bool,
    /// Seed of the order and of the augmentation.
    pub seed: u64,
}

impl Sampling {
    /// Every sample once, in the order of the split.
    pub fn sequential(batch_size: usize) -> Self {
        Self { batch_size, shuffle: false, drop_last: false, seed: 0 }
    }
}

/// The order of the samples of a split.
///
/// ```
/// use tadformer_data::{Sampler, Sampling};
/// let sampling = Sampling { batch_size: 4, shuffle: true, drop_last: false, seed: 7 };
/// let sampler = Sampler::new(10, sampling).unwrap();
/// assert_eq!(sampler.batches(), 3);
/// let mut seen = sampler.order(5);
/// assert_eq!(seen, sampler.order(5));
/// seen.sort();
/// assert_eq!(seen, (0..10).collect::<Vec<_>>());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampler {
    len: usize,
    sampling: Sampling,
}

impl Sampler {
    /// A sampler of a split of `len` samples.
    ///
    /// # Errors
    /// No samples, no samples a batch, or no full batch where only full ones are wanted.
    pub fn new(len: usize, sampling: Sampling) -> Result<Self> {
        let Sampling { batch_size, drop_last, .. } = sampling;
        if len == 0 {
            return Err(Error::Config("the split has no samples; check its list of names".into()));
        }
        if u32::try_from(len).is_err() {
            return Err(Error::Config(format!("the split has {len} samples, expected at most {}", u32::MAX)));
        }
        if batch_size == 0 {
            return Err(Error::Config("`batch_size` is 0, expected at least 1".into()));
        }
        if drop_last && batch_size > len {
            return Err(Error::Config(format!(
                "`batch_size` is {batch_size} and the split has {len} samples: with `drop_last` no batch is left; \
                 take a smaller batch or switch `drop_last` off"
            )));
        }
        Ok(Self { len, sampling })
    }

    /// How the samples are drawn.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Batches an epoch, at least 1.
    pub fn batches(&self) -> usize {
        if self.sampling.drop_last {
            self.len / self.sampling.batch_size
        } else {
            self.len.div_ceil(self.sampling.batch_size)
        }
    }

    /// The indices of all samples in the order of `epoch`, each once.
    ///
    /// Batch `i` is made of the indices from `i * batch_size`; with `drop_last` those after the last full batch are not used.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len).collect();
        if self.sampling.shuffle {
            Rng::named(self.sampling.seed, "shuffle", epoch).shuffle(&mut order);
        }
        order
    }

    /// The batches of `epoch`.
    pub fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        self.order(epoch)
            .chunks(self.sampling.batch_size)
            .take(self.batches())
            .map(<[usize]>::to_vec)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampler(len: usize, batch_size: usize, drop_last: bool, seed: u64) -> Sampler {
        Sampler::new(len, Sampling { batch_size, shuffle: true, drop_last, seed }).unwrap()
    }

    proptest! {
        #[test]
        fn an_epoch_visits_each_index_once(
            len in 1usize..200, batch_size in 1usize..50, seed: u64, epoch in 0u64..1000,
        ) {
            let mut visited = sampler(len, batch_size, false, seed).epoch(epoch).concat();
            visited.sort_unstable();
            prop_assert_eq!(visited, (0..len).collect::<Vec<_>>());
        }

        #[test]
        fn full_batches_visit_no_index_twice(len in 1usize..200, batch_size in 1usize..50, seed: u64) {
            prop_assume!(batch_size <= len);
            let sampler = sampler(len, batch_size, true, seed);
            let batches = sampler.epoch(0);
            prop_assert_eq!(batches.len(), sampler.batches());
            prop_assert!(batches.iter().all(|batch| batch.len() == batch_size));
            let mut visited = batches.concat();
            visited.sort_unstable();
            visited.dedup();
            prop_assert_eq!(visited.len(), len / batch_size * batch_size);
        }
    }

    #[test]
    fn epochs_and_seeds_change_the_order() {
        let order = |seed, epoch| sampler(50, 8, false, seed).order(epoch);
        assert_eq!(order(1, 3), order(1, 3));
        assert_ne!(order(1, 3), order(1, 4));
        assert_ne!(order(1, 3), order(2, 3));
        let still = Sampler::new(50, Sampling::sequential(8)).unwrap();
        assert_eq!(still.order(3), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_is_fixed_for_all_time() {
        // A resumed run must find the order of the version that it was started with.
        assert_eq!(sampler(8, 2, false, 42).order(1), [1, 7, 3, 2, 4, 6, 5, 0]);
    }

    #[test]
    fn what_cannot_be_sampled_is_refused() {
        let full = |batch_size| Sampling { batch_size, shuffle: true, drop_last: true, seed: 0 };
        for (len, sampling, expected) in [
            (0, full(1), "no samples"),
            (3, full(0), "`batch_size` is 0"),
            (3, full(4), "the split has 3 samples"),
        ] {
            let message = Sampler::new(len, sampling).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(Sampler::new(3, Sampling::sequential(4)).unwrap().batches(), 1);
    }
}
