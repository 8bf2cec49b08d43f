//! The task-adapting update at a linear site.

use crate::{DynamicTaskFilter, LoraConfig, LowRank, TsModule};
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};
use tadformer_ops::{Around, Before, FrozenLinear, Kept, Mode, Params, Residual, Windows, task_codes};

/// What lies between `A` and `B` in a task's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The dynamic task filter.
    #[default]
    Dynamic,
    /// Nothing: every task gets the plain low-rank update (an ablation).
    None,
}

/// A TS-Module for the shared stream and, with the same `A` and `B`, an update for every task's stream:
/// `y_t = (W x + b) + s · B · DTF(A u_t)`. TADFormer's TA-Module; state-dict name of the filter `lora_filter`.
#[derive(Debug, Clone)]
pub struct TaModule {
    shared: TsModule,
    filter: Option<DynamicTaskFilter>,
}

/// What the shared stream leaves for the tasks' streams at a site.
#[derive(Debug, Clone)]
pub struct Trace {
    /// `W x + b`, `(…, out)`: the shared update is not in it.
    pub frozen: Tensor,
    /// `drop(x)`, `(…, in)`: what the shared update saw.
    pub dropped: Tensor,
    /// The output without a residual, made again of both parts.
    pub output: Kept,
}

impl TaModule {
    /// Puts a shared and a task-adapting update on `linear`.
    ///
    /// # Errors
    /// A configuration that does not fit the linear, or a loaded value of another shape.
    pub fn new(linear: FrozenLinear, config: &LoraConfig, filter: Filter, params: &Params) -> Result<Self> {
        let filter = match filter {
            Filter::Dynamic => Some(DynamicTaskFilter::new(config.rank, &params.pp("lora_filter"))?),
            Filter::None => None,
        };
        Ok(Self { shared: TsModule::new(linear, config, params)?, filter })
    }

    /// The shared stream's module.
    pub fn shared(&self) -> &TsModule {
        &self.shared
    }

    /// The same module for prediction alone: its frozen layer [packed](FrozenLinear::packed). Its update stays apart, because
    /// the tasks' streams begin without it.
    ///
    /// # Errors
    /// A module that is packed already.
    pub fn packed(&self) -> Result<Self> {
        Ok(Self { shared: self.shared.with_packed_linear()?, filter: self.filter.clone() })
    }

    /// The shared stream, `(…, in)` to `(…, out)`, and what it leaves behind.
    ///
    /// # Errors
    /// A last dimension other than `in`.
    pub fn forward(&self, xs: &Tensor, mode: &mut Mode<'_>) -> Result<(Tensor, Trace)> {
        self.forward_around(xs, Around::default(), mode)
    }

    /// [`forward`](Self::forward) with what is done before and after it. The trace is of what lies between, without the
    /// residual.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_around(
        &self,
        xs: &Tensor,
        around: Around<'_>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Trace)> {
        let (us, kept) = around.before.recorded(xs)?;
        let frozen = self.shared.linear().forward(&us)?;
        let (dropped, kept) = match self.low_rank().draw_mask(mode)? {
            Some(mask) => (mask.apply(&us)?, Kept::again(move || mask.apply(&kept.get()?))),
            None => (us, kept),
        };
        let codes = self.low_rank().down_kept(&dropped, kept)?;
        let ys = self.low_rank().add_up(&frozen, &codes, around.onto)?;
        let (low_rank, base) = (self.low_rank().clone(), frozen.clone());
        let output = Kept::again(move || low_rank.add_up(&base, &codes, None));
        Ok((ys, Trace { frozen, dropped, output }))
    }

    /// The streams of all tasks at once.
    ///
    /// # Shapes
    /// - `us` `(tasks · b, h, w, in)`, task by task
    /// - `frozen` `(b, h, w, out)`: the shared stream's [`Trace::frozen`]
    /// - output `(tasks · b, h, w, out)`
    ///
    /// # Errors
    /// Shapes that do not fit each other or `windows`.
    pub fn forward_tasks(&self, us: &Tensor, frozen: &Tensor, windows: &Windows) -> Result<Tensor> {
        self.from_codes(&self.codes(us.clone(), Before::Nothing, windows)?, frozen, None)
    }

    /// `DTF(A u_t)`, `(tasks · b, h, w, in)` to `(tasks · b, h, w, r)`, with `u_t` what `before` makes of `xs`: the first half of
    /// [`forward_tasks`](Self::forward_tasks). What only this call holds of `xs` is freed before the filter runs.
    ///
    /// # Errors
    /// As [`forward_tasks`](Self::forward_tasks).
    pub fn codes(&self, xs: Tensor, before: Before<'_>, windows: &Windows) -> Result<Tensor> {
        let zs = self.low_rank().down_after(before, &xs)?;
        drop(xs);
        self.filter(zs, windows)
    }

    /// The second half of [`forward_tasks`](Self::forward_tasks): `f + s · B z_t`. With `onto`, that is what ends in the
    /// residual.
    ///
    /// # Errors
    /// As [`forward_tasks`](Self::forward_tasks).
    pub fn from_codes(&self, zs: &Tensor, frozen: &Tensor, onto: Option<&Residual>) -> Result<Tensor> {
        self.low_rank().add_up(frozen, zs, onto)
    }

    /// From the codes of this site through its output and a GELU to the codes of the `next` site, without the output:
    /// `next.codes(GELU(self.from_codes(zs, frozen)))`.
    ///
    /// # Errors
    /// As [`forward_tasks`](Self::forward_tasks).
    pub fn codes_through_gelu(
        &self,
        zs: &Tensor,
        frozen: &Tensor,
        next: &Self,
        windows: &Windows,
    ) -> Result<Tensor> {
        let (own, following) = (self.low_rank(), next.low_rank());
        next.filter(task_codes(frozen, zs, own.lora_b(), own.scale(), following.lora_a())?, windows)
    }

    fn filter(&self, zs: Tensor, windows: &Windows) -> Result<Tensor> {
        match &self.filter {
            Some(filter) => filter.forward(&zs, windows),
            None => Ok(zs),
        }
    }

    fn low_rank(&self) -> &LowRank {
        self.shared.low_rank()
    }
}
