//! Neighbouring tokens side by side.

use crate::host::read;
use crate::rows::make;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};

/// Each 2×2 neighbourhood of tokens becomes one token of four times the channels, in the order (0, 0), (1, 0), (0, 1),
/// (1, 1) of (row, column). Swin Transformer (arXiv 2103.14030), patch merging.
///
/// Nothing is kept for the backward.
///
/// # Shapes
/// - `xs` `(n, h, w, c)`, `h` and `w` even
/// - output `(n, h/2, w/2, 4c)`
///
/// # Errors
/// A grid with an odd side, or a tensor that is not `f32` on the CPU.
pub fn merge_patches(xs: &Tensor) -> Result<Tensor> {
    const OP: &str = "merge patches";
    let (n, h, w, c) = xs.dims4()?;
    if h % 2 != 0 || w % 2 != 0 {
        bail!("{OP}: the grid {h}x{w} has an odd side");
    }
    let xs = xs.contiguous()?;
    let pair = 2 * w * c;
    // A pair of grid rows becomes one row of the output; token `col` of its row `dy` goes to part `2 · (col % 2) + dy`.
    let merged = move |dy: usize, col: usize| (col / 2 * 4 + col % 2 * 2 + dy) * c;
    let ys = {
        let x = read(OP, &xs)?;
        make(x.len(), pair, |first, block| {
            for (y, x) in block.chunks_exact_mut(pair).zip(x[first * pair..].chunks_exact(pair)) {
                for (dy, x) in x.chunks_exact(w * c).enumerate() {
                    for (col, x) in x.chunks_exact(c).enumerate() {
                        y[merged(dy, col)..][..c].copy_from_slice(x);
                    }
                }
            }
        })
    };
    let shape = xs.shape().clone();
    record_one(OP, &[&xs], Output::new(ys, (n, h / 2, w / 2, 4 * c)), move |grad| {
        let grad = grad.contiguous()?;
        let g = read(OP, &grad)?;
        let dx = make(g.len(), pair, |first, block| {
            for (dx, g) in block.chunks_exact_mut(pair).zip(g[first * pair..].chunks_exact(pair)) {
                for (dy, dx) in dx.chunks_exact_mut(w * c).enumerate() {
                    for (col, dx) in dx.chunks_exact_mut(c).enumerate() {
                        dx.copy_from_slice(&g[merged(dy, col)..][..c]);
                    }
                }
            }
        });
        Ok(vec![Some(Tensor::from_vec(dx, shape, grad.device())?)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_refused, gradcheck, named_tensor};

    #[test]
    fn it_is_the_reshaping_of_the_paper_and_its_gradient_the_way_back() {
        for (n, h, w, c) in [(2, 4, 6, 3), (1, 2, 2, 1), (3, 2, 8, 5)] {
            let xs = named_tensor("xs", (n, h, w, c), 0.0, 1.0).unwrap();
            let parts: Vec<Tensor> = [(0, 0), (1, 0), (0, 1), (1, 1)]
                .map(|(dy, dx)| {
                    let rows = Tensor::arange_step(dy, h as u32, 2, xs.device()).unwrap();
                    let cols = Tensor::arange_step(dx, w as u32, 2, xs.device()).unwrap();
                    xs.index_select(&rows, 1).unwrap().index_select(&cols, 2).unwrap()
                })
                .into();
            assert_close("merged", &merge_patches(&xs).unwrap(), &Tensor::cat(&parts, 3).unwrap(), 0.0);
            gradcheck("merge patches", &[xs], 1e-2, |i| merge_patches(&i[0]));
        }
        let odd = named_tensor("xs", (1, 3, 2, 1), 0.0, 1.0).unwrap();
        assert_refused(merge_patches(&odd), &["the grid 3x2 has an odd side"]);
    }
}
