//! The products of a low-rank update, each in one pass over what it reads.

use crate::FrozenLinear;
use crate::activation::{GeluBackwardStrip, GeluStrip};
use crate::drop::{DropoutMask, MaskStrips, sum_repeats};
use crate::gemm::{Matrix, matmul, matmul_serial, matmul_tall, product};
use crate::host::read;
use crate::linear::affine;
use crate::rows::{AddTo, add_up, make};
use crate::simd::vectorize;
use crate::tape::{Output, record_one, recording};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

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

/// What comes between the input and a linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputActivation {
    /// Nothing.
    Identity,
    /// GELU, computed again where it is needed instead of being kept.
    Gelu,
}

/// `y = W u + b + scale · B A drop(u)` with `u` the activated input, `W` and `b` frozen.
///
/// Kept for the backward: the input before its activation, and `A drop(u)`. Where nothing is recorded the update is merged
/// into the weight if that is less work.
///
/// # Shapes
/// - `xs` `(…, in)`
/// - output `(…, out)`
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn low_rank_linear(
    xs: &Tensor,
    activation: InputActivation,
    frozen: &FrozenLinear,
    update: &LowRankUpdate<'_>,
) -> Result<Tensor> {
    const OP: &str = "low-rank linear";
    let sizes = check(OP, xs, frozen, update)?;
    let Sizes { rows, in_dim, out_dim, rank } = sizes;
    let (xs, down, up) = (xs.contiguous()?, update.down.contiguous()?, update.up.contiguous()?);
    let (scale, mask) = (update.scale as f32, update.mask);
    let gelu = activation == InputActivation::Gelu;
    let mut shape = xs.dims().to_vec();
    *shape.last_mut().expect("the rank was checked") = out_dim;

    let bias = frozen.bias().map(|bias| read(OP, bias)).transpose()?;
    let bias = bias.as_deref();
    let (ys, codes) = {
        let (x, a, b, w) = (read(OP, &xs)?, read(OP, &down)?, read(OP, &up)?, read(OP, frozen.weight())?);
        let activated = gelu.then(|| activate(&x));
        let input: &[f32] = activated.as_deref().unwrap_or(&x);
        let (a, b) = (Matrix::new(&a, rank, in_dim), Matrix::new(&b, out_dim, rank));
        let merging_pays = rows * (in_dim + out_dim) > in_dim * out_dim;
        if mask.is_none() && merging_pays && !recording(&[&xs, &down, &up]) {
            let mut merged = w.to_vec();
            matmul(&mut merged, true, scale, b, a);
            (affine(input, &merged, bias, (out_dim, in_dim)), Vec::new())
        } else {
            let mut ys = affine(input, &w, bias, (out_dim, in_dim));
            let codes = masked_product(input, mask, a, rows);
            matmul(&mut ys, true, scale, Matrix::new(&codes, rows, rank), b.t());
            (ys, codes)
        }
    };
    let weight = frozen.weight().clone();
    let (kept_xs, kept_down, kept_up) = (xs.clone(), down.clone(), up.clone());
    record_one(OP, &[&xs, &down, &up], Output::new(ys, shape), move |grad| {
        let grad = grad.contiguous()?;
        let (g, a, b) = (read(OP, &grad)?, read(OP, &kept_down)?, read(OP, &kept_up)?);
        let g_matrix = Matrix::new(&g, rows, out_dim);
        let dcodes = product(scale, g_matrix, Matrix::new(&b, out_dim, rank));
        let dup = matmul_tall(scale, g_matrix, Matrix::new(&codes, rows, rank));
        let dx = if kept_xs.track_op() {
            Some(product(1.0, g_matrix, Matrix::new(&read(OP, &weight)?, out_dim, in_dim)))
        } else {
            None
        };
        let x = read(OP, &kept_xs)?;
        let a = Matrix::new(&a, rank, in_dim);
        let (dx, ddown) = backward_input(&x, gelu, mask, a, &dcodes, dx);
        let device = grad.device();
        Ok(vec![
            dx.map(|dx| Tensor::from_vec(dx, kept_xs.shape(), device)).transpose()?,
            Some(Tensor::from_vec(ddown, (rank, in_dim), device)?),
            Some(Tensor::from_vec(dup, (out_dim, rank), device)?),
        ])
    })
}

/// `base + scale · B z`, where `base` is repeated for each part of `codes`. Kept for the backward: `codes`.
///
/// # Shapes
/// - `base` `(b, …, out)`; `codes` `(parts · b, …, r)`; `up` `(out, r)`
/// - output `(parts · b, …, out)`
///
/// # Errors
/// Shapes that do not fit.
pub fn low_rank_up(base: &Tensor, codes: &Tensor, up: &Tensor, scale: f64) -> Result<Tensor> {
    const OP: &str = "low-rank up";
    let (base, codes, up) = (base.contiguous()?, codes.contiguous()?, up.contiguous()?);
    let (out_dim, rank) = up.dims2()?;
    let (base_rows, rows) = (base.elem_count() / out_dim.max(1), codes.elem_count() / rank.max(1));
    let fits = base.dims().last() == Some(&out_dim)
        && codes.dims().last() == Some(&rank)
        && inner(&base) == inner(&codes)
        && base_rows > 0
        && rows % base_rows == 0;
    if !fits {
        bail!("{OP}: base {:?}, codes {:?} and weight {:?} do not fit", base.dims(), codes.dims(), up.dims());
    }
    let mut shape = codes.dims().to_vec();
    *shape.last_mut().expect("the rank was checked") = out_dim;
    let scale = scale as f32;
    let ys = {
        let (base, z, b) = (read(OP, &base)?, read(OP, &codes)?, read(OP, &up)?);
        let mut ys = make(rows * out_dim, out_dim, |first, block| {
            for (i, y) in block.chunks_exact_mut(out_dim).enumerate() {
                y.copy_from_slice(&base[(first + i) % base_rows * out_dim..][..out_dim]);
            }
        });
        matmul(&mut ys, true, scale, Matrix::new(&z, rows, rank), Matrix::new(&b, out_dim, rank).t());
        ys
    };
    let (base_shape, kept_codes, kept_up) = (base.shape().clone(), codes.clone(), up.clone());
    record_one(OP, &[&base, &codes, &up], Output::new(ys, shape), move |grad| {
        let grad = grad.contiguous()?;
        let (g, z, b) = (read(OP, &grad)?, read(OP, &kept_codes)?, read(OP, &kept_up)?);
        let g = Matrix::new(&g, rows, out_dim);
        let dcodes = product(scale, g, Matrix::new(&b, out_dim, rank));
        let dup = matmul_tall(scale, g, Matrix::new(&z, rows, rank));
        let device = grad.device();
        let dbase =
            if rows == base_rows { grad.reshape(&base_shape)? } else { sum_repeats(&grad, &base_shape)? };
        Ok(vec![
            Some(dbase),
            Some(Tensor::from_vec(dcodes, kept_codes.shape(), device)?),
            Some(Tensor::from_vec(dup, (out_dim, rank), device)?),
        ])
    })
}

/// What lies between the first dimension, which counts samples, and the last, which holds features.
pub(crate) fn inner(xs: &Tensor) -> Option<&[usize]> {
    match xs.dims() {
        [_, inner @ .., _] => Some(inner),
        _ => None,
    }
}

struct Sizes {
    rows: usize,
    in_dim: usize,
    out_dim: usize,
    rank: usize,
}

fn check(op: &'static str, xs: &Tensor, frozen: &FrozenLinear, update: &LowRankUpdate<'_>) -> Result<Sizes> {
    let (in_dim, out_dim) = (frozen.in_dim(), frozen.out_dim());
    let (rank, down_in) = update.down.dims2()?;
    if xs.dims().last() != Some(&in_dim)
        || down_in != in_dim
        || update.up.dims() != [out_dim, rank]
        || rank * in_dim * out_dim == 0
    {
        bail!(
            "{op}: input {:?}, weight ({out_dim}, {in_dim}), A {:?} and B {:?} do not fit",
            xs.dims(),
            update.down.dims(),
            update.up.dims()
        );
    }
    Ok(Sizes { rows: xs.elem_count() / in_dim, in_dim, out_dim, rank })
}

/// Rows of a tile whose numbers stay in a core's cache, in whole strips of the dropout mask.
pub(crate) fn tile_rows(width: usize) -> usize {
    ((1 << 17) / width.max(1)).max(1).next_multiple_of(64)
}

/// `GELU(x)`.
fn activate(xs: &[f32]) -> Vec<f32> {
    const STRIP: usize = 64;
    make(xs.len(), STRIP, |first, block| {
        vectorize(GeluStrip(&xs[first * STRIP..][..block.len()], block));
    })
}

/// `drop(x) Aᵀ`, tile by tile.
fn masked_product(xs: &[f32], mask: Option<DropoutMask>, a: Matrix<'_>, rows: usize) -> Vec<f32> {
    let (rank, in_dim) = a.shape();
    let Some(mask) = mask else {
        return product(1.0, Matrix::new(xs, rows, in_dim), a.t());
    };
    let mut codes = vec![0f32; rows * rank];
    let tile = tile_rows(in_dim);
    codes.par_chunks_mut(tile * rank).enumerate().for_each_init(Vec::new, |dropped, (i, codes)| {
        let rows = codes.len() / rank;
        copy_masked(dropped, xs, i * tile * in_dim, rows * in_dim, Some(mask));
        matmul_serial(codes, false, 1.0, Matrix::new(dropped, rows, in_dim), a.t());
    });
    codes
}

fn copy_masked(to: &mut Vec<f32>, xs: &[f32], start: usize, len: usize, mask: Option<DropoutMask>) {
    to.clear();
    to.extend_from_slice(&xs[start..start + len]);
    if let Some(mask) = mask {
        vectorize(MaskStrips(mask, start, to));
    }
}

/// From the gradient of the codes to that of `A`, and to that of the input, of which `dx` has the frozen weight's part.
fn backward_input(
    xs: &[f32],
    gelu: bool,
    mask: Option<DropoutMask>,
    a: Matrix<'_>,
    dcodes: &[f32],
    mut dx: Option<Vec<f32>>,
) -> (Option<Vec<f32>>, Vec<f32>) {
    let (rank, in_dim) = a.shape();
    let tile = tile_rows(in_dim);
    let tiles: Vec<Option<&mut [f32]>> = match &mut dx {
        Some(dx) => dx.chunks_mut(tile * in_dim).map(Some).collect(),
        None => (0..xs.len().div_ceil(tile * in_dim)).map(|_| None).collect(),
    };
    let parts: Vec<Vec<f32>> = tiles
        .into_par_iter()
        .enumerate()
        .map_init(
            || (Vec::new(), Vec::new()),
            |(input, through), (i, dx)| {
                let start = i * tile * in_dim;
                let len = (tile * in_dim).min(xs.len() - start);
                let rows = len / in_dim;
                let dcodes = Matrix::new(&dcodes[i * tile * rank..][..rows * rank], rows, rank);
                if gelu {
                    through.resize(len, 0.0);
                    vectorize(GeluStrip(&xs[start..start + len], through));
                    copy_masked(input, through, 0, len, None);
                    if let Some(mask) = mask {
                        vectorize(MaskStrips(mask, start, input));
                    }
                } else {
                    copy_masked(input, xs, start, len, mask);
                }
                let mut ddown = vec![0f32; rank * in_dim];
                matmul_serial(&mut ddown, false, 1.0, dcodes.t(), Matrix::new(input, rows, in_dim));
                if let Some(dx) = dx {
                    through.resize(len, 0.0);
                    matmul_serial(through, false, 1.0, dcodes, a);
                    if let Some(mask) = mask {
                        vectorize(MaskStrips(mask, start, through));
                    }
                    vectorize(AddTo(through, dx));
                    if gelu {
                        vectorize(GeluBackwardStrip(&xs[start..start + len], dx, through));
                        dx.copy_from_slice(through);
                    }
                }
                ddown
            },
        )
        .collect();
    (dx, add_up(parts, rank * in_dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};
    use crate::{Mode, Rng, gelu, linear, no_grad};

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

    fn composed(case: &Case, activation: InputActivation, i: &[Tensor]) -> Result<Tensor> {
        let xs = if activation == InputActivation::Gelu { gelu(&i[0])? } else { i[0].clone() };
        let dropped = match case.mask {
            Some(mask) => mask.apply(&xs)?,
            None => xs.clone(),
        };
        case.frozen.forward(&xs)? + (linear(&linear(&dropped, &i[1], None)?, &i[2], None)? * 4.0)?
    }

    fn fused(case: &Case, activation: InputActivation, i: &[Tensor]) -> Result<Tensor> {
        let update = LowRankUpdate { down: &i[1], up: &i[2], scale: 4.0, mask: case.mask };
        low_rank_linear(&i[0], activation, &case.frozen, &update)
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
            for activation in [InputActivation::Identity, InputActivation::Gelu] {
                let inputs = [case.xs.clone(), case.down.clone(), case.up.clone()];
                let expected = composed(case, activation, &inputs).unwrap();
                assert_close(&format!("{n}"), &fused(case, activation, &inputs).unwrap(), &expected, 3e-6);
                let found = gradients(&inputs, |i| fused(case, activation, i));
                let expected = gradients(&inputs, |i| composed(case, activation, i));
                for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert_close(&format!("{n}, gradient {k}"), found, expected, 5e-6);
                }
            }
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let case = &cases()[0];
        for activation in [InputActivation::Identity, InputActivation::Gelu] {
            let inputs = [case.xs.clone(), case.down.clone(), case.up.clone()];
            gradcheck("low-rank linear", &inputs, 1e-2, |i| fused(case, activation, i));
        }
        let base = named_tensor("base", (1, 3, 4), 0.0, 1.0).unwrap();
        let codes = named_tensor("codes", (3, 3, 2), 0.0, 1.0).unwrap();
        let up = named_tensor("up", (4, 2), 0.0, 1.0).unwrap();
        let other = codes.reshape((9, 1, 2)).unwrap();
        assert!(low_rank_up(&base, &other, &up, 2.0).unwrap_err().to_string().contains("do not fit"));
        gradcheck("low-rank up", &[base, codes, up], 1e-2, |i| low_rank_up(&i[0], &i[1], &i[2], 2.0));
    }

    #[test]
    fn merging_where_nothing_is_recorded_changes_rounding_only() {
        let case = &cases()[1];
        let vars: Vec<_> =
            [&case.xs, &case.down, &case.up].map(|x| candle_core::Var::from_tensor(x).unwrap()).into();
        let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let recorded = fused(case, InputActivation::Gelu, &inputs).unwrap();
        let merged = no_grad(|| fused(case, InputActivation::Gelu, &inputs)).unwrap();
        assert!(recorded.track_op() && !merged.track_op());
        assert_close("merged", &merged, &recorded, 3e-6);
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let case = &cases()[2];
        let inputs = [case.xs.clone(), case.down.clone(), case.up.clone()];
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| gradients(&inputs, |i| fused(case, InputActivation::Gelu, i)));
            found.iter().map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(3));
    }
}
