//! Products with a matrix that outweighs their rows: it passes through the caches once, all rows at a time.

use super::pairs::Left;
use super::tiles::{GROUP, Job, Panels};
use super::{Packed, Start, WIDE, lanes};
use crate::autocast::Precision;
use crate::gemm::{Matrix, area};
use crate::rows::written;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Words of a matrix that a core's second-level cache does not hold.
const LARGE: usize = 1 << 19;
/// Rows that are few beside such a matrix.
const FEW: usize = 1 << 9;
/// Columns or rows of a matrix beside which only a handful of rows stay in the cache.
const WIDEST: usize = 1 << 11;

/// Where the parts of a product lie, for several threads.
struct Places {
    x: Left,
    b: Panels,
    from: *const f32,
    to: *mut f32,
}

// SAFETY: threads read what nobody writes, and each writes columns of its own.
unsafe impl Sync for Places {}

impl Packed {
    /// Whether `rows` rows are better multiplied column by column.
    pub(super) fn outweighs(&self, rows: usize) -> bool {
        self.precision == Precision::F32
            && self.panels.len() >= LARGE
            && (rows <= FEW || self.inner.max(self.cols) >= WIDEST)
    }

    /// `start + x b` in row-major order, columns shared out among threads; the same bits as row by row.
    pub(super) fn fill_by_columns<'d>(
        &self,
        x: Matrix<'_>,
        start: Start<'_>,
        space: &'d mut [MaybeUninit<f32>],
    ) -> &'d mut [f32] {
        let rows = x.shape().0;
        assert_eq!((x.shape().1, space.len()), (self.inner, area(rows, self.cols)), "the shape of a product");
        assert_eq!(self.precision, Precision::F32, "panels of numbers");
        let (from, from_row) = start.pointer(space.len(), self.cols);
        let places = Places { x: Left::of(x), b: self.panels(), from, to: space.as_mut_ptr().cast() };
        let panel = WIDE * lanes();
        let group = (GROUP / (panel * self.inner).max(1)).max(1) * panel;
        (0..self.cols.div_ceil(group)).into_par_iter().for_each(|i| {
            let &Places { x, b, from, to } = &places;
            let columns = i * group..((i + 1) * group).min(self.cols);
            // SAFETY: the sizes were compared, and no other thread has these columns.
            unsafe { Job { precision: self.precision, x, rows, b, columns, from, from_row, to }.run_best() }
        });
        // SAFETY: every column was written.
        unsafe { written(space) }
    }
}
