//! Initial values, drawn from the stream that carries the tensor's own name.

use crate::Rng;
use candle_core::{Device, Result, Shape, Tensor};

/// A distribution of initial values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// The same value everywhere.
    Const(f64),
    /// Uniform in `-bound..bound`.
    Uniform {
        /// Half the width of the interval.
        bound: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Normal, drawn again until it falls in `low..=high` (`torch.nn.init.trunc_normal_`).
    TruncatedNormal {
        /// Mean before the cut.
        mean: f64,
        /// Standard deviation before the cut.
        std: f64,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
}

impl Init {
    /// All zeros.
    pub const ZEROS: Self = Self::Const(0.0);
    /// All ones.
    pub const ONES: Self = Self::Const(1.0);

    /// Kaiming-uniform with `a = √5`, PyTorch's default for linears, convolutions and LoRA's `A`, and also the default
    /// of their biases: uniform within `1/√fan_in`.
    pub fn fan_in_uniform(fan_in: usize) -> Self {
        Self::Uniform { bound: 1.0 / (fan_in.max(1) as f64).sqrt() }
    }

    /// Swin's linears and bias tables: normal with standard deviation 0.02, cut at ±2.
    pub fn swin() -> Self {
        Self::TruncatedNormal { mean: 0.0, std: 0.02, low: -2.0, high: 2.0 }
    }

    /// A tensor of initial values for the parameter `name`: a function of seed, name and shape alone.
    pub fn tensor(self, seed: u64, name: &str, shape: &Shape) -> Result<Tensor> {
        let mut rng = Rng::named(seed, name, 0);
        let values: Vec<f32> = (0..shape.elem_count()).map(|_| self.draw(&mut rng) as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Self::Const(value) => value,
            Self::Uniform { bound } => rng.range(-bound, bound),
            Self::Normal { mean, std } => mean + std * rng.normal(),
            Self::TruncatedNormal { mean, std, low, high } => loop {
                let value = mean + std * rng.normal();
                if (low..=high).contains(&value) {
                    return value;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(init: Init) -> Vec<f32> {
        init.tensor(3, "layer.weight", &Shape::from(20_000)).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_truncated_normal_stays_inside_and_keeps_its_shape() {
        let values = draw(Init::TruncatedNormal { mean: 1.0, std: 1.0, low: -2.0, high: 2.0 });
        assert!(values.iter().all(|v| (-2.0..=2.0).contains(v)));
        // A normal(1, 1) cut to [-3, +1] standard deviations has mean 1 + (φ(3) - φ(1)) / (Φ(1) - Φ(-3)).
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean - 0.7205).abs() < 0.02, "{mean}");
    }

    #[test]
    fn fan_in_uniform_is_bounded_by_its_fan() {
        let values = draw(Init::fan_in_uniform(16));
        let max = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(max <= 0.25 && max > 0.24, "{max}");
    }

    #[test]
    fn a_tensor_depends_on_its_name() {
        let shape = Shape::from(4);
        let a = Init::swin().tensor(0, "a", &shape).unwrap().to_vec1::<f32>().unwrap();
        let b = Init::swin().tensor(0, "b", &shape).unwrap().to_vec1::<f32>().unwrap();
        assert_ne!(a, b);
    }
}
