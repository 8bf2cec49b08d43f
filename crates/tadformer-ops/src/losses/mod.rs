//! Losses of dense prediction: logits and labels in, one number and the gradient of the logits out.
//!
//! | function | labels | value |
//! | --- | --- | --- |
//! | [`cross_entropy`] | `(b, 1, h, w)` classes | mean of `−log softmax(x)[label]` over labelled pixels |
//! | [`balanced_bce`] | as the logits, 0 or 1 | logistic loss, positives weighted `w`, negatives `1 − w`, by all entries |
//! | [`normals_l1`] | `(b, 3, h, w)` unit vectors | mean of `abs(x/‖x‖ − label)` over labelled entries |
//! | [`masked_l1`] | as the prediction | mean of `abs(x − label)` over labelled entries |
//!
//! Logits are planes of the labels' size, or [`DenseLogits::Tokens`] on a grid of their own, resized on the way. A label
//! of 255 marks a pixel without one. Where nothing is labelled the loss is 0 and so is its gradient; it is never `0/0`.
//!
//! What a loss needs of all labels (their number, their balance) is counted first; then the loss is a sum over pixels
//! ([`PixelLoss`]). Values are summed in `f64` over blocks of fixed size, so they do not depend on the number of threads.
//! When a variable leads to the logits, their gradient is computed in the same pass, as every number it needs is at hand:
//! it is what is kept for the backward (the size of the logits as they were given), which only scales it.

mod logits;
mod pixels;
mod planes;
mod resized;
mod cross_entropy;
mod balanced_bce;
mod normals_l1;
mod masked_l1;
#[cfg(test)]
mod golden;

pub use balanced_bce::{balanced_bce, balanced_bce_labelled};
pub use cross_entropy::cross_entropy;
pub use logits::DenseLogits;
pub use masked_l1::masked_l1;
pub use normals_l1::normals_l1;
pub use pixels::LossValue;

/// The label of a pixel without one.
const UNLABELLED: f32 = 255.0;

/// Pixels a task of the thread pool.
const BLOCK: usize = 4096;
