//! LoRA on candle's own linear layer.

use crate::{LoraConfig, LowRank, TsModule};
use candle_core::{DType, Result, Tensor, bail};
use candle_nn::{Linear, Module};
use tadformer_ops::{FrozenLinear, Mode, Params};

/// A [`candle_nn::Linear`] with a low-rank update beside it: `W x + b + s · B A drop(x)`, where only `A` and `B` train.
///
/// It stands where the linear stood: as a [`Module`] it computes what it has learned, without dropout.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_nn::{Linear, Module};
/// use tadformer_peft::{LoraConfig, LoraLinear, ParamStore};
///
/// let linear = Linear::new(Tensor::new(&[[2f32, 0.], [0., 2.]], &Device::Cpu)?, None);
/// let store = ParamStore::new(0);
/// let lora = LoraLinear::new(&linear, &LoraConfig::default().with_rank(1), &store.params().pp("fc"))?;
/// let ys = lora.forward(&Tensor::new(&[[1f32, 3.]], &Device::Cpu)?)?;
/// assert_eq!(ys.to_vec2::<f32>()?, [[2.0, 6.0]]); // an update starts as zero
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LoraLinear {
    module: TsModule,
    merged: Option<FrozenLinear>,
}

impl LoraLinear {
    /// Freezes `linear` and puts an update on it; a weight of another type is converted to `f32`.
    ///
    /// # Errors
    /// A configuration that does not fit the linear, a loaded value of another shape, or a linear that is not in main
    /// memory.
    pub fn new(linear: &Linear, config: &LoraConfig, params: &Params) -> Result<Self> {
        if !linear.weight().device().is_cpu() {
            bail!(
                "cannot put a low-rank update on a linear on {:?}: these layers work in main memory",
                linear.weight().device().location()
            );
        }
        let weight = linear.weight().to_dtype(DType::F32)?;
        let bias = linear.bias().map(|bias| bias.to_dtype(DType::F32)).transpose()?;
        let module = TsModule::new(FrozenLinear::new(&weight, bias.as_ref())?, config, params)?;
        Ok(Self { module, merged: None })
    }

    /// `(…, in)` to `(…, out)`, with dropout on the update's input in training.
    ///
    /// # Errors
    /// A last dimension other than `in`, or training while the update is [merged](Self::merge): nothing would learn.
    pub fn forward_in(&self, xs: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        match (&self.merged, mode) {
            (None, mode) => self.module.forward(xs, mode),
            (Some(merged), Mode::Eval) => merged.forward(xs),
            (Some(_), Mode::Train(_)) => {
                bail!(
                    "LoRA linear: the update is merged into the weight and cannot train; call `unmerge` first"
                )
            }
        }
    }

    /// Folds the update into the weight, `W + s · B A`: the same outputs at the cost of the plain linear.
    ///
    /// # Errors
    /// None in practice: the shapes were checked at construction.
    pub fn merge(&mut self) -> Result<()> {
        self.merged = Some(self.module.merge()?);
        Ok(())
    }

    /// Takes the update out of the weight again. The original weight was kept, so this is exact.
    pub fn unmerge(&mut self) {
        self.merged = None;
    }

    /// Whether the update is folded into the weight.
    pub fn is_merged(&self) -> bool {
        self.merged.is_some()
    }

    /// A plain linear with the update folded in, to hand to code that knows no LoRA.
    ///
    /// # Errors
    /// None in practice: the shapes were checked at construction.
    pub fn to_linear(&self) -> Result<Linear> {
        let merged = self.module.merge()?;
        Ok(Linear::new(merged.weight()?.clone(), merged.bias().cloned()))
    }

    /// The update.
    pub fn low_rank(&self) -> &LowRank {
        self.module.low_rank()
    }
}

impl Module for LoraLinear {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward_in(xs, &mut Mode::Eval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;
    use tadformer_ops::testing::{assert_close, named_tensor};
    use tadformer_ops::{ParamStore, Rng, Role};

    fn linear() -> Linear {
        let bias = named_tensor("bias", 7, 0.0, 1.0).unwrap();
        Linear::new(named_tensor("weight", (7, 5), 0.0, 1.0).unwrap(), Some(bias))
    }

    /// A wrapped linear whose update is not zero.
    fn learned() -> LoraLinear {
        let store = ParamStore::new(0);
        let config = LoraConfig { rank: 3, scale: 0.5, dropout: 0.3 };
        let lora = LoraLinear::new(&linear(), &config, &store.params().pp("fc")).unwrap();
        for entry in store.with_role(Role::Trainable) {
            let value = named_tensor(&entry.name, entry.tensor.shape(), 0.0, 1.0).unwrap();
            Var::from_tensor(&entry.tensor).unwrap().set(&value).unwrap();
        }
        lora
    }

    #[test]
    fn merged_unmerged_and_plain_linears_agree() {
        let mut lora = learned();
        let xs = named_tensor("xs", (2, 4, 5), 0.0, 1.0).unwrap();
        let before = lora.forward(&xs).unwrap();
        assert_close("plain", &lora.to_linear().unwrap().forward(&xs).unwrap(), &before, 1e-6);
        lora.merge().unwrap();
        assert!(lora.is_merged());
        assert_close("merged", &lora.forward(&xs).unwrap(), &before, 1e-6);
        lora.unmerge();
        assert_close("unmerged", &lora.forward(&xs).unwrap(), &before, 0.0);
        let moved = (before - linear().forward(&xs).unwrap()).unwrap().sqr().unwrap().mean_all().unwrap();
        assert!(moved.to_scalar::<f32>().unwrap() > 1e-3, "the update does nothing");
    }

    #[test]
    fn a_merged_update_refuses_to_train() {
        let mut lora = learned();
        lora.merge().unwrap();
        let xs = named_tensor("xs", (2, 5), 0.0, 1.0).unwrap();
        let mut rng = Rng::named(0, "dropout", 0);
        let message = lora.forward_in(&xs, &mut Mode::Train(&mut rng)).unwrap_err().to_string();
        assert!(message.contains("unmerge"), "{message}");
        assert!(lora.forward_in(&xs, &mut Mode::Eval).is_ok());
    }

    #[test]
    fn a_half_precision_linear_is_converted() {
        let half = Linear::new(linear().weight().to_dtype(DType::F16).unwrap(), None);
        let lora = LoraLinear::new(&half, &LoraConfig::default().with_rank(2), &ParamStore::new(0).params());
        let xs = named_tensor("xs", (2, 5), 0.0, 1.0).unwrap();
        assert_eq!(lora.unwrap().forward(&xs).unwrap().dtype(), DType::F32);
    }
}
