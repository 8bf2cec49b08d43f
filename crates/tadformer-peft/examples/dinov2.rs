//! Task prompts and dynamic task filters on the features of a model that is not touched: DINOv2 of candle-transformers.
//!
//! ```sh
//! cargo run --release -p tadformer-peft --example dinov2
//! ```
//!
//! The backbone gives features of two of its blocks and nothing else; its fields are private. Beside it train two
//! prompts, one low-rank update with a filter made from the input, and two heads. With real weights, build it with
//! `dinov2::vit_small(vb)` from a `VarBuilder::from_mmaped_safetensors`; here they are random and small.

mod random_weights;
mod squares;

use anyhow::Result;
use candle_core::Tensor;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use candle_transformers::models::dinov2::DinoVisionTransformer;
use random_weights::random_weights;
use squares::{Squares, TASKS};
use std::sync::Arc;
use tadformer_peft::{
    DynamicTaskFilter, Init, LayerNorm, Linear, LoraConfig, LowRank, Mode, ParamStore, Params, Rng,
    TaskPrompts, Windows, condition_on_prompts, split, variables,
};

/// Side of a picture in pixels.
const SIDE: usize = 84;
/// Patches along a side: DINOv2's have 14 pixels.
const GRID: usize = SIDE / 14;
// The backbone's size; DINOv2's smallest has 384 channels, 12 blocks and 6 heads.
const DIM: usize = 32;
const DEPTH: usize = 4;
const HEADS: usize = 4;
/// Blocks whose features are used.
const TAKEN: [usize; 2] = [1, 3];
/// Channels of the features.
const CHANNELS: usize = TAKEN.len() * DIM;
const LORA: LoraConfig = LoraConfig { rank: 8, scale: 4.0, dropout: 0.05 };

/// Features `(n, h, w, channels)` of pictures `(n, 3, side, side)`.
///
/// Candle's DINOv2 takes one picture at a time. Its LayerNorms give no gradient, and its parts lie behind them, so
/// nothing inside it can be trained; its features are constants, and are detached to say so.
fn features(backbone: &DinoVisionTransformer, images: &Tensor) -> Result<Tensor> {
    let n = images.dim(0)?;
    let each = (0..n)
        .map(|i| {
            let image = images.narrow(0, i, 1)?;
            // (layers, 1, c, h, w) to (1, h, w, layers · c)
            let layers = backbone.get_intermediate_layers(&image, &TAKEN, true, false, true)?;
            layers.permute((1, 3, 4, 0, 2))?.flatten_from(3)
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&each, 0)?.detach())
}

/// What trains.
struct TaskHeads {
    prompts: TaskPrompts,
    prompt_layernorm: LayerNorm,
    update: LowRank,
    filter: DynamicTaskFilter,
    heads: [Linear; TASKS],
}

impl TaskHeads {
    fn new(params: &Params) -> Result<Self> {
        let head = |name: &str, outputs: usize| {
            let init = Init::fan_in_uniform(CHANNELS);
            Linear::new(CHANNELS, outputs, init, Some(init), &params.pp("heads").pp(name))
        };
        Ok(Self {
            prompts: TaskPrompts::new(TASKS, 1, CHANNELS, params)?,
            prompt_layernorm: LayerNorm::new(CHANNELS, &params.pp("prompt_layernorm"))?,
            update: LowRank::new(CHANNELS, CHANNELS, &LORA, &params.pp("update"))?,
            filter: DynamicTaskFilter::new(LORA.rank, &params.pp("update.lora_filter"))?,
            heads: [head("inside", 2)?, head("distance", 1)?],
        })
    }

    /// Features `(b, h, w, c)` to each task's map `(b, h, w, outputs)`.
    fn forward(&self, features: &Tensor, mode: &mut Mode<'_>) -> Result<Vec<Tensor>> {
        let (b, h, w, c) = features.dims4()?;
        let prompts = self.prompts.for_batch(b)?;
        let t = prompts.dim(1)?;
        // Scores between each token and each prompt, head by head, (b, h, w, t, heads).
        let tokens = features.reshape((b, h * w, HEADS, c / HEADS))?.transpose(1, 2)?.contiguous()?;
        let prompts = prompts.reshape((b, t, HEADS, c / HEADS))?.permute((0, 2, 3, 1))?.contiguous()?;
        let scores = (tokens.matmul(&prompts)? / ((c / HEADS) as f64).sqrt())?;
        let scores = scores.permute((0, 2, 3, 1))?.contiguous()?.reshape((b, h, w, t, HEADS))?;

        // One stream for each task: features + s · B · DTF(A u).
        let conditioned = condition_on_prompts(&scores, features, TASKS, &self.prompt_layernorm)?;
        let us = match self.update.draw_mask(mode)? {
            Some(mask) => mask.apply(&conditioned.us()?)?,
            None => conditioned.us()?,
        };
        let codes = self.filter.forward(&self.update.down(&us)?, &Windows::whole(h, w)?)?;
        let streams = self.update.add_up(features, &codes, None)?;
        let streams = split(&streams, TASKS)?;
        Ok(streams
            .iter()
            .zip(&self.heads)
            .map(|(xs, head)| head.forward(xs))
            .collect::<candle_core::Result<_>>()?)
    }
}

/// Losses on unseen pictures, and what was trained.
struct Trained {
    before: f32,
    after: f32,
    store: Arc<ParamStore>,
}

/// Trains on a set of pictures whose features are computed once.
fn train(updates: u64) -> Result<Trained> {
    let backbone = DinoVisionTransformer::new(random_weights(1), DEPTH, DIM, HEADS)?;
    let store = ParamStore::new(0);
    let model = TaskHeads::new(&store.params())?;

    let with_features = |n, name, index| -> Result<(Squares, Tensor)> {
        let squares = Squares::draw(n, SIDE, GRID, &mut Rng::named(0, name, index))?;
        let features = features(&backbone, &squares.images)?;
        Ok((squares, features))
    };
    let batches = (0..8).map(|i| with_features(8, "squares", i)).collect::<Result<Vec<_>>>()?;
    let unseen = with_features(16, "unseen squares", 0)?;
    let measure =
        || -> Result<f32> { Ok(unseen.0.loss(&model.forward(&unseen.1, &mut Mode::Eval)?)?.to_scalar()?) };
    let before = measure()?;
    let mut optimizer = AdamW::new(variables(&store)?, ParamsAdamW { lr: 3e-3, ..ParamsAdamW::default() })?;
    for (update, (squares, features)) in (0..updates).zip(batches.iter().cycle()) {
        let mut rng = Rng::named(0, "dropout", update);
        let outputs = model.forward(features, &mut Mode::Train(&mut rng))?;
        optimizer.backward_step(&squares.loss(&outputs)?)?;
    }
    let after = measure()?;
    Ok(Trained { before, after, store })
}

fn main() -> Result<()> {
    let Trained { before, after, store } = train(300)?;
    let numbers: usize = variables(&store)?.iter().map(|variable| variable.elem_count()).sum();
    println!("{numbers} numbers train beside the backbone, for {TASKS} tasks");
    println!("loss on unseen pictures: {before:.3} before, {after:.3} after 300 updates");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_lowers_the_loss_on_unseen_pictures_and_moves_every_tensor() {
        let Trained { before, after, store } = train(60).unwrap();
        assert!(after < 0.5 * before, "{before} before, {after} after");
        let fresh = ParamStore::new(0);
        TaskHeads::new(&fresh.params()).unwrap();
        for (trained, fresh) in store.entries().iter().zip(fresh.entries()) {
            let moved = (&trained.tensor - &fresh.tensor).unwrap().abs().unwrap().max_all().unwrap();
            assert!(moved.to_scalar::<f32>().unwrap() > 1e-4, "`{}` has not moved", trained.name);
        }
    }

    #[test]
    fn the_backbone_gives_one_feature_a_patch() {
        let backbone = DinoVisionTransformer::new(random_weights(1), DEPTH, DIM, HEADS).unwrap();
        let squares = Squares::draw(2, SIDE, GRID, &mut Rng::named(0, "squares", 0)).unwrap();
        let features = features(&backbone, &squares.images).unwrap();
        assert_eq!(features.dims(), [2, GRID, GRID, CHANNELS]);
        assert!(!features.track_op(), "features must be constants");
    }
}
