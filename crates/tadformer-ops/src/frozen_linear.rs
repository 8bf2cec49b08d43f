//! A linear layer whose weight never changes: its backward gives the input's gradient and nothing else.

use crate::autocast::Precision;
use crate::linear::{check, input_gradient, product};
use crate::tape::record_one;
use crate::{Init, Params};
use candle_core::{Result, Tensor, bail};

/// `y = x Wᵀ + b` with `W` `(out, in)` and `b` `(out)` frozen.
///
/// Candle's own matrix product forms a weight gradient for every operand, wanted or not; for the frozen weights of a
/// Swin-T at 448² that is a fifth of a training step's arithmetic.
#[derive(Debug, Clone)]
pub struct FrozenLinear {
    weight: Tensor,
    bias: Option<Tensor>,
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
            weight: weight.detach().contiguous()?,
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
        Self::new(&weight, bias.as_ref())
    }

    /// Number of features taken.
    pub fn in_dim(&self) -> usize {
        self.weight.dims()[1]
    }

    /// Number of features given.
    pub fn out_dim(&self) -> usize {
        self.weight.dims()[0]
    }

    /// `(out, in)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `(out)`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// `(…, in)` to `(…, out)`. Kept for the backward: nothing but the weight.
    ///
    /// # Errors
    /// A last dimension other than `in`, or a tensor that is not `f32` on the CPU.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        check("frozen linear", xs, self.in_dim(), self.out_dim(), None)?;
        let xs = xs.contiguous()?;
        let precision = Precision::in_use();
        let ys = product("frozen linear", precision, &xs, &self.weight, self.bias.as_ref())?;
        let weight = self.weight.clone();
        record_one("frozen linear", &[&xs], ys, move |grad| {
            Ok(vec![Some(input_gradient("frozen linear", precision, &grad.contiguous()?, &weight)?)])
        })
    }
}
