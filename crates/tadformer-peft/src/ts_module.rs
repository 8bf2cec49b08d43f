//! The task-shared update at a linear site.

use crate::{LoraConfig, LowRank};
use candle_core::{Result, Tensor};
use tadformer_ops::{Around, FrozenLinear, Mode, Params, low_rank_linear};

/// `y = W x + b + s · B A drop(x)` with `W`, `b` frozen: TADFormer's TS-Module, one LoRA for every task.
#[derive(Debug, Clone)]
pub struct TsModule {
    linear: FrozenLinear,
    low_rank: LowRank,
}

impl TsModule {
    /// Puts an update on `linear`; it starts as zero.
    ///
    /// # Errors
    /// A configuration that does not fit the linear, or a loaded value of another shape.
    pub fn new(linear: FrozenLinear, config: &LoraConfig, params: &Params) -> Result<Self> {
        let low_rank = LowRank::new(linear.in_dim(), linear.out_dim(), config, params)?;
        Ok(Self { linear, low_rank })
    }

    /// The frozen layer.
    pub fn linear(&self) -> &FrozenLinear {
        &self.linear
    }

    /// The update.
    pub fn low_rank(&self) -> &LowRank {
        &self.low_rank
    }

    /// `(…, in)` to `(…, out)`.
    ///
    /// # Errors
    /// A last dimension other than `in`.
    pub fn forward(&self, xs: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.forward_around(xs, Around::default(), mode)
    }

    /// [`forward`](Self::forward) with what is done before and after it, in one pass where that can be.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_around(&self, xs: &Tensor, around: Around<'_>, mode: &mut Mode<'_>) -> Result<Tensor> {
        let mask = self.low_rank.draw_mask(mode)?;
        low_rank_linear(xs, around, &self.linear, &self.low_rank.update(mask))
    }

    /// The one frozen layer with the same outputs: `W + s · B A`.
    ///
    /// # Errors
    /// A layer that was packed for prediction.
    pub fn merge(&self) -> Result<FrozenLinear> {
        let weight = (self.linear.weight()? + self.low_rank.delta()?)?;
        FrozenLinear::new(&weight, self.linear.bias())
    }

    /// [`merge`](Self::merge) for prediction alone ([`FrozenLinear::packed`]).
    ///
    /// # Errors
    /// As [`merge`](Self::merge).
    pub fn packed(&self) -> Result<FrozenLinear> {
        self.linear.packed(Some(&self.low_rank.update(None)))
    }

    /// The same module with its frozen layer [packed](FrozenLinear::packed) and its update still apart.
    pub(crate) fn with_packed_linear(&self) -> Result<Self> {
        Ok(Self { linear: self.linear.packed(None)?, low_rank: self.low_rank.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tadformer_ops::testing::{assert_close, named_tensor};
    use tadformer_ops::{ParamStore, Rng, Role};

    fn module() -> (TsModule, std::sync::Arc<ParamStore>) {
        let store = ParamStore::new(0);
        let weight = named_tensor("weight", (7, 5), 0.0, 1.0).unwrap();
        let linear = FrozenLinear::new(&weight, Some(&named_tensor("bias", 7, 0.0, 1.0).unwrap())).unwrap();
        let config = LoraConfig { rank: 3, scale: 4.0, dropout: 0.5 };
        (TsModule::new(linear, &config, &store.params()).unwrap(), store)
    }

    #[test]
    fn a_fresh_update_changes_nothing_and_a_merged_one_nothing_more() {
        let (module, store) = module();
        let xs = named_tensor("xs", (2, 4, 5), 0.0, 1.0).unwrap();
        let forward = |module: &TsModule| module.forward(&xs, &mut Mode::Eval).unwrap();
        assert_close("fresh", &forward(&module), &module.linear().forward(&xs).unwrap(), 0.0);
        for entry in store.with_role(Role::Trainable) {
            let value = named_tensor(&entry.name, entry.tensor.shape(), 0.0, 1.0).unwrap();
            candle_core::Var::from_tensor(&entry.tensor).unwrap().set(&value).unwrap();
        }
        for merged in [module.merge().unwrap(), module.packed().unwrap()] {
            assert_close("merged", &merged.forward(&xs).unwrap(), &forward(&module), 1e-6);
        }
    }

    #[test]
    fn dropout_acts_on_the_update_alone() {
        let (module, _) = module();
        let xs = named_tensor("xs", (2, 4, 5), 0.0, 1.0).unwrap();
        let mut rng = Rng::named(0, "dropout", 0);
        // B is zero, so whatever dropout does to the update's input, the output is the frozen layer's.
        let trained = module.forward(&xs, &mut Mode::Train(&mut rng)).unwrap();
        assert_close("train", &trained, &module.linear().forward(&xs).unwrap(), 0.0);
    }

    #[test]
    fn a_rank_that_does_not_fit_is_refused() {
        let linear = FrozenLinear::new(&named_tensor("w", (7, 5), 0.0, 1.0).unwrap(), None).unwrap();
        for rank in [0, 6] {
            let config = LoraConfig::default().with_rank(rank);
            let message =
                TsModule::new(linear.clone(), &config, &ParamStore::new(0).params()).unwrap_err().to_string();
            assert!(message.contains("1..=5"), "{message}");
        }
    }
}
