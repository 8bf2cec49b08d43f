//! The gradients of one update, in the order of the parameters.

use super::Result;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use tadformer_ops::Entry;

/// The gradient of one parameter.
#[derive(Debug, Clone)]
pub(super) struct Gradient {
    pub(super) name: String,
    /// `None` where the loss does not depend on the parameter.
    pub(super) value: Option<Tensor>,
}

/// Gradients of a list of parameters, and one factor on all of them.
///
/// Scaling and clipping change the factor alone; the optimiser multiplies by it in its one pass over memory.
#[derive(Debug, Clone)]
pub struct Gradients {
    pub(super) list: Vec<Gradient>,
    pub(super) factor: f64,
}

impl Gradients {
    /// The gradients that a backward pass left for `parameters`.
    pub fn from_store(store: &GradStore, parameters: &[Entry]) -> Self {
        let gradient =
            |entry: &Entry| Gradient { name: entry.name.clone(), value: store.get(&entry.tensor).cloned() };
        Self { list: parameters.iter().map(gradient).collect(), factor: 1.0 }
    }

    /// The gradient of the parameter `name`, factor included; `None` if it is unknown or has none.
    ///
    /// # Errors
    /// None in practice: a tensor is multiplied by a number.
    pub fn get(&self, name: &str) -> Result<Option<Tensor>> {
        match self.list.iter().find(|gradient| gradient.name == name).and_then(|g| g.value.as_ref()) {
            Some(value) => Ok(Some(scaled(value, self.factor)?)),
            None => Ok(None),
        }
    }

    /// Parameters that the loss does not depend on.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.list.iter().filter(|gradient| gradient.value.is_none()).map(|gradient| gradient.name.as_str())
    }

    /// Adds the gradients of another batch: `self + other`. A parameter has a gradient if it has one in either.
    ///
    /// # Errors
    /// Gradients of other parameters.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        let same = self.list.len() == other.list.len()
            && self.list.iter().zip(&other.list).all(|(a, b)| a.name == b.name);
        if !same {
            return Err(candle_core::Error::Msg(
                "cannot add gradients: they belong to different parameters".to_owned(),
            )
            .into());
        }
        for (ours, theirs) in self.list.iter_mut().zip(&other.list) {
            let ours_scaled = ours.value.as_ref().map(|value| scaled(value, self.factor)).transpose()?;
            let theirs = theirs.value.as_ref().map(|value| scaled(value, other.factor)).transpose()?;
            ours.value = match (ours_scaled, theirs) {
                (Some(a), Some(b)) => Some((a + b)?),
                (one, other) => one.or(other),
            };
        }
        self.factor = 1.0;
        Ok(())
    }

    /// Multiplies every gradient by `factor`: `1/k` makes the mean of `k` accumulated batches.
    pub fn scale(&mut self, factor: f64) {
        self.factor *= factor;
    }
}

fn scaled(value: &Tensor, factor: f64) -> candle_core::Result<Tensor> {
    if factor == 1.0 { Ok(value.clone()) } else { value.affine(factor, 0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamW;
    use candle_core::Device;
    use tadformer_ops::testing::{assert_close, named_tensor};
    use tadformer_ops::{Init, ParamStore, Role, cross_entropy};

    #[test]
    fn accumulated_batches_are_one_large_batch() {
        let store = ParamStore::new(1);
        let weight = store.params().trainable("weight", (5, 3), Init::fan_in_uniform(3)).unwrap();
        store.params().trainable("unused", 3, Init::ONES).unwrap();
        let parameters = store.with_role(Role::Trainable);
        let xs = named_tensor("x", (4, 3, 6, 6), 0.0, 1.0).unwrap();
        let ys = Tensor::from_iter((0..4 * 36).map(|i| (i % 5) as f32), &Device::Cpu)
            .unwrap()
            .reshape((4, 1, 6, 6))
            .unwrap();
        let gradients = |first: usize, count: usize| {
            let (x, y) = (xs.narrow(0, first, count).unwrap(), ys.narrow(0, first, count).unwrap());
            let kernel = weight.reshape((5, 3, 1, 1)).unwrap();
            let logits = x.conv2d(&kernel, 0, 1, 1, 1).unwrap();
            let store = cross_entropy(&logits, &y).unwrap().value.backward().unwrap();
            Gradients::from_store(&store, &parameters)
        };
        let large = gradients(0, 4);
        let mut accumulated = gradients(0, 1);
        for image in 1..4 {
            accumulated.add(&gradients(image, 1)).unwrap();
        }
        accumulated.scale(0.25);
        let of = |g: &Gradients| g.get("weight").unwrap().unwrap();
        assert_close("accumulated", &of(&accumulated), &of(&large), 1e-6);
        assert_eq!(accumulated.missing().collect::<Vec<_>>(), ["unused"]);
        assert!(accumulated.get("unused").unwrap().is_none());
        AdamW::new(&parameters, Default::default()).unwrap().step(&accumulated, 1e-3).unwrap();
    }

    #[test]
    fn factors_are_kept_apart_when_gradients_are_added() {
        let gradient = |value: f32| Gradients {
            list: vec![Gradient { name: "a".into(), value: Some(Tensor::new(value, &Device::Cpu).unwrap()) }],
            factor: 1.0,
        };
        let (mut sum, mut other) = (gradient(3.0), gradient(5.0));
        sum.scale(2.0);
        other.scale(10.0);
        sum.add(&other).unwrap();
        assert_eq!(sum.get("a").unwrap().unwrap().to_scalar::<f32>().unwrap(), 56.0);
        let none = Gradients { list: Vec::new(), factor: 1.0 };
        assert!(sum.add(&none).unwrap_err().to_string().contains("different parameters"));
    }
}
