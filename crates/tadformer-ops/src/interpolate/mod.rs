//! Bilinear resize with half-pixel centres, and its backward (candle's `upsample_bilinear2d` has none).
//!
//! The same as `torch.nn.functional.interpolate(mode="bilinear", align_corners=False, antialias=False)`.

mod axis;
mod by_row;
mod cpu;
mod strips;
#[cfg(test)]
mod tests;

use crate::around::{Around, Before};
use crate::autocast::Precision;
use crate::gemm::Matrix;
use crate::host::read;
use crate::linear::{check, linear_around};
use crate::low_rank::merged_weight;
use crate::packed::{Start, block_rows};
use crate::rows::{fresh, zeros};
use crate::tape::{Output, record_one, recording};
use candle_core::{Result, Tensor, bail};
use cpu::{Geometry, ROWS, SumRows};
use rayon::prelude::*;
use std::mem::MaybeUninit;

pub(crate) use by_row::{ResizedRows, RowGradients, RowResize};
pub(crate) use strips::token_row;
pub use strips::{ResizeStep, Strip, each_resized_strip, resized_strips};

/// Resizes the planes of `xs` to `size` = (rows, columns). The same size gives the same tensor, without a copy.
///
/// Nothing of `xs` is kept for the backward.
///
/// # Shapes
/// - `xs` `(b, c, h, w)`
/// - output `(b, c, oh, ow)`
///
/// # Errors
/// A tensor of another rank, an empty side, or a tensor that is not `f32` on the CPU.
pub fn interpolate_planes(xs: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    if (h, w) == size {
        return Ok(xs.clone());
    }
    resized_sum(&[xs], &[(h, w)], 1, size, &[b, c, size.0, size.1])
}

/// Resizes grids of tokens to `size` = (rows, columns). The same size gives the same tensor, without a copy.
///
/// Nothing of `xs` is kept for the backward.
///
/// # Shapes
/// - `xs` `(b, h, w, c)`
/// - output `(b, oh, ow, c)`
///
/// # Errors
/// A tensor of another rank, an empty side, or a tensor that is not `f32` on the CPU.
pub fn interpolate_tokens(xs: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    interpolate_tokens_sum(&[xs], size)
}

/// Resizes several grids of tokens to one `size` = (rows, columns) and adds them up, without a resized copy of any.
///
/// The sum is made in the order of `levels`. Nothing of them is kept for the backward.
///
/// # Shapes
/// - each of `levels` `(b, h, w, c)` with its own `h` and `w`
/// - output `(b, oh, ow, c)`
///
/// # Errors
/// No level, levels that differ in `b` or `c`, an empty side, or a tensor that is not `f32` on the CPU.
pub fn interpolate_tokens_sum(levels: &[&Tensor], size: (usize, usize)) -> Result<Tensor> {
    let ((b, c), grids) = token_grids(levels)?;
    if levels.len() == 1 && grids[0] == size {
        return Ok(levels[0].clone());
    }
    resized_sum(levels, &grids, c, size, &[b, size.0, size.1, c])
}

/// `linear(before(Σ resized levels))`: [`interpolate_tokens_sum`], and a linear of it ([`linear_around`]). Where nothing is
/// recorded the sum exists only row by row.
///
/// # Shapes
/// - each of `levels` `(b, h, w, c)` with its own `h` and `w`; `weight` `(out, c)`, `bias` `(out)`
/// - output `(b, oh, ow, out)`
///
/// # Errors
/// Those of both.
pub fn linear_of_resized(
    levels: &[&Tensor],
    size: (usize, usize),
    before: Before<'_>,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let around = Around::after(before);
    let others: Vec<&Tensor> = around.tensors().into_iter().chain([weight]).chain(bias).collect();
    if recording(levels) || recording(&others) {
        return linear_around(&interpolate_tokens_sum(levels, size)?, weight, bias, around);
    }
    let ((b, c), grids) = token_grids(levels)?;
    let resize = Resize::new(levels, &grids, c, size, &[b, size.0, size.1, c])?;
    let (out_dim, in_dim) = weight.dims2()?;
    check(OP, &resize.levels[0], in_dim, out_dim, bias)?;
    let ys = {
        let slices = resize.levels.iter().map(|level| read(OP, level)).collect::<Result<Vec<_>>>()?;
        let pairs: Vec<_> = resize.geometries.iter().zip(&slices).map(|(g, slice)| (g, &**slice)).collect();
        let bias = bias.map(|bias| read(OP, bias)).transpose()?;
        let before = before.rows(OP, &[b, size.0, size.1, c])?;
        let weight = merged_weight(Precision::in_use(), weight, None)?;
        let part = block_rows(8 * size.1, c);
        let task = |(task, block): (usize, &mut [MaybeUninit<f32>])| {
            let (mut sum, mut row, mut space) = (SumRows::new(&pairs), vec![0f32; size.1 * c], Vec::new());
            for (i, y) in block.chunks_exact_mut(size.1 * out_dim).enumerate() {
                let index = task * ROWS + i;
                sum.write(index, &mut row);
                let parts = row.chunks(part * c).zip(y.chunks_mut(part * out_dim));
                for (k, (x, y)) in parts.enumerate() {
                    let u = before.of(index * row.len() + k * part * c, x, &mut space);
                    weight.write(Matrix::of_rows(u, c), Start::bias(bias.as_deref()), y);
                }
            }
        };
        // SAFETY: the tasks cover all rows, and a product writes every number.
        unsafe {
            fresh(b * size.0 * size.1 * out_dim, |ys| {
                ys.par_chunks_mut((ROWS * size.1 * out_dim).max(1)).enumerate().for_each(task);
            })
        }
    };
    Output::new(ys, (b, size.0, size.1, out_dim)).plain(OP)
}

/// Batch and channels, which all levels `(b, h, w, c)` share, and the grid of each.
fn token_grids(levels: &[&Tensor]) -> Result<((usize, usize), Vec<(usize, usize)>)> {
    let Some(first) = levels.first() else {
        bail!("{OP}: there is no level to resize");
    };
    let (b, _, _, c) = first.dims4()?;
    let mut grids = Vec::with_capacity(levels.len());
    for level in levels {
        match *level.dims() {
            [lb, h, w, lc] if (lb, lc) == (b, c) => grids.push((h, w)),
            _ => bail!(
                "{OP}: a level has shape {:?}, the first one {:?}; batch and channels must agree",
                level.dims(),
                first.dims()
            ),
        }
    }
    Ok(((b, c), grids))
}

const OP: &str = "interpolate";

/// Levels to be resized and added.
struct Resize {
    levels: Vec<Tensor>,
    geometries: Vec<Geometry>,
    /// Numbers of the sum.
    count: usize,
}

impl Resize {
    /// The sum of `levels`, each of grids of its own with `inner` numbers a point, at `size`, as a tensor of `shape`.
    fn new(
        levels: &[&Tensor],
        grids: &[(usize, usize)],
        inner: usize,
        size: (usize, usize),
        shape: &[usize],
    ) -> Result<Self> {
        for (level, &(h, w)) in levels.iter().zip(grids) {
            // A batch may be empty.
            if h == 0 || w == 0 || shape[1..].contains(&0) {
                bail!("{OP}: cannot resize {:?} to {}×{}: a side is empty", level.dims(), size.0, size.1);
            }
        }
        // Of no images, too: what is worked out for a size is as long as its sides.
        let count = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side.max(1)));
        if count.is_none_or(|n| n > isize::MAX as usize / size_of::<f32>()) {
            bail!("{OP}: an output of shape {shape:?} does not fit the memory of any machine");
        }
        let count = shape.iter().product();
        let geometries = grids.iter().map(|&grid| Geometry::new(grid, size, inner)).collect();
        let levels = levels.iter().map(|level| level.contiguous()).collect::<Result<_>>()?;
        Ok(Self { levels, geometries, count })
    }
}

/// The sum as an operation.
fn resized_sum(
    levels: &[&Tensor],
    grids: &[(usize, usize)],
    inner: usize,
    size: (usize, usize),
    shape: &[usize],
) -> Result<Tensor> {
    let Resize { levels, geometries, count } = Resize::new(levels, grids, inner, size, shape)?;
    let ys = {
        let slices = levels.iter().map(|level| read(OP, level)).collect::<Result<Vec<_>>>()?;
        let pairs: Vec<_> = geometries.iter().zip(&slices).map(|(g, slice)| (g, &**slice)).collect();
        // SAFETY: every row is written.
        unsafe { fresh(count, |space| cpu::forward(&pairs, space)) }
    };
    let wanted: Vec<_> = levels.iter().map(|level| level.track_op().then(|| level.shape().clone())).collect();
    let inputs: Vec<&Tensor> = levels.iter().collect();
    let grids = grids.to_vec();
    record_one(OP, &inputs, Output::new(ys, shape), move |grad| {
        let grad = grad.contiguous()?;
        let g = read(OP, &grad)?;
        wanted
            .iter()
            .zip(&grids)
            .zip(&geometries)
            .map(|((shape, grid), geometry)| match shape {
                None => Ok(None),
                Some(_) if *grid == size => Ok(Some(grad.clone())),
                Some(shape) => {
                    let mut dx = zeros(shape.elem_count());
                    cpu::backward(geometry, &g, &mut dx);
                    Ok(Some(Tensor::from_vec(dx, shape, grad.device())?))
                }
            })
            .collect()
    })
}
