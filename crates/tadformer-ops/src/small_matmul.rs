//! Products of matrices that fit the first-level cache, tile by tile in registers.

use crate::gemm::area;
use crate::simd::{SimdLevel, simd_level};
use crate::vector::{Plain, Vector};

/// Widths of rows are padded to a multiple of this: one AVX-512 vector.
pub(crate) const PAD: usize = 16;
/// Rows of a register tile.
pub(crate) const TILE: usize = 4;

/// `n` rounded up to whole vectors.
#[inline(always)]
pub(crate) fn padded(n: usize) -> usize {
    n.next_multiple_of(PAD)
}

/// A matrix in rows of `row` numbers.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
}

/// `c = a b`: `a` is `m × k` (with `TRANSPOSED`, it is the transpose of a `k × m` matrix), `b` is `k × n`, `c` is `m × n` in
/// rows of `c_row`; `m` a multiple of [`TILE`] and `n` of [`PAD`].
pub(crate) fn small_matmul<const TRANSPOSED: bool>(
    (m, k, n): (usize, usize, usize),
    a: Rows<'_>,
    b: Rows<'_>,
    (c, c_row): (&mut [f32], usize),
) {
    // The last row may end with its last number.
    let reach = |rows: usize, row: usize, cols: usize| area(rows, row).saturating_sub(row - cols);
    let (a_rows, a_cols) = if TRANSPOSED { (k, m) } else { (m, k) };
    assert!(m % TILE == 0 && n % PAD == 0, "whole tiles, not {m}×{n}");
    assert!(a_cols <= a.row && n <= b.row && n <= c_row, "rows of {a_cols} and {n} numbers");
    assert!(
        reach(a_rows, a.row, a_cols) <= a.data.len()
            && reach(k, b.row, n) <= b.data.len()
            && reach(m, c_row, n) <= c.len(),
        "a product of {m}×{k} and {k}×{n}"
    );
    let size = (m, k, n);
    // SAFETY: the matrices reach as far as was asserted, and the level in use is one that the processor has.
    unsafe {
        match simd_level() {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 | SimdLevel::Avx512Bf16 => avx512::<TRANSPOSED>(size, a, b, c, c_row),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => avx2::<TRANSPOSED>(size, a, b, c, c_row),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => neon::<TRANSPOSED>(size, a, b, c, c_row),
            _ => product::<Plain, 2, TRANSPOSED>(size, a, b, c, c_row),
        }
    }
}

type Size = (usize, usize, usize);

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
unsafe fn avx512<const T: bool>(size: Size, a: Rows<'_>, b: Rows<'_>, c: &mut [f32], c_row: usize) {
    // SAFETY: the caller's promise is passed on.
    unsafe { product::<std::arch::x86_64::__m512, 2, T>(size, a, b, c, c_row) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const T: bool>(size: Size, a: Rows<'_>, b: Rows<'_>, c: &mut [f32], c_row: usize) {
    // SAFETY: the caller's promise is passed on.
    unsafe { product::<std::arch::x86_64::__m256, 2, T>(size, a, b, c, c_row) }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon<const T: bool>(size: Size, a: Rows<'_>, b: Rows<'_>, c: &mut [f32], c_row: usize) {
    // SAFETY: the caller's promise is passed on.
    unsafe { product::<std::arch::aarch64::float32x4_t, 4, T>(size, a, b, c, c_row) }
}

/// In tiles of `WIDE` vectors: with [`TILE`] rows, as many sums as keep all multipliers of a core busy, or as there are
/// registers for.
///
/// # Safety
/// The matrices must reach as far as the sizes say, and the processor must have the instructions of `V`.
#[inline(always)]
unsafe fn product<V: Vector, const WIDE: usize, const T: bool>(
    (m, k, n): Size,
    a: Rows<'_>,
    b: Rows<'_>,
    c: &mut [f32],
    c_row: usize,
) {
    // From one element of `a` to the next along a row of the product, and along its columns.
    let (down, along) = if T { (1, a.row) } else { (a.row, 1) };
    for i in (0..m).step_by(TILE) {
        let mut j = 0;
        // SAFETY: the tiles lie within the matrices.
        unsafe {
            let left = a.data.as_ptr().add(i * down);
            while j + WIDE * V::LANES <= n {
                let (b_at, c_at) = (b.data.as_ptr().add(j), c.as_mut_ptr().add(i * c_row + j));
                tile::<V, WIDE>(k, (left, down, along), (b_at, b.row), (c_at, c_row));
                j += WIDE * V::LANES;
            }
            while j < n {
                let (b_at, c_at) = (b.data.as_ptr().add(j), c.as_mut_ptr().add(i * c_row + j));
                tile::<V, 1>(k, (left, down, along), (b_at, b.row), (c_at, c_row));
                j += V::LANES;
            }
        }
    }
}

/// # Safety
/// As [`product`]; the pointers are to the first elements of the tile's rows and columns.
#[inline(always)]
unsafe fn tile<V: Vector, const WIDE: usize>(
    k: usize,
    (a, down, along): (*const f32, usize, usize),
    (b, b_row): (*const f32, usize),
    (c, c_row): (*mut f32, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(0.0); WIDE]; TILE];
        for l in 0..k {
            // No closure: it would be compiled without the level's instructions, and so called for every vector.
            let mut right = [V::splat(0.0); WIDE];
            for (w, right) in right.iter_mut().enumerate() {
                *right = V::load(b.add(l * b_row + w * V::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = V::splat(*a.add(l * along + r * down));
                for w in 0..WIDE {
                    sums[w] = x.mul_add(right[w], sums[w]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (w, sum) in sums.iter().enumerate() {
                sum.store(c.add(r * c_row + w * V::LANES));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_products_of_transposes_match_the_triple_loop() {
        let (m, k, n) = (12, 7, 48);
        let number = |i: usize| (i * 7919 % 31) as f32 / 8.0 - 2.0;
        let a: Vec<f32> = (0..m * k).map(number).collect();
        let at: Vec<f32> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
        let b: Vec<f32> = (0..k * n).map(|i| number(i + 5)).collect();
        let mut expected = vec![0f32; m * n];
        for i in 0..m {
            for j in 0..n {
                expected[i * n + j] = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
            }
        }
        let b = Rows { data: &b, row: n };
        let mut found = vec![0f32; m * n];
        small_matmul::<false>((m, k, n), Rows { data: &a, row: k }, b, (&mut found, n));
        assert_eq!(found, expected);
        small_matmul::<true>((m, k, n), Rows { data: &at, row: m }, b, (&mut found, n));
        assert_eq!(found, expected);
    }
}
