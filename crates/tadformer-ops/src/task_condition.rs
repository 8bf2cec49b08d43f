//! The product of a task's attention map with the attention output, head by head.

use crate::elementary::{gelu, gelu_slope};
use crate::host::read;
use crate::rows::make;
use crate::simd::{Kernel, lane_sum2, vectorize};
use crate::tape::{Output, record_one};
use crate::vector::{Level, Vector};
use candle_core::{Result, Tensor, bail};

/// `f_t = a_t ⊙ context` with `a_t` the mean of `GELU(scores)` over the prompts of task `t`; the map of a head scales that
/// head's channels. TADFormer (arXiv 2501.04293), task-prompt conditional operator.
///
/// Kept for the backward: both inputs.
///
/// # Shapes
/// - `scores` `(b, h, w, tasks · p, heads)`: raw prompt–token scores, prompt `t·p + j` belonging to task `t`
/// - `context` `(b, h, w, c)`, `c` a multiple of `heads`
/// - output `(tasks · b, h, w, c)`, task by task
///
/// # Errors
/// Shapes that do not fit, no task, prompt, head or channel, or tensors that are not `f32` on the CPU.
pub fn task_condition(scores: &Tensor, context: &Tensor, tasks: usize) -> Result<Tensor> {
    const OP: &str = "task condition";
    let (b, h, w, prompts, heads) = scores.dims5()?;
    let c = context.dims4()?.3;
    let shares = |whole: usize, parts: usize| whole > 0 && parts > 0 && whole.is_multiple_of(parts);
    if context.dims()[..3] != [b, h, w] || !shares(prompts, tasks) || !shares(c, heads) {
        bail!("{OP}: scores {:?} and context {:?} do not fit {tasks} tasks", scores.dims(), context.dims());
    }
    let (scores, context) = (scores.contiguous()?, context.contiguous()?);
    let tokens = b * h * w;
    let shape = Sizes { tokens, tasks, prompts, heads, channels: c };
    let ys = {
        let (s, x) = (read(OP, &scores)?, read(OP, &context)?);
        make(tasks * tokens * c, c, |first, block| vectorize(ForwardRows(shape, &s, &x, first, block)))
    };
    let (kept_scores, kept_context) = (scores.clone(), context.clone());
    record_one(OP, &[&scores, &context], Output::new(ys, (tasks * b, h, w, c)), move |grad| {
        let grad = grad.contiguous()?;
        let (s, x, g) = (read(OP, &kept_scores)?, read(OP, &kept_context)?, read(OP, &grad)?);
        let ds = make(s.len(), prompts * heads, |first, block| {
            vectorize(ScoreRows(shape, &s, &x, &g, first, block));
        });
        let dx = make(x.len(), c, |first, block| vectorize(ContextRows(shape, &s, &g, first, block)));
        let ds = Tensor::from_vec(ds, kept_scores.shape(), grad.device())?;
        let dx = Tensor::from_vec(dx, kept_context.shape(), grad.device())?;
        Ok(vec![Some(ds), Some(dx)])
    })
}

#[derive(Clone, Copy)]
struct Sizes {
    tokens: usize,
    tasks: usize,
    prompts: usize,
    heads: usize,
    channels: usize,
}

impl Sizes {
    fn per_task(self) -> usize {
        self.prompts / self.tasks
    }

    /// Scores of one token for the prompts of one task, `(p, heads)`.
    #[inline(always)]
    fn task_scores(self, scores: &[f32], token: usize, task: usize) -> &[f32] {
        let span = self.per_task() * self.heads;
        &scores[token * self.prompts * self.heads + task * span..][..span]
    }

    /// `a_t` of one token and head.
    #[inline(always)]
    fn map<V: Vector>(self, task_scores: &[f32], head: usize) -> f32 {
        let scores = (0..self.per_task()).map(|j| task_scores[j * self.heads + head]);
        scores.map(gelu::<V>).sum::<f32>() / self.per_task() as f32
    }
}

struct ForwardRows<'a>(Sizes, &'a [f32], &'a [f32], usize, &'a mut [f32]);

impl Kernel for ForwardRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(sizes, scores, context, first, ys) = self;
        let (c, d) = (sizes.channels, sizes.channels / sizes.heads);
        for (i, y) in ys.chunks_exact_mut(c).enumerate() {
            let (task, token) = ((first + i) / sizes.tokens, (first + i) % sizes.tokens);
            let (scores, x) = (sizes.task_scores(scores, token, task), &context[token * c..][..c]);
            for head in 0..sizes.heads {
                let map = sizes.map::<V>(scores, head);
                for k in head * d..(head + 1) * d {
                    y[k] = map * x[k];
                }
            }
        }
    }
}

/// `ds = GELU'(s) / p · Σ_channels g x`.
struct ScoreRows<'a>(Sizes, &'a [f32], &'a [f32], &'a [f32], usize, &'a mut [f32]);

impl Kernel for ScoreRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(sizes, scores, context, grads, first, ds) = self;
        let (c, d) = (sizes.channels, sizes.channels / sizes.heads);
        let width = sizes.prompts * sizes.heads;
        for (i, ds) in ds.chunks_exact_mut(width).enumerate() {
            let token = first + i;
            let x = &context[token * c..][..c];
            for (task, ds) in ds.chunks_exact_mut(sizes.per_task() * sizes.heads).enumerate() {
                let (s, g) = (
                    sizes.task_scores(scores, token, task),
                    &grads[(task * sizes.tokens + token) * c..][..c],
                );
                for head in 0..sizes.heads {
                    let range = head * d..(head + 1) * d;
                    let product = lane_sum2(&g[range.clone()], &x[range], |g, x| g * x);
                    for j in 0..sizes.per_task() {
                        let slope = gelu_slope::<V>(s[j * sizes.heads + head]);
                        ds[j * sizes.heads + head] = product * slope / sizes.per_task() as f32;
                    }
                }
            }
        }
    }
}

/// `dx = Σ_tasks a_t g_t`.
struct ContextRows<'a>(Sizes, &'a [f32], &'a [f32], usize, &'a mut [f32]);

impl Kernel for ContextRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(sizes, scores, grads, first, dx) = self;
        let (c, d) = (sizes.channels, sizes.channels / sizes.heads);
        for (i, dx) in dx.chunks_exact_mut(c).enumerate() {
            let token = first + i;
            for task in 0..sizes.tasks {
                let (s, g) = (
                    sizes.task_scores(scores, token, task),
                    &grads[(task * sizes.tokens + token) * c..][..c],
                );
                for head in 0..sizes.heads {
                    let map = sizes.map::<V>(s, head);
                    for k in head * d..(head + 1) * d {
                        dx[k] += map * g[k];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};

    fn composed(scores: &Tensor, context: &Tensor, tasks: usize) -> Result<Tensor> {
        let (b, h, w, prompts, heads) = scores.dims5()?;
        let c = context.dims4()?.3;
        let maps = scores.gelu_erf()?.reshape((b * h * w, tasks, prompts / tasks, heads))?.mean(2)?;
        let maps = maps.permute((1, 0, 2))?.unsqueeze(3)?; // (tasks, tokens, heads, 1)
        let context = context.reshape((1, b * h * w, heads, c / heads))?;
        maps.broadcast_mul(&context)?.reshape((tasks * b, h, w, c))
    }

    #[test]
    fn it_matches_the_composition_and_its_gradient_the_differences() {
        for (b, h, w, tasks, p, heads, d) in [(2, 3, 5, 4, 1, 2, 8), (1, 1, 7, 3, 2, 3, 5)] {
            let scores = named_tensor("scores", (b, h, w, tasks * p, heads), 0.0, 2.0).unwrap();
            let context = named_tensor("context", (b, h, w, heads * d), 0.0, 1.0).unwrap();
            let found = task_condition(&scores, &context, tasks).unwrap();
            assert_close("task condition", &found, &composed(&scores, &context, tasks).unwrap(), 2e-6);
            gradcheck("task condition", &[scores, context], 1e-2, |i| task_condition(&i[0], &i[1], tasks));
        }
    }
}
