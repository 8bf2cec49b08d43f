//! Window attention on slices: one task a window, all its heads.

use super::head::{Scratch, write_column};
use super::pattern::{Pattern, Window};
use crate::Windows;
use crate::rows::{SharedRows, copy_into, fresh, zeros};
use crate::simd::{Kernel, for_vectors, vectorize};
use crate::vector::{Level, Vector};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// The sizes of one call and its windows.
pub(super) struct Problem {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) prompts: usize,
    heads: usize,
    tokens: usize,
    windows: Vec<Window>,
    patterns: Vec<Pattern>,
}

pub(super) struct Outputs {
    pub(super) context: Vec<f32>,
    pub(super) prompts: Vec<f32>,
    pub(super) scores: Vec<f32>,
}

/// Gradients of the outputs; an absent one is zero.
#[derive(Clone, Copy)]
pub(super) struct Gradients<'a> {
    pub(super) context: Option<&'a [f32]>,
    pub(super) prompts: Option<&'a [f32]>,
    pub(super) scores: Option<&'a [f32]>,
}

pub(super) struct InputGradients {
    pub(super) qkv: Vec<f32>,
    pub(super) prompts: Vec<f32>,
    pub(super) padding: Vec<f32>,
    pub(super) table: Vec<f32>,
}

/// What a window adds to the gradients of what all windows share.
struct WindowGradients {
    /// Of its image's prompts, `(t, 3c)`.
    prompts: Vec<f32>,
    /// `(3c)`, or nothing.
    padding: Vec<f32>,
    /// `(heads, entries)`.
    table: Vec<f32>,
}

/// Rows of an output that nothing wrote before.
type FreshRows<'a> = SharedRows<'a, MaybeUninit<f32>>;

/// Queries, keys and values of tokens, of prompts, and of every place beyond the grid's edge; the last is empty where none of
/// those takes part.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) qkv: &'a [f32],
    pub(super) prompts: &'a [f32],
    pub(super) padding: &'a [f32],
}

impl Problem {
    /// For a bias table of side `span` = `2m − 1`, whose values are `table`; with `padded`, places beyond the grid's edge take
    /// part.
    pub(super) fn new(
        (batch, channels, heads, prompts): (usize, usize, usize, usize),
        (span, table): (usize, &[f32]),
        windows: &Windows,
        padded: bool,
    ) -> Self {
        let (h, w) = windows.grid();
        let (windows, mut patterns) = Pattern::of(windows, padded, span);
        patterns.par_iter_mut().for_each(|pattern| pattern.fill(table, heads, prompts));
        Self { batch, channels, prompts, heads, tokens: h * w, windows, patterns }
    }

    pub(super) fn forward(&self, inputs: Inputs<'_>) -> Outputs {
        let (c, t, heads) = (self.channels, self.prompts, self.heads);
        let tokens = self.batch * self.tokens;
        let (mut scores, mut per_window) = (Vec::new(), Vec::new());
        let attend = |context: &mut [MaybeUninit<f32>], scores: &mut [MaybeUninit<f32>]| {
            let context = SharedRows::new(context, c);
            let scores = SharedRows::new(scores, t * heads);
            let window = |scratch: &mut Scratch, (image, window): (usize, &Window)| {
                let mut prompt_rows = vec![0f32; t * c];
                let outputs = (&context, &scores, &mut prompt_rows[..]);
                vectorize(ForwardWindow(self, scratch, inputs, outputs, (image, window)));
                prompt_rows
            };
            self.tasks().map_init(|| self.scratch(), window).collect()
        };
        // SAFETY: every token lies in a window of its image, and all heads of it are written.
        let context = unsafe {
            fresh(tokens * c, |context| {
                scores = fresh(tokens * t * heads, |scores| per_window = attend(context, scores));
            })
        };
        let mut means = sum_by_image(&per_window, self.batch, t * c);
        let share = 1.0 / self.windows.len() as f32;
        means.iter_mut().for_each(|x| *x *= share);
        Outputs { context, prompts: means, scores }
    }

    pub(super) fn backward(
        &self,
        inputs: Inputs<'_>,
        entries: usize,
        grads: Gradients<'_>,
    ) -> InputGradients {
        let (c, t, heads) = (self.channels, self.prompts, self.heads);
        let mut dqkv = zeros(inputs.qkv.len());
        let dqkv_rows = SharedRows::new(&mut dqkv, 3 * c);
        let per_window: Vec<WindowGradients> = self
            .tasks()
            .map_init(
                || self.scratch(),
                |scratch, (image, window)| {
                    let mut sums = WindowGradients {
                        prompts: vec![0f32; t * 3 * c],
                        padding: vec![0f32; inputs.padding.len()],
                        table: vec![0f32; heads * entries],
                    };
                    let outputs = (&dqkv_rows, &mut sums);
                    vectorize(BackwardWindow(self, scratch, inputs, grads, outputs, (image, window)));
                    sums
                },
            )
            .collect();
        let mut padding = vec![0f32; inputs.padding.len()];
        let mut by_head = vec![0f32; heads * entries];
        for part in &per_window {
            add(&mut padding, &part.padding);
            add(&mut by_head, &part.table);
        }
        let table = (0..entries * heads).map(|i| by_head[i % heads * entries + i / heads]).collect();
        let dprompts: Vec<_> = per_window.into_iter().map(|part| part.prompts).collect();
        let prompts = sum_by_image(&dprompts, self.batch, t * 3 * c);
        InputGradients { qkv: dqkv, prompts, padding, table }
    }

    /// Every (image, window), in order.
    fn tasks(&self) -> impl IndexedParallelIterator<Item = (usize, &Window)> {
        let count = self.windows.len();
        (0..self.batch * count).into_par_iter().map(move |i| (i / count, &self.windows[i % count]))
    }

    fn scratch(&self) -> Scratch {
        let largest = self.windows.iter().map(Window::places).max().unwrap_or(0);
        Scratch::new(self.prompts + largest, self.head_dim())
    }

    fn head_dim(&self) -> usize {
        self.channels / self.heads
    }

    /// Factor of the scores, `1/√d`.
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim() as f32).sqrt()
    }

    /// Copies one head's queries, keys and values of a window as the forward, or with `BACKWARD` the backward, wants them.
    #[inline(always)]
    fn gather<V: Vector, const BACKWARD: bool>(
        &self,
        level: Level<V>,
        scratch: &mut Scratch,
        inputs: Inputs<'_>,
        image: usize,
        window: &Window,
        head: usize,
    ) {
        let (c, d, t) = (self.channels, self.head_dim(), self.prompts);
        scratch.size(t + window.places());
        let (width, dim, at) = (scratch.width, scratch.dim, head * d);
        for i in 0..scratch.used {
            let source = if i < t {
                &inputs.prompts[(image * t + i) * 3 * c..][..3 * c]
            } else if let Some(token) = window.tokens.get(i - t) {
                &inputs.qkv[(image * self.tokens + token) * 3 * c..][..3 * c]
            } else {
                inputs.padding
            };
            let [q, k, v] = [at, c + at, 2 * c + at].map(|start| &source[start..][..d]);
            let copy = |to: &mut [f32], from: &[f32]| for_vectors(level, to, [from], |_, [x]| x);
            copy(&mut scratch.q[i * dim..][..d], q);
            write_column(&mut scratch.kt, width, i, k);
            if BACKWARD {
                copy(&mut scratch.k[i * dim..][..d], k);
                write_column(&mut scratch.vt, width, i, v);
            } else {
                copy(&mut scratch.v[i * dim..][..d], v);
            }
        }
    }

    #[inline(always)]
    fn write_outputs(
        &self,
        scratch: &Scratch,
        (context, scores, prompt_rows): (&FreshRows<'_>, &FreshRows<'_>, &mut [f32]),
        (image, window): (usize, &Window),
        head: usize,
    ) {
        let (c, d, t) = (self.channels, self.head_dim(), self.prompts);
        let output = |i: usize| &scratch.o[i * scratch.dim..][..d];
        for (i, row) in prompt_rows.chunks_exact_mut(c).enumerate() {
            row[head * d..][..d].copy_from_slice(output(i));
        }
        for (i, token) in window.tokens.iter().enumerate() {
            let token = image * self.tokens + token;
            // SAFETY: a token lies in one window of its image, and each window is one task.
            let (context, scores) = unsafe { (context.row(token), scores.row(token)) };
            copy_into(&mut context[head * d..][..d], output(t + i));
            for prompt in 0..t {
                scores[prompt * self.heads + head].write(scratch.s[prompt * scratch.width + t + i]);
            }
        }
    }

    /// Copies the gradient of one head's output rows into `o`.
    #[inline(always)]
    fn gather_gradient(
        &self,
        scratch: &mut Scratch,
        grads: Gradients<'_>,
        (image, window): (usize, &Window),
        head: usize,
    ) {
        let (c, d, t, dim) = (self.channels, self.head_dim(), self.prompts, scratch.dim);
        let share = 1.0 / self.windows.len() as f32;
        for i in 0..t {
            let row = &mut scratch.o[i * dim..][..d];
            match grads.prompts {
                Some(g) => {
                    let g = &g[(image * t + i) * c + head * d..][..d];
                    row.iter_mut().zip(g).for_each(|(x, g)| *x = g * share);
                }
                None => row.fill(0.0),
            }
        }
        for (i, token) in window.tokens.iter().enumerate() {
            let row = &mut scratch.o[(t + i) * dim..][..d];
            match grads.context {
                Some(g) => row.copy_from_slice(&g[(image * self.tokens + token) * c + head * d..][..d]),
                None => row.fill(0.0),
            }
        }
        // Nobody sees what padding attends to.
        for row in scratch.o.chunks_exact_mut(dim).take(scratch.used).skip(t + window.tokens.len()) {
            row.fill(0.0);
        }
    }

    /// Turns the gradient of the scaled scores in `s` into that of the raw ones, and adds it to the table's.
    #[inline(always)]
    fn unscale(
        &self,
        scratch: &mut Scratch,
        grads: Gradients<'_>,
        dtable: &mut [f32],
        (image, window): (usize, &Window),
        head: usize,
    ) {
        let (t, used, scale) = (self.prompts, scratch.used, self.scale());
        let pattern = &self.patterns[window.pattern];
        for (i, row) in scratch.s.chunks_exact_mut(scratch.width).take(used).enumerate() {
            if i >= t {
                for (ds, offset) in row[t..used].iter().zip(pattern.offsets(i - t)) {
                    dtable[*offset as usize] += ds;
                }
            }
            row.iter_mut().for_each(|x| *x *= scale);
            if i < t
                && let Some(g) = grads.scores
            {
                for (x, token) in row[t..used].iter_mut().zip(&window.tokens) {
                    *x += g[((image * self.tokens + token) * t + i) * self.heads + head];
                }
            }
        }
    }

    #[inline(always)]
    fn write_gradients(
        &self,
        scratch: &Scratch,
        (dqkv, dprompts, dpadding): (&SharedRows<'_>, &mut [f32], &mut [f32]),
        (image, window): (usize, &Window),
        head: usize,
    ) {
        let (c, d, t) = (self.channels, self.head_dim(), self.prompts);
        let parts = [&scratch.dq, &scratch.dk, &scratch.dv];
        let write = |row: &mut [f32], i: usize| {
            for (part, grad) in parts.into_iter().enumerate() {
                row[part * c + head * d..][..d].copy_from_slice(&grad[i * scratch.dim..][..d]);
            }
        };
        for i in t + window.tokens.len()..scratch.used {
            for (part, grad) in parts.into_iter().enumerate() {
                add(&mut dpadding[part * c + head * d..][..d], &grad[i * scratch.dim..][..d]);
            }
        }
        dprompts.chunks_exact_mut(3 * c).enumerate().for_each(|(i, row)| write(row, i));
        for (i, token) in window.tokens.iter().enumerate() {
            // SAFETY: a token lies in one window of its image, and each window is one task.
            write(unsafe { dqkv.row(image * self.tokens + token) }, t + i);
        }
    }
}

/// All heads of one window.
struct ForwardWindow<'a>(
    &'a Problem,
    &'a mut Scratch,
    Inputs<'a>,
    (&'a FreshRows<'a>, &'a FreshRows<'a>, &'a mut [f32]),
    (usize, &'a Window),
);

impl Kernel for ForwardWindow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, level: Level<V>) {
        let Self(problem, scratch, inputs, (context, scores, prompt_rows), (image, window)) = self;
        for head in 0..problem.heads {
            problem.gather::<V, false>(level, scratch, inputs, image, window, head);
            scratch.probabilities(level, &problem.patterns[window.pattern], head, problem.scale());
            scratch.output();
            problem.write_outputs(scratch, (context, scores, prompt_rows), (image, window), head);
        }
    }
}

/// All heads of one window, backwards.
struct BackwardWindow<'a>(
    &'a Problem,
    &'a mut Scratch,
    Inputs<'a>,
    Gradients<'a>,
    (&'a SharedRows<'a>, &'a mut WindowGradients),
    (usize, &'a Window),
);

impl Kernel for BackwardWindow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, level: Level<V>) {
        let Self(problem, scratch, inputs, grads, (dqkv, sums), (image, window)) = self;
        let WindowGradients { prompts, padding, table } = sums;
        let entries = table.len() / problem.heads;
        for (head, dtable) in table.chunks_exact_mut(entries).enumerate() {
            problem.gather::<V, true>(level, scratch, inputs, image, window, head);
            scratch.probabilities(level, &problem.patterns[window.pattern], head, problem.scale());
            problem.gather_gradient(scratch, grads, (image, window), head);
            scratch.backward_softmax(level);
            problem.unscale(scratch, grads, dtable, (image, window), head);
            scratch.backward_scores();
            problem.write_gradients(scratch, (dqkv, prompts, padding), (image, window), head);
        }
    }
}

/// Adds the parts of each image's windows, in their order.
fn sum_by_image(parts: &[Vec<f32>], batch: usize, width: usize) -> Vec<f32> {
    let mut sums = vec![0f32; batch * width];
    if sums.is_empty() {
        return sums;
    }
    for (sum, parts) in sums.chunks_exact_mut(width).zip(parts.chunks_exact(parts.len() / batch)) {
        parts.iter().for_each(|part| add(sum, part));
    }
    sums
}

#[inline(always)]
fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
}
