//! AdamW whose state can be saved and restored (candle's keeps its moments to itself).

use super::gradients::Gradient;
use super::{Error, Gradients, Result};
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use tadformer_ops::Entry;

/// Numbers updated by one thread at a time.
const BLOCK: usize = 1 << 14;

/// Constants of AdamW; the default is the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients, `0..1`.
    pub beta1: f64,
    /// Decay of the mean of squared gradients, `0..1`.
    pub beta2: f64,
    /// Added to the root of the second moment, above 0.
    pub eps: f64,
    /// Share of a weight that a rate of 1 would take away, at least 0; of tensors with two or more dimensions only.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05 }
    }
}

impl AdamWConfig {
    /// What is wrong with these settings; empty if nothing is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                problems.push(format!("`{name}` is {beta}, expected at least 0 and below 1"));
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            problems.push(format!("`eps` is {}, expected a finite number above 0", self.eps));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            problems.push(format!(
                "`weight_decay` is {}, expected a finite number of at least 0",
                self.weight_decay
            ));
        }
        problems
    }
}

/// Decoupled weight decay (arXiv 1711.05101), in the order of `torch.optim.AdamW`. With gradient `g`, rate `lr` and the
/// number `t` of the parameter's own updates:
///
/// ```text
/// p ← p (1 − lr · weight_decay)
/// m ← m + (g − m)(1 − β₁)
/// v ← β₂ v + (1 − β₂) g²
/// p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + eps)
/// ```
///
/// Decay is for tensors with two or more dimensions whose name does not end in `.bias`; so tables of position biases and
/// task prompts decay, norms and gates do not. A parameter without a gradient is left alone: no decay, no step counted.
///
/// Parameters change in place, in one pass over gradient, moments and weight.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    slots: Vec<Slot>,
}

/// One parameter and what is remembered of its gradients.
#[derive(Debug)]
struct Slot {
    name: String,
    tensor: Tensor,
    decays: bool,
    /// None before the first gradient.
    moments: Option<Moments>,
}

#[derive(Debug, Clone)]
struct Moments {
    mean: Vec<f32>,
    square: Vec<f32>,
    steps: u64,
}

impl AdamW {
    /// An optimiser of `parameters`, which must be variables.
    ///
    /// # Errors
    /// Settings out of range; an entry that is no `f32` variable on the CPU, or is there twice.
    pub fn new(parameters: &[Entry], config: AdamWConfig) -> Result<Self> {
        let mut problems = config.problems();
        let mut seen = HashSet::new();
        for entry in parameters {
            let tensor = &entry.tensor;
            if !tensor.is_variable() || tensor.dtype() != DType::F32 || !tensor.device().is_cpu() {
                problems
                    .push(format!("`{}` is no f32 variable on the CPU and cannot be trained", entry.name));
            }
            if !seen.insert(tensor.id()) {
                problems.push(format!("`{}` is among the parameters twice", entry.name));
            }
        }
        if !problems.is_empty() {
            return Err(Error::Config { problems });
        }
        let slot = |entry: &Entry| Slot {
            name: entry.name.clone(),
            tensor: entry.tensor.clone(),
            decays: entry.tensor.rank() >= 2 && !entry.name.ends_with(".bias"),
            moments: None,
        };
        Ok(Self { config, slots: parameters.iter().map(slot).collect() })
    }

    /// Names of the parameters that decay.
    pub fn decayed(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().filter(|slot| slot.decays).map(|slot| slot.name.as_str())
    }

    /// Moves every parameter that has a gradient by one step of rate `lr`.
    ///
    /// Gradients are taken as they are: [`clip`](Gradients::clip) them first, which also refuses those that are not finite.
    ///
    /// # Errors
    /// Gradients of other parameters or of another shape; nothing has then changed.
    pub fn step(&mut self, gradients: &Gradients, lr: f64) -> Result<()> {
        if self.slots.len() != gradients.list.len() {
            let (found, expected) = (gradients.list.len(), self.slots.len());
            return Err(misfit(format!("there are {found} gradients for {expected} parameters")));
        }
        for (slot, gradient) in self.slots.iter().zip(&gradients.list) {
            if slot.name != gradient.name {
                return Err(misfit(format!("`{}` stands where `{}` should", gradient.name, slot.name)));
            }
            if let Some(value) = &gradient.value
                && (value.shape() != slot.tensor.shape() || value.dtype() != DType::F32)
            {
                return Err(misfit(format!(
                    "that of `{}` is {:?} {:?}, expected {:?} F32",
                    slot.name,
                    value.dims(),
                    value.dtype(),
                    slot.tensor.dims(),
                )));
            }
        }
        let (config, factor) = (self.config, gradients.factor);
        self.slots
            .par_iter_mut()
            .zip(&gradients.list)
            .try_for_each(|(slot, gradient)| slot.step(gradient, config, lr, factor))?;
        Ok(())
    }

    /// Everything needed to go on as if never stopped: `<name>.exp_avg`, `<name>.exp_avg_sq` and `<name>.step` (PyTorch's
    /// names) of every parameter that has had a gradient.
    ///
    /// # Errors
    /// None in practice: numbers are copied into tensors of their parameter's shape.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::new();
        for slot in &self.slots {
            let Some(moments) = &slot.moments else { continue };
            let tensor = |values: &[f32]| Tensor::from_slice(values, slot.tensor.shape(), &Device::Cpu);
            state.push((format!("{}{MEAN}", slot.name), tensor(&moments.mean)?));
            state.push((format!("{}{SQUARE}", slot.name), tensor(&moments.square)?));
            state.push((format!("{}{STEPS}", slot.name), Tensor::new(moments.steps as i64, &Device::Cpu)?));
        }
        Ok(state)
    }

    /// Takes over a saved [`state`](Self::state). Parameters that are not in it start afresh.
    ///
    /// # Errors
    /// [`Error::State`]: a tensor of an unknown parameter, of another shape, or one of the three missing. Nothing has then
    /// changed.
    pub fn load_state(&mut self, state: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
        let mut state: HashMap<String, Tensor> = state.into_iter().collect();
        let mut restored = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let found = [MEAN, SQUARE, STEPS].map(|part| state.remove(&format!("{}{part}", slot.name)));
            restored.push(match found {
                [None, None, None] => None,
                [Some(mean), Some(square), Some(steps)] => Some(slot.restore(&mean, &square, &steps)?),
                _ => {
                    return Err(Error::State(format!(
                        "`{}` needs all three of `{MEAN}`, `{SQUARE}` and `{STEPS}`",
                        slot.name
                    )));
                }
            });
        }
        if let Some(stray) = state.keys().min() {
            return Err(Error::State(format!("`{stray}` belongs to no parameter of this model")));
        }
        for (slot, moments) in self.slots.iter_mut().zip(restored) {
            slot.moments = moments;
        }
        Ok(())
    }
}

const MEAN: &str = ".exp_avg";
const SQUARE: &str = ".exp_avg_sq";
const STEPS: &str = ".step";

fn misfit(what: String) -> Error {
    candle_core::Error::Msg(format!("the gradients do not fit the optimiser: {what}")).into()
}

impl Slot {
    fn step(
        &mut self,
        gradient: &Gradient,
        config: AdamWConfig,
        lr: f64,
        factor: f64,
    ) -> candle_core::Result<()> {
        let Some(value) = &gradient.value else { return Ok(()) };
        let value = value.contiguous()?;
        let len = self.tensor.elem_count();
        let moments = self.moments.get_or_insert_with(|| Moments {
            mean: vec![0.0; len],
            square: vec![0.0; len],
            steps: 0,
        });
        moments.steps += 1;
        let t = moments.steps as f64;
        let decay = if self.decays { config.weight_decay } else { 0.0 };
        let constants = Constants {
            factor: factor as f32,
            keep: (1.0 - lr * decay) as f32,
            towards: (1.0 - config.beta1) as f32,
            beta2: config.beta2 as f32,
            share: (1.0 - config.beta2) as f32,
            rate: (lr / (1.0 - config.beta1.powf(t))) as f32,
            root_scale: (1.0 / (1.0 - config.beta2.powf(t)).sqrt()) as f32,
            eps: config.eps as f32,
        };
        self.tensor.inplace_op2(&value, &Update { constants, moments: RefCell::new(moments) })
    }

    fn restore(&self, mean: &Tensor, square: &Tensor, steps: &Tensor) -> Result<Moments> {
        let values = |part: &str, tensor: &Tensor| {
            if tensor.shape() != self.tensor.shape() || tensor.dtype() != DType::F32 {
                return Err(Error::State(format!(
                    "`{}{part}` is {:?} {:?}, expected {:?} F32",
                    self.name,
                    tensor.dims(),
                    tensor.dtype(),
                    self.tensor.dims(),
                )));
            }
            Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
        };
        let count =
            if steps.rank() == 0 && steps.dtype() == DType::I64 { steps.to_scalar::<i64>()? } else { 0 };
        let Some(steps) = u64::try_from(count).ok().filter(|steps| *steps > 0) else {
            return Err(Error::State(format!(
                "`{}{STEPS}` is {steps}, expected one whole number above 0",
                self.name
            )));
        };
        Ok(Moments { mean: values(MEAN, mean)?, square: values(SQUARE, square)?, steps })
    }
}

/// One step of one parameter.
struct Update<'a> {
    constants: Constants,
    moments: RefCell<&'a mut Moments>,
}

/// The constants of the formula, worked out in `f64`.
#[derive(Clone, Copy)]
struct Constants {
    factor: f32,
    keep: f32,
    /// `1 − β₁`.
    towards: f32,
    beta2: f32,
    /// `1 − β₂`.
    share: f32,
    /// `lr/(1 − β₁ᵗ)`.
    rate: f32,
    /// `1/√(1 − β₂ᵗ)`.
    root_scale: f32,
    eps: f32,
}

impl Constants {
    fn apply(self, weights: &mut [f32], gradients: &[f32], means: &mut [f32], squares: &mut [f32]) {
        for (((p, g), m), v) in weights.iter_mut().zip(gradients).zip(means).zip(squares) {
            let g = g * self.factor;
            *m += (g - *m) * self.towards;
            *v = self.beta2 * *v + self.share * g * g;
            *p = *p * self.keep - self.rate * *m / (v.sqrt() * self.root_scale + self.eps);
        }
    }
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(weight), CpuStorage::F32(gradient)) = (weight, gradient) else {
            candle_core::bail!("adamw: a weight or its gradient is not f32");
        };
        let (Some(p), Some(g)) = (weight_layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            candle_core::bail!("adamw: a weight is not contiguous");
        };
        let mut moments = self.moments.borrow_mut();
        let Moments { mean, square, .. } = &mut **moments;
        let constants = self.constants;
        weight[p.0..p.1]
            .par_chunks_mut(BLOCK)
            .zip(gradient[g.0..g.1].par_chunks(BLOCK))
            .zip(mean.par_chunks_mut(BLOCK))
            .zip(square.par_chunks_mut(BLOCK))
            .for_each(|(((p, g), m), v)| constants.apply(p, g, m, v));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
