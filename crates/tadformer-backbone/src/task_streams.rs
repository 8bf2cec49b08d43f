//! What the task streams of a block need beyond its sites.

use crate::Adaptation;
use candle_core::{Result, Tensor};
use tadformer_ops::LayerNorm;
use tadformer_peft::{Conditioned, condition_on_prompts, unconditioned};

/// How the attention output becomes one stream a task.
#[derive(Debug, Clone)]
pub(crate) struct TaskStreams {
    tasks: usize,
    condition: bool,
    prompt_layernorm: LayerNorm,
}

/// The streams of all tasks, task by task.
#[derive(Debug, Clone)]
pub struct TaskOutput {
    /// `(tasks · b, h, w, c)`.
    pub xs: Tensor,
    /// The skip features `f_t`, `(tasks · b, h, w, c)`.
    pub skip: Tensor,
}

impl TaskStreams {
    pub(crate) fn new(adaptation: &Adaptation, prompt_layernorm: LayerNorm) -> Self {
        Self { tasks: adaptation.tasks, condition: adaptation.condition, prompt_layernorm }
    }

    pub(crate) fn condition(&self, scores: &Tensor, context: &Tensor) -> Result<Conditioned> {
        if self.condition {
            condition_on_prompts(scores, context, self.tasks, &self.prompt_layernorm)
        } else {
            unconditioned(context, self.tasks)
        }
    }
}
