//! A loss as a sum over pixels, whatever the layout of its logits.

use super::logits::DenseLogits;
use super::planes::Planes;
use super::{BLOCK, UNLABELLED, resized};
use crate::host::read;
use crate::rows::zeros;
use crate::tape::{Output, record_one};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// A loss of one batch.
#[derive(Debug, Clone)]
pub struct LossValue {
    /// The loss, a scalar with a gradient.
    pub value: Tensor,
    /// How many labelled entries it comes from (pixels; of normals, channels of pixels). With none the loss is 0.
    pub labelled: usize,
}

/// The part of a loss that is done pixel by pixel.
pub(super) trait PixelLoss: Sync {
    /// The sum over a run of pixels.
    ///
    /// `logits` and `labels` hold the run in each of their channels. The same for `gradient`, all of which is written: the
    /// gradient of the mean, that is of the whole sum divided by what the loss divides it by. It has no channels where
    /// nobody wants it.
    fn sum(&self, logits: &[&[f32]], labels: &[&[f32]], gradient: &mut [&mut [f32]]) -> f64;
}

/// Whether channels belong to one pixel, or every entry stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Together,
    Apart,
}

/// The sum of `loss` over all pixels divided by `labelled`, on the tape. Logits and labels are known to fit.
pub(super) fn mean(
    op: &'static str,
    logits: DenseLogits<'_>,
    labels: &Tensor,
    labelled: usize,
    channels: Channels,
    loss: &dyn PixelLoss,
) -> Result<LossValue> {
    let (tensor, labels) = (logits.tensor().contiguous()?, labels.contiguous()?);
    let mut gradient = if tensor.track_op() { zeros(tensor.elem_count()) } else { Vec::new() };
    let weight = logits.weight();
    let sum = {
        let (x, y) = (read(op, &tensor)?, read(op, &labels)?);
        match logits {
            DenseLogits::Planes(_) if channels == Channels::Apart => {
                let flat = Planes { images: 1, channels: 1, pixels: x.len() };
                flat.sum(&x, (&y, flat), &mut gradient, loss)
            }
            DenseLogits::Planes(_) => {
                Planes::of(&tensor)?.sum(&x, (&y, Planes::of(&labels)?), &mut gradient, loss)
            }
            DenseLogits::Tokens { size, .. } => resized::sum(
                (&x, tensor.dims4()?),
                (size, weight),
                (&y, labels.dims4()?),
                &mut gradient,
                loss,
            )?,
        }
    };
    let shape = tensor.shape().clone();
    let value = sum / labelled.max(1) as f64;
    let value = record_one(op, &[&tensor], Output::new(vec![value as f32], ()), move |grad| {
        let factor = grad.to_scalar::<f32>()? / weight;
        let mut gradient = gradient;
        if factor != 1.0 {
            gradient.par_chunks_mut(BLOCK).for_each(|block| block.iter_mut().for_each(|g| *g *= factor));
        }
        Ok(vec![Some(Tensor::from_vec(gradient, shape, grad.device())?)])
    })?;
    Ok(LossValue { value, labelled })
}

/// How many labels satisfy `condition`.
pub(super) fn count(labels: &[f32], condition: impl Fn(f32) -> bool + Sync) -> usize {
    labels.par_chunks(BLOCK).map(|block| block.iter().filter(|y| condition(**y)).count()).sum()
}

/// How many labels there are.
pub(super) fn count_labelled(labels: &[f32]) -> usize {
    count(labels, |y| y != UNLABELLED)
}
