//! Loops compiled for the vectors that the processor has, with the same bits on all of them.

use tadformer_ops::{SimdLevel, simd_level};

/// A loop over slices: a struct of its arguments, because its `run` must be inlined into the code of each level.
pub(super) trait Loop {
    /// The loop, marked `#[inline(always)]`. No fused multiply-add: it would round otherwise than where there is none.
    fn run(self);
}

/// Runs a loop as compiled for the level in use. More than eight floats at once bring nothing here.
pub(super) fn vectorize(work: impl Loop) {
    match simd_level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these levels are in use only if the processor has AVX2.
        level if level >= SimdLevel::Avx2 => unsafe { avx2(work) },
        _ => work.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(work: impl Loop) {
    work.run();
}

/// Asks for `values[at]` to be in the cache soon, where the processor takes such hints.
#[inline(always)]
pub(super) fn prefetch(values: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has SSE, and a hint reads nothing, wherever it points to.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}
