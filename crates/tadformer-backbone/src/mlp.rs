//! The two-layer perceptron of a block.

use candle_core::{Result, Tensor};
use tadformer_ops::{Around, Before, Mode, Params};
use tadformer_peft::{Site, SiteKind, Trace};

/// `fc2(GELU(fc1(x)))`; state-dict names `fc1`, `fc2`.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// Into the hidden channels.
    pub(crate) fc1: Site,
    /// Out of the hidden channels.
    pub(crate) fc2: Site,
}

/// What the sites of an MLP leave for the tasks' streams.
#[derive(Debug, Clone)]
pub struct MlpTrace {
    /// Trace of `fc1`.
    pub fc1: Option<Trace>,
    /// Trace of `fc2`.
    pub fc2: Option<Trace>,
}

impl Mlp {
    /// From `dim` channels through `hidden` and back.
    ///
    /// # Errors
    /// A loaded value of another shape, or sites that do not fit.
    pub fn new(dim: usize, hidden: usize, kind: SiteKind, params: &Params) -> Result<Self> {
        Ok(Self {
            fc1: Site::new(dim, hidden, kind, &params.pp("fc1"))?,
            fc2: Site::new(hidden, dim, kind, &params.pp("fc2"))?,
        })
    }

    /// Packs both linears for prediction ([`Site::packed`]).
    ///
    /// # Errors
    /// One that is packed already.
    pub fn pack(&mut self) -> Result<()> {
        self.fc1 = self.fc1.packed()?;
        self.fc2 = self.fc2.packed()?;
        Ok(())
    }

    /// `(…, c)` to the same shape, with what is done before and after it.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(
        &self,
        xs: &Tensor,
        around: Around<'_>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, MlpTrace)> {
        let (hidden, fc1) = self.fc1.forward_around(xs, Around::after(around.before), mode)?;
        let before = fc1.as_ref().map_or(Before::Gelu, |trace| Before::GeluOf(&trace.output));
        let (ys, fc2) = self.fc2.forward_around(&hidden, Around { before, onto: around.onto }, mode)?;
        Ok((ys, MlpTrace { fc1, fc2 }))
    }
}
