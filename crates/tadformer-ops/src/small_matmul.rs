//! Products of matrices that fit the first-level cache, as loops that the compiler turns into register tiles.

/// Widths of rows are padded to a multiple of this: one AVX-512 vector.
pub(crate) const PAD: usize = 16;
/// Rows of a register tile.
const TILE: usize = 4;

/// `n` rounded up to whole vectors.
#[inline(always)]
pub(crate) fn padded(n: usize) -> usize {
    n.next_multiple_of(PAD)
}

/// `c = a b`: `a` is `m × k` in rows of `a_row`, `b` is `k × n` in rows of `b_row`, `c` is `m × n` in rows of `c_row`;
/// `m` a multiple of 4 and `n` of [`PAD`].
#[inline(always)]
pub(crate) fn small_matmul(
    (m, k, n): (usize, usize, usize),
    (a, a_row): (&[f32], usize),
    (b, b_row): (&[f32], usize),
    (c, c_row): (&mut [f32], usize),
) {
    debug_assert!(m % TILE == 0 && n % PAD == 0 && n <= b_row && n <= c_row && k <= a_row);
    for i in (0..m).step_by(TILE) {
        for j in (0..n).step_by(PAD) {
            let mut tile = [[0f32; PAD]; TILE];
            for l in 0..k {
                let row: &[f32; PAD] = b[l * b_row + j..][..PAD].try_into().expect("a slice of PAD elements");
                for (r, sums) in tile.iter_mut().enumerate() {
                    let x = a[(i + r) * a_row + l];
                    for lane in 0..PAD {
                        sums[lane] += x * row[lane];
                    }
                }
            }
            for (r, sums) in tile.iter().enumerate() {
                c[(i + r) * c_row + j..][..PAD].copy_from_slice(sums);
            }
        }
    }
}

/// `b[j][i] = a[i][j]` for an `m × n` matrix in rows of `a_row`, into rows of `b_row`.
#[inline(always)]
pub(crate) fn transpose(
    (m, n): (usize, usize),
    (a, a_row): (&[f32], usize),
    (b, b_row): (&mut [f32], usize),
) {
    for i in 0..m {
        for j in 0..n {
            b[j * b_row + i] = a[i * a_row + j];
        }
    }
}
