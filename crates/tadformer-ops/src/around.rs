//! What a linear does on its way over the rows, instead of operations of their own before and after it.

use crate::activation::InputActivation;
use crate::host::{Slice, read};
use crate::layer_norm::{LAYER_NORM_EPS, LayerNorm, normalize_rows};
use crate::packed::Packed;
use crate::residual::Residual;
use candle_core::{Result, Tensor};

/// `residual(linear(before(x)))`, in one pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'a> {
    /// What the input goes through first.
    pub before: Before<'a>,
    /// What the output is added to.
    pub onto: Option<&'a Residual>,
}

/// What the input of a linear goes through first.
#[derive(Debug, Clone, Copy, Default)]
pub enum Before<'a> {
    /// Nothing.
    #[default]
    Nothing,
    /// GELU, computed again in the backward instead of being kept.
    Gelu,
    /// A LayerNorm. Where gradients are recorded it is an operation of its own, whose output is kept.
    LayerNorm(&'a LayerNorm),
}

impl<'a> Around<'a> {
    /// A linear of `before`'s output.
    pub fn after(before: Before<'a>) -> Self {
        Self { before, onto: None }
    }

    /// A linear whose output is added to `residual`'s shortcut.
    pub fn onto(residual: &'a Residual) -> Self {
        Self { before: Before::Nothing, onto: Some(residual) }
    }

    /// All tensors that take part beside the linear's own.
    pub(crate) fn tensors(&self) -> Vec<&'a Tensor> {
        let norm = match self.before {
            Before::LayerNorm(norm) => vec![&norm.weight, &norm.bias],
            Before::Nothing | Before::Gelu => Vec::new(),
        };
        norm.into_iter().chain(self.onto.map(Residual::shortcut)).collect()
    }

    /// The numbers of the whole, of a packed weight and an output of that `shape`, where nothing is recorded.
    pub(crate) fn predict(
        &self,
        op: &'static str,
        weight: &Packed,
        xs: &Tensor,
        bias: Option<&Tensor>,
        shape: &[usize],
    ) -> Result<Vec<f32>> {
        let before = self.before.rows(op, weight.inner())?;
        let residual = self.onto.map(|residual| residual.rows(op, shape)).transpose()?;
        let bias = bias.map(|bias| read(op, bias)).transpose()?;
        Ok(weight.product_around(&before, &read(op, xs)?, bias.as_deref(), residual.as_ref()))
    }

    /// The output of an operation that knows no residual, with it.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn finish(&self, branch: Tensor) -> Result<Tensor> {
        match self.onto {
            Some(residual) => residual.add(&branch),
            None => Ok(branch),
        }
    }
}

impl Before<'_> {
    /// The input after it, as a tensor.
    ///
    /// # Errors
    /// A LayerNorm of another width.
    pub fn apply(&self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Nothing => Ok(xs.clone()),
            Self::Gelu => crate::gelu(xs),
            Self::LayerNorm(norm) => norm.forward(xs),
        }
    }

    /// The input, and what still comes between it and a linear that is recorded.
    pub(crate) fn recorded(&self, xs: &Tensor) -> Result<(Tensor, InputActivation)> {
        Ok(match self {
            Self::Nothing => (xs.contiguous()?, InputActivation::Identity),
            Self::Gelu => (xs.contiguous()?, InputActivation::Gelu),
            Self::LayerNorm(norm) => (norm.forward(xs)?, InputActivation::Identity),
        })
    }

    /// As kernels that record nothing take it.
    fn rows(&self, op: &'static str, width: usize) -> Result<RowsBefore<'_>> {
        Ok(match self {
            Self::Nothing => RowsBefore::Activation(InputActivation::Identity),
            Self::Gelu => RowsBefore::Activation(InputActivation::Gelu),
            Self::LayerNorm(norm) => {
                norm.check(op, width)?;
                RowsBefore::LayerNorm { weight: read(op, &norm.weight)?, bias: read(op, &norm.bias)? }
            }
        })
    }
}

/// [`Before`] for rows in the cache.
pub(crate) enum RowsBefore<'a> {
    Activation(InputActivation),
    LayerNorm { weight: Slice<'a>, bias: Slice<'a> },
}

impl RowsBefore<'_> {
    /// What it makes of `xs`, in `space` where that is needed.
    pub(crate) fn of<'a>(&self, xs: &'a [f32], space: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            Self::Activation(activation) => activation.of(xs, space),
            Self::LayerNorm { weight, bias } => {
                space.resize(xs.len(), 0.0);
                normalize_rows(xs, weight, bias, LAYER_NORM_EPS, space);
                space
            }
        }
    }
}
