//! Products of matrices that fit the first-level cache, as loops that the compiler turns into register tiles.

use crate::simd::mul_add;

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
#[inline(always)]
pub(crate) fn small_matmul<const FMA: bool, const TRANSPOSED: bool>(
    (m, k, n): (usize, usize, usize),
    a: Rows<'_>,
    b: Rows<'_>,
    (c, c_row): (&mut [f32], usize),
) {
    debug_assert!(m % TILE == 0 && n % PAD == 0 && n <= b.row && n <= c_row);
    for i in (0..m).step_by(TILE) {
        let mut j = 0;
        // Eight vectors of sums keep both multipliers of a core busy.
        while j + 2 * PAD <= n {
            tile::<FMA, TRANSPOSED, { 2 * PAD }>(k, (a, i), (b, j), (&mut c[i * c_row + j..], c_row));
            j += 2 * PAD;
        }
        if j < n {
            tile::<FMA, TRANSPOSED, PAD>(k, (a, i), (b, j), (&mut c[i * c_row + j..], c_row));
        }
    }
}

#[inline(always)]
fn tile<const FMA: bool, const TRANSPOSED: bool, const WIDTH: usize>(
    k: usize,
    (a, i): (Rows<'_>, usize),
    (b, j): (Rows<'_>, usize),
    (c, c_row): (&mut [f32], usize),
) {
    let mut sums = [[0f32; WIDTH]; TILE];
    let rows: [&[f32]; TILE] =
        std::array::from_fn(|r| if TRANSPOSED { &[][..] } else { &a.data[(i + r) * a.row..][..k] });
    for l in 0..k {
        let right: &[f32; WIDTH] =
            b.data[l * b.row + j..][..WIDTH].try_into().expect("a slice of that length");
        let left: [f32; TILE] = if TRANSPOSED {
            a.data[l * a.row + i..][..TILE].try_into().expect("a slice of that length")
        } else {
            std::array::from_fn(|r| rows[r][l])
        };
        for (sums, x) in sums.iter_mut().zip(left) {
            for lane in 0..WIDTH {
                sums[lane] = mul_add::<FMA>(x, right[lane], sums[lane]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        c[r * c_row..][..WIDTH].copy_from_slice(sums);
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
        small_matmul::<true, false>((m, k, n), Rows { data: &a, row: k }, b, (&mut found, n));
        assert_eq!(found, expected);
        small_matmul::<false, true>((m, k, n), Rows { data: &at, row: m }, b, (&mut found, n));
        assert_eq!(found, expected);
    }
}
