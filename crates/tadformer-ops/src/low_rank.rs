//! A frozen linear and its low-rank update in one pass over what they read.

use crate::FrozenLinear;
use crate::activation::{GeluSlopes, InputActivation};
use crate::around::{Around, Before};
use crate::autocast::Precision;
use crate::drop::{DropoutMask, MaskStrips, strip_rows};
use crate::gemm::{Factor, Matrix};
use crate::host::read;
use crate::packed::{Packed, Start, add_transposed, block_rows};
use crate::residual::{Residual, ResidualRows, split_gradient};
use crate::rows::{AddTo, add_up, fresh};
use crate::simd::vectorize;
use crate::tape::{Output, record_one, recording};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// A low-rank update `scale · B A drop(x)`: its tensors and what dropout keeps.
#[derive(Debug, Clone, Copy)]
pub struct LowRankUpdate<'a> {
    /// `A`, `(r, in)`.
    pub down: &'a Tensor,
    /// `B`, `(out, r)`.
    pub up: &'a Tensor,
    /// Factor of the update.
    pub scale: f64,
    /// What dropout keeps of the update's input.
    pub mask: Option<DropoutMask>,
}

/// `y = W u + b + scale · B A drop(u)` with `u` what `around` makes of the input, `W` and `b` frozen; `y` ends in `around`'s
/// residual.
///
/// Kept for the backward: the input, and `A drop(u)`; what `around` makes of the input is made again. Where nothing is recorded the update
/// is merged into the weight if that is less work.
///
/// # Shapes
/// - `xs` `(…, in)`
/// - output `(…, out)`
///
/// # Errors
/// Shapes that do not fit, a rank or a width of 0, or tensors that are not `f32` on the CPU.
pub fn low_rank_linear(
    xs: &Tensor,
    around: Around<'_>,
    frozen: &FrozenLinear,
    update: &LowRankUpdate<'_>,
) -> Result<Tensor> {
    const OP: &str = "low-rank linear";
    let (rows, in_dim, out_dim, rank) = check(OP, xs, frozen, update)?;
    let precision = Precision::in_use();
    let mut shape = xs.dims().to_vec();
    *shape.last_mut().expect("the rank was checked") = out_dim;

    let (down, up) = (update.down.contiguous()?, update.up.contiguous()?);
    let merging_pays = rows * (in_dim + out_dim) > in_dim * out_dim;
    let recorded = recording(&[xs, &down, &up]) || recording(&around.tensors());
    if update.mask.is_none() && merging_pays && !recorded {
        let merged = merged_weight(precision, frozen.weight()?, Some(update))?;
        let ys = around.predict(OP, &merged, &xs.contiguous()?, frozen.bias(), &shape)?;
        return Output::new(ys, shape).plain(OP);
    }

    // A GELU is made again tile by tile.
    let (before, activation) = match around.before {
        Before::Gelu | Before::GeluOf(_) => (Before::Nothing, InputActivation::Gelu),
        before => (before, InputActivation::Identity),
    };
    let (xs, kept) = before.recorded(xs)?;
    let xs = xs.contiguous()?;
    let problem = Problem {
        precision,
        rows,
        in_dim,
        out_dim,
        rank,
        scale: update.scale as f32,
        activation,
        mask: update.mask,
    };
    let (ys, codes) = {
        let (x, a, b, w) = (read(OP, &xs)?, read(OP, &down)?, read(OP, &up)?, read(OP, frozen.weight()?)?);
        let bias = frozen.bias().map(|bias| read(OP, bias)).transpose()?;
        let residual = around.onto.map(|residual| residual.rows(OP, &shape)).transpose()?;
        problem.forward(&x, (&w, &a, &b), bias.as_deref(), residual.as_ref())
    };
    let weight = frozen.weight()?.clone();
    let (wants_input, kept_down, kept_up) = (xs.track_op(), down.clone(), up.clone());
    let xs_shape = xs.shape().clone();
    let residual = around.onto.map(Residual::backward);
    let inputs: Vec<&Tensor> =
        around.onto.map(Residual::shortcut).into_iter().chain([&xs, &down, &up]).collect();
    record_one(OP, &inputs, Output::new(ys, shape), move |grad| {
        let (shortcut, grad) = split_gradient(residual.as_ref(), &grad)?;
        let xs = kept.get_for(OP, &xs_shape)?;
        let (x, a, b, w) = (read(OP, &xs)?, read(OP, &kept_down)?, read(OP, &kept_up)?, read(OP, &weight)?);
        let (dx, ddown, dup) = problem.backward(&x, (&w, &a, &b), &codes, &read(OP, &grad)?, wants_input);
        let device = grad.device();
        let mut gradients: Vec<Option<Tensor>> = shortcut.map(Some).into_iter().collect();
        gradients.extend([
            dx.map(|dx| Tensor::from_vec(dx, xs.shape(), device)).transpose()?,
            Some(Tensor::from_vec(ddown, (rank, in_dim), device)?),
            Some(Tensor::from_vec(dup, (out_dim, rank), device)?),
        ]);
        Ok(gradients)
    })
}

/// `(W + scale · B A)ᵀ`, or `Wᵀ`, packed.
pub(crate) fn merged_weight(
    precision: Precision,
    weight: &Tensor,
    update: Option<&LowRankUpdate<'_>>,
) -> Result<Packed> {
    const OP: &str = "merging a low-rank update";
    let ((out_dim, in_dim), weight) = (weight.dims2()?, weight.contiguous()?);
    let w = read(OP, &weight)?;
    let w = Matrix::new(&w, out_dim, in_dim).t();
    let Some(update) = update else {
        return Ok(Packed::new(precision, 1.0, w));
    };
    let ((rank, down_in), (up_out, up_rank)) = (update.down.dims2()?, update.up.dims2()?);
    if (down_in, up_out, up_rank) != (in_dim, out_dim, rank) || [rank, in_dim, out_dim].contains(&0) {
        let (a, b) = (update.down.dims(), update.up.dims());
        bail!("{OP}: weight ({out_dim}, {in_dim}), A {a:?} and B {b:?} do not fit");
    }
    let (down, up) = (update.down.contiguous()?, update.up.contiguous()?);
    let (a, b) = (read(OP, &down)?, read(OP, &up)?);
    let up = Packed::new(Precision::F32, update.scale as f32, Matrix::new(&b, out_dim, rank).t());
    let merged = Packed::new(Precision::F32, 1.0, w).plus_product(Matrix::new(&a, rank, in_dim).t(), &up);
    Ok(merged.to(precision))
}

/// Rows, both widths and the rank.
fn check(
    op: &'static str,
    xs: &Tensor,
    frozen: &FrozenLinear,
    update: &LowRankUpdate<'_>,
) -> Result<(usize, usize, usize, usize)> {
    let (in_dim, out_dim) = (frozen.in_dim(), frozen.out_dim());
    let (rank, down_in) = update.down.dims2()?;
    if xs.dims().last() != Some(&in_dim)
        || down_in != in_dim
        || update.up.dims() != [out_dim, rank]
        || [rank, in_dim, out_dim].contains(&0)
    {
        bail!(
            "{op}: input {:?}, weight ({out_dim}, {in_dim}), A {:?} and B {:?} do not fit",
            xs.dims(),
            update.down.dims(),
            update.up.dims()
        );
    }
    Ok((xs.elem_count() / in_dim, in_dim, out_dim, rank))
}

#[derive(Clone, Copy)]
struct Problem {
    precision: Precision,
    rows: usize,
    in_dim: usize,
    out_dim: usize,
    rank: usize,
    scale: f32,
    activation: InputActivation,
    mask: Option<DropoutMask>,
}

/// `W`, `A` and `B`.
type Weights<'a> = (&'a [f32], &'a [f32], &'a [f32]);

impl Problem {
    /// The output, with the residual, and the codes `A drop(u)`.
    fn forward(
        &self,
        xs: &[f32],
        weights: Weights<'_>,
        bias: Option<&[f32]>,
        residual: Option<&ResidualRows<'_>>,
    ) -> (Vec<f32>, Vec<f32>) {
        let (w, a, b) = self.matrices(weights);
        let frozen = self.factor(1.0, w.t());
        let down = self.factor(1.0, a.t());
        let up = self.factor(self.scale, b.t());
        let tile = tile_rows(self.rows, self.in_dim, self.out_dim);
        let mut codes = Vec::new();
        let work = |buffers: &mut Buffers, (i, (y, codes)): (usize, (&mut [_], &mut [_]))| {
            let start = i * tile * self.in_dim;
            let x = &xs[start..start + codes.len() / self.rank * self.in_dim];
            let u = self.activation.of(x, &mut buffers.activated);
            let y = frozen.write(Matrix::of_rows(u, self.in_dim), Start::bias(bias), y);
            let dropped = self.dropped(u, start, &mut buffers.dropped);
            let codes = down.write(Matrix::of_rows(dropped, self.in_dim), Start::Zero, codes);
            up.add_to(Matrix::of_rows(codes, self.rank), y);
            if let Some(residual) = residual {
                residual.add_to(i * tile * self.out_dim, y);
            }
        };
        // SAFETY: the tiles cover all rows, and products write every number.
        let ys = unsafe {
            fresh(self.rows * self.out_dim, |ys| {
                codes = fresh(self.rows * self.rank, |codes| {
                    let codes = codes.par_chunks_mut(tile * self.rank);
                    let ys = ys.par_chunks_mut(tile * self.out_dim);
                    ys.zip(codes).enumerate().for_each_init(Buffers::default, work);
                });
            })
        };
        (ys, codes)
    }

    /// Gradients of the input, if it is wanted, of `A` and of `B`.
    fn backward(
        &self,
        xs: &[f32],
        weights: Weights<'_>,
        codes: &[f32],
        grads: &[f32],
        wants_input: bool,
    ) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
        let Self { rows, in_dim, out_dim, rank, .. } = *self;
        let (w, a, b) = self.matrices(weights);
        let through_b = self.factor(self.scale, b);
        let through_w = wants_input.then(|| (self.factor(1.0, w), self.factor(1.0, a)));
        let tile = tile_rows(rows, in_dim, out_dim);
        let part = rows.div_ceil(PARTS).max(1).next_multiple_of(tile);
        let mut sums = Vec::new();
        let mut work = |dx: &mut [MaybeUninit<f32>]| {
            let slots: Vec<Option<&mut [MaybeUninit<f32>]>> = match &through_w {
                Some(_) => dx.chunks_mut(part * in_dim).map(Some).collect(),
                None => (0..rows.div_ceil(part)).map(|_| None).collect(),
            };
            sums = slots
                .into_par_iter()
                .enumerate()
                .map_init(Buffers::default, |buffers, (i, mut dx)| {
                    let mut sums = (vec![0f32; rank * in_dim], vec![0f32; out_dim * rank]);
                    let end = ((i + 1) * part).min(rows);
                    for first in (i * part..end).step_by(tile) {
                        let count = tile.min(end - first);
                        let dx = dx
                            .as_deref_mut()
                            .map(|dx| &mut dx[(first - i * part) * in_dim..][..count * in_dim]);
                        let tile = Tile {
                            start: first * in_dim,
                            x: &xs[first * in_dim..][..count * in_dim],
                            codes: &codes[first * rank..][..count * rank],
                            grads: &grads[first * out_dim..][..count * out_dim],
                        };
                        self.backward_tile(&tile, &through_b, through_w.as_ref().zip(dx), buffers, &mut sums);
                    }
                    sums
                })
                .collect();
        };
        let dx = if wants_input {
            // SAFETY: the tiles cover all rows, and products write every number.
            Some(unsafe { fresh(rows * in_dim, work) })
        } else {
            work(&mut []);
            None
        };
        let (ddown, dup): (Vec<_>, Vec<_>) = sums.into_iter().unzip();
        let mut dup = add_up(dup, out_dim * rank);
        dup.iter_mut().for_each(|d| *d *= self.scale);
        (dx, add_up(ddown, rank * in_dim), dup)
    }

    fn backward_tile(
        &self,
        tile: &Tile<'_>,
        through_b: &Factor<'_>,
        input: Option<(&(Factor<'_>, Factor<'_>), &mut [MaybeUninit<f32>])>,
        buffers: &mut Buffers,
        (ddown, dup): &mut (Vec<f32>, Vec<f32>),
    ) {
        let Self { in_dim, out_dim, rank, .. } = *self;
        let Buffers { activated, dropped, dcodes, through } = buffers;
        let g = Matrix::of_rows(tile.grads, out_dim);
        dcodes.resize(tile.codes.len(), 0.0);
        let dcodes = through_b.overwrite(g, dcodes);
        add_transposed(self.precision, g, Matrix::of_rows(tile.codes, rank), dup);
        let dcodes = Matrix::of_rows(dcodes, rank);
        let u = self.activation.of(tile.x, activated);
        let dropped = self.dropped(u, tile.start, dropped);
        add_transposed(self.precision, dcodes, Matrix::of_rows(dropped, in_dim), ddown);
        let Some(((through_w, through_a), dx)) = input else {
            return;
        };
        let dx = through_w.write(g, Start::Zero, dx);
        match self.mask {
            Some(mask) => {
                through.resize(dx.len(), 0.0);
                let through = through_a.overwrite(dcodes, through);
                vectorize(MaskStrips(mask, tile.start, through));
                vectorize(AddTo(through, dx));
            }
            None => through_a.add_to(dcodes, dx),
        }
        if self.activation == InputActivation::Gelu {
            vectorize(GeluSlopes(tile.x, dx));
        }
    }

    fn matrices<'a>(&self, (w, a, b): Weights<'a>) -> (Matrix<'a>, Matrix<'a>, Matrix<'a>) {
        let Self { in_dim, out_dim, rank, .. } = *self;
        (Matrix::new(w, out_dim, in_dim), Matrix::new(a, rank, in_dim), Matrix::new(b, out_dim, rank))
    }

    /// `alpha · b`, to be multiplied with the rows.
    fn factor<'a>(&self, alpha: f32, b: Matrix<'a>) -> Factor<'a> {
        Factor::new(self.precision, self.rows, alpha, b)
    }

    /// What dropout leaves of numbers that begin at `start` of their tensor.
    fn dropped<'a>(&self, us: &'a [f32], start: usize, space: &'a mut Vec<f32>) -> &'a [f32] {
        let Some(mask) = self.mask else {
            return us;
        };
        space.clear();
        space.extend_from_slice(us);
        vectorize(MaskStrips(mask, start, space));
        space
    }
}

/// Into how many parts the sums over rows are cut, at most.
const PARTS: usize = 16;

/// Rows that the backward takes at a time.
struct Tile<'a> {
    /// Where the input begins in its tensor.
    start: usize,
    x: &'a [f32],
    codes: &'a [f32],
    grads: &'a [f32],
}

/// What one thread needs for a tile.
#[derive(Default)]
struct Buffers {
    activated: Vec<f32>,
    dropped: Vec<f32>,
    dcodes: Vec<f32>,
    through: Vec<f32>,
}

/// Rows of a tile: few enough for the cache, and whole strips of the dropout mask.
fn tile_rows(rows: usize, in_dim: usize, out_dim: usize) -> usize {
    block_rows(rows, in_dim.max(out_dim)).next_multiple_of(strip_rows(in_dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_refused, gradcheck, named_tensor};
    use crate::{Before, Mode, Rng, linear, no_grad};

    struct Case {
        xs: Tensor,
        frozen: FrozenLinear,
        down: Tensor,
        up: Tensor,
        mask: Option<DropoutMask>,
    }

    fn cases() -> Vec<Case> {
        let mut rng = Rng::named(0, "mask", 0);
        let mut train = Mode::Train(&mut rng);
        [
            (vec![2, 3, 5], 7, 2, 0.3),
            (vec![150, 33], 65, 3, 0.0),
            (vec![4000, 96], 17, 8, 0.5),
            (vec![1, 1], 1, 1, 0.0),
        ]
        .into_iter()
        .map(|(shape, out_dim, rank, p)| {
            let in_dim = *shape.last().unwrap();
            let tensor = |name: &str, shape: (usize, usize)| named_tensor(name, shape, 0.0, 0.5).unwrap();
            let bias = named_tensor("bias", out_dim, 0.0, 1.0).unwrap();
            Case {
                xs: named_tensor("xs", shape, 0.0, 1.0).unwrap(),
                frozen: FrozenLinear::new(&tensor("w", (out_dim, in_dim)), Some(&bias)).unwrap(),
                down: tensor("a", (rank, in_dim)),
                up: tensor("b", (out_dim, rank)),
                mask: DropoutMask::draw(p, &mut train).unwrap(),
            }
        })
        .collect()
    }

    fn composed(case: &Case, before: Before<'_>, i: &[Tensor]) -> Result<Tensor> {
        let xs = before.apply(&i[0])?;
        let dropped = match case.mask {
            Some(mask) => mask.apply(&xs)?,
            None => xs.clone(),
        };
        case.frozen.forward(&xs)? + (linear(&linear(&dropped, &i[1], None)?, &i[2], None)? * 4.0)?
    }

    fn fused(case: &Case, before: Before<'_>, i: &[Tensor]) -> Result<Tensor> {
        let update = LowRankUpdate { down: &i[1], up: &i[2], scale: 4.0, mask: case.mask };
        low_rank_linear(&i[0], Around::after(before), &case.frozen, &update)
    }

    fn gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
        let vars: Vec<_> = inputs.iter().map(|x| candle_core::Var::from_tensor(x).unwrap()).collect();
        let plain: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let ys = f(&plain).unwrap();
        let cotangent = named_tensor("cotangent", ys.shape(), 0.0, 1.0).unwrap();
        let grads = (ys * cotangent).unwrap().sum_all().unwrap().backward().unwrap();
        vars.iter().map(|v| grads.get(v).unwrap().clone()).collect()
    }

    #[test]
    fn values_and_gradients_are_those_of_the_composition() {
        for (n, case) in cases().iter().enumerate() {
            for before in [Before::Nothing, Before::Gelu] {
                let inputs = [case.xs.clone(), case.down.clone(), case.up.clone()];
                let expected = composed(case, before, &inputs).unwrap();
                assert_close(&format!("{n}"), &fused(case, before, &inputs).unwrap(), &expected, 3e-6);
                let found = gradients(&inputs, |i| fused(case, before, i));
                let expected = gradients(&inputs, |i| composed(case, before, i));
                for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert_close(&format!("{n}, gradient {k}"), found, expected, 5e-6);
                }
            }
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let case = &cases()[0];
        for before in [Before::Nothing, Before::Gelu] {
            let inputs = [case.xs.clone(), case.down.clone(), case.up.clone()];
            gradcheck("low-rank linear", &inputs, 1e-2, |i| fused(case, before, i));
        }
    }

    #[test]
    fn merging_where_nothing_is_recorded_changes_rounding_only() {
        let case = &cases()[1];
        let vars: Vec<_> =
            [&case.xs, &case.down, &case.up].map(|x| candle_core::Var::from_tensor(x).unwrap()).into();
        let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let recorded = fused(case, Before::Gelu, &inputs).unwrap();
        let merged = no_grad(|| fused(case, Before::Gelu, &inputs)).unwrap();
        assert!(recorded.track_op() && !merged.track_op());
        assert_close("merged", &merged, &recorded, 3e-6);
    }

    #[test]
    fn a_packed_layer_gives_the_same_to_rounding_and_no_gradient() {
        for case in cases() {
            let update = LowRankUpdate { down: &case.down, up: &case.up, scale: 4.0, mask: None };
            for before in [Before::Nothing, Before::Gelu] {
                let updated =
                    no_grad(|| low_rank_linear(&case.xs, Around::after(before), &case.frozen, &update))
                        .unwrap();
                let packed = case.frozen.packed(Some(&update)).unwrap();
                assert_close(
                    "updated",
                    &packed.forward_around(&case.xs, Around::after(before)).unwrap(),
                    &updated,
                    3e-6,
                );
                let plain = case.frozen.forward_around(&case.xs, Around::after(before)).unwrap();
                let packed = case.frozen.packed(None).unwrap();
                assert_close(
                    "plain",
                    &packed.forward_around(&case.xs, Around::after(before)).unwrap(),
                    &plain,
                    3e-6,
                );
            }
            let packed = case.frozen.packed(Some(&update)).unwrap();
            assert_eq!((packed.in_dim(), packed.out_dim()), (case.frozen.in_dim(), case.frozen.out_dim()));
            let var = candle_core::Var::from_tensor(&case.xs).unwrap();
            assert!(packed.forward(&var).unwrap_err().to_string().contains("no gradient can pass"));
            for refused in [packed.weight().map(|_| ()), packed.packed(None).map(|_| ())] {
                assert!(refused.unwrap_err().to_string().contains("packed for prediction"));
            }
            let narrow = LowRankUpdate { down: &case.up, up: &case.down, scale: 4.0, mask: None };
            if case.down.dims() != case.up.dims() {
                assert_refused(
                    case.frozen.packed(Some(&narrow)),
                    &["merging a low-rank update", "do not fit"],
                );
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let case = &cases()[2];
        let inputs = [case.xs.clone(), case.down.clone(), case.up.clone()];
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| gradients(&inputs, |i| fused(case, Before::Gelu, i)));
            found.iter().map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(3));
    }
}
