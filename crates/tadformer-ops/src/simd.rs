//! The widest vector instructions the processor has, chosen once at run time.
//!
//! A [`Kernel`] is a plain loop over slices that is compiled once for each level; the compiler turns it into that level's
//! vectors. Kernels that are bound by arithmetic use [`mul_add`]; the levels then differ in the last bits.

use crate::vector::{Level, Register, Vector};
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
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    // A level has all that those below it have.
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    if avx512 && is_x86_feature_detected!("avx512bf16") {
        SimdLevel::Avx512Bf16
    } else if avx512 {
        SimdLevel::Avx512
    } else if avx2 {
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

    /// The loop, marked `#[inline(always)]`. `V` are the vectors of the level, which proves that the processor has them; the
    /// loop is inlined into code compiled for them.
    fn run<V: Vector>(self, level: Level<V>) -> Self::Output;
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
        _ => kernel.run(Level::PLAIN),
    }
}

/// `a · b + c`, rounded once where `V` can; without the instruction that would be a call into the C library.
#[inline(always)]
pub(crate) fn mul_add<V: Vector>(a: f32, b: f32, c: f32) -> f32 {
    if V::FMA { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: whoever calls this has seen that the processor has what it is compiled for.
    kernel.run(unsafe { Level::<std::arch::x86_64::__m512>::assume() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as above.
    kernel.run(unsafe { Level::<std::arch::x86_64::__m256>::assume() })
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn neon<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: whoever calls this has seen that the processor has what it is compiled for.
    kernel.run(unsafe { Level::<std::arch::aarch64::float32x4_t>::assume() })
}

/// Partial sums kept side by side: as many as the widest level has lanes.
pub(crate) const LANES: usize = 16;

/// The sum of `f(x)` over a slice, in an order fixed by its length, whatever the level.
#[inline(always)]
pub(crate) fn lane_sum(xs: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = xs.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for xs in whole {
        for i in 0..LANES {
            lanes[i] += f(xs[i]);
        }
    }
    // Apart from the others, which stay in registers because no number that is only known later leads to them.
    let mut last = [0f32; LANES];
    for (last, x) in last.iter_mut().zip(rest) {
        *last = f(*x);
    }
    fold(std::array::from_fn(|i| lanes[i] + last[i]))
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
    let mut last = [0f32; LANES];
    for ((last, x), y) in last.iter_mut().zip(x_rest).zip(y_rest) {
        *last = f(*x, *y);
    }
    fold(std::array::from_fn(|i| lanes[i] + last[i]))
}

/// `y = f(y, [x, …])` for vectors of `ys` and of what lies beside them in each of `inputs`, which are as long.
///
/// By name and not as a loop over numbers, because the compiler makes vectors of such a loop four at a time: half of a row
/// of 96 would be left over.
///
/// # Panics
/// If an input is not as long as `ys`.
#[inline(always)]
pub(crate) fn for_vectors<V: Vector, const N: usize>(
    level: Level<V>,
    ys: &mut [f32],
    inputs: [&[f32]; N],
    f: impl Fn(Register<V>, [Register<V>; N]) -> Register<V>,
) {
    assert!(inputs.iter().all(|xs| xs.len() == ys.len()), "rows of one length");
    let (len, to) = (ys.len(), ys.as_mut_ptr());
    let whole = len - len % V::LANES;
    // SAFETY: all rows have `len` numbers.
    unsafe {
        let mut xs = [level.splat(0.0); N];
        for at in (0..whole).step_by(V::LANES) {
            for n in 0..N {
                xs[n] = level.load(inputs[n].as_ptr().add(at));
            }
            f(level.load(to.add(at)), xs).store(to.add(at));
        }
        if whole < len {
            for n in 0..N {
                xs[n] = level.load_some(inputs[n].as_ptr().add(whole), len - whole);
            }
            f(level.load_some(to.add(whole), len - whole), xs).store_some(to.add(whole), len - whole);
        }
    }
}

/// The largest number of a slice, of which there are whole vectors.
#[inline(always)]
pub(crate) fn lane_max(xs: &[f32]) -> f32 {
    let (whole, rest) = xs.as_chunks::<LANES>();
    debug_assert!(rest.is_empty(), "whole vectors");
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for xs in whole {
        for i in 0..LANES {
            lanes[i] = if xs[i] > lanes[i] { xs[i] } else { lanes[i] };
        }
    }
    let mut most = f32::NEG_INFINITY;
    for x in lanes {
        most = if x > most { x } else { most };
    }
    most
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
