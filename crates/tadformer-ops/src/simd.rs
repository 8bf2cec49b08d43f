//! The widest vector instructions the processor has, chosen once at run time.
//!
//! A [`Kernel`] is a plain loop over slices that is compiled once for each level; the compiler turns it into that level's
//! vectors. Kernels that are bound by arithmetic use [`mul_add`]; the levels then differ in the last bits.

use candle_core::{Result, bail};
use std::sync::OnceLock;

/// A set of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimdLevel {
    /// What the compiler makes of plain loops for any processor of the target, without fused multiply-add.
    Baseline,
    /// NEON of aarch64, four floats.
    Neon,
    /// AVX2 and FMA, eight floats.
    Avx2,
    /// AVX-512 F, BW, DQ and VL, sixteen floats.
    Avx512,
    /// AVX-512 with products of `bf16` pairs; otherwise the same code as [`Avx512`](Self::Avx512).
    Avx512Bf16,
}

/// The levels that this architecture may have, the widest last.
const LEVELS: &[SimdLevel] = if cfg!(target_arch = "x86_64") {
    &[SimdLevel::Baseline, SimdLevel::Avx2, SimdLevel::Avx512, SimdLevel::Avx512Bf16]
} else if cfg!(target_arch = "aarch64") {
    &[SimdLevel::Baseline, SimdLevel::Neon]
} else {
    &[SimdLevel::Baseline]
};

const VARIABLE: &str = "TADFORMER_SIMD";

impl SimdLevel {
    /// As [`simd_limit`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    /// The level of this architecture that has a name.
    fn named(name: &str) -> Result<Self> {
        match LEVELS.iter().find(|level| level.name() == name) {
            Some(level) => Ok(*level),
            None => {
                let known: Vec<&str> = LEVELS.iter().map(|level| level.name()).collect();
                bail!(
                    "{VARIABLE} is `{name}`, expected one of `{}` on {}",
                    known.join("`, `"),
                    std::env::consts::ARCH
                )
            }
        }
    }
}

/// The highest level that may be used: the one that the environment variable `TADFORMER_SIMD` names (`baseline`, `neon` on
/// aarch64, `avx2`, `avx512` and `avx512bf16` on x86-64), or any where it is not set.
///
/// # Errors
/// A name that is no level of this architecture. [`simd_level`] takes it for none, so programs ask here first.
pub fn simd_limit() -> Result<SimdLevel> {
    match std::env::var_os(VARIABLE) {
        Some(name) => SimdLevel::named(&name.to_string_lossy()),
        None => Ok(LEVELS[LEVELS.len() - 1]),
    }
}

/// The level in use: the best that the processor has, or a lower one (see [`simd_limit`]).
pub fn simd_level() -> SimdLevel {
    static LEVEL: OnceLock<SimdLevel> = OnceLock::new();
    *LEVEL.get_or_init(|| simd_limit().map_or(detect(), |limit| limit.min(detect())))
}

#[cfg(target_arch = "x86_64")]
fn detect() -> SimdLevel {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    if avx512 && is_x86_feature_detected!("avx512bf16") {
        SimdLevel::Avx512Bf16
    } else if avx512 {
        SimdLevel::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        SimdLevel::Avx2
    } else {
        SimdLevel::Baseline
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> SimdLevel {
    if std::arch::is_aarch64_feature_detected!("neon") { SimdLevel::Neon } else { SimdLevel::Baseline }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> SimdLevel {
    SimdLevel::Baseline
}

/// A loop over slices, compiled for every level.
///
/// A kernel is a struct of its arguments and not a function, because its `run` must be inlined into the code of each
/// level: what is merely called there, even through `FnOnce`, is plain baseline code.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// The loop, marked `#[inline(always)]`. `FMA` says whether the level has fused multiply-add.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs `kernel` as compiled for the level in use.
#[inline(always)]
pub(crate) fn vectorize<K: Kernel>(kernel: K) -> K::Output {
    match simd_level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level is in use only if the processor has its instructions.
        SimdLevel::Avx512 | SimdLevel::Avx512Bf16 => unsafe { avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        SimdLevel::Avx2 => unsafe { avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        SimdLevel::Neon => unsafe { neon(kernel) },
        _ => kernel.run::<false>(),
    }
}

/// `a · b + c`, with `FMA` rounded once; without the instruction that would be a call into the C library.
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn neon<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

/// Partial sums kept side by side: as many as the widest level has lanes.
pub(crate) const LANES: usize = 16;

/// The sum of `f(x)` over a slice, in an order fixed by its length, whatever the level.
#[inline(always)]
pub(crate) fn lane_sum(xs: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = xs.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for xs in whole {
        for (sum, x) in lanes.iter_mut().zip(xs) {
            *sum += f(*x);
        }
    }
    for (sum, x) in lanes.iter_mut().zip(rest) {
        *sum += f(*x);
    }
    fold(lanes)
}

/// The sum of `f(x, y)` over two slices of one length, likewise.
#[inline(always)]
pub(crate) fn lane_sum2(xs: &[f32], ys: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((xs, x_rest), (ys, y_rest)) = (xs.as_chunks::<LANES>(), ys.as_chunks::<LANES>());
    let mut lanes = [0f32; LANES];
    for (xs, ys) in xs.iter().zip(ys) {
        for i in 0..LANES {
            lanes[i] += f(xs[i], ys[i]);
        }
    }
    for ((sum, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *sum += f(*x, *y);
    }
    fold(lanes)
}

/// The sum of the lanes, in one order.
#[inline(always)]
pub(crate) fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_other_architectures_are_refused_by_name() {
        // Also that whoever runs the tests at a level wrote its name right.
        assert!(simd_level() <= simd_limit().unwrap());
        for level in LEVELS {
            assert_eq!(SimdLevel::named(level.name()).unwrap(), *level);
        }
        let other = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let message = SimdLevel::named(other).unwrap_err().to_string();
        assert!(message.contains(other) && message.contains("`baseline`"), "{message}");
    }
}
