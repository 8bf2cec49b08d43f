//! A loss of planes: runs of pixels, each of one image.

use super::BLOCK;
use super::pixels::PixelLoss;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// `images × channels` planes of `pixels` numbers each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planes {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) pixels: usize,
}

/// A run of pixels of one image: what one thread does at a time.
struct Run<'a> {
    image: usize,
    first: usize,
    len: usize,
    /// The run in each channel of the gradient; no channels if nobody wants it.
    gradient: Vec<&'a mut [f32]>,
}

impl Planes {
    pub(super) fn of(tensor: &Tensor) -> Result<Self> {
        let (images, channels, height, width) = tensor.dims4()?;
        Ok(Self { images, channels, pixels: height * width })
    }

    /// Adds up `loss` over the runs of `logits`, which are these planes, in their order.
    pub(super) fn sum(
        self,
        logits: &[f32],
        (labels, label_planes): (&[f32], Self),
        gradient: &mut [f32],
        loss: &dyn PixelLoss,
    ) -> f64 {
        let sum = |mut run: Run<'_>| {
            let (x, y) = (self.channels_of(logits, &run), label_planes.channels_of(labels, &run));
            loss.sum(&x, &y, &mut run.gradient)
        };
        let sums: Vec<f64> = self.runs(gradient).into_par_iter().map(sum).collect();
        sums.iter().sum()
    }

    fn runs(self, gradient: &mut [f32]) -> Vec<Run<'_>> {
        let mut runs = Vec::new();
        for image in 0..self.images {
            for first in (0..self.pixels).step_by(BLOCK) {
                let len = BLOCK.min(self.pixels - first);
                runs.push(Run { image, first, len, gradient: Vec::new() });
            }
        }
        let runs_an_image = self.pixels.div_ceil(BLOCK);
        for (index, plane) in gradient.chunks_exact_mut(self.pixels.max(1)).enumerate() {
            let image = index / self.channels;
            for (i, part) in plane.chunks_mut(BLOCK).enumerate() {
                runs[image * runs_an_image + i].gradient.push(part);
            }
        }
        runs
    }

    /// `run` in each channel of `values`, which are laid out like these planes.
    fn channels_of<'v>(self, values: &'v [f32], run: &Run<'_>) -> Vec<&'v [f32]> {
        let start = |channel: usize| (run.image * self.channels + channel) * self.pixels + run.first;
        (0..self.channels).map(|channel| &values[start(channel)..][..run.len]).collect()
    }
}
