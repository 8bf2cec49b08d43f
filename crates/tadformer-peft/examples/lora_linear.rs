//! LoRA on a `candle_nn::Linear`: wrap, train, save as a Hugging Face PEFT folder, load, merge.
//!
//! ```sh
//! cargo run --release -p tadformer-peft --example lora_linear -- FOLDER
//! ```

mod random_weights;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, loss};
use random_weights::random_weights;
use std::path::Path;
use tadformer_peft::{
    Init, LoraAdapter, LoraConfig, LoraLinear, Mode, ParamStore, Params, Rng, Role, variables,
};

const DIM: usize = 24;
const LORA: LoraConfig = LoraConfig { rank: 2, scale: 2.0, dropout: 0.0 };

/// A pretrained network: `fc2(gelu(fc1(x)))`.
fn pretrained() -> Result<[Linear; 2]> {
    let vb = random_weights(1);
    Ok([candle_nn::linear(DIM, DIM, vb.pp("fc1"))?, candle_nn::linear(DIM, DIM, vb.pp("fc2"))?])
}

/// The pretrained network with updates on both linears.
struct Adapted {
    fc1: LoraLinear,
    fc2: LoraLinear,
}

impl Adapted {
    fn new(params: &Params) -> Result<Self> {
        let [fc1, fc2] = pretrained()?;
        Ok(Self {
            fc1: LoraLinear::new(&fc1, &LORA, &params.pp("fc1"))?,
            fc2: LoraLinear::new(&fc2, &LORA, &params.pp("fc2"))?,
        })
    }

    fn forward(&self, xs: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let hidden = self.fc1.forward_in(xs, mode)?.gelu_erf()?;
        Ok(self.fc2.forward_in(&hidden, mode)?)
    }
}

/// What the network is to become: the pretrained one, with its first weight moved by a matrix of rank 2.
fn wanted(xs: &Tensor) -> Result<Tensor> {
    let [fc1, fc2] = pretrained()?;
    let init = Init::Normal { mean: 0.0, std: 0.5 };
    let (a, b) = (init.tensor(2, "a", &(2, DIM).into())?, init.tensor(2, "b", &(DIM, 2).into())?);
    let moved = Linear::new((fc1.weight() + b.matmul(&a)?)?, fc1.bias().cloned());
    Ok(fc2.forward(&moved.forward(xs)?.gelu_erf()?)?)
}

fn inputs(n: usize, name: &str, index: u64) -> Result<Tensor> {
    let mut rng = Rng::named(0, name, index);
    let values: Vec<f32> = (0..n * DIM).map(|_| rng.normal() as f32).collect();
    Ok(Tensor::from_vec(values, (n, DIM), &Device::Cpu)?)
}

/// Losses on unseen inputs.
#[derive(Debug)]
struct Losses {
    before: f32,
    after: f32,
    loaded: f32,
    merged: f32,
}

fn run(updates: u64, folder: &Path) -> Result<Losses> {
    let unseen = inputs(64, "unseen", 0)?;
    let target = wanted(&unseen)?;
    let measure = |model: &Adapted| -> Result<f32> {
        Ok(loss::mse(&model.forward(&unseen, &mut Mode::Eval)?, &target)?.to_scalar()?)
    };

    // Wrap and train: only the factors are variables.
    let store = ParamStore::new(0);
    let model = Adapted::new(&store.params())?;
    let before = measure(&model)?;
    let mut optimizer = AdamW::new(variables(&store)?, ParamsAdamW { lr: 1e-2, ..ParamsAdamW::default() })?;
    for update in 0..updates {
        let mut rng = Rng::named(0, "dropout", update);
        let xs = inputs(64, "inputs", update)?;
        let ys = model.forward(&xs, &mut Mode::Train(&mut rng))?;
        optimizer.backward_step(&loss::mse(&ys, &wanted(&xs)?)?)?;
    }
    let after = measure(&model)?;

    // Save what was learned, and load it into a fresh copy of the pretrained network.
    LoraAdapter::new(&store.with_role(Role::Trainable), &LORA)?.write(folder)?;
    let adapter = LoraAdapter::read(folder)?;
    let store = ParamStore::with_values(0, adapter.values.clone());
    let mut model = Adapted::new(&store.params())?;
    adapter.check(&store)?;
    let loaded = measure(&model)?;

    // Fold the updates into the weights: as fast as the pretrained network.
    model.fc1.merge()?;
    model.fc2.merge()?;
    Ok(Losses { before, after, loaded, merged: measure(&model)? })
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("name a folder for the adapter: lora_linear FOLDER")?;
    let Losses { before, after, loaded, merged } = run(600, Path::new(&folder))?;
    println!("loss on unseen inputs: {before:.4} before, {after:.4} after 600 updates");
    println!("{loaded:.4} loaded from `{folder}`, {merged:.4} merged");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_survives_saving_and_merging() {
        let folder = tempfile::tempdir().unwrap();
        let losses = run(300, folder.path()).unwrap();
        assert!(losses.after < 0.2 * losses.before, "{losses:?}");
        assert_eq!(losses.loaded, losses.after, "{losses:?}");
        assert!((losses.merged - losses.after).abs() < 1e-4 * losses.before, "{losses:?}");
    }

    #[test]
    fn a_plain_linear_takes_the_place_of_an_adapted_one() {
        let store = ParamStore::new(0);
        let model = Adapted::new(&store.params()).unwrap();
        for variable in variables(&store).unwrap() {
            variable.set(&variable.ones_like().unwrap()).unwrap();
        }
        let xs = inputs(4, "inputs", 0).unwrap();
        let plain = model.fc1.to_linear().unwrap().forward(&xs).unwrap();
        let adapted = model.fc1.forward(&xs).unwrap();
        let difference =
            (plain - adapted).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference < 1e-4, "{difference}");
    }
}
