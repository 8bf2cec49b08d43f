//! Inputs of the benches: the sizes of Swin-T at 448², rank 64, four tasks.

use candle_core::{Device, Result, Tensor};
use tadformer_ops::Rng;

/// A tensor of standard normal numbers that depend on `name` alone.
///
/// # Errors
/// None in practice: the shape fits the numbers made for it.
pub fn normal(name: &str, shape: &[usize]) -> Result<Tensor> {
    let mut rng = Rng::named(0, name, 0);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}
