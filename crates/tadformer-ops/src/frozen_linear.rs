//! A linear layer whose weight never changes: its backward gives the input's gradient and nothing else.

use crate::around::Around;
use crate::autocast::Precision;
use crate::linear::{check, input_gradient, product};
use crate::low_rank::{LowRankUpdate, merged_weight};
use crate::packed::Packed;
use crate::tape::{Output, record_one, recording};
use crate::{Init, Params};
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;

const OP: &str = "frozen linear";

/// `y = x Wᵀ + b` with `W` `(out, in)` and `b` `(out)` frozen.
///
/// Candle's own matrix product forms a weight gradient for every operand, wanted or not; for the frozen weights of a
/// Swin-T at 448² that is a fifth of a training step's arithmetic.
#[derive(Debug, Clone)]
pub struct FrozenLinear {
    weight: Weight,
    bias: Option<Tensor>,
}

#[derive(Debug, Clone)]
enum Weight {
    /// `(out, in)`.
    Rows(Tensor),
    /// `(in, out)`, in the order in which a product reads it.
    Packed(Arc<Packed>),
}

impl FrozenLinear {
    /// Takes the weight and bias of a layer that will not train; variables are detached.
    ///
    /// # Errors
    /// A weight that is not a matrix or a bias of another length.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (out_dim, _) = weight.dims2()?;
        if let Some(bias) = bias
            && bias.dims() != [out_dim]
        {
            bail!(
                "frozen linear: the bias has shape {:?}, but the weight gives {out_dim} features",
                bias.dims()
            );
        }
        Ok(Self {
            weight: Weight::Rows(weight.detach().contiguous()?),
            bias: bias.map(|bias| bias.detach().contiguous()).transpose()?,
        })
    }

    /// Asks for frozen tensors `weight` `(out, in)` and, with `bias`, `bias` `(out)`.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn from_params(in_dim: usize, out_dim: usize, bias: bool, params: &Params) -> Result<Self> {
        let weight = params.frozen("weight", (out_dim, in_dim), Init::swin())?;
        let bias = if bias { Some(params.frozen("bias", out_dim, Init::ZEROS)?) } else { None };
        // As they are: a model that is only asked what its tensors are called has none laid out in memory.
        Ok(Self { weight: Weight::Rows(weight.detach()), bias: bias.map(|bias| bias.detach()) })
    }

    /// The same layer with `update` folded into its weight, laid out as products read it: for prediction, which then spends
    /// no time on either. Without the mask of `update`; in the precision of [`autocast`](crate::autocast()) around this call,
    /// whatever it is later. The other layout is not kept.
    ///
    /// # Errors
    /// A layer that is packed already, an update that does not fit, or tensors that are not `f32` on the CPU.
    pub fn packed(&self, update: Option<&LowRankUpdate<'_>>) -> Result<Self> {
        let weight = merged_weight(Precision::in_use(), self.weight()?, update)?;
        Ok(Self { weight: Weight::Packed(Arc::new(weight)), bias: self.bias.clone() })
    }

    /// Number of features taken.
    pub fn in_dim(&self) -> usize {
        match &self.weight {
            Weight::Rows(weight) => weight.dims()[1],
            Weight::Packed(weight) => weight.inner(),
        }
    }

    /// Number of features given.
    pub fn out_dim(&self) -> usize {
        match &self.weight {
            Weight::Rows(weight) => weight.dims()[0],
            Weight::Packed(weight) => weight.cols(),
        }
    }

    /// `(out, in)`.
    ///
    /// # Errors
    /// A [packed](Self::packed) layer.
    pub fn weight(&self) -> Result<&Tensor> {
        match &self.weight {
            Weight::Rows(weight) => Ok(weight),
            Weight::Packed(_) => bail!(
                "frozen linear: the weight ({}, {}) was packed for prediction; train, merge and save the layer from before",
                self.out_dim(),
                self.in_dim()
            ),
        }
    }

    /// `(out)`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// `(…, in)` to `(…, out)`. Kept for the backward: nothing but the weight.
    ///
    /// # Errors
    /// A last dimension other than `in`, a weight without rows or columns, a tensor that is not `f32` on the CPU, or a [packed](Self::packed) layer where a
    /// gradient is wanted.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.forward_around(xs, Around::default())
    }

    /// [`forward`](Self::forward) with what is done before and after it: in one pass by a [packed](Self::packed) layer.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); shapes that do not fit.
    pub fn forward_around(&self, xs: &Tensor, around: Around<'_>) -> Result<Tensor> {
        check(OP, xs, self.in_dim(), self.out_dim(), None)?;
        let weight = match &self.weight {
            Weight::Rows(weight) => weight.clone(),
            Weight::Packed(weight) => return self.predict(weight, xs, around),
        };
        let xs = around.before.apply(xs)?.contiguous()?;
        let precision = Precision::in_use();
        let ys = product(OP, precision, &xs, &weight, self.bias.as_ref())?;
        let branch = record_one(OP, &[&xs], ys, move |grad| {
            Ok(vec![Some(input_gradient(OP, precision, &grad.contiguous()?, &weight)?)])
        })?;
        around.finish(branch)
    }

    fn predict(&self, weight: &Packed, xs: &Tensor, around: Around<'_>) -> Result<Tensor> {
        if recording(&[xs]) || recording(&around.tensors()) {
            bail!(
                "{OP}: the weight was packed for prediction, so that no gradient can pass; predict under `no_grad`"
            );
        }
        let xs = xs.contiguous()?;
        let mut shape = xs.dims().to_vec();
        *shape.last_mut().expect("the rank was checked") = self.out_dim();
        Output::new(around.predict(OP, weight, &xs, self.bias.as_ref(), &shape)?, shape).plain(OP)
    }
}
