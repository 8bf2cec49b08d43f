//! Products of a few rows with a matrix: prompts go through every linear layer that thousands of tokens go through.
//!
//! Such a product is as fast as the matrix is read. Packing would read it, write it, and read it again.

use crate::gemm::Matrix;
use crate::simd::{Kernel, LANES, fold, mul_add, vectorize};
use crate::vector::{Level, Vector};
use rayon::prelude::*;

/// Fewer rows than this are few: each is multiplied with a piece of the matrix while that is in the nearest cache.
pub(crate) const FEW: usize = 32;

/// Columns a task.
const COLUMNS: usize = 64;

/// Columns that are summed side by side: their sums do not wait for each other.
const ABREAST: usize = 4;

/// Whether [`add`] takes them: few rows, their numbers side by side, and those of the rows or the columns of `b`.
pub(crate) fn suit(x: Matrix<'_>, b: Matrix<'_>) -> bool {
    let ((m, k), (_, n)) = (x.shape(), b.shape());
    m * k * n > 0 && m < FEW && x.row(0).is_some() && (b.column(0).is_some() || b.row(0).is_some())
}

/// `dst += alpha · x b`, `dst` in row-major order, columns shared out among threads. Each number is summed in one order,
/// whatever their number. The matrices [`suit`].
pub(crate) fn add(alpha: f32, x: Matrix<'_>, b: Matrix<'_>, dst: &mut [f32]) {
    let (m, n) = (x.shape().0, b.shape().1);
    let rows: Vec<&[f32]> = (0..m).filter_map(|i| x.row(i)).collect();
    assert_eq!((rows.len(), dst.len()), (m, m * n), "rows that lie side by side, and room for the product");
    let block = |i: usize| {
        let first = i * COLUMNS;
        let mut sums = vec![0f32; m * COLUMNS.min(n - first)];
        if b.column(0).is_some() {
            vectorize(AlongColumns { rows: &rows, b, first, sums: &mut sums });
        } else {
            vectorize(AlongRows { rows: &rows, b, first, sums: &mut sums });
        }
        sums
    };
    let blocks: Vec<Vec<f32>> = (0..n.div_ceil(COLUMNS)).into_par_iter().map(block).collect();
    for (i, y) in dst.chunks_exact_mut(n).enumerate() {
        for (y, sums) in y.chunks_mut(COLUMNS).zip(&blocks) {
            let sums = &sums[i * y.len()..][..y.len()];
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y += alpha * sum);
        }
    }
}

/// Scalar products of rows with columns whose numbers lie side by side.
struct AlongColumns<'a> {
    rows: &'a [&'a [f32]],
    b: Matrix<'a>,
    first: usize,
    /// `(rows, columns)`.
    sums: &'a mut [f32],
}

impl Kernel for AlongColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let count = self.sums.len() / self.rows.len().max(1);
        for start in (0..count).step_by(ABREAST) {
            let last = count - 1;
            // The last group repeats its last column.
            let columns: [&[f32]; ABREAST] =
                std::array::from_fn(|j| self.b.column(self.first + last.min(start + j)).unwrap_or_default());
            for (i, row) in self.rows.iter().enumerate() {
                let products = dots::<V>(row, columns);
                for (j, product) in products.into_iter().enumerate().take(count - start) {
                    self.sums[i * count + start + j] = product;
                }
            }
        }
    }
}

#[inline(always)]
fn dots<V: Vector>(row: &[f32], columns: [&[f32]; ABREAST]) -> [f32; ABREAST] {
    let (xs, rest) = row.as_chunks::<LANES>();
    let [a, b, c, d] = columns;
    let [a_chunks, b_chunks, c_chunks, d_chunks] = [
        a.as_chunks::<LANES>().0,
        b.as_chunks::<LANES>().0,
        c.as_chunks::<LANES>().0,
        d.as_chunks::<LANES>().0,
    ];
    // Four arrays and not an array of four: the compiler keeps each in a register.
    let (mut sum_a, mut sum_b, mut sum_c, mut sum_d) =
        ([0f32; LANES], [0f32; LANES], [0f32; LANES], [0f32; LANES]);
    for ((((x, a), b), c), d) in xs.iter().zip(a_chunks).zip(b_chunks).zip(c_chunks).zip(d_chunks) {
        for i in 0..LANES {
            sum_a[i] = mul_add::<V>(x[i], a[i], sum_a[i]);
        }
        for i in 0..LANES {
            sum_b[i] = mul_add::<V>(x[i], b[i], sum_b[i]);
        }
        for i in 0..LANES {
            sum_c[i] = mul_add::<V>(x[i], c[i], sum_c[i]);
        }
        for i in 0..LANES {
            sum_d[i] = mul_add::<V>(x[i], d[i], sum_d[i]);
        }
    }
    let mut sums = [fold(sum_a), fold(sum_b), fold(sum_c), fold(sum_d)];
    for (sum, column) in sums.iter_mut().zip(columns) {
        for (x, w) in rest.iter().zip(&column[row.len() - rest.len()..]) {
            *sum = mul_add::<V>(*x, *w, *sum);
        }
    }
    sums
}

/// Multiples of rows of the matrix, whose numbers lie side by side, added up.
struct AlongRows<'a> {
    rows: &'a [&'a [f32]],
    b: Matrix<'a>,
    first: usize,
    /// `(rows, columns)`.
    sums: &'a mut [f32],
}

impl Kernel for AlongRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let count = self.sums.len() / self.rows.len().max(1);
        for l in 0..self.b.shape().0 {
            let ws = &self.b.row(l).unwrap_or_default()[self.first..][..count];
            for (row, sums) in self.rows.iter().zip(self.sums.chunks_exact_mut(count)) {
                let x = row[l];
                sums.iter_mut().zip(ws).for_each(|(sum, w)| *sum = mul_add::<V>(x, *w, *sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = crate::Rng::named(seed, "few rows", 0);
        (0..n).map(|_| rng.normal() as f32).collect()
    }

    #[test]
    fn they_match_the_triple_loop_whatever_the_number_of_threads() {
        for (m, k, n) in [(1, 1, 1), (4, 96, 288), (5, 37, 67), (31, 16, 130), (3, 7, 64)] {
            let (x, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            for matrix in [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).t()] {
                let found = [1, 3].map(|threads| {
                    let mut y = start.clone();
                    let x = Matrix::new(&x, m, k);
                    assert!(suit(x, matrix));
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| add(0.5, x, matrix, &mut y));
                    y
                });
                assert_eq!(found[0], found[1]);
                for (at, y) in found[0].iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let sum: f64 = (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(b[l * n + j])).sum();
                    let expected = f64::from(start[at]) + 0.5 * sum;
                    assert!(
                        (f64::from(*y) - expected).abs() < 1e-4,
                        "{m}x{k}x{n} at {i},{j}: {y} for {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn scattered_rows_and_many_are_left_to_others() {
        let numbers = numbers(FEW * 3, 4);
        let (few, many) = (Matrix::new(&numbers[..12], 4, 3), Matrix::new(&numbers, FEW, 3));
        let square = Matrix::new(&numbers[..9], 3, 3);
        assert!(suit(few, square) && suit(few, square.t()));
        assert!(!suit(many, square));
        assert!(!suit(few.t(), few));
    }
}
