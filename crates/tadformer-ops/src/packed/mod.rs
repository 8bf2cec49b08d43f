//! Products of many rows with one packed matrix: what linear layers are made of.

#[cfg(target_arch = "x86_64")]
mod by_hand;
mod by_columns;
mod pairs;
mod step;
mod tiles;
#[cfg(test)]
mod tests;

use crate::around::RowsBefore;
use crate::autocast::Precision;
use crate::gemm::{Matrix, area};
use crate::residual::ResidualRows;
use crate::rows::{for_blocks, fresh};
use crate::simd::{SimdLevel, simd_level};
use crate::vector::{Plain, Vector};
use pairs::{Left, pair_rows, with_pairs};
use rayon::prelude::*;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;
use tiles::{Job, Panels};

/// Vectors side by side in a panel. With eight rows they fill 32 registers, and all widths of a Swin are whole panels of 48
/// numbers.
const WIDE: usize = 3;
/// Numbers in the widest panel's row.
const WIDEST: usize = WIDE * 16;
/// Fewer words than this are written by the calling thread: waking others would cost more.
const SERIAL: usize = 1 << 14;

/// A matrix in the order in which [`Packed::write`] reads it: panels of [`WIDE`] vectors of columns, row by row.
///
/// A word of a panel is a number, or two numbers of a column where they are rounded to `bf16`; products then round their
/// left side likewise.
pub(crate) struct Packed {
    panels: Vec<f32>,
    precision: Precision,
    inner: usize,
    cols: usize,
}

/// What a new product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing.
    Zero,
    /// The same row everywhere.
    Row(&'a [f32]),
    /// As many rows as the product has.
    Rows(&'a [f32]),
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { precision, inner, cols, panels: _ } = self;
        write!(f, "Packed({inner}×{cols}, {precision:?})")
    }
}

impl<'a> Start<'a> {
    /// A bias, if there is one.
    pub(crate) fn bias(bias: Option<&'a [f32]>) -> Self {
        bias.map_or(Self::Zero, Self::Row)
    }

    /// Where the first of `len` numbers in rows of `cols` begins, and how far the next row is from it.
    fn pointer(self, len: usize, cols: usize) -> (*const f32, usize) {
        match self {
            Self::Zero => (std::ptr::null(), 0),
            Self::Row(row) => {
                assert_eq!(row.len(), cols, "a number a column");
                (row.as_ptr(), 0)
            }
            Self::Rows(base) => {
                assert_eq!(base.len(), len, "rows to start from");
                (base.as_ptr(), cols)
            }
        }
    }

    /// What some rows of `cols` numbers begin as.
    fn some_rows(self, first: usize, count: usize, cols: usize) -> Self {
        match self {
            Self::Rows(base) => Self::Rows(&base[first * cols..][..count * cols]),
            start => start,
        }
    }
}

impl Packed {
    /// `alpha · b`, rounded to `precision`.
    pub(crate) fn new(precision: Precision, alpha: f32, b: Matrix<'_>) -> Self {
        let (inner, cols) = b.shape();
        Self::filled(precision, inner, cols, |i, space| {
            let first = i * WIDE * lanes();
            let part = Columns { alpha, b, first, count: (cols - first).min(WIDE * lanes()) };
            match precision {
                Precision::F32 => part.pack(space),
                Precision::Bf16 => part.pack_pairs(space),
            }
        })
    }

    /// `fill` writes panels by their number.
    fn filled(
        precision: Precision,
        inner: usize,
        cols: usize,
        fill: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
    ) -> Self {
        let depth = depth(precision, inner);
        let len = area(cols.next_multiple_of(lanes()), depth);
        let mut panels = Vec::with_capacity(len);
        let (space, size) = (&mut panels.spare_capacity_mut()[..len], (WIDE * lanes() * depth).max(1));
        if len < SERIAL {
            space.chunks_mut(size).enumerate().for_each(|(i, panel)| fill(i, panel));
        } else {
            space.par_chunks_mut(size).enumerate().for_each(|(i, panel)| fill(i, panel));
        }
        // SAFETY: each panel was written whole.
        unsafe { panels.set_len(len) };
        Self { panels, precision, inner, cols }
    }

    /// `self + x b`, where `x` has as many rows as this matrix and `b` as many columns; neither side is rounded.
    pub(crate) fn plus_product(mut self, x: Matrix<'_>, b: &Self) -> Self {
        assert_eq!((x.shape().0, b.cols), (self.inner, self.cols), "the shape of a product");
        assert_eq!((self.precision, b.precision), (Precision::F32, Precision::F32), "panels of numbers");
        let panel = WIDE * lanes();
        let add = |(i, panels): (usize, &mut [f32])| {
            let width = panels.len() / self.inner;
            let at = b.panels[i * panel * b.inner..].as_ptr();
            let part = Panels { at, depth: b.inner, cols: width, row: None };
            let to = panels.as_mut_ptr();
            // SAFETY: a panel is `inner` rows of `width` numbers, and the other's has as many columns.
            unsafe { multiply(Precision::F32, x, part, (to, width), to) }
        };
        self.panels.par_chunks_mut((panel * self.inner).max(1)).enumerate().for_each(add);
        self
    }

    /// Numbers rounded to `precision`.
    pub(crate) fn to(self, precision: Precision) -> Self {
        if self.precision == precision {
            return self;
        }
        assert_eq!(self.precision, Precision::F32, "panels of numbers");
        let size = WIDE * lanes() * self.inner;
        Self::filled(precision, self.inner, self.cols, |i, space| {
            let numbers = &self.panels[i * size..self.panels.len().min((i + 1) * size)];
            pair_rows(numbers, numbers.len() / self.inner, space);
        })
    }

    /// Number of rows.
    pub(crate) fn inner(&self) -> usize {
        self.inner
    }

    /// Number of columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// `start + x b` in row-major order, rows shared out among threads. Each number is summed in one order, whatever their
    /// number.
    pub(crate) fn fill(&self, x: Matrix<'_>, start: Start<'_>, space: &mut [MaybeUninit<f32>]) {
        self.fill_then(x, start, space, |_, _| {});
    }

    /// Likewise; `then` gets the numbers of each block, and where the first stands, while they are in the cache.
    pub(crate) fn fill_then(
        &self,
        x: Matrix<'_>,
        start: Start<'_>,
        space: &mut [MaybeUninit<f32>],
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let rows = x.shape().0;
        if self.outweighs(rows) {
            let ys = self.fill_by_columns(x, start, space);
            return for_blocks(ys, self.cols, |first, ys| then(first * self.cols, ys));
        }
        let block = block_rows(rows, self.inner.max(self.cols));
        let write = |(i, space): (usize, &mut [MaybeUninit<f32>])| {
            let (first, count) = (i * block, space.len() / self.cols);
            let base = start.some_rows(first, count, self.cols);
            then(first * self.cols, self.write(x.some_rows(first, count), base, space));
        };
        if rows * self.cols < SERIAL {
            space.chunks_mut((block * self.cols).max(1)).enumerate().for_each(write);
        } else {
            space.par_chunks_mut(block * self.cols).enumerate().for_each(write);
        }
    }

    /// `residual(u b + bias)` in row-major order, where `u` is what `before` makes of the input's rows: block by block, so
    /// that neither it nor the product without the residual ever exists whole; unless the matrix outweighs the rows.
    pub(crate) fn product_around(
        &self,
        before: &RowsBefore<'_>,
        xs: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&ResidualRows<'_>>,
    ) -> Vec<f32> {
        let rows = xs.len().checked_div(self.inner).unwrap_or(0);
        if self.outweighs(rows) {
            let us = before.whole(xs, self.inner);
            let finish = |start: usize, ys: &mut [f32]| {
                residual.into_iter().for_each(|residual| residual.add_to(start, ys));
            };
            let fill = |ys: &mut _| {
                self.fill_then(Matrix::of_rows(&us, self.inner), Start::bias(bias), ys, finish);
            };
            // SAFETY: a product writes every number.
            return unsafe { fresh(rows * self.cols, fill) };
        }
        let block = block_rows(rows, self.inner.max(self.cols));
        let write = |space: &mut Vec<f32>, (i, (y, x)): (usize, (&mut [MaybeUninit<f32>], &[f32]))| {
            let u = before.of(i * block * self.inner, x, space);
            let y = self.write(Matrix::of_rows(u, self.inner), Start::bias(bias), y);
            if let Some(residual) = residual {
                residual.add_to(i * block * self.cols, y);
            }
        };
        // SAFETY: the blocks cover all rows, and a product writes every number.
        unsafe {
            fresh(rows * self.cols, |ys| {
                ys.par_chunks_mut((block * self.cols).max(1))
                    .zip(xs.par_chunks(block * self.inner))
                    .enumerate()
                    .for_each_init(Vec::new, write);
            })
        }
    }

    /// `start + x b` in row-major order, by the calling thread.
    pub(crate) fn write<'d>(
        &self,
        x: Matrix<'_>,
        start: Start<'_>,
        space: &'d mut [MaybeUninit<f32>],
    ) -> &'d mut [f32] {
        let rows = x.shape().0;
        assert_eq!((x.shape().1, space.len()), (self.inner, area(rows, self.cols)), "the shape of a product");
        let (from, from_row) = start.pointer(space.len(), self.cols);
        let to = space.as_mut_ptr().cast::<f32>();
        // SAFETY: the sizes were compared, and every number is written.
        unsafe {
            multiply(self.precision, x, self.panels(), (from, from_row), to);
            std::slice::from_raw_parts_mut(to, space.len())
        }
    }

    /// `dst += x b`, `dst` in row-major order, by the calling thread.
    pub(crate) fn add_to(&self, x: Matrix<'_>, dst: &mut [f32]) {
        let numbers = area(x.shape().0, self.cols);
        assert_eq!((x.shape().1, dst.len()), (self.inner, numbers), "the shape of a product");
        let to = dst.as_mut_ptr();
        // SAFETY: the sizes were compared.
        unsafe { multiply(self.precision, x, self.panels(), (to, self.cols), to) }
    }

    fn panels(&self) -> Panels {
        let depth = depth(self.precision, self.inner);
        Panels { at: self.panels.as_ptr(), depth, cols: self.cols, row: None }
    }
}

/// Rows of words that `inner` rows of numbers become.
fn depth(precision: Precision, inner: usize) -> usize {
    match precision {
        Precision::F32 => inner,
        Precision::Bf16 => inner.div_ceil(2),
    }
}

/// `start + x b`, where row `i` of `start` is at `from + i · from_row`, or zero where `from` is null.
///
/// # Safety
/// `b` has words of `precision`, as many rows of them as `x` has columns; `from` and `to` have room for the product, and
/// nobody else looks at what is at `to`.
unsafe fn multiply(
    precision: Precision,
    x: Matrix<'_>,
    b: Panels,
    (from, from_row): (*const f32, usize),
    to: *mut f32,
) {
    let rows = x.shape().0;
    // SAFETY: the caller's promise; the words of `x` are as many as those of `b` are deep.
    let run = |x: Left| unsafe {
        Job { precision, x, rows, b, columns: 0..b.cols, from, from_row, to }.run_best();
    };
    match precision {
        Precision::F32 => run(Left::of(x)),
        Precision::Bf16 => with_pairs(x, run),
    }
}

/// `dst += aᵀ b` by the calling thread, for `a` and `b` row-major and in the cache.
pub(crate) fn add_transposed(precision: Precision, a: Matrix<'_>, b: Matrix<'_>, dst: &mut [f32]) {
    let (rows, cols) = b.shape();
    assert_eq!((a.shape().0, dst.len()), (rows, area(a.shape().1, cols)), "the shape of a product");
    match b.as_rows() {
        Some(numbers) if precision == Precision::F32 && cols.is_multiple_of(lanes()) => {
            let panels = Panels { at: numbers.as_ptr(), depth: rows, cols, row: Some(cols) };
            let to = dst.as_mut_ptr();
            // SAFETY: the sizes were compared, and all columns are whole vectors.
            unsafe { multiply(precision, a.t(), panels, (to, cols), to) }
        }
        _ => Packed::new(precision, 1.0, b).add_to(a.t(), dst),
    }
}

/// Rows of a block that stays in a core's cache beside a part of the packed matrix: whole tiles, and enough blocks to keep
/// several threads busy. Never 0.
pub(crate) fn block_rows(rows: usize, width: usize) -> usize {
    let fitting = (1 << 15) / width.max(1);
    fitting.clamp(16, 192).min(rows.div_ceil(8)).max(1).next_multiple_of(8)
}

/// Numbers in a vector of the level in use.
fn lanes() -> usize {
    match simd_level() {
        SimdLevel::Avx512 | SimdLevel::Avx512Bf16 => 16,
        SimdLevel::Avx2 => 8,
        SimdLevel::Neon => 4,
        SimdLevel::Baseline => Plain::LANES,
    }
}

/// Columns of `alpha · b`: `first` and the `count - 1` after it.
#[derive(Clone, Copy)]
struct Columns<'a> {
    alpha: f32,
    b: Matrix<'a>,
    first: usize,
    count: usize,
}

impl Columns<'_> {
    /// Rows of a panel that are packed together: few enough for their part of the panel to stay in the cache, whichever way
    /// the matrix lies.
    const STEP: usize = 16;

    /// The columns as a panel, with zeros up to its width.
    fn pack(self, panel: &mut [MaybeUninit<f32>]) {
        let inner = self.b.shape().0;
        let width = panel.len().checked_div(inner).unwrap_or(0);
        for (step, part) in panel.chunks_mut((Self::STEP * width).max(1)).enumerate() {
            let first = step * Self::STEP;
            self.pack_rows(first..first + part.len() / width, width, part);
        }
    }

    /// Likewise, in pairs of rows.
    fn pack_pairs(self, panel: &mut [MaybeUninit<f32>]) {
        let inner = self.b.shape().0;
        let width = panel.len().checked_div(inner.div_ceil(2)).unwrap_or(0);
        let mut numbers = [MaybeUninit::new(0f32); Self::STEP * WIDEST];
        for (step, part) in panel.chunks_mut((Self::STEP / 2 * width).max(1)).enumerate() {
            let rows = step * Self::STEP..inner.min((step + 1) * Self::STEP);
            let numbers = &mut numbers[..rows.len() * width];
            self.pack_rows(rows, width, numbers);
            // SAFETY: they were numbers from the beginning.
            pair_rows(unsafe { crate::rows::written(numbers) }, width, part);
        }
    }

    /// Some rows of a panel.
    fn pack_rows(self, rows: Range<usize>, width: usize, part: &mut [MaybeUninit<f32>]) {
        let Self { alpha, b, first, count } = self;
        if count < width {
            part.fill(MaybeUninit::new(0.0));
        }
        for j in 0..count {
            let Some(column) = b.column(first + j) else { break };
            for (l, value) in column[rows.clone()].iter().enumerate() {
                part[l * width + j].write(alpha * value);
            }
        }
        for (l, part) in rows.zip(part.chunks_exact_mut(width)) {
            let Some(row) = b.row(l) else { break };
            for (place, value) in part.iter_mut().zip(&row[first..first + count]) {
                place.write(alpha * value);
            }
        }
    }
}
