//! Window attention on slices: one task a window, all its heads; every product in the first-level cache.

use crate::Windows;
use crate::elementary::exp;
use crate::simd::{lane_sum, vectorize};
use crate::small_matmul::{padded, small_matmul, transpose};
use crate::windows::Place;
use rayon::prelude::*;

/// What the mask adds between tokens that the cyclic shift brought together.
const MASKED: f32 = -100.0;

/// The sizes of one call and the places of its windows.
pub(super) struct Problem {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) prompts: usize,
    heads: usize,
    /// Side of the bias table, `2m − 1`.
    span: usize,
    tokens: usize,
    windows: Vec<Vec<Place>>,
}

pub(super) struct Outputs {
    pub(super) context: Vec<f32>,
    pub(super) prompts: Vec<f32>,
    pub(super) scores: Vec<f32>,
}

/// Gradients of the outputs; an absent one is zero.
pub(super) struct Gradients<'a> {
    pub(super) context: Option<&'a [f32]>,
    pub(super) prompts: Option<&'a [f32]>,
    pub(super) scores: Option<&'a [f32]>,
}

pub(super) struct InputGradients {
    pub(super) qkv: Vec<f32>,
    pub(super) prompts: Vec<f32>,
    pub(super) table: Vec<f32>,
}

impl Problem {
    pub(super) fn new(
        batch: usize,
        channels: usize,
        heads: usize,
        prompts: usize,
        span: usize,
        windows: &Windows,
    ) -> Self {
        let (h, w) = windows.grid();
        let windows = (0..windows.count()).map(|i| windows.places(i)).collect();
        Self { batch, channels, prompts, heads, span, tokens: h * w, windows }
    }

    pub(super) fn forward(&self, qkv: &[f32], prompts: &[f32], table: &[f32]) -> Outputs {
        let (c, t, heads) = (self.channels, self.prompts, self.heads);
        let mut context = vec![0f32; self.batch * self.tokens * c];
        let mut scores = vec![0f32; self.batch * self.tokens * t * heads];
        let context_rows = SharedRows::new(&mut context, c);
        let score_rows = SharedRows::new(&mut scores, t * heads);
        let per_window: Vec<Vec<f32>> = self
            .tasks()
            .map_init(
                || Scratch::new(self),
                |scratch, (image, window)| {
                    let mut prompt_rows = vec![0f32; t * c];
                    let outputs = (&context_rows, &score_rows, &mut prompt_rows[..]);
                    vectorize(forward_window, (self, scratch, (qkv, prompts, table), outputs, image, window));
                    prompt_rows
                },
            )
            .collect();
        let mut means = sum_by_image(&per_window, self.batch, t * c);
        let share = 1.0 / self.windows.len() as f32;
        means.iter_mut().for_each(|x| *x *= share);
        Outputs { context, prompts: means, scores }
    }

    pub(super) fn backward(
        &self,
        qkv: &[f32],
        prompts: &[f32],
        table: &[f32],
        grads: &Gradients<'_>,
    ) -> InputGradients {
        let (c, t) = (self.channels, self.prompts);
        let mut dqkv = vec![0f32; qkv.len()];
        let dqkv_rows = SharedRows::new(&mut dqkv, 3 * c);
        let per_window: Vec<(Vec<f32>, Vec<f32>)> = self
            .tasks()
            .map_init(
                || Scratch::new(self),
                |scratch, (image, window)| {
                    let mut dprompts = vec![0f32; t * 3 * c];
                    let mut dtable = vec![0f32; table.len()];
                    let outputs = (&dqkv_rows, &mut dprompts[..], &mut dtable[..]);
                    vectorize(
                        backward_window,
                        (self, scratch, (qkv, prompts, table), grads, outputs, (image, window)),
                    );
                    (dprompts, dtable)
                },
            )
            .collect();
        let (dprompts, dtables): (Vec<_>, Vec<_>) = per_window.into_iter().unzip();
        let mut dtable = vec![0f32; table.len()];
        for part in &dtables {
            dtable.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        InputGradients { qkv: dqkv, prompts: sum_by_image(&dprompts, self.batch, t * 3 * c), table: dtable }
    }

    /// Every (image, window), in order.
    fn tasks(&self) -> impl IndexedParallelIterator<Item = (usize, &[Place])> {
        let count = self.windows.len();
        (0..self.batch * count).into_par_iter().map(move |i| (i / count, self.windows[i % count].as_slice()))
    }

    fn head_dim(&self) -> usize {
        self.channels / self.heads
    }

    /// Copies one head's queries, keys (transposed) and values of a window, prompts first.
    #[inline(always)]
    fn gather(
        &self,
        scratch: &mut Scratch,
        qkv: &[f32],
        prompts: &[f32],
        image: usize,
        window: &[Place],
        head: usize,
    ) {
        let (c, d, t) = (self.channels, self.head_dim(), self.prompts);
        scratch.size(t + window.len());
        let (rows, width) = (scratch.rows, scratch.dim);
        for i in 0..scratch.used {
            let source = if i < t {
                &prompts[(image * t + i) * 3 * c..]
            } else {
                &qkv[(image * self.tokens + window[i - t].token) * 3 * c..]
            };
            let at = head * d;
            scratch.q[i * width..][..d].copy_from_slice(&source[at..at + d]);
            scratch.k[i * width..][..d].copy_from_slice(&source[c + at..c + at + d]);
            scratch.v[i * width..][..d].copy_from_slice(&source[2 * c + at..2 * c + at + d]);
        }
        for matrix in [&mut scratch.q, &mut scratch.k, &mut scratch.v] {
            matrix[scratch.used * width..rows * width].fill(0.0);
        }
        transpose((rows, width), (&scratch.k, width), (&mut scratch.kt, rows));
    }

    /// Fills `s` with raw scores and `p` with probabilities; rows and columns of the padding are zero.
    #[inline(always)]
    fn probabilities(&self, scratch: &mut Scratch, table: &[f32], window: &[Place], head: usize) {
        let (t, n, used) = (self.prompts, scratch.rows, scratch.used);
        small_matmul((n, scratch.dim, n), (&scratch.q, scratch.dim), (&scratch.kt, n), (&mut scratch.s, n));
        let scale = 1.0 / (self.head_dim() as f32).sqrt();
        scratch.p[used * n..n * n].fill(0.0);
        for i in 0..used {
            let (s, p) = (&scratch.s[i * n..][..n], &mut scratch.p[i * n..][..n]);
            for j in 0..used {
                p[j] = s[j] * scale;
            }
            if i >= t {
                let from = window[i - t];
                for (p, to) in p[t..used].iter_mut().zip(window) {
                    let mask = if from.region == to.region { 0.0 } else { MASKED };
                    *p += table[self.bias(from, *to) * self.heads + head] + mask;
                }
            }
            let max = p[..used].iter().fold(f32::NEG_INFINITY, |max, x| max.max(*x));
            p[..used].iter_mut().for_each(|x| *x = exp(*x - max));
            p[used..].fill(0.0);
            let sum = lane_sum(n, |j| p[j]);
            p.iter_mut().for_each(|x| *x /= sum);
        }
    }

    /// Row of the bias table for a query at `from` and a key at `to`.
    #[inline(always)]
    fn bias(&self, from: Place, to: Place) -> usize {
        let middle = self.span / 2;
        (from.row + middle - to.row) * self.span + from.col + middle - to.col
    }

    #[inline(always)]
    fn write_scores(
        &self,
        scratch: &Scratch,
        scores: &SharedRows<'_>,
        image: usize,
        window: &[Place],
        head: usize,
    ) {
        let t = self.prompts;
        for (j, place) in window.iter().enumerate() {
            // SAFETY: a token lies in one window of its image, and each window is one task.
            let row = unsafe { scores.row(image * self.tokens + place.token) };
            for i in 0..t {
                row[i * self.heads + head] = scratch.s[i * scratch.rows + t + j];
            }
        }
    }

    #[inline(always)]
    fn write_context(
        &self,
        scratch: &Scratch,
        context: &SharedRows<'_>,
        prompt_rows: &mut [f32],
        image: usize,
        window: &[Place],
        head: usize,
    ) {
        let (c, d, t) = (self.channels, self.head_dim(), self.prompts);
        for i in 0..scratch.used {
            let row = if i < t {
                &mut prompt_rows[i * c..][..c]
            } else {
                // SAFETY: a token lies in one window of its image, and each window is one task.
                unsafe { context.row(image * self.tokens + window[i - t].token) }
            };
            row[head * d..][..d].copy_from_slice(&scratch.o[i * scratch.dim..][..d]);
        }
    }

    /// Copies the gradient of one head's output rows into `o`.
    #[inline(always)]
    fn gather_gradient(
        &self,
        scratch: &mut Scratch,
        grads: &Gradients<'_>,
        image: usize,
        window: &[Place],
        head: usize,
    ) {
        let (c, d, t, width) = (self.channels, self.head_dim(), self.prompts, scratch.dim);
        let share = 1.0 / self.windows.len() as f32;
        scratch.o.fill(0.0);
        for i in 0..scratch.used {
            let row = &mut scratch.o[i * width..][..d];
            if i < t {
                if let Some(g) = grads.prompts {
                    let g = &g[(image * t + i) * c + head * d..][..d];
                    row.iter_mut().zip(g).for_each(|(x, g)| *x = g * share);
                }
            } else if let Some(g) = grads.context {
                row.copy_from_slice(&g[(image * self.tokens + window[i - t].token) * c + head * d..][..d]);
            }
        }
    }

    /// From `p` and the gradient in `o` to the gradients of `q`, `k`, `v` (left in `dq`, `dk`, `dv`) and of the table.
    #[inline(always)]
    fn backward_head(
        &self,
        scratch: &mut Scratch,
        grads: &Gradients<'_>,
        dtable: &mut [f32],
        image: usize,
        window: &[Place],
        head: usize,
    ) {
        let (t, n, d, used) = (self.prompts, scratch.rows, scratch.dim, scratch.used);
        let Scratch { q, k, v, kt, s, p, pt, o, dq, dk, dv, .. } = scratch;
        // dv = pᵀ do
        transpose((n, n), (p, n), (pt, n));
        small_matmul((n, n, d), (pt, n), (o, d), (dv, d));
        // dp = do vᵀ, into `s`; `kt` is free to hold vᵀ.
        transpose((n, d), (v, d), (kt, n));
        small_matmul((n, d, n), (o, d), (kt, n), (s, n));
        let scale = 1.0 / (self.head_dim() as f32).sqrt();
        for i in 0..used {
            let (dp, p) = (&mut s[i * n..][..n], &p[i * n..][..n]);
            let mean = lane_sum(n, |j| p[j] * dp[j]);
            for j in 0..n {
                dp[j] = p[j] * (dp[j] - mean);
            }
            if i >= t {
                for (ds, to) in dp[t..used].iter().zip(window) {
                    dtable[self.bias(window[i - t], *to) * self.heads + head] += ds;
                }
            }
            dp.iter_mut().for_each(|x| *x *= scale);
            if i < t
                && let Some(g) = grads.scores
            {
                for (x, to) in dp[t..used].iter_mut().zip(window) {
                    *x += g[((image * self.tokens + to.token) * t + i) * self.heads + head];
                }
            }
        }
        s[used * n..n * n].fill(0.0);
        // dq = ds k, dk = dsᵀ q
        small_matmul((n, n, d), (s, n), (k, d), (dq, d));
        transpose((n, n), (s, n), (pt, n));
        small_matmul((n, n, d), (pt, n), (q, d), (dk, d));
    }

    #[inline(always)]
    fn write_gradients(
        &self,
        scratch: &Scratch,
        dqkv: &SharedRows<'_>,
        dprompts: &mut [f32],
        image: usize,
        window: &[Place],
        head: usize,
    ) {
        let (c, d, t) = (self.channels, self.head_dim(), self.prompts);
        for i in 0..scratch.used {
            let row = if i < t {
                &mut dprompts[i * 3 * c..][..3 * c]
            } else {
                // SAFETY: a token lies in one window of its image, and each window is one task.
                unsafe { dqkv.row(image * self.tokens + window[i - t].token) }
            };
            for (part, grad) in [&scratch.dq, &scratch.dk, &scratch.dv].into_iter().enumerate() {
                row[part * c + head * d..][..d].copy_from_slice(&grad[i * scratch.dim..][..d]);
            }
        }
    }
}

/// All heads of one window.
#[inline(always)]
fn forward_window(
    (problem, scratch, (qkv, prompts, table), (context, scores, prompt_rows), image, window): (
        &Problem,
        &mut Scratch,
        (&[f32], &[f32], &[f32]),
        (&SharedRows<'_>, &SharedRows<'_>, &mut [f32]),
        usize,
        &[Place],
    ),
) {
    for head in 0..problem.heads {
        problem.gather(scratch, qkv, prompts, image, window, head);
        problem.probabilities(scratch, table, window, head);
        problem.write_scores(scratch, scores, image, window, head);
        let (n, d) = (scratch.rows, scratch.dim);
        small_matmul((n, n, d), (&scratch.p, n), (&scratch.v, d), (&mut scratch.o, d));
        problem.write_context(scratch, context, prompt_rows, image, window, head);
    }
}

/// All heads of one window, backwards.
#[inline(always)]
fn backward_window(
    (problem, scratch, (qkv, prompts, table), grads, (dqkv, dprompts, dtable), (image, window)): (
        &Problem,
        &mut Scratch,
        (&[f32], &[f32], &[f32]),
        &Gradients<'_>,
        (&SharedRows<'_>, &mut [f32], &mut [f32]),
        (usize, &[Place]),
    ),
) {
    for head in 0..problem.heads {
        problem.gather(scratch, qkv, prompts, image, window, head);
        problem.probabilities(scratch, table, window, head);
        problem.gather_gradient(scratch, grads, image, window, head);
        problem.backward_head(scratch, grads, dtable, image, window, head);
        problem.write_gradients(scratch, dqkv, dprompts, image, window, head);
    }
}

/// One thread's matrices for one head of one window.
struct Scratch {
    /// Prompts and tokens in the window.
    used: usize,
    /// The same, padded.
    rows: usize,
    /// Features of a head, padded.
    dim: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    kt: Vec<f32>,
    v: Vec<f32>,
    o: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    s: Vec<f32>,
    p: Vec<f32>,
    pt: Vec<f32>,
}

impl Scratch {
    fn new(problem: &Problem) -> Self {
        let largest = problem.windows.iter().map(Vec::len).max().unwrap_or(0);
        let (n, d) = (padded(problem.prompts + largest), padded(problem.head_dim()));
        let tall = || vec![0f32; n * d];
        let square = || vec![0f32; n * n];
        Self {
            used: 0,
            rows: n,
            dim: d,
            q: tall(),
            k: tall(),
            kt: tall(),
            v: tall(),
            o: tall(),
            dq: tall(),
            dk: tall(),
            dv: tall(),
            s: square(),
            p: square(),
            pt: square(),
        }
    }

    fn size(&mut self, used: usize) {
        self.used = used;
        self.rows = padded(used);
    }
}

/// Rows of one buffer that several tasks write, each its own.
struct SharedRows<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    _borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: rows are handed out only through `row`, whose caller promises that no row is held twice.
unsafe impl Sync for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    fn new(buffer: &'a mut [f32], width: usize) -> Self {
        let rows = buffer.len().checked_div(width).unwrap_or(0);
        Self { start: buffer.as_mut_ptr(), rows, width, _borrow: std::marker::PhantomData }
    }

    /// Row `index`.
    ///
    /// # Safety
    /// Nobody else holds this row.
    #[expect(clippy::mut_from_ref, reason = "each row is exclusive by the caller's promise")]
    unsafe fn row(&self, index: usize) -> &mut [f32] {
        if self.width == 0 {
            return &mut [];
        }
        assert!(index < self.rows, "row {index} of {}", self.rows);
        // SAFETY: the row lies within the buffer, and the caller promises that it is held once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index * self.width), self.width) }
    }
}

/// Adds the parts of each image's windows, in their order.
fn sum_by_image(parts: &[Vec<f32>], batch: usize, width: usize) -> Vec<f32> {
    let mut sums = vec![0f32; batch * width];
    if width == 0 {
        return sums;
    }
    for (sum, parts) in sums.chunks_exact_mut(width).zip(parts.chunks_exact(parts.len() / batch)) {
        for part in parts {
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
    }
    sums
}
