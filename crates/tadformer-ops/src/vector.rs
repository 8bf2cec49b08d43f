//! Vector registers by name, for the few loops that the compiler does not turn into vectors by itself.

use std::marker::PhantomData;

/// The upper half of a lane's bits.
const UPPER: u32 = 0xffff_0000;

/// A register of `f32` lanes.
///
/// # Safety
/// The methods may be called only where the processor has the instructions of the implementing type; they must be inlined
/// into a function that is compiled for them.
pub(crate) unsafe trait Vector: Copy {
    /// Number of lanes.
    const LANES: usize;
    /// Whether `a · b + c` is rounded once.
    const FMA: bool;

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self;
    /// The `LANES` numbers at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// Writes the lanes to `to`.
    unsafe fn store(self, to: *mut f32);
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self − b`.
    unsafe fn sub(self, b: Self) -> Self;
    /// `self · b`.
    unsafe fn mul(self, b: Self) -> Self;
    /// `self / b`.
    unsafe fn div(self, b: Self) -> Self;
    /// `self · b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// The `bf16` in the lower half of each lane's bits, as `f32`.
    unsafe fn lower_halves(self) -> Self;
    /// The `bf16` in the upper half of each lane's bits, as `f32`.
    unsafe fn upper_halves(self) -> Self;

    /// The `count` numbers at `from` and zeros in the other lanes.
    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        let mut lanes = [0f32; 16];
        // SAFETY: the caller has that many numbers there, no more than lanes, of which no type has more than 16.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            Self::load(lanes.as_ptr())
        }
    }

    /// Writes the first `count` lanes to `to`.
    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        let mut lanes = [0f32; 16];
        // SAFETY: the caller has room for that many numbers there, no more than lanes, of which no type has more than 16.
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }

    /// Asks for the numbers at `at`, which need not exist, where the processor can be asked.
    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}
}

/// The proof that the processor has the instructions of `V`. What is compiled for a level of instructions makes one, and is
/// called only where [`simd_level`](crate::simd_level) has found them; a kernel gets it from there.
#[derive(Clone, Copy)]
pub(crate) struct Level<V>(PhantomData<V>);

impl<V: Vector> Level<V> {
    /// # Safety
    /// The processor has the instructions of `V`.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(PhantomData)
    }

    /// All lanes `x`.
    #[inline(always)]
    pub(crate) fn splat(self, x: f32) -> Register<V> {
        // SAFETY: `self` proves that the processor can.
        Register(unsafe { V::splat(x) }, self)
    }

    /// The `V::LANES` numbers at `from`.
    ///
    /// # Safety
    /// There are as many.
    #[inline(always)]
    pub(crate) unsafe fn load(self, from: *const f32) -> Register<V> {
        // SAFETY: the caller's promise; `self` proves that the processor can.
        Register(unsafe { V::load(from) }, self)
    }

    /// The `count` numbers at `from`, no more than lanes, and zeros in the other lanes.
    ///
    /// # Safety
    /// There are as many.
    #[inline(always)]
    pub(crate) unsafe fn load_some(self, from: *const f32, count: usize) -> Register<V> {
        // SAFETY: the caller's promise; `self` proves that the processor can.
        Register(unsafe { V::load_some(from, count) }, self)
    }
}

impl Level<Plain> {
    /// What needs no proof.
    pub(crate) const PLAIN: Self = Self(PhantomData);
}

/// A register that is there: only a [`Level`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Register<V>(V, Level<V>);

impl<V: Vector> Register<V> {
    /// `self + b`.
    #[inline(always)]
    pub(crate) fn add(self, b: Self) -> Self {
        // SAFETY: as for all that follows, the level proves that the processor can.
        Self(unsafe { self.0.add(b.0) }, self.1)
    }

    /// `self − b`.
    #[inline(always)]
    pub(crate) fn sub(self, b: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { self.0.sub(b.0) }, self.1)
    }

    /// `self · b`.
    #[inline(always)]
    pub(crate) fn mul(self, b: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { self.0.mul(b.0) }, self.1)
    }

    /// `self / b`.
    #[inline(always)]
    pub(crate) fn div(self, b: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { self.0.div(b.0) }, self.1)
    }

    /// `self · b + c`.
    #[inline(always)]
    pub(crate) fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { self.0.mul_add(b.0, c.0) }, self.1)
    }

    /// Writes the lanes to `to`.
    ///
    /// # Safety
    /// There is room for them.
    #[inline(always)]
    pub(crate) unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise, and as above.
        unsafe { self.0.store(to) }
    }

    /// Writes the first `count` lanes to `to`.
    ///
    /// # Safety
    /// There is room for them, and there are as many.
    #[inline(always)]
    pub(crate) unsafe fn store_some(self, to: *mut f32, count: usize) {
        // SAFETY: the caller's promise, and as above.
        unsafe { self.0.store_some(to, count) }
    }
}

/// Four lanes as plain numbers: what every target can do.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 4]);

// SAFETY: no instruction is assumed.
unsafe impl Vector for Plain {
    const LANES: usize = 4;
    const FMA: bool = false;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has four numbers there.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has room for four numbers there.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - b.0[i]))
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] / b.0[i]))
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }

    #[inline(always)]
    unsafe fn lower_halves(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(x.to_bits() << 16)))
    }

    #[inline(always)]
    unsafe fn upper_halves(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(x.to_bits() & UPPER)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{UPPER, Vector};
    use std::arch::x86_64::*;

    // SAFETY: AVX2 and FMA are what the caller vouches for.
    unsafe impl Vector for __m256 {
        const LANES: usize = 8;
        const FMA: bool = true;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: by the trait's contract.
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm256_add_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm256_sub_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm256_mul_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm256_div_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm256_fmadd_ps(self, b, c) }
        }

        #[inline(always)]
        unsafe fn lower_halves(self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(self))) }
        }

        #[inline(always)]
        unsafe fn upper_halves(self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe {
                let upper = _mm256_set1_epi32(UPPER.cast_signed());
                _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(self), upper))
            }
        }

        #[inline(always)]
        unsafe fn prefetch(at: *const f32) {
            // SAFETY: a hint, which never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    }

    // SAFETY: AVX-512 F is what the caller vouches for.
    unsafe impl Vector for __m512 {
        const LANES: usize = 16;
        const FMA: bool = true;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_add_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_sub_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_mul_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_div_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_fmadd_ps(self, b, c) }
        }

        #[inline(always)]
        unsafe fn lower_halves(self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(self))) }
        }

        #[inline(always)]
        unsafe fn upper_halves(self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe {
                let upper = _mm512_set1_epi32(UPPER.cast_signed());
                _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(self), upper))
            }
        }

        #[inline(always)]
        unsafe fn prefetch(at: *const f32) {
            // SAFETY: a hint, which never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{UPPER, Vector};
    use std::arch::aarch64::*;

    // SAFETY: NEON is what the caller vouches for.
    unsafe impl Vector for float32x4_t {
        const LANES: usize = 4;
        const FMA: bool = true;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { vdupq_n_f32(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { vld1q_f32(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: by the trait's contract.
            unsafe { vst1q_f32(to, self) }
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { vaddq_f32(self, b) }
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { vsubq_f32(self, b) }
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { vmulq_f32(self, b) }
        }

        #[inline(always)]
        unsafe fn div(self, b: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { vdivq_f32(self, b) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { vfmaq_f32(c, self, b) }
        }

        #[inline(always)]
        unsafe fn lower_halves(self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(self))) }
        }

        #[inline(always)]
        unsafe fn upper_halves(self) -> Self {
            // SAFETY: by the trait's contract.
            unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(self), vdupq_n_u32(UPPER))) }
        }
    }
}

/// Vectors that round `a · b + c` once, where there are any.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) type Fused = std::arch::x86_64::__m256;
#[cfg(all(test, target_arch = "aarch64"))]
pub(crate) type Fused = std::arch::aarch64::float32x4_t;
#[cfg(all(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) type Fused = Plain;
