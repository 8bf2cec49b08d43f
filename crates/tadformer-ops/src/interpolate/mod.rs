//! Bilinear resize with half-pixel centres, and its backward (candle's `upsample_bilinear2d` has none).
//!
//! The same as `torch.nn.functional.interpolate(mode="bilinear", align_corners=False, antialias=False)`.

mod axis;
mod by_row;
mod cpu;
mod strips;
#[cfg(test)]
mod tests;

use crate::host::read;
use crate::rows::zeros;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};
use cpu::Geometry;

pub(crate) use by_row::{ResizedRows, RowGradients, RowResize};
pub(crate) use strips::token_row;
pub use strips::{ResizeStep, Strip, resized_strips};

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
    resized_sum(&[xs], &[(h, w)], (b * c, 1), size, &[b, c, size.0, size.1])
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
    let Some(first) = levels.first() else {
        bail!("{OP}: there is no level to resize");
    };
    let (b, h, w, c) = first.dims4()?;
    if levels.len() == 1 && (h, w) == size {
        return Ok((*first).clone());
    }
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
    resized_sum(levels, &grids, (b, c), size, &[b, size.0, size.1, c])
}

const OP: &str = "interpolate";

/// The sum of `levels`, each `outer × (h, w) × inner` numbers with its own grid, at `size`.
fn resized_sum(
    levels: &[&Tensor],
    grids: &[(usize, usize)],
    (outer, inner): (usize, usize),
    size: (usize, usize),
    shape: &[usize],
) -> Result<Tensor> {
    for (level, &(h, w)) in levels.iter().zip(grids) {
        if [outer, inner, h, w, size.0, size.1].contains(&0) {
            bail!("{OP}: cannot resize {:?} to {}×{}: a side is empty", level.dims(), size.0, size.1);
        }
    }
    let count = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    let Some(count) = count.filter(|&n| n <= isize::MAX as usize / size_of::<f32>()) else {
        bail!("{OP}: an output of shape {shape:?} does not fit the memory of any machine");
    };
    let geometries: Vec<Geometry> = grids.iter().map(|&grid| Geometry::new(grid, size, inner)).collect();
    let levels = levels.iter().map(|level| level.contiguous()).collect::<Result<Vec<_>>>()?;
    let mut ys = zeros(count);
    {
        let slices = levels.iter().map(|level| read(OP, level)).collect::<Result<Vec<_>>>()?;
        let pairs: Vec<_> = geometries.iter().zip(&slices).map(|(g, slice)| (g, &**slice)).collect();
        cpu::forward(&pairs, &mut ys);
    }
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
