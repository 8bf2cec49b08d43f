//! What the decoders say, before it is resized to the image.

use candle_core::{Result, Tensor};
use tadformer_data::Task;
use tadformer_decoders::logit_planes;
use tadformer_ops::DenseLogits;

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
}
