//! Learned task prompts.

use candle_core::{Result, Tensor};
use tadformer_ops::{Init, Params};

/// `tasks · per_task` learned rows of `dim` features; rows `t·p..(t+1)·p` belong to task `t`.
#[derive(Debug, Clone)]
pub struct TaskPrompts {
    rows: Tensor,
}

impl TaskPrompts {
    /// State-dict name `task_prompts`; starts normal(1, 1) cut to −2..2.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(tasks: usize, per_task: usize, dim: usize, params: &Params) -> Result<Self> {
        let init = Init::TruncatedNormal { mean: 1.0, std: 1.0, low: -2.0, high: 2.0 };
        Ok(Self { rows: params.trainable("task_prompts", (tasks * per_task, dim), init)? })
    }

    /// The prompts for a batch, `(b, tasks · p, dim)`.
    ///
    /// # Errors
    /// None in practice.
    pub fn for_batch(&self, b: usize) -> Result<Tensor> {
        let (rows, dim) = self.rows.dims2()?;
        self.rows.unsqueeze(0)?.broadcast_as((b, rows, dim))?.contiguous()
    }
}
