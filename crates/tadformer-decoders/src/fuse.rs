//! One 1×1 convolution over feature maps of several grids.

use crate::conv::PointwiseConv;
use candle_core::{Result, Tensor};
use tadformer_ops::{Before, interpolate_tokens_sum, linear_columns, linear_of_resized};

/// `conv(cat(levels, each resized to grid))`, without the resized copies and their concatenation.
///
/// A 1×1 convolution mixes channels and a resize mixes positions, so the two commute: each level is multiplied by its own
/// columns of the weight at its own resolution, and the products are resized and added. For HRNet at strides 4 to 32
/// that is a tenth of the multiplications. The bias rides on the first level: a resize keeps constants.
///
/// # Shapes
/// - `levels` `(b, h_i, w_i, c_i)`; `conv` takes `Σ c_i` channels
/// - output `(b, grid, out)`
pub(crate) fn fuse(conv: &PointwiseConv, levels: &[Tensor], grid: (usize, usize)) -> Result<Tensor> {
    interpolate_tokens_sum(&products(conv, levels)?.iter().collect::<Vec<_>>(), grid)
}

/// `next(before(fuse(conv, levels, grid)))`; in prediction, row by row.
pub(crate) fn fuse_then(
    conv: &PointwiseConv,
    levels: &[Tensor],
    grid: (usize, usize),
    before: Before<'_>,
    next: &PointwiseConv,
) -> Result<Tensor> {
    let products = products(conv, levels)?;
    linear_of_resized(&products.iter().collect::<Vec<_>>(), grid, before, &next.matrix()?, next.bias())
}

/// Each level multiplied by its own columns of the weight.
fn products(conv: &PointwiseConv, levels: &[Tensor]) -> Result<Vec<Tensor>> {
    let matrix = conv.matrix()?;
    let mut start = 0;
    let mut products = Vec::with_capacity(levels.len());
    for (i, level) in levels.iter().enumerate() {
        products.push(linear_columns(level, &matrix, start, if i == 0 { conv.bias() } else { None })?);
        start += level.dim(3)?;
    }
    Ok(products)
}

/// Rows and columns of `(b, h, w, c)`.
pub(crate) fn grid(xs: &Tensor) -> Result<(usize, usize)> {
    let (_, h, w, _) = xs.dims4()?;
    Ok((h, w))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tadformer_ops::interpolate_tokens;
    use tadformer_ops::testing::{GoldenStore, assert_close, named_tensor};

    #[test]
    fn it_is_the_convolution_of_the_concatenation() {
        // Grids of an image of 75×110 at strides 4 to 32, rounded up; then a single point; then a last level finer than
        // the first.
        for grids in [
            [(19, 28), (10, 14), (5, 7), (3, 4)],
            [(1, 1), (1, 1), (1, 1), (1, 1)],
            [(4, 3), (2, 2), (1, 1), (7, 9)],
        ] {
            let conv = PointwiseConv::new(2 + 3 + 4 + 5, 17, &GoldenStore::new().params()).unwrap();
            let levels: Vec<Tensor> = grids
                .iter()
                .zip(2..)
                .map(|(&(h, w), c)| named_tensor(&format!("level {c}"), (2, h, w, c), 0.0, 1.0).unwrap())
                .collect();
            let resized: Vec<Tensor> =
                levels.iter().map(|level| interpolate_tokens(level, grids[0]).unwrap()).collect();
            let expected = conv.forward(&Tensor::cat(&resized, 3).unwrap()).unwrap();
            assert_close(&format!("{grids:?}"), &fuse(&conv, &levels, grids[0]).unwrap(), &expected, 2e-6);
        }
    }
}
