//! Matrix products on slices, by the `gemm` crate.

use crate::rows::add_up;
use gemm::{Parallelism, gemm};
use rayon::prelude::*;

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
        assert_eq!(data.len(), rows * cols, "a {rows}×{cols} matrix");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// Rows and columns.
    pub(crate) fn shape(self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Rows `part · count` up to `count` of them, of a row-major matrix.
    fn rows_of(self, part: usize, count: usize) -> Self {
        debug_assert!(self.row_stride == self.cols && self.col_stride == 1);
        let (first, last) = (part * count, ((part + 1) * count).min(self.rows));
        Self { data: &self.data[first * self.cols..last * self.cols], rows: last - first, ..self }
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

/// `dst = alpha · a b`, or `dst += alpha · a b`; `dst` is row-major.
///
/// Each element is summed over the inner dimension in one order, whatever the number of threads.
pub(crate) fn matmul(dst: &mut [f32], accumulate: bool, alpha: f32, a: Matrix<'_>, b: Matrix<'_>) {
    // Below this the threads cost more than they save.
    let parallel = a.rows * a.cols * b.cols >= 1 << 20;
    into(dst, accumulate, alpha, a, b, if parallel { Parallelism::Rayon(0) } else { Parallelism::None });
}

/// `alpha · a b` in memory that nothing else has written before.
pub(crate) fn product(alpha: f32, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let parallel = a.rows * a.cols * b.cols >= 1 << 20;
    product_with(alpha, a, b, if parallel { Parallelism::Rayon(0) } else { Parallelism::None })
}

fn product_with(alpha: f32, a: Matrix<'_>, b: Matrix<'_>, parallelism: Parallelism) -> Vec<f32> {
    let len = a.rows * b.cols;
    if a.cols == 0 {
        return vec![0f32; len];
    }
    let mut dst = Vec::with_capacity(len);
    // SAFETY: there is room for `len` numbers, and without accumulation the product writes each and reads none.
    unsafe {
        multiply(dst.as_mut_ptr(), false, alpha, a, b, parallelism);
        dst.set_len(len);
    }
    dst
}

/// [`matmul`] on the calling thread, for products within a task.
pub(crate) fn matmul_serial(dst: &mut [f32], accumulate: bool, alpha: f32, a: Matrix<'_>, b: Matrix<'_>) {
    into(dst, accumulate, alpha, a, b, Parallelism::None);
}

/// `alpha · aᵀ b` for tall matrices: the gradient of a weight. The rows are cut into parts of fixed size that are summed in
/// their order, because a product that is small outside and long inside keeps one thread busy only.
pub(crate) fn matmul_tall(alpha: f32, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let size = a.cols * b.cols;
    let rows = a.rows.div_ceil(16).max(1024);
    let parts = (0..a.rows.div_ceil(rows))
        .into_par_iter()
        .map(|part| product_with(alpha, a.rows_of(part, rows).t(), b.rows_of(part, rows), Parallelism::None));
    if a.rows <= rows {
        return product(alpha, a.t(), b);
    }
    add_up(parts.collect(), size)
}

fn into(
    dst: &mut [f32],
    accumulate: bool,
    alpha: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallelism: Parallelism,
) {
    assert_eq!(dst.len(), a.rows * b.cols, "the product of {}×{} and {}×{}", a.rows, a.cols, b.rows, b.cols);
    // SAFETY: `dst` has room for the product, holds numbers, and its borrow is exclusive.
    unsafe { multiply(dst.as_mut_ptr(), accumulate, alpha, a, b, parallelism) }
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
    // SAFETY: `Matrix` holds slices of exactly rows × cols elements reachable by its strides; for `dst` the caller vouches.
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
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (17, 64, 33), (50, 3, 129)] {
            let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let mut dst = start.clone();
            matmul(&mut dst, true, 0.5, Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            for i in 0..m {
                for j in 0..n {
                    let product: f64 =
                        (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum();
                    let expected = f64::from(start[i * n + j]) + 0.5 * product;
                    assert!((f64::from(dst[i * n + j]) - expected).abs() < 1e-4, "{m}x{k}x{n} at {i},{j}");
                }
            }
            let mut transposed = vec![0f32; m * n];
            let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            matmul(&mut transposed, false, 1.0, Matrix::new(&a, m, k), Matrix::new(&bt, n, k).t());
            for (x, (y, s)) in transposed.iter().zip(dst.iter().zip(&start)) {
                assert!((x * 0.5 + s - y).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_product_does_not_depend_on_the_number_of_threads() {
        let (m, k, n) = (203, 301, 151);
        let (a, b) = (numbers(m * k, 4), numbers(k * n, 5));
        let product = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut dst = vec![0f32; m * n];
            pool.install(|| matmul(&mut dst, false, 1.0, Matrix::new(&a, m, k), Matrix::new(&b, k, n)));
            dst
        };
        let one = product(1);
        for threads in [2, 3, 5] {
            assert_eq!(one, product(threads), "{threads} threads");
        }
    }
}
