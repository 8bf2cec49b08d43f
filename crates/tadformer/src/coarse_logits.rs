//! What the decoders say, before it is resized to the image.

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;
use tadformer_data::draw::activate;
use tadformer_data::{Raster, Task};
use tadformer_decoders::logit_planes;
use tadformer_ops::{DenseLogits, ResizeStep, Strip, each_resized_strip, resized_strips};

/// Logits of some tasks as tokens `(b, h, w, outputs)`, each on its decoder's own grid, and the size that they are for.
///
/// At Swin-T's 448² the grids have a 64th of the image's pixels: losses and predictions resize a few rows at a time.
#[derive(Debug, Clone)]
pub struct CoarseLogits {
    tasks: Vec<(Task, Tensor)>,
    padded: (usize, usize),
    size: (usize, usize),
}

impl CoarseLogits {
    /// Tokens that are resized to `padded` = (rows, columns), of which the first `size` are those of the image.
    pub fn new(tasks: Vec<(Task, Tensor)>, padded: (usize, usize), size: (usize, usize)) -> Self {
        Self { tasks, padded, size }
    }

    /// The tokens of each task.
    pub fn tokens(&self) -> &[(Task, Tensor)] {
        &self.tasks
    }

    /// The logits of `task`, if there are any, for a loss that will be multiplied by `weight`.
    pub fn of(&self, task: Task, weight: f64) -> Option<DenseLogits<'_>> {
        let (_, grid) = self.tasks.iter().find(|(found, _)| *found == task)?;
        Some(DenseLogits::Tokens { grid, size: self.padded, weight: weight as f32 })
    }

    /// Each task's logits at the image's size, `(b, outputs, H, W)`.
    ///
    /// # Errors
    /// Tokens of another rank, or with an empty side.
    pub fn resized(&self) -> Result<Vec<(Task, Tensor)>> {
        let (height, width) = self.size;
        let resize =
            |tokens: &Tensor| logit_planes(tokens, self.padded)?.narrow(2, 0, height)?.narrow(3, 0, width);
        self.tasks.iter().map(|(task, tokens)| Ok((*task, resize(tokens)?))).collect()
    }

    /// The maps that the logits stand for ([`activate`]), task by task and in each the images of the batch, at the image's
    /// size or resized from it to `other` = (rows, columns).
    ///
    /// The same numbers as of [`resized`](Self::resized), a second resize and [`activate`], a few rows at a time: no
    /// logits of those sizes exist.
    ///
    /// # Errors
    /// A number of channels that a task cannot have, or an empty side.
    pub fn activated(&self, other: Option<(usize, usize)>) -> Result<Vec<Vec<Raster>>> {
        let (height, width) = other.unwrap_or(self.size);
        let steps = self.steps((height, width));
        self.tasks
            .par_iter()
            .map(|(task, tokens)| {
                let (images, _, _, channels) = tokens.dims4()?;
                let map = Raster::filled(task.label_channels(), height, width, 0.0);
                let mut maps = vec![map; images];
                let strips = resized_strips(tokens, &steps, |strip: Strip| {
                    let data = strip.planes;
                    let logits = Raster { channels, height: strip.rows, width, data };
                    Ok((strip.image, strip.first, activate(*task, &logits).map_err(Error::wrap)?))
                })?;
                for (image, first, strip) in strips {
                    let rows = strip.height * width;
                    for (channel, plane) in strip.data.chunks_exact(rows).enumerate() {
                        let start = (channel * height + first) * width;
                        maps[image].data[start..][..rows].copy_from_slice(plane);
                    }
                }
                Ok(maps)
            })
            .collect()
    }

    /// The logits of task number `index` of the first image, resized to `size` = (rows, columns), and the map that they
    /// stand for: some rows `(outputs, rows, columns)` and `(c, rows, columns)` at a time, from the top down, with the
    /// number of the first row. The same numbers as [`activated`](Self::activated) gives; only some rows exist at once.
    ///
    /// # Errors
    /// A number of channels that a task cannot have, an empty side; and those of `take`.
    ///
    /// # Panics
    /// If there is no such task.
    pub fn each_strip(
        &self,
        index: usize,
        size: (usize, usize),
        mut take: impl FnMut(usize, &Raster, &Raster) -> crate::Result<()>,
    ) -> crate::Result<()> {
        let (task, tokens) = &self.tasks[index];
        let (_, _, _, channels) = tokens.dims4()?;
        let make = |strip: Strip| {
            let logits = Raster { channels, height: strip.rows, width: size.1, data: strip.planes };
            let map = activate(*task, &logits).map_err(Error::wrap)?;
            Ok((strip.first, logits, map))
        };
        // A tensor's error has no place for another with its causes.
        let mut failed = None;
        let made =
            each_resized_strip(&tokens.narrow(0, 0, 1)?, &self.steps(size), make, |(first, logits, map)| {
                take(first, &logits, &map).map_err(|error| {
                    failed = Some(error);
                    Error::Msg("stopped".to_owned())
                })
            });
        failed.map_or(made.map_err(Into::into), Err)
    }

    /// From the tokens to the image's size and on to `size`.
    fn steps(&self, size: (usize, usize)) -> Vec<ResizeStep> {
        let mut steps = vec![ResizeStep { size: self.padded, kept: self.size }];
        if size != self.size {
            steps.push(ResizeStep { size, kept: size });
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tadformer_ops::interpolate_planes;
    use tadformer_ops::testing::named_tensor;

    #[test]
    fn maps_made_strip_by_strip_are_those_of_whole_logits() {
        let channels = |task: Task| if task.name == "semseg" { 21 } else { task.label_channels() };
        let tokens = |task: Task| named_tensor(task.name, (2, 13, 11, channels(task)), 0.0, 3.0).unwrap();
        let tasks: Vec<Task> = Task::all().filter(|task| task.name != "human_parts").collect();
        let coarse = tasks.iter().map(|task| (*task, tokens(*task))).collect();
        let coarse = CoarseLogits::new(coarse, (64, 64), (50, 61));
        for other in [None, Some((50, 61)), Some((123, 77)), Some((7, 5))] {
            let maps = coarse.activated(other).unwrap();
            assert_eq!(maps.len(), tasks.len());
            for ((task, logits), maps) in coarse.resized().unwrap().iter().zip(&maps) {
                let logits = interpolate_planes(logits, other.unwrap_or((50, 61))).unwrap();
                for (i, map) in maps.iter().enumerate() {
                    let expected =
                        activate(*task, &crate::evaluate::raster(&logits.get(i).unwrap()).unwrap());
                    assert_eq!(*map, expected.unwrap(), "{task}, image {i}, {other:?}");
                }
            }
        }
    }
}
