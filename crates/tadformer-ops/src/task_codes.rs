//! The tasks' way through the first half of an MLP, without ever storing what lies inside it.

use crate::activation::{GeluBackwardStrip, GeluStrip};
use crate::gemm::{Matrix, matmul_serial};
use crate::host::read;
use crate::low_rank::{inner, tile_rows};
use crate::rows::{SharedRows, add_up};
use crate::simd::vectorize;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// `A₂ GELU(f + scale · B₁ z_t)` for every task: from the codes before the hidden layer to those before the next.
///
/// The hidden layer is four times as wide as a stream and there is one for every task, so a tile of tokens goes all the
/// way through while it is in the cache. Kept for the backward: the inputs; the hidden layer is computed again.
///
/// # Shapes
/// - `frozen` `f` `(b, …, hidden)`: what the frozen layer gives, the same for all tasks
/// - `codes` `z` `(tasks · b, …, r)`, task by task
/// - `up` `B₁` `(hidden, r)`, `down` `A₂` `(r₂, hidden)`
/// - output `(tasks · b, …, r₂)`
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn task_codes(frozen: &Tensor, codes: &Tensor, up: &Tensor, scale: f64, down: &Tensor) -> Result<Tensor> {
    let problem = Problem::new(frozen, codes, up, scale, down)?;
    let inputs = [frozen.contiguous()?, codes.contiguous()?, up.contiguous()?, down.contiguous()?];
    let outputs = {
        let [f, z, b, a] =
            [read(OP, &inputs[0])?, read(OP, &inputs[1])?, read(OP, &inputs[2])?, read(OP, &inputs[3])?];
        problem.forward(&f, &z, &b, &a)
    };
    let mut shape = codes.dims().to_vec();
    *shape.last_mut().expect("the rank was checked") = problem.next_rank;
    let kept = inputs.clone();
    record_one(OP, &inputs.each_ref(), Output::new(outputs, shape), move |grad| {
        let grad = grad.contiguous()?;
        let [f, z, b, a] =
            [read(OP, &kept[0])?, read(OP, &kept[1])?, read(OP, &kept[2])?, read(OP, &kept[3])?];
        let grads = problem.backward((&f, &z, &b, &a), &read(OP, &grad)?);
        let tensor =
            |(values, like): (Vec<f32>, &Tensor)| Tensor::from_vec(values, like.shape(), like.device());
        grads.into_iter().zip(&kept).map(|pair| tensor(pair).map(Some)).collect()
    })
}

const OP: &str = "task codes";

struct Problem {
    /// Tokens of one task.
    rows: usize,
    tasks: usize,
    hidden: usize,
    rank: usize,
    next_rank: usize,
    scale: f32,
}

impl Problem {
    fn new(frozen: &Tensor, codes: &Tensor, up: &Tensor, scale: f64, down: &Tensor) -> Result<Self> {
        let ((hidden, rank), (next_rank, down_in)) = (up.dims2()?, down.dims2()?);
        let (rows, all) = (frozen.elem_count() / hidden.max(1), codes.elem_count() / rank.max(1));
        let fits = frozen.dims().last() == Some(&hidden)
            && codes.dims().last() == Some(&rank)
            && inner(frozen) == inner(codes)
            && down_in == hidden
            && rows > 0
            && all % rows == 0;
        if !fits {
            bail!(
                "{OP}: frozen {:?}, codes {:?}, B {:?} and A {:?} do not fit",
                frozen.dims(),
                codes.dims(),
                up.dims(),
                down.dims()
            );
        }
        Ok(Self { rows, tasks: all / rows, hidden, rank, next_rank, scale: scale as f32 })
    }

    /// First token and number of tokens of tile `i`.
    fn tile(&self, i: usize) -> (usize, usize) {
        let tile = tile_rows(self.hidden);
        (i * tile, tile.min(self.rows - i * tile))
    }

    /// `f + scale · B z` of some tokens of one task.
    fn hidden_layer(&self, frozen: &[f32], codes: &[f32], up: &[f32], to: &mut Vec<f32>) {
        to.clear();
        to.extend_from_slice(frozen);
        let rows = frozen.len() / self.hidden;
        let (z, b) = (Matrix::new(codes, rows, self.rank), Matrix::new(up, self.hidden, self.rank));
        matmul_serial(to, true, self.scale, z, b.t());
    }

    fn forward(&self, frozen: &[f32], codes: &[f32], up: &[f32], down: &[f32]) -> Vec<f32> {
        let mut next = vec![0f32; self.tasks * self.rows * self.next_rank];
        let tile = tile_rows(self.hidden);
        for (task, next) in next.chunks_exact_mut(self.rows * self.next_rank).enumerate() {
            next.par_chunks_mut(tile * self.next_rank).enumerate().for_each_init(
                || (Vec::new(), Vec::new()),
                |(hidden, activated), (i, next)| {
                    let (first, rows) = self.tile(i);
                    let frozen = &frozen[first * self.hidden..][..rows * self.hidden];
                    let codes = &codes[(task * self.rows + first) * self.rank..][..rows * self.rank];
                    self.hidden_layer(frozen, codes, up, hidden);
                    activated.resize(hidden.len(), 0.0);
                    vectorize(GeluStrip(hidden, activated));
                    let down = Matrix::new(down, self.next_rank, self.hidden);
                    matmul_serial(next, false, 1.0, Matrix::new(activated, rows, self.hidden), down.t());
                },
            );
        }
        next
    }

    /// Gradients of frozen, codes, up and down.
    fn backward(
        &self,
        (frozen, codes, up, down): (&[f32], &[f32], &[f32], &[f32]),
        grads: &[f32],
    ) -> [Vec<f32>; 4] {
        let (width, rank, next_rank) = (self.hidden, self.rank, self.next_rank);
        let mut dfrozen = vec![0f32; frozen.len()];
        let mut dcodes = vec![0f32; codes.len()];
        let tile = tile_rows(width);
        let code_rows = SharedRows::new(&mut dcodes, rank);
        let parts: Vec<(Vec<f32>, Vec<f32>)> = dfrozen
            .par_chunks_mut(tile * width)
            .enumerate()
            .map_init(Buffers::default, |buffers, (i, dfrozen)| {
                let Buffers { hidden, activated, dhidden, dcodes } = buffers;
                let (first, rows) = self.tile(i);
                let frozen = &frozen[first * width..][..rows * width];
                let (mut dup, mut ddown) = (vec![0f32; width * rank], vec![0f32; next_rank * width]);
                for task in 0..self.tasks {
                    let at = task * self.rows + first;
                    let codes = &codes[at * rank..][..rows * rank];
                    let g = Matrix::new(&grads[at * next_rank..][..rows * next_rank], rows, next_rank);
                    self.hidden_layer(frozen, codes, up, hidden);
                    activated.resize(hidden.len(), 0.0);
                    vectorize(GeluStrip(hidden, activated));
                    let h = Matrix::new(activated, rows, width);
                    matmul_serial(&mut ddown, true, 1.0, g.t(), h);
                    // What was the activation becomes its gradient.
                    matmul_serial(activated, false, 1.0, g, Matrix::new(down, next_rank, width));
                    dhidden.resize(hidden.len(), 0.0);
                    vectorize(GeluBackwardStrip(hidden, activated, dhidden));
                    let d = Matrix::new(dhidden, rows, width);
                    matmul_serial(&mut dup, true, self.scale, d.t(), Matrix::new(codes, rows, rank));
                    dcodes.resize(rows * rank, 0.0);
                    matmul_serial(dcodes, false, self.scale, d, Matrix::new(up, width, rank));
                    for (row, dcodes) in dcodes.chunks_exact(rank).enumerate() {
                        // SAFETY: each token is in one tile, and each task is worked through once.
                        unsafe { code_rows.row(at + row) }.copy_from_slice(dcodes);
                    }
                    dfrozen.iter_mut().zip(&*dhidden).for_each(|(sum, d)| *sum += d);
                }
                (dup, ddown)
            })
            .collect();
        let (dup, ddown): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        [dfrozen, dcodes, add_up(dup, width * rank), add_up(ddown, next_rank * width)]
    }
}

/// What one thread needs for a tile.
#[derive(Default)]
struct Buffers {
    hidden: Vec<f32>,
    activated: Vec<f32>,
    dhidden: Vec<f32>,
    dcodes: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};
    use crate::{gelu, linear, low_rank_up};

    fn inputs(b: usize, tokens: usize, tasks: usize, hidden: usize, (r, r2): (usize, usize)) -> [Tensor; 4] {
        [
            named_tensor("frozen", (b, tokens, hidden), 0.0, 1.0).unwrap(),
            named_tensor("codes", (tasks * b, tokens, r), 0.0, 1.0).unwrap(),
            named_tensor("up", (hidden, r), 0.0, 0.5).unwrap(),
            named_tensor("down", (r2, hidden), 0.0, 0.5).unwrap(),
        ]
    }

    fn composed(i: &[Tensor]) -> Result<Tensor> {
        linear(&gelu(&low_rank_up(&i[0], &i[1], &i[2], 2.0)?)?, &i[3], None)
    }

    fn fused(i: &[Tensor]) -> Result<Tensor> {
        task_codes(&i[0], &i[1], &i[2], 2.0, &i[3])
    }

    #[test]
    fn values_and_gradients_are_those_of_the_composition() {
        for inputs in [inputs(2, 5, 3, 7, (2, 3)), inputs(1, 700, 4, 384, (8, 8)), inputs(1, 1, 1, 1, (1, 1))]
        {
            assert_close("codes", &fused(&inputs).unwrap(), &composed(&inputs).unwrap(), 3e-6);
            let gradients = |f: fn(&[Tensor]) -> Result<Tensor>| {
                let vars = inputs.each_ref().map(|x| candle_core::Var::from_tensor(x).unwrap());
                let ys = f(&vars.each_ref().map(|v| v.as_tensor().clone())).unwrap();
                let cotangent = named_tensor("cotangent", ys.shape(), 0.0, 1.0).unwrap();
                let grads = (ys * cotangent).unwrap().sum_all().unwrap().backward().unwrap();
                vars.map(|v| grads.get(&v).unwrap().clone())
            };
            for (i, (found, expected)) in gradients(fused).iter().zip(&gradients(composed)).enumerate() {
                assert_close(&format!("gradient {i}"), found, expected, 5e-6);
            }
        }
        gradcheck("task codes", &inputs(2, 3, 2, 5, (2, 3)), 1e-2, fused);
    }
}
