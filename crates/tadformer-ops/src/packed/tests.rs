//! Products against the triple loop, from every start, in both precisions.

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
    let sizes = [(1, 1, 1), (13, 5, 7), (8, 64, 48), (23, 33, 81), (9, 1500, 112), (37, 16, 16), (3, 0, 4)];
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
            (Packed::new(precision, 0.5, Matrix::new(&turned, n, k).t()), Matrix::new(&x_turned, k, m).t()),
        ] {
            let mut there = base.clone();
            packed.add_to(x, &mut there);
            let mut space = Vec::with_capacity(m * n);
            let fresh = packed.write(x, Start::Zero, &mut space.spare_capacity_mut()[..m * n]);
            let in_blocks = product(&packed, rows, Start::Rows(&base));
            let biased = product(&packed, rows, Start::Row(&base[..n]));
            for (at, (i, j)) in (0..m * n).map(|at| (at, (at / n, at % n))) {
                let found = [there[at] - base[at], fresh[at], in_blocks[at] - base[at], biased[at] - base[j]];
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
fn column_by_column_and_row_by_row_are_the_same_bits() {
    // The last group of panels is not whole, nor is the last panel.
    let (m, k, n) = (13, 300, 1801);
    let (x, b, base) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
    let packed = Packed::new(Precision::F32, 1.0, Matrix::new(&b, k, n));
    assert!(packed.outweighs(m));
    let x_turned: Vec<f32> = (0..m * k).map(|at| x[at % m * k + at / m]).collect();
    for start in [Start::Zero, Start::Row(&base[..n]), Start::Rows(&base)] {
        let mut space = Vec::with_capacity(m * n);
        let by_rows = packed.write(Matrix::new(&x, m, k), start, &mut space.spare_capacity_mut()[..m * n]);
        assert_eq!(product(&packed, Matrix::new(&x, m, k), start), by_rows);
        assert_eq!(product(&packed, Matrix::new(&x_turned, k, m).t(), start), by_rows);
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
