//! The norm of all gradients together, and a bound on it.

use super::gradients::Gradients;
use super::{Error, Result};
use candle_core::{CpuStorage, DType, Storage, Tensor};
use rayon::prelude::*;

/// Numbers summed by one thread at a time.
const BLOCK: usize = 1 << 14;

/// Keeps the coefficient finite (`torch.nn.utils.clip_grad_norm_`).
const EPS: f64 = 1e-6;

impl Gradients {
    /// `√Σ g²` over every gradient, factor included; summed in `f64` in fixed blocks.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the first tensor whose gradient holds NaN or infinity.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for gradient in &self.list {
            let Some(value) = &gradient.value else { continue };
            // No square of an `f32` overflows an `f64`, so only a bad element makes a bad sum.
            let sum = sum_of_squares(value)?;
            if !sum.is_finite() {
                return Err(Error::NotFinite { tensor: gradient.name.clone() });
            }
            total += sum;
        }
        Ok(self.factor.abs() * total.sqrt())
    }

    /// Scales every gradient by `min(1, max_norm/(norm + 1e-6))` and returns the norm before
    /// (`torch.nn.utils.clip_grad_norm_`).
    ///
    /// # Errors
    /// As [`norm`](Self::norm); the gradients are then as they were.
    pub fn clip(&mut self, max_norm: f64) -> Result<f64> {
        let norm = self.norm()?;
        self.scale((max_norm / (norm + EPS)).min(1.0));
        Ok(norm)
    }
}

fn sum_of_squares(tensor: &Tensor) -> candle_core::Result<f64> {
    let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
        (&*storage, layout.contiguous_offsets())
    else {
        candle_core::bail!("the norm of a gradient on {:?}: this operation runs on the CPU", tensor.device());
    };
    let sums: Vec<f64> = values[start..end]
        .par_chunks(BLOCK)
        .map(|block| block.iter().map(|g| f64::from(*g) * f64::from(*g)).sum())
        .collect();
    Ok(sums.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::super::gradients::Gradient;
    use super::*;
    use candle_core::Device;

    fn gradients(values: &[Option<&[f32]>]) -> Gradients {
        let list = values
            .iter()
            .enumerate()
            .map(|(i, value)| Gradient {
                name: format!("tensor {i}"),
                value: value.map(|value| Tensor::new(value, &Device::Cpu).unwrap()),
            })
            .collect();
        Gradients { list, factor: 1.0 }
    }

    #[test]
    fn the_norm_is_that_of_all_tensors_together() {
        let mut gradients = gradients(&[Some(&[1.0, -2.0]), None, Some(&[2.0, 4.0, 0.0])]);
        assert_eq!(gradients.norm().unwrap(), 5.0);
        gradients.scale(-2.0);
        assert_eq!(gradients.norm().unwrap(), 10.0);
    }

    #[test]
    fn long_gradients_are_shortened_and_short_ones_left_alone() {
        let values: &[Option<&[f32]>] = &[Some(&[3.0]), Some(&[4.0])];
        let mut long = gradients(values);
        assert_eq!(long.clip(2.0).unwrap(), 5.0);
        assert_eq!(long.factor, 2.0 / (5.0 + 1e-6));
        let mut short = gradients(values);
        assert_eq!(short.clip(6.0).unwrap(), 5.0);
        assert_eq!(short.factor, 1.0);
        let mut zero = gradients(&[Some(&[0.0, 0.0])]);
        assert_eq!((zero.clip(5.0).unwrap(), zero.factor), (0.0, 1.0));
    }

    #[test]
    fn huge_gradients_do_not_overflow_the_norm() {
        let mut gradients = gradients(&[Some(&[3e38, 3e38])]);
        let norm = gradients.clip(5.0).unwrap();
        assert!((norm / (18f64.sqrt() * 1e38) - 1.0).abs() < 1e-6, "{norm}");
        assert!((gradients.norm().unwrap() - 5.0).abs() < 1e-6);
    }

    #[test]
    fn the_first_bad_tensor_is_named() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut gradients = gradients(&[Some(&[1.0]), Some(&[0.0, bad]), Some(&[f32::NAN])]);
            let error = gradients.clip(5.0).unwrap_err();
            assert!(matches!(&error, Error::NotFinite { tensor } if tensor == "tensor 1"), "{error}");
            assert_eq!(gradients.factor, 1.0);
        }
    }
}
