//! Products of many rows with one packed matrix: what linear layers are made of.

use crate::gemm::Matrix;
use crate::simd::{SimdLevel, simd_level};
use crate::vector::{Plain, Vector};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Vectors side by side in a panel. With [`AVX512_TILE`] rows they fill the registers, and all widths of a Swin are whole
/// panels of 48 numbers.
const WIDE: usize = 3;
/// Rows of a register tile where there are 32 registers.
#[cfg(target_arch = "x86_64")]
const AVX512_TILE: usize = 8;
/// Rows of a register tile where there are 16.
const TILE: usize = 4;
/// Numbers of the panels that are worked through together: half of what a core's second-level cache holds, at most.
const GROUP: usize = 1 << 16;
/// Fewer numbers than this are written by the calling thread: waking others would cost more.
const SERIAL: usize = 1 << 14;

/// A matrix in the order in which [`Packed::rows_times`] reads it: panels of [`WIDE`] vectors of columns, row by row.
pub(crate) struct Packed {
    panels: Vec<f32>,
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
    /// `alpha · b`.
    pub(crate) fn new(alpha: f32, b: Matrix<'_>) -> Self {
        let (inner, cols) = b.shape();
        let panel = WIDE * lanes();
        let len = cols.next_multiple_of(lanes()) * inner;
        let mut panels = Vec::with_capacity(len);
        let pack = |(i, space): (usize, &mut [MaybeUninit<f32>])| {
            let first = i * panel;
            pack_panel(alpha, b, first, (cols - first).min(panel), space);
        };
        let (space, size) = (&mut panels.spare_capacity_mut()[..len], (panel * inner).max(1));
        if len < SERIAL {
            space.chunks_mut(size).enumerate().for_each(pack);
        } else {
            space.par_chunks_mut(size).enumerate().for_each(pack);
        }
        // SAFETY: each panel was written whole.
        unsafe { panels.set_len(len) };
        Self { panels, inner, cols }
    }

    /// `self + x b`, where `x` has as many rows as this matrix and `b` as many columns.
    pub(crate) fn plus_product(mut self, x: Matrix<'_>, b: &Self) -> Self {
        assert_eq!((x.shape().0, b.cols), (self.inner, self.cols), "the shape of a product");
        let panel = WIDE * lanes();
        let add = |(i, panels): (usize, &mut [f32])| {
            let width = panels.len() / self.inner;
            let (to, row) = (panels.as_mut_ptr(), width);
            let at = b.panels[i * panel * b.inner..].as_ptr();
            let part = Panels { at, inner: b.inner, cols: width, row: None };
            // SAFETY: a panel is `inner` rows of `width` numbers, and the other's has as many columns.
            unsafe { Job { x, b: part, from: to, from_row: row, to }.run_best() }
        };
        self.panels.par_chunks_mut((panel * self.inner).max(1)).enumerate().for_each(add);
        self
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
            Job { x, b: self.panels(), from, from_row, to }.run_best();
            std::slice::from_raw_parts_mut(to, space.len())
        }
    }

    /// `dst += x b`, `dst` in row-major order, by the calling thread.
    pub(crate) fn add_to(&self, x: Matrix<'_>, dst: &mut [f32]) {
        assert_eq!((x.shape().1, dst.len()), (self.inner, x.shape().0 * self.cols), "the shape of a product");
        let to = dst.as_mut_ptr();
        // SAFETY: the sizes were compared.
        unsafe { Job { x, b: self.panels(), from: to, from_row: self.cols, to }.run_best() }
    }

    fn panels(&self) -> Panels {
        Panels { at: self.panels.as_ptr(), inner: self.inner, cols: self.cols, row: None }
    }
}

/// `dst += aᵀ b` by the calling thread, for `a` and `b` row-major and in the cache.
pub(crate) fn add_transposed(a: Matrix<'_>, b: Matrix<'_>, dst: &mut [f32]) {
    let (rows, cols) = b.shape();
    assert_eq!((a.shape().0, dst.len()), (rows, a.shape().1 * cols), "the shape of a product");
    match b.as_rows() {
        Some(numbers) if cols.is_multiple_of(lanes()) => {
            let panels = Panels { at: numbers.as_ptr(), inner: rows, cols, row: Some(cols) };
            let to = dst.as_mut_ptr();
            // SAFETY: the sizes were compared, and all columns are whole vectors.
            unsafe { Job { x: a.t(), b: panels, from: to, from_row: cols, to }.run_best() }
        }
        _ => Packed::new(1.0, b).add_to(a.t(), dst),
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
        SimdLevel::Avx512 => 16,
        SimdLevel::Avx2 => 8,
        SimdLevel::Baseline => Plain::LANES,
    }
}

/// Columns `first` up to `count` of them, and zeros up to the width of the panel.
fn pack_panel(alpha: f32, b: Matrix<'_>, first: usize, count: usize, panel: &mut [MaybeUninit<f32>]) {
    let inner = b.shape().0;
    let width = panel.len().checked_div(inner).unwrap_or(0);
    // Few enough rows at a time for their part of the panel to stay in the cache, whichever way the matrix lies.
    const STEP: usize = 16;
    for (step, part) in panel.chunks_mut((STEP * width).max(1)).enumerate() {
        let rows = step * STEP..step * STEP + part.len() / width;
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

/// Where the panels of a matrix lie.
#[derive(Clone, Copy)]
struct Panels {
    at: *const f32,
    inner: usize,
    cols: usize,
    /// From one row of a panel to the next where the matrix is not packed but row-major.
    row: Option<usize>,
}

/// One product: row `i` of the destination begins as the numbers at `from + i · from_row`, or as zeros where `from` is
/// null.
struct Job<'a> {
    x: Matrix<'a>,
    b: Panels,
    from: *const f32,
    from_row: usize,
    to: *mut f32,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
unsafe fn avx512(job: &Job<'_>) {
    // SAFETY: the caller's promise is passed on.
    unsafe { job.run::<std::arch::x86_64::__m512, AVX512_TILE>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(job: &Job<'_>) {
    // SAFETY: the caller's promise is passed on.
    unsafe { job.run::<std::arch::x86_64::__m256, TILE>() }
}

impl Job<'_> {
    /// # Safety
    /// `from`, unless it is null, and `to` reach as far as the sizes of `x` and `b` say; nobody else looks at what is at
    /// `to`.
    unsafe fn run_best(&self) {
        // SAFETY: the caller's promise; the level in use is one that the processor has.
        unsafe {
            match simd_level() {
                #[cfg(target_arch = "x86_64")]
                SimdLevel::Avx512 => avx512(self),
                #[cfg(target_arch = "x86_64")]
                SimdLevel::Avx2 => avx2(self),
                _ => self.run::<Plain, TILE>(),
            }
        }
    }

    /// # Safety
    /// As [`run_best`](Self::run_best); the processor has the instructions of `V`, for which `b` was packed.
    #[inline(always)]
    unsafe fn run<V: Vector, const ROWS: usize>(&self) {
        let (rows, inner) = self.x.shape();
        let panel = WIDE * V::LANES;
        debug_assert_eq!(V::LANES, lanes());
        // The panels of a group stay in the cache while all rows pass by.
        let group = (GROUP / (panel * inner).max(1)).max(1) * panel;
        for first in (0..self.b.cols).step_by(group) {
            let end = (first + group).min(self.b.cols);
            let mut i = 0;
            // SAFETY: the tiles cover the rows once; each is within the matrices.
            unsafe {
                while i + ROWS <= rows {
                    self.row_of_tiles::<V, ROWS>(i, first, end);
                    i += ROWS;
                }
                while i + 2 <= rows {
                    self.row_of_tiles::<V, 2>(i, first, end);
                    i += 2;
                }
                if i < rows {
                    self.row_of_tiles::<V, 1>(i, first, end);
                }
            }
        }
    }

    /// # Safety
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn row_of_tiles<V: Vector, const ROWS: usize>(&self, i: usize, first: usize, end: usize) {
        for j in (first..end).step_by(WIDE * V::LANES) {
            let vectors = (end - j).div_ceil(V::LANES);
            // SAFETY: the caller's promise.
            unsafe {
                match vectors {
                    1 => self.tile::<V, ROWS, 1>(i, j, end - j),
                    2 => self.tile::<V, ROWS, 2>(i, j, end - j),
                    _ => self.tile::<V, ROWS, WIDE>(i, j, end - j),
                }
            }
        }
    }

    /// Rows `i..i + ROWS` and `W` vectors of columns from `j` on, of which `left` are left.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn tile<V: Vector, const ROWS: usize, const W: usize>(&self, i: usize, j: usize, left: usize) {
        /// Rows of a panel between asking for numbers and needing them.
        const AHEAD: usize = 8;
        let inner = self.b.inner;
        let whole = left >= W * V::LANES;
        let (x, down, along) = self.x.row_pointer(i);
        // SAFETY: the caller's promise.
        unsafe {
            let (mut b, b_row) = match self.b.row {
                Some(row) => (self.b.at.add(j), row),
                None => (self.b.at.add(j * inner), W * V::LANES),
            };
            let mut sums = [[V::splat(0.0); W]; ROWS];
            for l in 0..inner {
                let mut right = [V::splat(0.0); W];
                for (w, right) in right.iter_mut().enumerate() {
                    *right = V::load(b.add(w * V::LANES));
                    V::prefetch(b.wrapping_add(AHEAD * b_row + w * V::LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let left = V::splat(*x.add(r * down + l * along));
                    for w in 0..W {
                        sums[w] = left.mul_add(right[w], sums[w]);
                    }
                }
                b = b.wrapping_add(b_row);
            }
            for (r, sums) in sums.iter().enumerate() {
                let from = self.from.wrapping_add((i + r) * self.from_row + j);
                let to = self.to.add((i + r) * self.b.cols + j);
                for (w, sum) in sums.iter().enumerate() {
                    let at = w * V::LANES;
                    match (whole || w < W - 1, self.from.is_null()) {
                        (true, true) => sum.store(to.add(at)),
                        (true, false) => sum.add(V::load(from.add(at))).store(to.add(at)),
                        (false, true) => sum.store_some(to.add(at), left - at),
                        (false, false) => {
                            sum.add(V::load_some(from.add(at), left - at)).store_some(to.add(at), left - at);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::fresh;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = crate::Rng::named(seed, "packed", 0);
        (0..n).map(|_| rng.normal() as f32).collect()
    }

    fn product(packed: &Packed, x: Matrix<'_>, start: Start<'_>) -> Vec<f32> {
        let len = x.shape().0 * packed.cols;
        // SAFETY: a product writes every number.
        unsafe { fresh(len, |space| packed.fill(x, start, space)) }
    }

    #[test]
    fn products_match_the_triple_loop_from_every_start() {
        // Whole panels, parts of one, single numbers, more than a group; rows that are no whole tiles.
        for (m, k, n) in
            [(1, 1, 1), (13, 5, 7), (8, 64, 48), (23, 33, 81), (9, 1500, 112), (37, 16, 16), (3, 0, 4)]
        {
            let (x, b, base) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let sum = |i: usize, j: usize| -> f64 {
                (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(b[l * n + j])).sum()
            };
            let turned: Vec<f32> = (0..n * k).map(|at| b[at % k * n + at / k]).collect();
            let x_turned: Vec<f32> = (0..m * k).map(|at| x[at % m * k + at / m]).collect();
            let rows = Matrix::new(&x, m, k);
            for (packed, x) in [
                (Packed::new(0.5, Matrix::new(&b, k, n)), rows),
                (Packed::new(0.5, Matrix::new(&turned, n, k).t()), Matrix::new(&x_turned, k, m).t()),
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
                            "{m}×{k}×{n} at {i},{j}: {difference}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_product_is_added_to_a_packed_matrix() {
        let (k, r, n) = (37, 5, 100);
        let (w, a, b, x) = (numbers(k * n, 1), numbers(k * r, 2), numbers(r * n, 3), numbers(11 * k, 4));
        let (w, a, b) = (Matrix::new(&w, k, n), Matrix::new(&a, k, r), Matrix::new(&b, r, n));
        let packed = Packed::new(1.0, w).plus_product(a, &Packed::new(2.0, b));
        for (i, found) in product(&packed, Matrix::new(&x, 11, k), Start::Zero).into_iter().enumerate() {
            let weight = |l: usize| -> f32 {
                w.at(l, i % n) + 2.0 * (0..r).map(|m| a.at(l, m) * b.at(m, i % n)).sum::<f32>()
            };
            let expected: f32 = (0..k).map(|l| x[i / n * k + l] * weight(l)).sum();
            assert!((found - expected).abs() < 1e-4, "{found}, expected {expected}");
        }
    }

    #[test]
    fn products_of_transposes_are_added() {
        for (rows, p, q) in [(5, 3, 7), (90, 21, 64), (1, 1, 48), (33, 8, 160)] {
            let (a, b, start) = (numbers(rows * p, 1), numbers(rows * q, 2), numbers(p * q, 3));
            let mut found = start.clone();
            add_transposed(Matrix::new(&a, rows, p), Matrix::new(&b, rows, q), &mut found);
            for (at, found) in found.iter().enumerate() {
                let sum: f32 = (0..rows).map(|r| a[r * p + at / q] * b[r * q + at % q]).sum();
                assert!((found - start[at] - sum).abs() < 1e-4, "{rows}: {p}×{q} at {at}");
            }
        }
    }

    #[test]
    fn a_product_does_not_depend_on_the_number_of_threads() {
        let (m, k, n) = (2003, 131, 151);
        let (x, b) = (numbers(m * k, 4), numbers(k * n, 5));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let packed = Packed::new(1.0, Matrix::new(&b, k, n));
            pool.install(|| product(&packed, Matrix::new(&x, m, k), Start::Zero))
        };
        let one = run(1);
        for threads in [2, 3, 5] {
            assert_eq!(one, run(threads), "{threads} threads");
        }
    }
}
