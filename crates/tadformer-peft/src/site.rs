//! The named linears of a transformer block, and what may sit at one.

use crate::{Filter, LoraConfig, TaModule, Trace, TsModule};
use candle_core::{DType, Device, Result, Tensor};
use tadformer_ops::{Around, FrozenLinear, Init, Linear, Mode, Params};

/// What to put at a linear site when a model is built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SiteKind {
    /// The pretrained layer as it is.
    Frozen,
    /// The pretrained layer, trained itself.
    Trainable,
    /// A task-shared low-rank update.
    LowRank(LoraConfig),
    /// A shared update and one for every task's stream.
    TaskAdapting(LoraConfig, Filter),
}

/// A linear layer of a block, with what was put on it.
#[derive(Debug, Clone)]
pub enum Site {
    /// See [`SiteKind::Frozen`].
    Frozen(FrozenLinear),
    /// See [`SiteKind::Trainable`].
    Trainable(Linear),
    /// See [`SiteKind::LowRank`].
    LowRank(TsModule),
    /// See [`SiteKind::TaskAdapting`].
    TaskAdapting(TaModule),
}

impl Site {
    /// A linear from `in_dim` to `out_dim` with a bias (state-dict names `linear.weight`, `linear.bias`) and what `kind` puts on it.
    ///
    /// # Errors
    /// A configuration that does not fit, or a loaded value of another shape.
    pub fn new(in_dim: usize, out_dim: usize, kind: SiteKind, params: &Params) -> Result<Self> {
        let place = params.pp("linear");
        let frozen = || FrozenLinear::from_params(in_dim, out_dim, true, &place);
        Ok(match kind {
            SiteKind::Frozen => Self::Frozen(frozen()?),
            SiteKind::Trainable => {
                Self::Trainable(Linear::new(in_dim, out_dim, Init::swin(), Some(Init::ZEROS), &place)?)
            }
            SiteKind::LowRank(config) => Self::LowRank(TsModule::new(frozen()?, &config, params)?),
            SiteKind::TaskAdapting(config, filter) => {
                Self::TaskAdapting(TaModule::new(frozen()?, &config, filter, params)?)
            }
        })
    }

    /// The same layer for prediction alone: updates folded into the frozen weights where no task's stream stands on them, and
    /// weights laid out as products read them ([`FrozenLinear::packed`]).
    ///
    /// # Errors
    /// A layer that is packed already.
    pub fn packed(&self) -> Result<Self> {
        Ok(match self {
            Self::Frozen(linear) => Self::Frozen(linear.packed(None)?),
            Self::Trainable(linear) => {
                Self::Frozen(FrozenLinear::new(&linear.weight, linear.bias.as_ref())?.packed(None)?)
            }
            Self::LowRank(module) => Self::Frozen(module.packed()?),
            Self::TaskAdapting(module) => Self::TaskAdapting(module.packed()?),
        })
    }

    /// The shared stream, `(…, in)` to `(…, out)`; a task-adapting site also leaves a trace for the tasks' streams.
    ///
    /// # Errors
    /// A last dimension other than `in`.
    pub fn forward(&self, xs: &Tensor, mode: &mut Mode<'_>) -> Result<(Tensor, Option<Trace>)> {
        self.forward_around(xs, Around::default(), mode)
    }

    /// [`forward`](Self::forward) with what is done before and after it, in one pass where that can be.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_around(
        &self,
        xs: &Tensor,
        around: Around<'_>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Option<Trace>)> {
        Ok(match self {
            Self::Frozen(linear) => (linear.forward_around(xs, around)?, None),
            Self::Trainable(linear) => (linear.forward_around(xs, around)?, None),
            Self::LowRank(module) => (module.forward_around(xs, around, mode)?, None),
            Self::TaskAdapting(module) => {
                let (ys, trace) = module.forward_around(xs, around, mode)?;
                (ys, Some(trace))
            }
        })
    }

    /// What the shared stream makes of a row of zeros, `(out)`: the bias, since a low-rank update of nothing is nothing.
    ///
    /// # Errors
    /// None in practice.
    pub fn of_zeros(&self) -> Result<Tensor> {
        let (bias, out_dim) = match self {
            Self::Frozen(linear) => (linear.bias(), linear.out_dim()),
            Self::Trainable(linear) => (linear.bias.as_ref(), linear.weight.dims()[0]),
            Self::LowRank(module) => (module.linear().bias(), module.linear().out_dim()),
            Self::TaskAdapting(module) => {
                let linear = module.shared().linear();
                (linear.bias(), linear.out_dim())
            }
        };
        match bias {
            Some(bias) => Ok(bias.clone()),
            None => Tensor::zeros(out_dim, DType::F32, &Device::Cpu),
        }
    }

    /// The task-adapting module, where there is one.
    pub fn task_adapting(&self) -> Option<&TaModule> {
        match self {
            Self::TaskAdapting(module) => Some(module),
            _ => None,
        }
    }
}
