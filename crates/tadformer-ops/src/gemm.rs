//! Matrix products on slices: by packed panels where many rows share a matrix, by the `gemm` crate elsewhere.

use crate::autocast::Precision;
use crate::few_rows::{self, FEW};
use crate::packed::{Packed, Start};
use crate::rows::{add_up, copy_into, fresh, written};
use gemm::{Parallelism, gemm};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// A matrix in a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major `rows × cols`.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), area(rows, cols), "a {rows}×{cols} matrix");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// Row-major rows of `cols` numbers, as many as there are.
    pub(crate) fn of_rows(data: &'a [f32], cols: usize) -> Self {
        Self::new(data, data.len().checked_div(cols).unwrap_or(0), cols)
    }

    /// Rows and columns.
    pub(crate) fn shape(self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Rows `first` up to `count` of them.
    pub(crate) fn some_rows(self, first: usize, count: usize) -> Self {
        assert!(
            first <= self.rows && count <= self.rows - first,
            "{count} rows from {first} on of {}",
            self.rows
        );
        Self { data: self.data.get(first * self.row_stride..).unwrap_or_default(), rows: count, ..self }
    }

    /// Element `(i, j)`.
    #[cfg(test)]
    pub(crate) fn at(self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.col_stride]
    }

    /// All numbers, row by row, if that is how they lie.
    pub(crate) fn as_rows(self) -> Option<&'a [f32]> {
        (self.col_stride == 1 && self.row_stride == self.cols).then(|| &self.data[..self.rows * self.cols])
    }

    /// Whether the numbers of a row lie side by side; those of a column do otherwise.
    pub(crate) fn lies_by_rows(self) -> bool {
        self.col_stride == 1
    }

    /// Column `j`, if the numbers of a column lie side by side.
    pub(crate) fn column(self, j: usize) -> Option<&'a [f32]> {
        (self.row_stride == 1).then(|| &self.data[j * self.col_stride..][..self.rows])
    }

    /// Row `i`, if the numbers of a row lie side by side.
    pub(crate) fn row(self, i: usize) -> Option<&'a [f32]> {
        (self.col_stride == 1).then(|| &self.data[i * self.row_stride..][..self.cols])
    }

    /// Columns `first` up to `count` of them.
    pub(crate) fn some_cols(self, first: usize, count: usize) -> Self {
        self.t().some_rows(first, count).t()
    }

    /// Where row `i` begins, and the strides from row to row and from column to column.
    pub(crate) fn row_pointer(self, i: usize) -> (*const f32, usize, usize) {
        (self.data.as_ptr().wrapping_add(i * self.row_stride), self.row_stride, self.col_stride)
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// Numbers of a matrix.
///
/// # Panics
/// If no memory holds as many. A product that wrapped around would pass for that of a matrix without numbers.
pub(crate) fn area(rows: usize, cols: usize) -> usize {
    rows.checked_mul(cols).expect("a matrix that a memory holds")
}

/// The right-hand side of products with rows, prepared once for all of them.
pub(crate) enum Factor<'a> {
    /// Packed.
    Packed(Packed),
    /// A number times a matrix, for so few rows that packing would cost more than it saves.
    Plain(f32, Matrix<'a>),
}

impl<'a> Factor<'a> {
    /// `alpha · b`, to be multiplied with `rows` rows in all.
    pub(crate) fn new(precision: Precision, rows: usize, alpha: f32, b: Matrix<'a>) -> Self {
        // Rounding must not depend on the number of rows.
        match precision {
            Precision::F32 if rows < FEW => Self::Plain(alpha, b),
            _ => Self::Packed(Packed::new(precision, alpha, b)),
        }
    }

    /// `start + x b` in row-major order, rows shared out among threads. Each number is summed in one order, whatever
    /// their number.
    pub(crate) fn product(&self, x: Matrix<'_>, start: Start<'_>) -> Vec<f32> {
        let (rows, inner) = x.shape();
        let cols = self.cols();
        // SAFETY: the blocks cover all rows.
        unsafe {
            fresh(area(rows, cols), |space| match self {
                Self::Packed(packed) => packed.fill(x, start, space),
                Self::Plain(alpha, b) => {
                    // Below this the threads cost more than they save.
                    let parallel = rows * inner * cols >= 1 << 20;
                    let parallelism = if parallel { Parallelism::Rayon(0) } else { Parallelism::None };
                    write_plain((*alpha, *b), x, start, space, parallelism);
                }
            })
        }
    }

    /// [`product`](Self::product) by the calling thread, in memory that is there already.
    pub(crate) fn write<'d>(
        &self,
        x: Matrix<'_>,
        start: Start<'_>,
        space: &'d mut [MaybeUninit<f32>],
    ) -> &'d mut [f32] {
        match self {
            Self::Packed(packed) => packed.write(x, start, space),
            Self::Plain(alpha, b) => write_plain((*alpha, *b), x, start, space, Parallelism::None),
        }
    }

    /// [`write`](Self::write) from zero over numbers that are no longer wanted.
    pub(crate) fn overwrite<'d>(&self, x: Matrix<'_>, dst: &'d mut [f32]) -> &'d mut [f32] {
        // SAFETY: `MaybeUninit` has the layout of what it holds, and nothing but numbers is written.
        self.write(x, Start::Zero, unsafe { &mut *(std::ptr::from_mut(dst) as *mut [MaybeUninit<f32>]) })
    }

    /// `dst += x b`, `dst` in row-major order, by the calling thread.
    pub(crate) fn add_to(&self, x: Matrix<'_>, dst: &mut [f32]) {
        match self {
            Self::Packed(packed) => packed.add_to(x, dst),
            Self::Plain(alpha, b) => {
                assert_eq!(
                    dst.len(),
                    area(x.rows, b.cols),
                    "the product of {} rows and {} columns",
                    x.rows,
                    b.cols
                );
                // SAFETY: there is room for the product, and the numbers that it is added to.
                unsafe { multiply(dst.as_mut_ptr(), true, *alpha, x, *b, Parallelism::None) }
            }
        }
    }

    fn cols(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.cols(),
            Self::Plain(_, b) => b.cols,
        }
    }
}

/// [`Factor::write`] without packing: of a few rows here, otherwise by the gemm crate.
fn write_plain<'d>(
    (alpha, b): (f32, Matrix<'_>),
    x: Matrix<'_>,
    start: Start<'_>,
    space: &'d mut [MaybeUninit<f32>],
    parallelism: Parallelism,
) -> &'d mut [f32] {
    assert_eq!(
        space.len(),
        area(x.rows, b.cols),
        "the product of {}×{} and {}×{}",
        x.rows,
        x.cols,
        b.rows,
        b.cols
    );
    // Where it is worth several threads: the gemm crate would pack the matrix on one.
    let few = !matches!(parallelism, Parallelism::None) && few_rows::suit(x, b);
    let accumulate = match start {
        // A product without an inner dimension writes nothing.
        Start::Zero if few || x.cols == 0 => {
            space.fill(MaybeUninit::new(0.0));
            true
        }
        Start::Zero => false,
        Start::Row(row) => {
            space.chunks_exact_mut(b.cols).for_each(|y| {
                copy_into(y, row);
            });
            true
        }
        Start::Rows(base) => {
            copy_into(space, base);
            true
        }
    };
    if few {
        // SAFETY: every start has just written all of it.
        let dst = unsafe { written(space) };
        few_rows::add(alpha, x, b, dst);
        return dst;
    }
    // SAFETY: there is room for the product, and numbers where it accumulates; after it all numbers are there.
    unsafe {
        multiply(space.as_mut_ptr().cast(), accumulate, alpha, x, b, parallelism);
        written(space)
    }
}

/// `alpha · aᵀ b` for tall matrices: the gradient of a weight. The rows are cut into parts of fixed size that are summed in
/// their order, because a product that is small outside and long inside keeps one thread busy only.
pub(crate) fn matmul_tall(precision: Precision, alpha: f32, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let (rows, size) = (a.rows, a.cols * b.cols);
    let part = rows.div_ceil(16).max(1024);
    let product = |first: usize, parallelism: Parallelism| {
        let count = part.min(rows - first);
        let (a, b) = (a.some_rows(first, count).t(), b.some_rows(first, count));
        // SAFETY: all numbers are written.
        unsafe {
            fresh(size, |space| match (precision, parallelism) {
                (Precision::F32, _) => drop(write_plain((alpha, b), a, Start::Zero, space, parallelism)),
                (_, Parallelism::None) => drop(Packed::new(precision, alpha, b).write(a, Start::Zero, space)),
                _ => Packed::new(precision, alpha, b).fill(a, Start::Zero, space),
            })
        }
    };
    if rows <= part {
        return product(0, Parallelism::Rayon(0));
    }
    let firsts: Vec<usize> = (0..rows).step_by(part).collect();
    add_up(firsts.into_par_iter().map(|first| product(first, Parallelism::None)).collect(), size)
}

/// # Safety
/// There is room at `dst` for the product, and nobody else looks at it; to accumulate, there must be numbers.
unsafe fn multiply(
    dst: *mut f32,
    accumulate: bool,
    alpha: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallelism: Parallelism,
) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "the inner dimensions of a product");
    if m * n == 0 {
        return;
    }
    // SAFETY: the slice of a `Matrix` holds all elements that its strides lead to; for `dst` the caller vouches.
    unsafe {
        gemm(
            m,
            n,
            k,
            dst,
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = crate::Rng::named(seed, "gemm", 0);
        (0..n).map(|_| rng.normal() as f32).collect()
    }

    #[test]
    fn products_match_the_triple_loop() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (17, 64, 33), (50, 3, 129), (2, 0, 3)] {
            let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            let x = Matrix::new(&a, m, k);
            for b in [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).t()] {
                let factor = Factor::new(Precision::F32, m, 0.5, b);
                let (fresh, biased) =
                    (factor.product(x, Start::Zero), factor.product(x, Start::Row(&start[..n])));
                let based = factor.product(x, Start::Rows(&start));
                let mut added = start.clone();
                factor.add_to(x, &mut added);
                for (at, (i, j)) in (0..m * n).map(|at| (at, (at / n, at % n))) {
                    let sum: f64 = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b.at(l, j))).sum();
                    for found in
                        [fresh[at], biased[at] - start[j], based[at] - start[at], added[at] - start[at]]
                    {
                        assert!((f64::from(found) - 0.5 * sum).abs() < 1e-4, "{m}x{k}x{n} at {i},{j}");
                    }
                }
            }
        }
    }

    #[test]
    fn tall_products_match_the_loop_whatever_the_number_of_threads() {
        // In one part, by all threads, and in several, one thread each.
        for (precision, rows, allowed) in
            [(Precision::F32, 2500, 1e-3), (Precision::Bf16, 2500, 2.0), (Precision::Bf16, 301, 0.7)]
        {
            let (p, q) = (3, 5);
            let (a, b) = (numbers(rows * p, 4), numbers(rows * q, 5));
            let product = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let (a, b) = (Matrix::new(&a, rows, p), Matrix::new(&b, rows, q));
                pool.install(|| matmul_tall(precision, 2.0, a, b))
            };
            let one = product(1);
            for (at, found) in one.iter().enumerate() {
                let sum: f64 =
                    (0..rows).map(|r| f64::from(a[r * p + at / q]) * f64::from(b[r * q + at % q])).sum();
                assert!((f64::from(*found) - 2.0 * sum).abs() < allowed, "{precision}: {found} at {at}");
            }
            for threads in [2, 3, 5] {
                assert_eq!(one, product(threads), "{threads} threads");
            }
        }
    }
}
