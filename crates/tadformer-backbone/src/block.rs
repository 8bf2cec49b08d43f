//! One Swin block: attention within windows, then an MLP, each with a residual; and the task streams beside it.

use crate::attention::WindowAttention;
use crate::mlp::{Mlp, MlpTrace};
use crate::task_streams::{TaskOutput, TaskStreams};
use crate::{SwinConfig, Tuning};
use candle_core::{Result, Tensor, bail};
use tadformer_ops::{
    Around, Attended, Before, LayerNorm, Mode, Params, Residual, Windows, drop_path_factors,
};
use tadformer_peft::{Site, SiteKind, TaModule, Trace};

/// Where a block stands in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Stage, from 0.
    pub stage: usize,
    /// Block within the stage, from 0.
    pub block: usize,
}

impl Position {
    /// Refuses a network with problems, and a place that it does not have.
    pub(crate) fn check(self, config: &SwinConfig) -> Result<()> {
        config.check()?;
        let Self { stage, block } = self;
        match config.depths.get(stage) {
            Some(depth) if block < *depth => Ok(()),
            Some(depth) => bail!("backbone: stage {stage} has no block {block}, only {depth} from 0 on"),
            None => bail!("backbone: there is no stage {stage}, only {} from 0 on", config.depths.len()),
        }
    }

    fn is_last_of_stage(self, config: &SwinConfig) -> bool {
        self.block + 1 == config.depths[self.stage]
    }

    /// Probability of dropping this block's residual branches: from 0 at the first block to the configured rate.
    fn drop_path_rate(self, config: &SwinConfig) -> f64 {
        let before: usize = config.depths[..self.stage].iter().sum();
        let total: usize = config.depths.iter().sum();
        config.drop_path_rate * (before + self.block) as f64 / (total - 1).max(1) as f64
    }
}

/// A pre-norm Swin block; state-dict names `norm1`, `attn`, `norm2`, `mlp`.
///
/// What sits at its linears is decided when it is built. If they are task-adapting, the shared stream runs as in any
/// block and leaves a trace, from which the task streams are computed; such a block takes prompts.
#[derive(Debug, Clone)]
pub struct SwinBlock {
    norm1: LayerNorm,
    attn: WindowAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    tasks: Option<TaskStreams>,
    shifted: bool,
    drop_path: f64,
    ends_prompts: bool,
}

/// What a block gives.
#[derive(Debug, Clone)]
pub struct BlockOutput {
    /// The shared stream, `(b, h, w, c)`.
    pub xs: Tensor,
    /// The prompts for the next block, `(b, t, c)`.
    pub prompts: Option<Tensor>,
    /// Raw scores of prompts and tokens, `(b, h, w, t, heads)`; a stage that is checkpointed does not keep them.
    pub scores: Option<Tensor>,
    /// The task streams of a task-adapting block.
    pub tasks: Option<TaskOutput>,
}

impl SwinBlock {
    /// The block at `position` of the network of `config`.
    ///
    /// # Errors
    /// Sizes with [problems](SwinConfig::problems), a position that the network does not have, a loaded value of another
    /// shape, or a tuning that does not fit.
    pub fn new(config: &SwinConfig, tuning: &Tuning, position: Position, params: &Params) -> Result<Self> {
        position.check(config)?;
        let (dim, heads) = (config.dim(position.stage), config.num_heads[position.stage]);
        let last_of_stage = position.is_last_of_stage(config);
        let (qkv, others) = tuning.sites(last_of_stage);
        let norm1 = LayerNorm::new(dim, &params.pp("norm1"))?;
        let window = (config.stage_window(position.stage), config.window_padding);
        let attn = WindowAttention::new(dim, heads, window, (qkv, others), &params.pp("attn"))?;
        let tasks = match tuning.adaptation() {
            Some(adaptation) => {
                // Every block owns a prompt LayerNorm, as the published model does; only the last of a stage uses it.
                let prompt_layernorm = LayerNorm::new(dim, &params.pp("attn.proj.prompt_layernorm"))?;
                matches!(others, SiteKind::TaskAdapting(..))
                    .then(|| TaskStreams::new(adaptation, prompt_layernorm))
            }
            None => None,
        };
        Ok(Self {
            norm1,
            attn,
            norm2: LayerNorm::new(dim, &params.pp("norm2"))?,
            mlp: Mlp::new(dim, dim * config.mlp_ratio, others, &params.pp("mlp"))?,
            tasks,
            shifted: position.block % 2 == 1,
            drop_path: position.drop_path_rate(config),
            ends_prompts: last_of_stage && position.stage == 3,
        })
    }

    /// Packs the linears of attention and MLP for prediction ([`Site::packed`](tadformer_peft::Site::packed)).
    ///
    /// # Errors
    /// One that is packed already.
    pub fn pack(&mut self) -> Result<()> {
        self.attn.pack()?;
        self.mlp.pack()
    }

    /// `(b, h, w, c)` tokens and `(b, t, c)` prompts, of any grid.
    ///
    /// # Errors
    /// Shapes that do not fit; no prompts for a task-adapting block.
    pub fn forward(&self, xs: &Tensor, prompts: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<BlockOutput> {
        let (_, h, w, _) = xs.dims4()?;
        let windows = self.attn.windows(h, w, self.shifted)?;
        let attended = self.attn.attend(Before::LayerNorm(&self.norm1), xs, prompts, &windows, mode)?;
        let Attended { context, prompts: averaged, scores } = attended;

        let onto = self.residual(xs, xs.dim(0)?, mode)?;
        let (middle, proj) = self.attn.proj().forward_around(&context, Around::onto(&onto), mode)?;
        drop(context);
        let (output, mlp) = self.perceptron(&middle, &middle, mode)?;
        drop(middle);

        let next_prompts = self.next_prompts(prompts, averaged.as_ref(), mode)?;
        let tasks = self.task_streams(xs, scores.as_ref(), (proj, mlp), &windows, mode)?;
        Ok(BlockOutput { xs: output, prompts: next_prompts, scores, tasks })
    }

    /// `shortcut + drop_path(mlp(norm2(x)))`.
    fn perceptron(&self, shortcut: &Tensor, xs: &Tensor, mode: &mut Mode<'_>) -> Result<(Tensor, MlpTrace)> {
        let onto = self.residual(shortcut, xs.dim(0)?, mode)?;
        let around = Around { before: Before::LayerNorm(&self.norm2), onto: Some(&onto) };
        self.mlp.forward(xs, around, mode)
    }

    /// `shortcut + drop_path(branch)` for a branch of `n` samples.
    fn residual(&self, shortcut: &Tensor, n: usize, mode: &mut Mode<'_>) -> Result<Residual> {
        let factors = match mode {
            Mode::Train(rng) if self.drop_path > 0.0 => Some(drop_path_factors(n, self.drop_path, rng)?),
            _ => None,
        };
        Residual::new(shortcut, factors)
    }

    /// `p + drop_path(mlp(norm2(p_attn)))`, where `p_attn` is the projected attention output, averaged over the windows.
    /// The projection is linear, so it follows the average.
    fn next_prompts(
        &self,
        prompts: Option<&Tensor>,
        averaged: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<Option<Tensor>> {
        let (Some(prompts), Some(averaged)) = (prompts, averaged) else {
            return Ok(None);
        };
        let (projected, _) = self.attn.proj().forward(averaged, mode)?;
        if self.ends_prompts {
            return Ok(Some(projected));
        }
        Ok(Some(self.perceptron(prompts, &projected, mode)?.0))
    }

    /// The streams of all tasks, where the block has any.
    fn task_streams(
        &self,
        shortcut: &Tensor,
        scores: Option<&Tensor>,
        (proj, mlp): (Option<Trace>, MlpTrace),
        windows: &Windows,
        mode: &mut Mode<'_>,
    ) -> Result<Option<TaskOutput>> {
        let Some(tasks) = &self.tasks else {
            return Ok(None);
        };
        let Some(scores) = scores else {
            bail!("Swin block: the tasks' streams come from prompts, and there are none");
        };
        let (proj_site, proj) = adapting("proj", self.attn.proj(), proj)?;
        let (fc1_site, fc1) = adapting("fc1", &self.mlp.fc1, mlp.fc1)?;
        let (fc2_site, fc2) = adapting("fc2", &self.mlp.fc2, mlp.fc2)?;
        let (_, h, w, _) = shortcut.dims4()?;
        // The streams of all tasks are the largest tensors of a prediction: each goes when it has been used.
        let [fc1, fc2] = [fc1, fc2].map(|trace| trace.frozen);
        let conditioned = tasks.condition(scores, &proj.dropped)?;
        let skip = conditioned.skip.clone();
        let codes = proj_site.codes(skip.clone(), conditioned.before(), windows)?;
        let streams = skip.dim(0)?;
        let onto = self.residual(shortcut, streams, mode)?;
        let middle = proj_site.from_codes(&codes, &proj.frozen, Some(&onto))?;
        drop((conditioned, codes, proj));
        let whole = Windows::whole(h, w)?;
        let codes = fc1_site.codes(middle.clone(), Before::LayerNorm(&self.norm2), &whole)?;
        let activated = fc1_site.codes_through_gelu(&codes, &fc1, fc2_site, &whole)?;
        drop((codes, fc1));
        let onto = self.residual(&middle, streams, mode)?;
        let xs = fc2_site.from_codes(&activated, &fc2, Some(&onto))?;
        Ok(Some(TaskOutput { xs, skip }))
    }
}

/// A task-adapting site and its trace.
fn adapting<'a>(name: &str, site: &'a Site, trace: Option<Trace>) -> Result<(&'a TaModule, Trace)> {
    match (site.task_adapting(), trace) {
        (Some(module), Some(trace)) => Ok((module, trace)),
        _ => bail!(
            "Swin block: the tasks' streams pass through `{name}`, but what sits there is not task-adapting"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adaptation, Skip};
    use tadformer_ops::ParamStore;
    use tadformer_ops::testing::named_tensor;
    use tadformer_peft::{Filter, LoraConfig};

    fn sizes() -> SwinConfig {
        SwinConfig { embed_dim: 8, depths: [1; 4], num_heads: [2; 4], window_size: 4, ..SwinConfig::tiny() }
    }

    fn tuning() -> Tuning {
        Tuning::Adapted(Adaptation {
            tasks: 2,
            prompts_per_task: 1,
            lora: LoraConfig::default().with_rank(2),
            filter: Filter::Dynamic,
            condition: true,
            skip: Skip::Gated,
        })
    }

    fn at(stage: usize, block: usize) -> Result<SwinBlock> {
        SwinBlock::new(&sizes(), &tuning(), Position { stage, block }, &ParamStore::new(0).params())
    }

    /// How the first block refuses tokens and, if there are any, prompts.
    fn refusal(block: &SwinBlock, prompts: Option<&Tensor>) -> String {
        let xs = named_tensor("xs", (1, 4, 4, 8), 0.0, 1.0).unwrap();
        block.forward(&xs, prompts, &mut Mode::Eval).unwrap_err().to_string()
    }

    #[test]
    fn a_block_with_task_streams_refuses_to_leave_them_out() {
        let mut block = at(0, 0).unwrap();
        let prompts = named_tensor("prompts", (1, 2, 8), 0.0, 1.0).unwrap();
        let message = refusal(&block, None);
        assert!(message.contains("come from prompts, and there are none"), "{message}");
        block.mlp.fc1 = Site::new(8, 32, SiteKind::Frozen, &ParamStore::new(0).params()).unwrap();
        let message = refusal(&block, Some(&prompts));
        assert!(message.contains("`fc1`") && message.contains("not task-adapting"), "{message}");
    }

    #[test]
    fn no_image_gives_no_streams() {
        let (xs, prompts) = [("xs", vec![0, 4, 4, 8]), ("prompts", vec![0, 2, 8])]
            .map(|(name, shape)| named_tensor(name, shape, 0.0, 1.0).unwrap())
            .into();
        let output = at(0, 0).unwrap().forward(&xs, Some(&prompts), &mut Mode::Eval).unwrap();
        assert_eq!(
            (output.xs.dims(), output.tasks.unwrap().xs.dims()),
            (&[0, 4, 4, 8][..], &[0, 4, 4, 8][..])
        );
    }

    #[test]
    fn a_place_that_the_network_does_not_have_is_refused() {
        for (stage, block, expected) in [(4, 0, "no stage 4"), (1, 1, "stage 1 has no block 1")] {
            let message = at(stage, block).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
