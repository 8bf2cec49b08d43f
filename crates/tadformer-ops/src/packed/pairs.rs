//! Pairs of `bf16` numbers in words of 32 bits: the first in the lower half.
//!
//! A word is kept and moved as an `f32`, of which only the bits mean something: so panels, tiles and registers of pairs
//! are those of numbers.

use crate::gemm::{Matrix, area};
use crate::simd::{Kernel, vectorize};
use crate::vector::{Level, Vector};
use std::cell::Cell;
use std::mem::MaybeUninit;

/// The bits of `x` to which rounding to `bf16`, to nearest and ties to even, has been added: the upper 16 are the number.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let carried = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A carry could make an infinity of a number that is none; one more bit keeps it that.
    if x.is_nan() { bits | 0x0040_0000 } else { carried }
}

/// Two numbers, rounded, in one word.
#[inline(always)]
fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(rounded(first) >> 16 | rounded(second) & 0xffff_0000)
}

/// Numbers of two rows that are as long as `to`, pair by pair.
struct Rows<'a>(&'a [f32], &'a [f32], &'a mut [MaybeUninit<f32>]);

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(first, second, to) = self;
        for ((to, first), second) in to.iter_mut().zip(first).zip(second) {
            to.write(pair(*first, *second));
        }
    }
}

/// Numbers of one row that is twice as long as `to`, pair by pair.
struct Neighbours<'a>(&'a [f32], &'a mut [MaybeUninit<f32>]);

impl Kernel for Neighbours<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(row, to) = self;
        for (to, two) in to.iter_mut().zip(row.as_chunks::<2>().0) {
            to.write(pair(two[0], two[1]));
        }
    }
}

/// Rows of `width` numbers, two at a time: rows `2 l` and `2 l + 1` become row `l`; what is missing at the end is zero.
pub(super) fn pair_rows(rows: &[f32], width: usize, to: &mut [MaybeUninit<f32>]) {
    let width = width.max(1);
    for (to, two) in to.chunks_exact_mut(width).zip(rows.chunks(2 * width)) {
        let (first, second) = two.split_at(width);
        if second.is_empty() {
            to.iter_mut().zip(first).for_each(|(to, first)| {
                to.write(pair(*first, 0.0));
            });
        } else {
            vectorize(Rows(first, second, to));
        }
    }
}

/// The left side of a product in pairs along its rows.
#[derive(Clone, Copy)]
pub(super) struct Left {
    /// The first word.
    pub(super) at: *const f32,
    /// From row to row.
    pub(super) down: usize,
    /// From word to word of a row.
    pub(super) along: usize,
}

impl Left {
    /// The numbers of a matrix as they are.
    pub(super) fn of(x: Matrix<'_>) -> Self {
        let (at, down, along) = x.row_pointer(0);
        Self { at, down, along }
    }
}

thread_local! {
    static SPACE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Calls `f` with the pairs of `x`, which are gone when it returns.
pub(super) fn with_pairs<R>(x: Matrix<'_>, f: impl FnOnce(Left) -> R) -> R {
    let (rows, inner) = x.shape();
    let depth = inner.div_ceil(2);
    let mut space = SPACE.take();
    space.clear();
    let len = area(rows, depth);
    space.reserve(len);
    let words = &mut space.spare_capacity_mut()[..len];
    let by_rows = x.lies_by_rows();
    if by_rows {
        for (i, to) in words.chunks_exact_mut(depth.max(1)).enumerate() {
            let row = x.row(i).expect("a matrix that lies by rows has them");
            vectorize(Neighbours(row, to));
            if inner % 2 == 1 {
                to[depth - 1].write(pair(row[inner - 1], 0.0));
            }
        }
    } else {
        for (l, to) in words.chunks_exact_mut(rows.max(1)).enumerate() {
            let column = |l: usize| x.column(l).expect("a matrix lies by rows or by columns");
            if 2 * l + 1 < inner {
                vectorize(Rows(column(2 * l), column(2 * l + 1), to));
            } else {
                pair_rows(column(2 * l), rows, to);
            }
        }
    }
    let (down, along) = if by_rows { (depth, 1) } else { (1, rows) };
    let result = f(Left { at: words.as_ptr().cast(), down, along });
    SPACE.set(space);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(word: f32) -> [f32; 2] {
        let bits = word.to_bits();
        [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
    }

    #[test]
    fn numbers_are_rounded_to_nearest_and_ties_to_even() {
        let step = 1.0 / 128.0;
        for (x, expected) in [
            (1.0, 1.0),
            (1.0 + step / 2.0, 1.0),
            (1.0 + 1.5 * step, 1.0 + 2.0 * step),
            (1.0 + 0.51 * step, 1.0 + step),
            (-1.0 - 0.49 * step, -1.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (0.0, 0.0),
        ] {
            assert_eq!(halves(pair(x, 0.0)), [expected, 0.0], "{x}");
            assert_eq!(halves(pair(0.0, x)), [0.0, expected], "{x}");
        }
        // Its significant bits are all below those of a `bf16`.
        let nan = f32::from_bits(0x7f80_0001);
        assert!(halves(pair(nan, 1.0))[0].is_nan() && halves(pair(1.0, -nan))[1].is_nan());
        assert_eq!(halves(pair(-0.0, 0.0))[0].to_bits(), (-0.0f32).to_bits());
    }

    #[test]
    fn an_odd_row_is_paired_with_zeros() {
        for width in [1, 3, 64, 131] {
            let rows: Vec<f32> = (0..3 * width).map(|i| (i % 100) as f32).collect();
            let mut words = Vec::with_capacity(2 * width);
            pair_rows(&rows, width, &mut words.spare_capacity_mut()[..2 * width]);
            // SAFETY: two rows of words were written.
            unsafe { words.set_len(2 * width) };
            for (j, word) in words[..width].iter().enumerate() {
                assert_eq!(halves(*word), [rows[j], rows[width + j]]);
            }
            for (j, word) in words[width..].iter().enumerate() {
                assert_eq!(halves(*word), [rows[2 * width + j], 0.0]);
            }
        }
    }
}
