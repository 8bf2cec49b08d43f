//! Weights drawn from a seed, where a real program maps a file with `VarBuilder::from_mmaped_safetensors`.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use tadformer_peft::Init;

struct RandomWeights(u64);

/// A builder of constant tensors, each drawn from `seed` and its own name.
pub(crate) fn random_weights(seed: u64) -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(RandomWeights(seed)), DType::F32, Device::Cpu)
}

impl SimpleBackend for RandomWeights {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, _: DType, _: &Device) -> Result<Tensor> {
        let init = match *shape.dims() {
            [_] if name.ends_with("bias") => Init::ZEROS,
            [_] => Init::ONES,
            [.., fan_in] if shape.rank() < 4 => Init::Normal { mean: 0.0, std: (fan_in as f64).powf(-0.5) },
            _ => Init::fan_in_uniform(shape.elem_count() / shape.dims()[0]),
        };
        init.tensor(self.0, name, &shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("`{name}` is asked for without a shape, and there is no file that would have one")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        // Candle's layer norm looks for the old names `gamma` and `beta` first.
        !name.ends_with("gamma") && !name.ends_with("beta")
    }
}
