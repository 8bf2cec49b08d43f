//! A block of a stage, which may be checkpointed.

use crate::block::{BlockOutput, Position, SwinBlock};
use crate::{SwinConfig, TaskOutput, Tuning};
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;
use tadformer_ops::{Mode, Params, checkpoint};

/// A block with the list of what it trains.
#[derive(Debug, Clone)]
pub(crate) struct StageBlock {
    block: Arc<SwinBlock>,
    variables: Vec<Tensor>,
}

impl StageBlock {
    pub(crate) fn new(
        config: &SwinConfig,
        tuning: &Tuning,
        position: Position,
        params: &Params,
    ) -> Result<Self> {
        let (block, variables) =
            params.with_variables(|params| SwinBlock::new(config, tuning, position, params))?;
        Ok(Self { block: Arc::new(block), variables })
    }

    /// See [`SwinBlock::pack`].
    pub(crate) fn pack(&mut self) -> Result<()> {
        Arc::make_mut(&mut self.block).pack()
    }

    pub(crate) fn forward(
        &self,
        xs: &Tensor,
        prompts: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<BlockOutput> {
        self.block.forward(xs, prompts, mode)
    }

    /// [`forward`](Self::forward) of which the inputs alone are kept for the backward; the scores stay inside.
    pub(crate) fn forward_checkpointed(
        &self,
        xs: &Tensor,
        prompts: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<BlockOutput> {
        let inputs: Vec<&Tensor> = std::iter::once(xs).chain(prompts).collect();
        let block = Arc::clone(&self.block);
        let outputs = checkpoint(&inputs, &self.variables, mode, move |inputs, mode| {
            let BlockOutput { xs, prompts, tasks, scores: _ } =
                block.forward(&inputs[0], inputs.get(1), mode)?;
            let tasks = tasks.map(|TaskOutput { xs, skip }| [xs, skip]);
            Ok(std::iter::once(xs).chain(tasks.into_iter().flatten()).chain(prompts).collect())
        })?;
        let (xs, tasks, prompts) = match outputs.as_slice() {
            [xs] => (xs, None, None),
            [xs, prompts] => (xs, None, Some(prompts)),
            [xs, tasks, skip] => (xs, Some((tasks, skip)), None),
            [xs, tasks, skip, prompts] => (xs, Some((tasks, skip)), Some(prompts)),
            other => bail!("a block gave {} tensors, expected 1 to 4", other.len()),
        };
        let tasks = tasks.map(|(xs, skip)| TaskOutput { xs: xs.clone(), skip: skip.clone() });
        Ok(BlockOutput { xs: xs.clone(), tasks, prompts: prompts.cloned(), scores: None })
    }
}
