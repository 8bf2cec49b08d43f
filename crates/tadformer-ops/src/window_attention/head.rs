//! The arithmetic of one head in one window, all of it in the first-level cache.

use super::pattern::Pattern;
use crate::elementary::exp;
use crate::simd::{for_vectors, lane_max, lane_sum, lane_sum2};
use crate::small_matmul::{Rows, TILE, padded, small_matmul};
use crate::vector::{Level, Vector};

/// One thread's matrices for one head of one window. Rows are prompts, then tokens, then what pads the window.
pub(super) struct Scratch {
    /// Prompts and places in the window.
    pub(super) used: usize,
    /// Columns of the square matrices: `used` in whole vectors.
    pub(super) width: usize,
    /// Features of a head in whole vectors; what is beyond them is zero.
    pub(super) dim: usize,
    /// Queries, `(used, dim)`.
    pub(super) q: Vec<f32>,
    /// Keys, `(used, dim)`; filled for the backward.
    pub(super) k: Vec<f32>,
    /// Keys, `(dim, width)`.
    pub(super) kt: Vec<f32>,
    /// Values, `(used, dim)`; filled for the forward.
    pub(super) v: Vec<f32>,
    /// Values, `(dim, width)`; filled for the backward.
    pub(super) vt: Vec<f32>,
    /// Output of the head or its gradient, `(used, dim)`.
    pub(super) o: Vec<f32>,
    /// Raw scores, later the gradient of the probabilities and then of the scores, `(used, width)`.
    pub(super) s: Vec<f32>,
    /// Probabilities, `(used, width)`.
    pub(super) p: Vec<f32>,
    /// Gradients of queries, keys and values, `(used, dim)` each.
    pub(super) dq: Vec<f32>,
    pub(super) dk: Vec<f32>,
    pub(super) dv: Vec<f32>,
}

impl Scratch {
    /// For windows of up to `most` prompts and places and heads of `head_dim` features.
    pub(super) fn new(most: usize, head_dim: usize) -> Self {
        let (n, dim) = (padded(most), padded(head_dim));
        let tall = || vec![0f32; n * dim];
        let square = || vec![0f32; n * n];
        Self {
            used: 0,
            width: 0,
            dim,
            q: tall(),
            k: tall(),
            kt: tall(),
            v: tall(),
            vt: tall(),
            o: tall(),
            s: square(),
            p: square(),
            dq: tall(),
            dk: tall(),
            dv: tall(),
        }
    }

    /// Gets ready for a window of `used` prompts and places.
    pub(super) fn size(&mut self, used: usize) {
        if self.used != used {
            (self.used, self.width) = (used, padded(used));
            // The transposed matrices have rows of another length now; their padding must be zero again.
            self.kt.fill(0.0);
            self.vt.fill(0.0);
        }
    }

    /// Rows of the products: `used` in whole tiles.
    #[inline(always)]
    fn rows(&self) -> usize {
        self.used.next_multiple_of(TILE)
    }

    /// `s = q kᵀ` and `p = softmax(s · scale + bias)`.
    #[inline(always)]
    pub(super) fn probabilities<V: Vector>(
        &mut self,
        level: Level<V>,
        pattern: &Pattern,
        head: usize,
        scale: f32,
    ) {
        let (used, width, dim, rows) = (self.used, self.width, self.dim, self.rows());
        let (q, kt) = (Rows { data: &self.q, row: dim }, Rows { data: &self.kt, row: width });
        small_matmul::<false>((rows, dim, width), q, kt, (&mut self.s, width));
        let bias = pattern.bias(head, used * width).chunks_exact(width);
        for ((s, p), bias) in self.s.chunks_exact(width).zip(self.p.chunks_exact_mut(width)).zip(bias) {
            let scale = level.splat(scale);
            for_vectors(level, p, [s, bias], |_, [s, bias]| s.mul_add(scale, bias));
            let most = lane_max(p);
            p.iter_mut().for_each(|p| *p = exp::<V>(*p - most));
            let sum = level.splat(lane_sum(p, |p| p));
            for_vectors(level, p, [], |p, []| p.div(sum));
        }
    }

    /// `o = p v`.
    #[inline(always)]
    pub(super) fn output(&mut self) {
        let (used, width, dim, rows) = (self.used, self.width, self.dim, self.rows());
        let (p, v) = (Rows { data: &self.p, row: width }, Rows { data: &self.v, row: dim });
        small_matmul::<false>((rows, used, dim), p, v, (&mut self.o, dim));
    }

    /// From `p` and the gradient of the output in `o`: the gradient of the scaled scores in `s`, and `dv`.
    #[inline(always)]
    pub(super) fn backward_softmax<V: Vector>(&mut self, level: Level<V>) {
        let (used, width, dim, rows) = (self.used, self.width, self.dim, self.rows());
        let (p, o) = (Rows { data: &self.p, row: width }, Rows { data: &self.o, row: dim });
        small_matmul::<true>((width, used, dim), p, o, (&mut self.dv, dim));
        let vt = Rows { data: &self.vt, row: width };
        small_matmul::<false>((rows, dim, width), o, vt, (&mut self.s, width));
        for (dp, p) in self.s.chunks_exact_mut(width).zip(self.p.chunks_exact(width)).take(used) {
            let mean = level.splat(lane_sum2(p, dp, |p, dp| p * dp));
            for_vectors(level, dp, [p], |dp, [p]| p.mul(dp.sub(mean)));
        }
    }

    /// From the gradient of the raw scores in `s`: `dq = s k`, `dk = sᵀ q`.
    #[inline(always)]
    pub(super) fn backward_scores(&mut self) {
        let (used, width, dim, rows) = (self.used, self.width, self.dim, self.rows());
        let s = Rows { data: &self.s, row: width };
        let (q, k) = (Rows { data: &self.q, row: dim }, Rows { data: &self.k, row: dim });
        small_matmul::<false>((rows, used, dim), s, k, (&mut self.dq, dim));
        small_matmul::<true>((width, used, dim), s, q, (&mut self.dk, dim));
    }
}

/// Writes `row` down column `at` of a matrix in rows of `width`.
#[inline(always)]
pub(super) fn write_column(matrix: &mut [f32], width: usize, at: usize, row: &[f32]) {
    for (x, y) in matrix[at..].iter_mut().step_by(width).zip(row) {
        *x = *y;
    }
}
