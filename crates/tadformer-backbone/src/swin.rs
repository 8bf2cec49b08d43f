//! The whole backbone.

use crate::patch_embed::PatchEmbed;
use crate::stage::{StageOutput, SwinStage};
use crate::{SwinConfig, Tuning};
use candle_core::{Result, Tensor, bail};
use tadformer_ops::{Mode, Params};
use tadformer_peft::TaskPrompts;

/// A Swin Transformer without classifier or final norm; state-dict names `patch_embed`, `layers`, `task_prompts`.
#[derive(Debug, Clone)]
pub struct Swin {
    task_prompts: Option<TaskPrompts>,
    patch_embed: PatchEmbed,
    layers: Vec<SwinStage>,
    stride: usize,
}

impl Swin {
    /// The network of `config`, tuned as `tuning` says.
    ///
    /// # Errors
    /// Sizes with [problems](SwinConfig::problems), a tuning that does not fit, or a loaded value of another shape.
    pub fn new(config: &SwinConfig, tuning: &Tuning, params: &Params) -> Result<Self> {
        config.check()?;
        let params = match tuning {
            Tuning::Frozen => params.frozen_scope(),
            Tuning::Full | Tuning::Adapted(_) | Tuning::Merged(_) => params.clone(),
        };
        let task_prompts = tuning
            .adaptation()
            .map(|adaptation| {
                TaskPrompts::new(adaptation.tasks, adaptation.prompts_per_task, config.embed_dim, &params)
            })
            .transpose()?;
        let patch_embed = PatchEmbed::new(config.patch_size, config.embed_dim, &params.pp("patch_embed"))?;
        let layers = (0..4)
            .map(|stage| SwinStage::new(config, tuning, stage, &params.pp("layers").pp(stage)))
            .collect::<Result<_>>()?;
        Ok(Self { task_prompts, patch_embed, layers, stride: config.stride() })
    }

    /// Checkpoints the blocks of the given stages, 0 to 3, and of no others: training keeps their inputs alone and runs them
    /// again in the backward, with the same losses and gradients (timm's method of this name).
    ///
    /// # Errors
    /// A stage that does not exist.
    pub fn set_grad_checkpointing(&mut self, stages: &[usize]) -> Result<()> {
        if let Some(stage) = stages.iter().find(|stage| **stage >= self.layers.len()) {
            bail!(
                "backbone: there is no stage {stage} to checkpoint, expected 0 to {}",
                self.layers.len() - 1
            );
        }
        for (stage, layer) in self.layers.iter_mut().enumerate() {
            layer.set_grad_checkpointing(stages.contains(&stage));
        }
        Ok(())
    }

    /// Gets ready for prediction and nothing else: low-rank updates are folded into the frozen weights where no task's
    /// stream stands on those, and frozen weights laid out as products read them
    /// ([`Site::packed`](tadformer_peft::Site::packed)). Outputs are the same to rounding.
    ///
    /// # Errors
    /// A network that is packed already.
    pub fn pack(&mut self) -> Result<()> {
        self.layers.iter_mut().try_for_each(SwinStage::pack)
    }

    /// The four stages' outputs for a normalised image `(b, 3, H, W)`.
    ///
    /// # Errors
    /// Sides that are not multiples of [`SwinConfig::stride`].
    pub fn forward(&self, image: &Tensor, mode: &mut Mode<'_>) -> Result<Vec<StageOutput>> {
        let (b, _, height, width) = image.dims4()?;
        if height % self.stride != 0 || width % self.stride != 0 {
            bail!(
                "backbone: the image is {height}x{width}, but its sides must be multiples of {}",
                self.stride
            );
        }
        let mut xs = self.patch_embed.forward(image)?;
        let mut prompts = self.task_prompts.as_ref().map(|prompts| prompts.for_batch(b)).transpose()?;
        let mut outputs = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let output = layer.forward(&xs, prompts.as_ref(), mode)?;
            (xs, prompts) = (output.xs.clone(), output.prompts.clone());
            outputs.push(output);
        }
        Ok(outputs)
    }
}
