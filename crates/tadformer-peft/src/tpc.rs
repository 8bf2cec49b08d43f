//! TPC, the task-prompt conditional operator.

use candle_core::{Result, Tensor};
use tadformer_ops::{Before, LayerNorm, Residual, task_condition};

/// What TPC gives for all tasks, task by task.
#[derive(Debug, Clone)]
pub struct Conditioned {
    /// `f_t = a_t ⊙ c`, `(tasks · b, h, w, c)`: the skip feature.
    pub skip: Tensor,
    /// `c` and the LayerNorm of the sum; nothing in the ablation.
    add_norm: Option<(Residual, LayerNorm)>,
}

impl Conditioned {
    /// What makes the input of the tasks' streams, `LN(f_t + c)`, of the skip feature.
    pub fn before(&self) -> Before<'_> {
        match &self.add_norm {
            Some((context, norm)) => Before::AddNorm(context, norm),
            None => Before::Nothing,
        }
    }

    /// `LN(f_t + c)`, `(tasks · b, h, w, c)`: the input of the tasks' streams.
    ///
    /// # Errors
    /// A LayerNorm of another width.
    pub fn us(&self) -> Result<Tensor> {
        self.before().apply(&self.skip)
    }
}

/// Turns the attention output `c` into one stream a task: the raw scores between a task's prompts and the tokens, through
/// GELU, scale each head's channels; the result and `c` are added and normalised. TADFormer (arXiv 2501.04293), TPC.
///
/// # Shapes
/// - `scores` `(b, h, w, tasks · p, heads)`, before scale, bias, mask and softmax
/// - `context` `(b, h, w, c)`
///
/// # Errors
/// Shapes that do not fit.
pub fn condition_on_prompts(
    scores: &Tensor,
    context: &Tensor,
    tasks: usize,
    prompt_layernorm: &LayerNorm,
) -> Result<Conditioned> {
    let skip = task_condition(scores, context, tasks)?;
    Ok(Conditioned { skip, add_norm: Some((Residual::new(context, None)?, prompt_layernorm.clone())) })
}

/// The ablation without prompts' scores: every task's stream starts as the attention output itself.
///
/// # Errors
/// None in practice.
pub fn unconditioned(context: &Tensor, tasks: usize) -> Result<Conditioned> {
    let skip = Tensor::cat(&vec![context; tasks], 0)?;
    Ok(Conditioned { skip, add_norm: None })
}
