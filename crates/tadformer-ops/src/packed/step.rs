//! What a register tile does with one word of a row and a vector of words of the matrix.

use super::pairs::Left;
use crate::vector::Vector;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};

/// One step of a tile's sums.
///
/// # Safety
/// As for [`Vector`]: only where the processor has the instructions, inlined into a function compiled for them.
pub(super) unsafe trait Step<V: Vector> {
    /// `sum` plus the product, or products, of what is in `x` and `b`.
    unsafe fn step(x: V, b: V, sum: V) -> V;

    /// Adds the products of rows of `depth` words and `W` vectors of columns to their sums.
    ///
    /// # Safety
    /// There are that many words and vectors.
    #[inline(always)]
    unsafe fn add_products<const ROWS: usize, const W: usize>(
        x: Left,
        b: Right,
        depth: usize,
        sums: &mut [[V; W]; ROWS],
    ) where
        Self: Sized,
    {
        // SAFETY: the caller's promise.
        unsafe { add_products::<V, Self, ROWS, W>(x, b, depth, sums) }
    }
}

/// Where some columns of a matrix lie.
#[derive(Clone, Copy)]
pub(super) struct Right {
    /// The first word.
    pub(super) at: *const f32,
    /// From row to row.
    pub(super) down: usize,
}

/// [`Step::add_products`], as the compiler does it.
///
/// # Safety
/// As there.
#[expect(
    clippy::needless_range_loop,
    reason = "the places of sums must be constants once loops are unrolled"
)]
#[inline(always)]
pub(super) unsafe fn add_products<V: Vector, S: Step<V>, const ROWS: usize, const W: usize>(
    x: Left,
    b: Right,
    depth: usize,
    sums: &mut [[V; W]; ROWS],
) {
    /// Rows of a panel between asking for words and needing them.
    const AHEAD: usize = 8;
    let Right { at: mut b, down: b_row } = b;
    // SAFETY: the caller's promise.
    unsafe {
        for l in 0..depth {
            let mut right = [V::splat(0.0); W];
            for w in 0..W {
                right[w] = V::load(b.add(w * V::LANES));
                V::prefetch(b.wrapping_add(AHEAD * b_row + w * V::LANES));
            }
            for r in 0..ROWS {
                let left = V::splat(*x.at.add(r * x.down + l * x.along));
                for w in 0..W {
                    sums[r][w] = S::step(left, right[w], sums[r][w]);
                }
            }
            b = b.wrapping_add(b_row);
        }
    }
}

/// Words are `f32` numbers.
pub(super) struct Numbers;

// SAFETY: nothing but the vector's own methods.
unsafe impl<V: Vector> Step<V> for Numbers {
    #[inline(always)]
    unsafe fn step(x: V, b: V, sum: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { x.mul_add(b, sum) }
    }
}

/// Words are pairs of `bf16`, multiplied as `f32`: for every processor, and no faster than numbers.
///
/// A product of two `bf16` has 16 significant bits, so only the sums are rounded, fused multiply-add or not; every level
/// that goes this way gives the same bits.
pub(super) struct WidenedPairs;

// SAFETY: nothing but the vector's own methods.
unsafe impl<V: Vector> Step<V> for WidenedPairs {
    #[inline(always)]
    unsafe fn step(x: V, b: V, sum: V) -> V {
        // SAFETY: the caller's promise. The instruction for pairs begins with the upper halves too.
        unsafe {
            let sum = x.upper_halves().mul_add(b.upper_halves(), sum);
            x.lower_halves().mul_add(b.lower_halves(), sum)
        }
    }
}

/// Words are pairs of `bf16`, multiplied and added by one instruction (`vdpbf16ps`), which takes denormal numbers for zero.
#[cfg(target_arch = "x86_64")]
pub(super) struct DottedPairs;

#[cfg(target_arch = "x86_64")]
// SAFETY: AVX-512 BF16 is what the caller vouches for.
unsafe impl Step<__m512> for DottedPairs {
    #[inline(always)]
    unsafe fn step(x: __m512, b: __m512, sum: __m512) -> __m512 {
        use std::mem::transmute;
        // SAFETY: the caller's promise; the types have the same 512 bits.
        unsafe {
            let (x, b) = (transmute::<__m512, __m512bh>(x), transmute::<__m512, __m512bh>(b));
            _mm512_dpbf16_ps(sum, x, b)
        }
    }
}
