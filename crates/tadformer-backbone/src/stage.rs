//! A stage: blocks at one resolution, then patch merging.

use crate::block::{BlockOutput, Position};
use crate::patch_merging::PatchMerging;
use crate::stage_block::StageBlock;
use crate::{Skip, SwinConfig, TaskOutput, Tuning};
use candle_core::{Result, Tensor};
use tadformer_ops::{Features, Init, Mode, Params, gated_mix, linear};

/// A stage; state-dict names `blocks`, `downsample`, `prompt_gate`.
#[derive(Debug, Clone)]
pub struct SwinStage {
    blocks: Vec<StageBlock>,
    checkpointing: bool,
    downsample: Option<PatchMerging>,
    skip: Option<(Skip, Tensor)>,
    task_prompts_up: Option<Tensor>,
}

/// What a stage gives, after patch merging where there is one.
#[derive(Debug, Clone)]
pub struct StageOutput {
    /// The shared stream, `(b, h, w, c)`: the stage's features and the next stage's input.
    pub xs: Tensor,
    /// The prompts for the next stage, `(b, t, c)`.
    pub prompts: Option<Tensor>,
    /// The features for each task, `(tasks · b, h, w, c)`, task by task.
    pub tasks: Option<Features>,
}

impl SwinStage {
    /// Stage `stage` of the network of `config`.
    ///
    /// # Errors
    /// Sizes with [problems](SwinConfig::problems), a stage that the network does not have, a loaded value of another shape,
    /// or a tuning that does not fit.
    pub fn new(config: &SwinConfig, tuning: &Tuning, stage: usize, params: &Params) -> Result<Self> {
        Position { stage, block: 0 }.check(config)?;
        let dim = config.dim(stage);
        let merges = stage < 3;
        let adapted = tuning.adaptation().is_some();
        let skip = match tuning.adaptation() {
            Some(adaptation) => Some((adaptation.skip, params.trainable("prompt_gate", 1, Init::ZEROS)?)),
            None => None,
        };
        let blocks = (0..config.depths[stage])
            .map(|block| {
                StageBlock::new(config, tuning, Position { stage, block }, &params.pp("blocks").pp(block))
            })
            .collect::<Result<_>>()?;
        let place = params.pp("downsample");
        let downsample = merges.then(|| PatchMerging::new(dim, tuning, &place)).transpose()?;
        let task_prompts_up = (merges && adapted)
            .then(|| place.pp("task_prompts_up").trainable("weight", (2 * dim, dim), Init::swin()))
            .transpose()?;
        Ok(Self { blocks, checkpointing: false, downsample, skip, task_prompts_up })
    }

    /// Whether training keeps the inputs of blocks alone and runs each again in its backward.
    pub fn set_grad_checkpointing(&mut self, on: bool) {
        self.checkpointing = on;
    }

    /// Packs the linears of all blocks for prediction ([`Site::packed`](tadformer_peft::Site::packed)).
    ///
    /// # Errors
    /// One that is packed already.
    pub fn pack(&mut self) -> Result<()> {
        self.blocks.iter_mut().try_for_each(StageBlock::pack)
    }

    /// `(b, h, w, c)` tokens and `(b, t, c)` prompts.
    ///
    /// # Errors
    /// Shapes that do not fit; an odd grid before patch merging.
    pub fn forward(&self, xs: &Tensor, prompts: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<StageOutput> {
        let mut stream = BlockOutput { xs: xs.clone(), prompts: prompts.cloned(), scores: None, tasks: None };
        for block in &self.blocks {
            stream = if self.checkpointing {
                block.forward_checkpointed(&stream.xs, stream.prompts.as_ref(), mode)?
            } else {
                block.forward(&stream.xs, stream.prompts.as_ref(), mode)?
            };
        }
        let tasks = match (stream.tasks, &self.skip) {
            (Some(tasks), Some(skip)) => Some(self.merge(&with_skip(tasks, skip)?)?),
            _ => None,
        };
        let prompts = match (&stream.prompts, &self.task_prompts_up) {
            (Some(prompts), Some(up)) => Some(linear(prompts, up, None)?),
            (prompts, _) => prompts.clone(),
        };
        Ok(StageOutput { xs: self.merge(&stream.xs)?.tensor()?, prompts, tasks })
    }

    fn merge(&self, xs: &Tensor) -> Result<Features> {
        match &self.downsample {
            Some(downsample) => downsample.forward(xs),
            None => Ok(xs.clone().into()),
        }
    }
}

fn with_skip(tasks: TaskOutput, (skip, gate): &(Skip, Tensor)) -> Result<Tensor> {
    match skip {
        Skip::Gated => gated_mix(&tasks.skip, &tasks.xs, gate),
        Skip::Average => (&tasks.skip + &tasks.xs)? * 0.5,
        Skip::None => Ok(tasks.xs),
    }
}
