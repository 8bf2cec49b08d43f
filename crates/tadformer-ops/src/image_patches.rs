//! An image as a grid of flattened patches.

use crate::host::read;
use crate::rows::make;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};

/// Cuts images into patches of `side × side` pixels and lays each out as one row in the order (channel, row, column) of a
/// convolution's weight, so that a convolution whose stride is its side is a linear layer. Vision Transformer (arXiv
/// 2010.11929), patch embedding.
///
/// Nothing is kept for the backward.
///
/// # Shapes
/// - `images` `(b, c, H, W)`, `H` and `W` multiples of `side`
/// - output `(b, H/side, W/side, c · side²)`
///
/// # Errors
/// A side that is not a multiple of the patch's, or a tensor that is not `f32` on the CPU.
pub fn image_patches(images: &Tensor, side: usize) -> Result<Tensor> {
    const OP: &str = "image patches";
    let (b, channels, height, width) = images.dims4()?;
    if side == 0 || height % side != 0 || width % side != 0 {
        bail!("{OP}: an image of {height}x{width} cannot be cut into patches of {side}x{side}");
    }
    let images = images.contiguous()?;
    let (h, w, size) = (height / side, width / side, channels * side * side);
    // Strip `at` of an image is the piece of pixel row `y` of channel `c` that lies in one patch.
    let strips = move |(image, row): (usize, usize)| {
        (0..channels * side).flat_map(move |at| {
            let (c, y) = (at / side, at % side);
            let pixels = ((image * channels + c) * height + row * side + y) * width;
            (0..w).map(move |col| (col * size + at * side, pixels + col * side))
        })
    };
    let ys = {
        let x = read(OP, &images)?;
        make(b * h * w * size, w * size, |first, block| {
            for (row, patches) in block.chunks_exact_mut(w * size).enumerate() {
                for (to, from) in strips(((first + row) / h, (first + row) % h)) {
                    patches[to..][..side].copy_from_slice(&x[from..][..side]);
                }
            }
        })
    };
    let shape = images.shape().clone();
    record_one(OP, &[&images], Output::new(ys, (b, h, w, size)), move |grad| {
        let grad = grad.contiguous()?;
        let mut dx = vec![0f32; grad.elem_count()];
        for (row, patches) in read(OP, &grad)?.chunks_exact((w * size).max(1)).enumerate() {
            for (from, to) in strips((row / h, row % h)) {
                dx[to..][..side].copy_from_slice(&patches[from..][..side]);
            }
        }
        Ok(vec![Some(Tensor::from_vec(dx, shape, grad.device())?)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};

    #[test]
    fn it_is_the_reshaping_of_candle_and_its_gradient_the_way_back() {
        for (b, c, h, w, side) in [(2, 3, 2, 3, 4), (1, 1, 1, 1, 1), (1, 2, 3, 1, 2)] {
            let images = named_tensor("images", (b, c, h * side, w * side), 0.0, 1.0).unwrap();
            let expected = images
                .reshape(&[b, c, h, side, w, side][..])
                .and_then(|xs| xs.permute([0, 2, 4, 1, 3, 5]))
                .and_then(|xs| xs.reshape((b, h, w, c * side * side)))
                .unwrap();
            assert_close("patches", &image_patches(&images, side).unwrap(), &expected, 0.0);
            gradcheck("image patches", &[images], 1e-2, |i| image_patches(&i[0], side));
        }
    }

    #[test]
    fn what_does_not_divide_is_refused() {
        let images = named_tensor("images", (1, 3, 6, 4), 0.0, 1.0).unwrap();
        for side in [0, 4] {
            assert!(image_patches(&images, side).unwrap_err().to_string().contains("6x4"), "{side}");
        }
    }
}
