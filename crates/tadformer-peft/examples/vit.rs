//! TADFormer's modules in a small Vision Transformer written with plain candle-nn.
//!
//! ```sh
//! cargo run --release -p tadformer-peft --example vit
//! ```
//!
//! The first half is a network as anybody has one. The second half puts it into a frame: low-rank updates shared by the
//! tasks (`TsModule`) in every block, and in the last block a stream of its own for each task (`TaModule`), started by
//! the scores between the task's prompt and the tokens, and filtered by filters made from the input (DTF).

mod random_weights;
mod squares;

use anyhow::{Context, Result};
use candle_core::{D, Tensor};
use candle_nn::{AdamW, Conv2d, Conv2dConfig, Module, Optimizer, ParamsAdamW, VarBuilder, ops};
use random_weights::random_weights;
use squares::{Squares, TASKS};
use tadformer_peft::{
    Filter, FrozenLinear, Init, LayerNorm, Linear, LoraConfig, Mode, ParamStore, Params, Rng, TaModule,
    TaskPrompts, TsModule, Windows, condition_on_prompts, gelu, residual, split, variables,
};

const SIDE: usize = 16;
const PATCH: usize = 4;
const GRID: usize = SIDE / PATCH;
const DIM: usize = 32;
const HEADS: usize = 4;
const DEPTH: usize = 2;
const LORA: LoraConfig = LoraConfig { rank: 8, scale: 4.0, dropout: 0.05 };

// The Vision Transformer: nothing of this crate.

/// `candle_nn::LayerNorm` gives no gradient for a contiguous input, and no error: whatever trains in front of it would
/// never learn. The same sum composed of single operations has a gradient.
struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get(DIM, "weight")?, bias: vb.get(DIM, "bias")? })
    }

    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        ops::layer_norm_slow(xs, &self.weight, &self.bias, 1e-6)
    }
}

struct Block {
    norm1: Norm,
    qkv: candle_nn::Linear,
    proj: candle_nn::Linear,
    norm2: Norm,
    fc1: candle_nn::Linear,
    fc2: candle_nn::Linear,
}

impl Block {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm1: Norm::new(vb.pp("norm1"))?,
            qkv: candle_nn::linear(DIM, 3 * DIM, vb.pp("attn.qkv"))?,
            proj: candle_nn::linear(DIM, DIM, vb.pp("attn.proj"))?,
            norm2: Norm::new(vb.pp("norm2"))?,
            fc1: candle_nn::linear(DIM, 4 * DIM, vb.pp("mlp.fc1"))?,
            fc2: candle_nn::linear(4 * DIM, DIM, vb.pp("mlp.fc2"))?,
        })
    }

    /// `(b, n, c)` to the same.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (context, _) = attend(&self.qkv.forward(&self.norm1.forward(xs)?)?)?;
        let xs = (xs + self.proj.forward(&context)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&xs)?)?.gelu_erf()?;
        Ok((&xs + self.fc2.forward(&hidden)?)?)
    }
}

/// Attention of `(b, n, 3c)`: the context `(b, n, c)` and the raw scores `(b, heads, n, n)`.
fn attend(qkv: &Tensor) -> Result<(Tensor, Tensor)> {
    let (b, n, width) = qkv.dims3()?;
    let d = width / 3 / HEADS;
    let qkv = qkv.reshape((b, n, 3, HEADS, d))?.permute((2, 0, 3, 1, 4))?.contiguous()?;
    let (q, k, v) = (qkv.get(0)?, qkv.get(1)?, qkv.get(2)?);
    let scores = q.matmul(&k.t()?)?;
    // Not `softmax_last_dim`: it has no gradient either.
    let weights = ops::softmax(&(&scores / (d as f64).sqrt())?, D::Minus1)?;
    Ok((weights.matmul(&v)?.transpose(1, 2)?.flatten_from(2)?, scores))
}

struct Vit {
    patch_embed: Conv2d,
    pos_embed: Tensor,
    blocks: Vec<Block>,
}

impl Vit {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let stride = Conv2dConfig { stride: PATCH, ..Conv2dConfig::default() };
        Ok(Self {
            patch_embed: candle_nn::conv2d(3, DIM, PATCH, stride, vb.pp("patch_embed.proj"))?,
            pos_embed: vb.get((1, GRID * GRID, DIM), "pos_embed")?,
            blocks: (0..DEPTH).map(|i| Block::new(vb.pp("blocks").pp(i))).collect::<Result<_>>()?,
        })
    }

    fn tokens(&self, images: &Tensor) -> Result<Tensor> {
        let patches = self.patch_embed.forward(images)?.flatten_from(2)?.transpose(1, 2)?;
        Ok(patches.broadcast_add(&self.pos_embed)?)
    }

    /// `(b, 3, side, side)` to `(b, n, c)`.
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.blocks.iter().try_fold(self.tokens(images)?, |xs, block| block.forward(&xs))
    }
}

// The same network, adapted.

/// A pretrained linear, as our layers take it.
fn frozen(linear: &candle_nn::Linear) -> Result<FrozenLinear> {
    Ok(FrozenLinear::new(linear.weight(), linear.bias())?)
}

/// A block with an update, shared by all tasks, at each of its linears.
struct SharedBlock {
    norm1: Norm,
    qkv: TsModule,
    proj: TsModule,
    norm2: Norm,
    fc1: TsModule,
    fc2: TsModule,
}

impl SharedBlock {
    fn new(block: Block, params: &Params) -> Result<Self> {
        let update = |linear: &candle_nn::Linear, name: &str| -> Result<TsModule> {
            Ok(TsModule::new(frozen(linear)?, &LORA, &params.pp(name))?)
        };
        Ok(Self {
            qkv: update(&block.qkv, "attn.qkv")?,
            proj: update(&block.proj, "attn.proj")?,
            fc1: update(&block.fc1, "mlp.fc1")?,
            fc2: update(&block.fc2, "mlp.fc2")?,
            norm1: block.norm1,
            norm2: block.norm2,
        })
    }

    fn forward(&self, xs: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (context, _) = attend(&self.qkv.forward(&self.norm1.forward(xs)?, mode)?)?;
        let xs = residual(xs, &self.proj.forward(&context, mode)?, None)?;
        let hidden = gelu(&self.fc1.forward(&self.norm2.forward(&xs)?, mode)?)?;
        Ok(residual(&xs, &self.fc2.forward(&hidden, mode)?, None)?)
    }
}

/// The last block: one stream for each task.
struct TaskBlock {
    norm1: Norm,
    qkv: TsModule,
    proj: TaModule,
    prompt_layernorm: LayerNorm,
    norm2: Norm,
    fc1: TaModule,
    fc2: TaModule,
}

impl TaskBlock {
    fn new(block: Block, params: &Params) -> Result<Self> {
        let update = |linear: &candle_nn::Linear, name: &str| -> Result<TaModule> {
            Ok(TaModule::new(frozen(linear)?, &LORA, Filter::Dynamic, &params.pp(name))?)
        };
        Ok(Self {
            qkv: TsModule::new(frozen(&block.qkv)?, &LORA, &params.pp("attn.qkv"))?,
            proj: update(&block.proj, "attn.proj")?,
            prompt_layernorm: LayerNorm::new(DIM, &params.pp("attn.proj.prompt_layernorm"))?,
            fc1: update(&block.fc1, "mlp.fc1")?,
            fc2: update(&block.fc2, "mlp.fc2")?,
            norm1: block.norm1,
            norm2: block.norm2,
        })
    }

    /// Tokens `(b, n, c)` and prompts `(b, t, c)` to the streams `(tasks · b, h, w, c)`.
    fn forward(&self, xs: &Tensor, prompts: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (b, n, c) = xs.dims3()?;
        let t = prompts.dim(1)?;
        // Prompts attend in front of the tokens.
        let all = Tensor::cat(&[prompts, xs], 1)?;
        let (context, scores) = attend(&self.qkv.forward(&self.norm1.forward(&all)?, mode)?)?;
        let grid = |tokens: &Tensor| tokens.contiguous()?.reshape((b, GRID, GRID, c));
        let (xs, context) = (grid(xs)?, grid(&context.narrow(1, t, n)?)?);
        // What each token's query thinks of each prompt's key, (b, h, w, t, heads).
        let scores = scores.narrow(2, t, n)?.narrow(3, 0, t)?.permute((0, 2, 3, 1))?;
        let scores = scores.contiguous()?.reshape((b, GRID, GRID, t, HEADS))?;

        // The shared stream runs first, and leaves a trace at each site.
        let (attention, proj) = self.proj.forward(&context, mode)?;
        let middle = residual(&xs, &attention, None)?;
        let (hidden, fc1) = self.fc1.forward(&self.norm2.forward(&middle)?, mode)?;
        let (_, fc2) = self.fc2.forward(&gelu(&hidden)?, mode)?;

        // The tasks' streams take it from there, all tasks at once.
        let windows = Windows::whole(GRID, GRID)?;
        let conditioned = condition_on_prompts(&scores, &proj.dropped, TASKS, &self.prompt_layernorm)?;
        let attention = self.proj.forward_tasks(&conditioned.us()?, &proj.frozen, &windows)?;
        let middle = residual(&xs, &attention, None)?;
        let hidden = self.fc1.forward_tasks(&self.norm2.forward(&middle)?, &fc1.frozen, &windows)?;
        let perceptron = self.fc2.forward_tasks(&gelu(&hidden)?, &fc2.frozen, &windows)?;
        Ok(residual(&middle, &perceptron, None)?)
    }
}

/// The frozen network with updates and prompts.
struct Adapted {
    vit: Vit,
    blocks: Vec<SharedBlock>,
    last: TaskBlock,
    prompts: TaskPrompts,
}

impl Adapted {
    fn new(mut vit: Vit, params: &Params) -> Result<Self> {
        let mut blocks = std::mem::take(&mut vit.blocks);
        let place = |index: usize| params.pp("blocks").pp(index);
        let last = blocks.pop().context("the network has no block")?;
        Ok(Self {
            last: TaskBlock::new(last, &place(blocks.len()))?,
            blocks: blocks
                .into_iter()
                .enumerate()
                .map(|(index, block)| SharedBlock::new(block, &place(index)))
                .collect::<Result<_>>()?,
            prompts: TaskPrompts::new(TASKS, 1, DIM, params)?,
            vit,
        })
    }

    /// `(b, 3, side, side)` to one stream `(b, h, w, c)` for each task.
    fn forward(&self, images: &Tensor, mode: &mut Mode<'_>) -> Result<Vec<Tensor>> {
        let mut xs = self.vit.tokens(images)?;
        for block in &self.blocks {
            xs = block.forward(&xs, mode)?;
        }
        let streams = self.last.forward(&xs, &self.prompts.for_batch(images.dim(0)?)?, mode)?;
        Ok(split(&streams, TASKS)?)
    }
}

/// A linear head for each task.
struct Heads([Linear; TASKS]);

impl Heads {
    fn new(params: &Params) -> Result<Self> {
        let head = |name: &str, outputs: usize| {
            let init = Init::fan_in_uniform(DIM);
            Linear::new(DIM, outputs, init, Some(init), &params.pp("heads").pp(name))
        };
        Ok(Self([head("inside", 2)?, head("distance", 1)?]))
    }

    fn forward(&self, streams: &[Tensor]) -> candle_core::Result<Vec<Tensor>> {
        self.0.iter().zip(streams).map(|(head, xs)| head.forward(xs)).collect()
    }
}

// What comes of it.

/// The loss on unseen pictures before and after training what is trainable in `store`.
fn train(
    updates: u64,
    store: &ParamStore,
    forward: impl Fn(&Tensor, &mut Mode<'_>) -> Result<Vec<Tensor>>,
) -> Result<(f32, f32)> {
    let unseen = Squares::draw(16, SIDE, GRID, &mut Rng::named(0, "unseen squares", 0))?;
    let measure =
        || -> Result<f32> { Ok(unseen.loss(&forward(&unseen.images, &mut Mode::Eval)?)?.to_scalar()?) };
    let before = measure()?;
    let mut optimizer = AdamW::new(variables(store)?, ParamsAdamW { lr: 3e-3, ..ParamsAdamW::default() })?;
    for update in 0..updates {
        let mut rng = Rng::named(0, "squares", update);
        let batch = Squares::draw(8, SIDE, GRID, &mut rng)?;
        let outputs = forward(&batch.images, &mut Mode::Train(&mut rng))?;
        optimizer.backward_step(&batch.loss(&outputs)?)?;
    }
    Ok((before, measure()?))
}

/// Heads alone, on what the frozen network gives.
fn train_heads(updates: u64) -> Result<(f32, f32)> {
    let (vit, store) = (Vit::new(random_weights(1))?, ParamStore::new(0));
    let heads = Heads::new(&store.params())?;
    train(updates, &store, |images, _| {
        let xs = vit.forward(images)?.reshape(((), GRID, GRID, DIM))?;
        Ok(heads.forward(&vec![xs; TASKS])?)
    })
}

/// Updates, prompts, filters and heads.
fn train_adapted(updates: u64) -> Result<(f32, f32)> {
    let store = ParamStore::new(0);
    let model = Adapted::new(Vit::new(random_weights(1))?, &store.params())?;
    let heads = Heads::new(&store.params())?;
    train(updates, &store, |images, mode| Ok(heads.forward(&model.forward(images, mode)?)?))
}

fn main() -> Result<()> {
    println!("loss on unseen pictures, before and after 200 updates");
    let (before, after) = train_heads(200)?;
    println!("heads alone: {before:.3}, {after:.3}");
    let (before, after) = train_adapted(200)?;
    println!("TADFormer:   {before:.3}, {after:.3}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    #[test]
    fn training_lowers_the_loss_on_unseen_pictures_further_than_heads_alone_do() {
        let (before, after) = train_adapted(60).unwrap();
        assert!(after < 0.5 * before, "{before} before, {after} after");
        let (_, heads_alone) = train_heads(60).unwrap();
        assert!(after < heads_alone, "{after}, {heads_alone} with heads alone");
    }

    #[test]
    fn every_trainable_tensor_gets_a_gradient_once_the_updates_are_not_zero() {
        let store = ParamStore::new(0);
        let model = Adapted::new(Vit::new(random_weights(1)).unwrap(), &store.params()).unwrap();
        let heads = Heads::new(&store.params()).unwrap();
        for (i, variable) in variables(&store).unwrap().iter().enumerate() {
            let noise = Init::Normal { mean: 0.0, std: 0.1 };
            let noise = noise.tensor(1, &i.to_string(), variable.shape()).unwrap();
            variable.set(&(variable.as_tensor() + noise).unwrap()).unwrap();
        }
        let batch = Squares::draw(4, SIDE, GRID, &mut Rng::named(0, "squares", 0)).unwrap();
        let streams = model.forward(&batch.images, &mut Mode::Eval).unwrap();
        let grads = batch.loss(&heads.forward(&streams).unwrap()).unwrap().backward().unwrap();
        for entry in store.entries() {
            let sum = |grad: &Tensor| grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            let sum = grads.get(&entry.tensor).map(sum);
            assert!(sum.is_some_and(|sum| sum.is_finite() && sum > 0.0), "`{}`: {sum:?}", entry.name);
        }
    }

    #[test]
    fn untrained_updates_leave_the_network_as_it_was() {
        let images = Squares::draw(2, SIDE, GRID, &mut Rng::named(0, "squares", 0)).unwrap().images;
        let plain = Vit::new(random_weights(1)).unwrap();
        let mut vit = Vit::new(random_weights(1)).unwrap();
        let store = ParamStore::new(0);
        let mut xs = vit.tokens(&images).unwrap();
        for (i, block) in std::mem::take(&mut vit.blocks).into_iter().enumerate() {
            let block = SharedBlock::new(block, &store.params().pp(i)).unwrap();
            xs = block.forward(&xs, &mut Mode::Eval).unwrap();
        }
        let difference = (xs - plain.forward(&images).unwrap()).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-4, "{difference}");
    }

    /// If this fails, candle has learned it, and README.md has a line too many.
    #[test]
    fn candles_own_layer_norm_loses_the_gradient() {
        let xs = Var::ones((2, DIM), DType::F32, &Device::Cpu).unwrap();
        let (one, zero) = (xs.get(0).unwrap().detach(), xs.get(0).unwrap().zeros_like().unwrap().detach());
        let theirs = candle_nn::LayerNorm::new(one.clone(), zero.clone(), 1e-6);
        let composed = Norm { weight: one, bias: zero };
        let gradient = |ys: Tensor| ys.sum_all().unwrap().backward().unwrap().get(&xs).cloned();
        assert!(gradient(composed.forward(&xs).unwrap()).is_some());
        assert!(gradient(theirs.forward(&xs).unwrap()).is_none());
    }
}
