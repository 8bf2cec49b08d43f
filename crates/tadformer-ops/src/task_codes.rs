//! The tasks' way through the first half of an MLP, without ever storing what lies inside it.

use crate::activation::{GeluInPlace, GeluSlopes};
use crate::autocast::Precision;
use crate::gemm::Matrix;
use crate::host::read;
use crate::low_rank_up::fits_repeated;
use crate::packed::{Packed, Start, add_transposed, block_rows};
use crate::rows::{AddTo, SharedRows, add_up, fresh, zeros};
use crate::simd::vectorize;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;

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
/// Shapes that do not fit, a rank or a width of 0, or tensors that are not `f32` on the CPU.
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
    precision: Precision,
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
        if !fits_repeated(frozen, hidden, codes, rank) || down_in != hidden || next_rank == 0 {
            bail!(
                "{OP}: frozen {:?}, codes {:?}, B {:?} and A {:?} do not fit",
                frozen.dims(),
                codes.dims(),
                up.dims(),
                down.dims()
            );
        }
        let (rows, all) = (frozen.elem_count() / hidden, codes.elem_count() / rank);
        let (precision, tasks) = (Precision::in_use(), all.checked_div(rows).unwrap_or(0));
        Ok(Self { precision, rows, tasks, hidden, rank, next_rank, scale: scale as f32 })
    }

    fn forward(&self, frozen: &[f32], codes: &[f32], up: &[f32], down: &[f32]) -> Vec<f32> {
        let Self { rows, tasks, hidden, rank, next_rank, .. } = *self;
        let (up, down) = self.matrices(up, down);
        let (up, down) = (self.packed(self.scale, up.t()), self.packed(1.0, down.t()));
        let tile = block_rows(rows, hidden);
        let write = |next: &mut [MaybeUninit<f32>]| {
            let shared = SharedRows::new(next, next_rank);
            let work = |buffers: &mut Buffers, (i, frozen): (usize, &[f32])| {
                let count = frozen.len() / hidden;
                for task in 0..tasks {
                    let at = task * rows + i * tile;
                    let z = Matrix::of_rows(&codes[at * rank..][..count * rank], rank);
                    let layer = up.write(z, Start::Rows(frozen), space(&mut buffers.hidden, frozen.len()));
                    vectorize(GeluInPlace(layer));
                    // SAFETY: each token is in one tile, and each task is worked through once.
                    let next = unsafe { shared.rows(at, count) };
                    down.write(Matrix::of_rows(layer, hidden), Start::Zero, next);
                }
            };
            frozen.par_chunks(tile * hidden).enumerate().for_each_init(Buffers::default, work);
        };
        // SAFETY: the tiles cover all tokens, and products write every number.
        unsafe { fresh(tasks * rows * next_rank, write) }
    }

    /// Gradients of frozen, codes, up and down.
    fn backward(
        &self,
        (frozen, codes, up, down): (&[f32], &[f32], &[f32], &[f32]),
        grads: &[f32],
    ) -> [Vec<f32>; 4] {
        let Self { precision, rows, tasks, hidden: width, rank, next_rank, scale } = *self;
        let (up, down) = self.matrices(up, down);
        let (through_up, through_down) = (self.packed(scale, up), self.packed(1.0, down));
        let up = self.packed(scale, up.t());
        let mut dfrozen = zeros(frozen.len());
        let mut dcodes = zeros(codes.len());
        let tile = block_rows(rows, width);
        let part = rows.div_ceil(PARTS).max(1).next_multiple_of(tile);
        let shared = SharedRows::new(&mut dcodes, rank);
        let work = |buffers: &mut Buffers, (i, dfrozen): (usize, &mut [f32])| {
            let (mut dup, mut ddown) = (vec![0f32; width * rank], vec![0f32; next_rank * width]);
            for (k, dfrozen) in dfrozen.chunks_mut(tile * width).enumerate() {
                let (first, count) = (i * part + k * tile, dfrozen.len() / width);
                let frozen = &frozen[first * width..][..count * width];
                for task in 0..tasks {
                    let at = task * rows + first;
                    let z = Matrix::of_rows(&codes[at * rank..][..count * rank], rank);
                    let g = Matrix::of_rows(&grads[at * next_rank..][..count * next_rank], next_rank);
                    let hidden = up.write(z, Start::Rows(frozen), space(&mut buffers.hidden, frozen.len()));
                    let dhidden =
                        through_down.write(g, Start::Zero, space(&mut buffers.dhidden, frozen.len()));
                    vectorize(GeluSlopes(hidden, dhidden));
                    vectorize(GeluInPlace(hidden));
                    let d = Matrix::of_rows(dhidden, width);
                    add_transposed(precision, g, Matrix::of_rows(hidden, width), &mut ddown);
                    add_transposed(precision, d, z, &mut dup);
                    // SAFETY: each token is in one tile, and each task is worked through once.
                    through_up.add_to(d, unsafe { shared.rows(at, count) });
                    vectorize(AddTo(dhidden, dfrozen));
                }
            }
            dup.iter_mut().for_each(|d| *d *= scale);
            (dup, ddown)
        };
        let parts: Vec<(Vec<f32>, Vec<f32>)> =
            dfrozen.par_chunks_mut(part * width).enumerate().map_init(Buffers::default, work).collect();
        let (dup, ddown): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        [dfrozen, dcodes, add_up(dup, width * rank), add_up(ddown, next_rank * width)]
    }

    fn packed(&self, alpha: f32, b: Matrix<'_>) -> Packed {
        Packed::new(self.precision, alpha, b)
    }

    fn matrices<'a>(&self, up: &'a [f32], down: &'a [f32]) -> (Matrix<'a>, Matrix<'a>) {
        (Matrix::new(up, self.hidden, self.rank), Matrix::new(down, self.next_rank, self.hidden))
    }
}

/// What one thread needs for a tile.
#[derive(Default)]
struct Buffers {
    hidden: Vec<f32>,
    dhidden: Vec<f32>,
}

/// Into how many parts the sums over tokens are cut, at most.
const PARTS: usize = 16;

/// Room for `len` numbers in a buffer.
fn space(buffer: &mut Vec<f32>, len: usize) -> &mut [MaybeUninit<f32>] {
    buffer.clear();
    buffer.reserve(len);
    &mut buffer.spare_capacity_mut()[..len]
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
        linear(&gelu(&low_rank_up(&i[0], &i[1], &i[2], 2.0, None)?)?, &i[3], None)
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
