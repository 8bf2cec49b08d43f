//! Losses of dense prediction: planar logits and labels in, one number and the gradient of the logits out.
//!
//! | function | labels | value |
//! | --- | --- | --- |
//! | [`cross_entropy`] | `(b, 1, h, w)` classes | mean of `−log softmax(x)[label]` over labelled pixels |
//! | [`balanced_bce`] | as the logits, 0 or 1 | logistic loss, positives weighted `w`, negatives `1 − w`, by all entries |
//! | [`normals_l1`] | `(b, 3, h, w)` unit vectors | mean of `abs(x/‖x‖ − label)` over labelled entries |
//! | [`masked_l1`] | as the prediction | mean of `abs(x − label)` over labelled entries |
//!
//! A label of 255 marks a pixel without one. Where nothing is labelled the loss is 0 and so is its gradient; it is never
//! `0/0`.
//!
//! Values are summed in `f64` over blocks of fixed size, so they do not depend on the number of threads. When a variable
//! leads to the logits, their gradient is computed in the same pass, as every number it needs is at hand: it is what is
//! kept for the backward (the size of the logits), which only scales it.

mod cross_entropy;
mod balanced_bce;
mod normals_l1;
mod masked_l1;
#[cfg(test)]
mod golden;

pub use balanced_bce::{balanced_bce, balanced_bce_labelled};
pub use cross_entropy::cross_entropy;
pub use masked_l1::masked_l1;
pub use normals_l1::normals_l1;

use crate::rows::zeros;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// The label of a pixel without one.
const UNLABELLED: f32 = 255.0;

/// Pixels a task of the thread pool.
const BLOCK: usize = 4096;

/// A loss of one batch.
#[derive(Debug, Clone)]
pub struct LossValue {
    /// The loss, a scalar with a gradient.
    pub value: Tensor,
    /// How many labelled entries it comes from (pixels; of normals, channels of pixels). With none the loss is 0.
    pub labelled: usize,
}

/// Puts a computed loss on the tape; `gradient` is that of the loss, empty if nobody wants it.
fn loss_value(
    op: &'static str,
    logits: &Tensor,
    value: f64,
    gradient: Vec<f32>,
    labelled: usize,
) -> Result<LossValue> {
    let shape = logits.shape().clone();
    let value = record_one(op, &[logits], Output::new(vec![value as f32], ()), move |grad| {
        let factor = grad.to_scalar::<f32>()?;
        let mut gradient = gradient;
        if factor != 1.0 {
            gradient.par_chunks_mut(BLOCK).for_each(|block| block.iter_mut().for_each(|g| *g *= factor));
        }
        Ok(vec![Some(Tensor::from_vec(gradient, shape, grad.device())?)])
    })?;
    Ok(LossValue { value, labelled })
}

/// Room for the gradient of `logits`, if there is a use for it.
fn gradient_for(logits: &Tensor) -> Vec<f32> {
    if logits.track_op() { zeros(logits.elem_count()) } else { Vec::new() }
}

fn require_same_shape(op: &'static str, prediction: &Tensor, labels: &Tensor) -> Result<()> {
    if prediction.dims() != labels.dims() {
        bail!("{op}: predictions {:?} and labels {:?} differ in shape", prediction.dims(), labels.dims());
    }
    Ok(())
}

/// How many labels satisfy `condition`.
fn count(labels: &[f32], condition: impl Fn(f32) -> bool + Sync) -> usize {
    labels.par_chunks(BLOCK).map(|block| block.iter().filter(|y| condition(**y)).count()).sum()
}

/// `images × channels` planes of `pixels` numbers each.
#[derive(Debug, Clone, Copy)]
struct Planes {
    images: usize,
    channels: usize,
    pixels: usize,
}

/// A run of pixels of one image: what one thread does at a time.
struct Block<'a> {
    image: usize,
    first: usize,
    len: usize,
    /// The run in each channel of the gradient; no channels if nobody wants it.
    gradient: Vec<&'a mut [f32]>,
}

impl Planes {
    fn of(tensor: &Tensor) -> Result<Self> {
        let (images, channels, height, width) = tensor.dims4()?;
        Ok(Self { images, channels, pixels: height * width })
    }

    /// One plane, for losses that see no structure.
    fn flat(pixels: usize) -> Self {
        Self { images: 1, channels: 1, pixels }
    }

    /// Adds up what `kernel` returns for each block, in the order of the blocks.
    fn sum(self, gradient: &mut [f32], kernel: impl Fn(Block<'_>) -> f64 + Sync) -> f64 {
        let sums: Vec<f64> = self.blocks(gradient).into_par_iter().map(&kernel).collect();
        sums.iter().sum()
    }

    fn blocks(self, gradient: &mut [f32]) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        for image in 0..self.images {
            for first in (0..self.pixels).step_by(BLOCK) {
                let len = BLOCK.min(self.pixels - first);
                blocks.push(Block { image, first, len, gradient: Vec::new() });
            }
        }
        let blocks_an_image = self.pixels.div_ceil(BLOCK);
        for (index, plane) in gradient.chunks_exact_mut(self.pixels.max(1)).enumerate() {
            let image = index / self.channels;
            for (i, run) in plane.chunks_mut(BLOCK).enumerate() {
                blocks[image * blocks_an_image + i].gradient.push(run);
            }
        }
        blocks
    }

    /// The run of `block` in a channel of `values`, which is laid out like these planes.
    fn run<'v>(self, values: &'v [f32], block: &Block<'_>, channel: usize) -> &'v [f32] {
        let start = (block.image * self.channels + channel) * self.pixels + block.first;
        &values[start..start + block.len]
    }
}
