//! Products of many rows with one packed matrix: what linear layers are made of.

mod pairs;
mod step;
mod tiles;

use crate::autocast::Precision;
use crate::gemm::Matrix;
use crate::simd::{SimdLevel, simd_level};
use crate::vector::{Plain, Vector};
use pairs::{Left, pair_rows, with_pairs};
use rayon::prelude::*;
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

impl<'a> Start<'a> {
    /// A bias, if there is one.
    pub(crate) fn bias(bias: Option<&'a [f32]>) -> Self {
        bias.map_or(Self::Zero, Self::Row)
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
        let len = cols.next_multiple_of(lanes()) * depth;
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

    /// Number of columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// `start + x b` in row-major order, rows shared out among threads. Each number is summed in one order, whatever their
    /// number.
    pub(crate) fn fill(&self, x: Matrix<'_>, start: Start<'_>, space: &mut [MaybeUninit<f32>]) {
        let rows = x.shape().0;
        let block = block_rows(rows, self.inner.max(self.cols));
        let write = |(i, space): (usize, &mut [MaybeUninit<f32>])| {
            let (first, count) = (i * block, space.len() / self.cols);
            self.write(x.some_rows(first, count), start.some_rows(first, count, self.cols), space);
        };
        if rows * self.cols < SERIAL {
            space.chunks_mut((block * self.cols).max(1)).enumerate().for_each(write);
        } else {
            space.par_chunks_mut(block * self.cols).enumerate().for_each(write);
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
        assert_eq!((x.shape().1, space.len()), (self.inner, rows * self.cols), "the shape of a product");
        let (from, from_row) = match start {
            Start::Zero => (std::ptr::null(), 0),
            Start::Row(row) => {
                assert_eq!(row.len(), self.cols, "a number a column");
                (row.as_ptr(), 0)
            }
            Start::Rows(base) => {
                assert_eq!(base.len(), space.len(), "rows to start from");
                (base.as_ptr(), self.cols)
            }
        };
        let to = space.as_mut_ptr().cast::<f32>();
        // SAFETY: the sizes were compared, and every number is written.
        unsafe {
            multiply(self.precision, x, self.panels(), (from, from_row), to);
            std::slice::from_raw_parts_mut(to, space.len())
        }
    }

    /// `dst += x b`, `dst` in row-major order, by the calling thread.
    pub(crate) fn add_to(&self, x: Matrix<'_>, dst: &mut [f32]) {
        assert_eq!((x.shape().1, dst.len()), (self.inner, x.shape().0 * self.cols), "the shape of a product");
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
    let run = |x: Left| unsafe { Job { precision, x, rows, b, from, from_row, to }.run_best() };
    match precision {
        Precision::F32 => {
            let (at, down, along) = x.row_pointer(0);
            run(Left { at, down, along });
        }
        Precision::Bf16 => with_pairs(x, run),
    }
}

/// `dst += aᵀ b` by the calling thread, for `a` and `b` row-major and in the cache.
pub(crate) fn add_transposed(precision: Precision, a: Matrix<'_>, b: Matrix<'_>, dst: &mut [f32]) {
    let (rows, cols) = b.shape();
    assert_eq!((a.shape().0, dst.len()), (rows, a.shape().1 * cols), "the shape of a product");
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
/// several threads busy.
pub(crate) fn block_rows(rows: usize, width: usize) -> usize {
    let fitting = (1 << 15) / width.max(1);
    fitting.clamp(16, 192).min(rows.div_ceil(8)).next_multiple_of(8)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::fresh;
    use candle_core::{DType, Device, Tensor};

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = crate::Rng::named(seed, "packed", 0);
        (0..n).map(|_| rng.normal() as f32).collect()
    }

    const BOTH: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// What a product makes of its operand, by candle's conversion.
    fn rounded(precision: Precision, numbers: &[f32]) -> Vec<f32> {
        let numbers = Tensor::new(numbers, &Device::Cpu).unwrap();
        let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
        numbers.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
    }

    fn product(packed: &Packed, x: Matrix<'_>, start: Start<'_>) -> Vec<f32> {
        let len = x.shape().0 * packed.cols;
        // SAFETY: a product writes every number.
        unsafe { fresh(len, |space| packed.fill(x, start, space)) }
    }

    #[test]
    fn products_match_the_triple_loop_from_every_start() {
        // Whole panels, parts of one, single numbers, more than a group; rows that are no whole tiles.
        let sizes =
            [(1, 1, 1), (13, 5, 7), (8, 64, 48), (23, 33, 81), (9, 1500, 112), (37, 16, 16), (3, 0, 4)];
        for (precision, (m, k, n)) in BOTH.into_iter().flat_map(|p| sizes.map(|size| (p, size))) {
            let (x, b, base) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let turned: Vec<f32> = (0..n * k).map(|at| b[at % k * n + at / k]).collect();
            let x_turned: Vec<f32> = (0..m * k).map(|at| x[at % m * k + at / m]).collect();
            let (left, right) = (rounded(precision, &x), rounded(precision, &b));
            let sum = |i: usize, j: usize| -> f64 {
                (0..k).map(|l| f64::from(left[i * k + l]) * f64::from(right[l * n + j])).sum()
            };
            let rows = Matrix::new(&x, m, k);
            for (packed, x) in [
                (Packed::new(precision, 0.5, Matrix::new(&b, k, n)), rows),
                (
                    Packed::new(precision, 0.5, Matrix::new(&turned, n, k).t()),
                    Matrix::new(&x_turned, k, m).t(),
                ),
            ] {
                let mut there = base.clone();
                packed.add_to(x, &mut there);
                let mut space = Vec::with_capacity(m * n);
                let fresh = packed.write(x, Start::Zero, &mut space.spare_capacity_mut()[..m * n]);
                let in_blocks = product(&packed, rows, Start::Rows(&base));
                let biased = product(&packed, rows, Start::Row(&base[..n]));
                for (at, (i, j)) in (0..m * n).map(|at| (at, (at / n, at % n))) {
                    let found =
                        [there[at] - base[at], fresh[at], in_blocks[at] - base[at], biased[at] - base[j]];
                    for found in found {
                        let difference = f64::from(found) - 0.5 * sum(i, j);
                        assert!(
                            difference.abs() < 1e-6 * (20.0 + k as f64),
                            "{precision}, {m}×{k}×{n} at {i},{j}: {difference}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn pairs_that_are_widened_give_the_same_bits_at_every_level() {
        if simd_level() == SimdLevel::Avx512Bf16 {
            // The instruction's own way of adding two products is held to the sum above only.
            return;
        }
        let (m, k, n) = (11, 77, 53);
        let (x, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let found = product(
            &Packed::new(Precision::Bf16, 1.0, Matrix::new(&b, k, n)),
            Matrix::new(&x, m, k),
            Start::Zero,
        );
        let (x, b) = (rounded(Precision::Bf16, &x), rounded(Precision::Bf16, &b));
        for (at, found) in found.iter().enumerate() {
            let product = |l: usize| if l < k { x[at / n * k + l] * b[l * n + at % n] } else { 0.0 };
            let sum = (0..k).step_by(2).fold(0f32, |sum, l| sum + product(l + 1) + product(l));
            assert_eq!(*found, sum, "at {at}");
        }
    }

    #[test]
    fn a_product_is_added_to_a_packed_matrix_before_it_is_rounded() {
        let (k, r, n) = (37, 5, 100);
        let (w, a, b, x) = (numbers(k * n, 1), numbers(k * r, 2), numbers(r * n, 3), numbers(11 * k, 4));
        let (w, a, b) = (Matrix::new(&w, k, n), Matrix::new(&a, k, r), Matrix::new(&b, r, n));
        let weight = |l: usize, j: usize| -> f32 {
            w.at(l, j) + 2.0 * (0..r).map(|m| a.at(l, m) * b.at(m, j)).sum::<f32>()
        };
        let weights: Vec<f32> = (0..k * n).map(|at| weight(at / n, at % n)).collect();
        for precision in BOTH {
            let numbers = |alpha: f32, b: Matrix<'_>| Packed::new(Precision::F32, alpha, b);
            let packed = numbers(1.0, w).plus_product(a, &numbers(2.0, b)).to(precision);
            let found = product(&packed, Matrix::new(&x, 11, k), Start::Zero);
            let (x, weights) = (rounded(precision, &x), rounded(precision, &weights));
            // A sum's last bit can move a weight to the other side of a tie, by a part of 2⁻⁷ of it.
            let allowed = if precision == Precision::Bf16 { 0.05 } else { 1e-4 };
            for (at, found) in found.into_iter().enumerate() {
                let expected: f32 = (0..k).map(|l| x[at / n * k + l] * weights[l * n + at % n]).sum();
                assert!((found - expected).abs() < allowed, "{precision}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn products_of_transposes_are_added() {
        let sizes = [(5, 3, 7), (90, 21, 64), (1, 1, 48), (33, 8, 160)];
        for (precision, (rows, p, q)) in BOTH.into_iter().flat_map(|p| sizes.map(|size| (p, size))) {
            let (a, b, start) = (numbers(rows * p, 1), numbers(rows * q, 2), numbers(p * q, 3));
            let mut found = start.clone();
            add_transposed(precision, Matrix::new(&a, rows, p), Matrix::new(&b, rows, q), &mut found);
            let (a, b) = (rounded(precision, &a), rounded(precision, &b));
            for (at, found) in found.iter().enumerate() {
                let sum: f32 = (0..rows).map(|r| a[r * p + at / q] * b[r * q + at % q]).sum();
                assert!((found - start[at] - sum).abs() < 1e-4, "{precision}, {rows}: {p}×{q} at {at}");
            }
        }
    }

    #[test]
    fn a_product_does_not_depend_on_the_number_of_threads() {
        let (m, k, n) = (2003, 131, 151);
        let (x, b) = (numbers(m * k, 4), numbers(k * n, 5));
        for precision in BOTH {
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let packed = Packed::new(precision, 1.0, Matrix::new(&b, k, n));
                pool.install(|| product(&packed, Matrix::new(&x, m, k), Start::Zero))
            };
            let one = run(1);
            for threads in [2, 3, 5] {
                assert_eq!(one, run(threads), "{threads} threads");
            }
        }
    }
}
