//! Loops over lanes, compiled once more for wide vectors and chosen at run time.
//!
//! No level fuses a multiplication with an addition and no loop reorders a sum, so that every processor computes the same
//! bits.

use tadformer_ops::{SimdLevel, simd_level};

/// A loop over lanes without branches or calls, which the compiler turns into vectors.
///
/// It is a struct of its arguments and not a function, because its `run` must be inlined into the code of each level: what
/// is merely called there is compiled for the baseline.
pub(super) trait Kernel {
    /// The loop, marked `#[inline(always)]` as is all that it calls.
    fn run(self);
}

/// Runs `kernel` with the widest vectors that are worth it: eight floats, on any processor that has them.
#[inline]
pub(super) fn vectorize(kernel: impl Kernel) {
    match simd_level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: both levels are in use only if the processor has AVX2.
        level if level >= SimdLevel::Avx2 => unsafe { avx2(kernel) },
        _ => kernel.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(kernel: impl Kernel) {
    kernel.run();
}
