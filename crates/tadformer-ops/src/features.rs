//! Feature maps that are still to be reduced.

use crate::gemm::{Factor, Matrix};
use crate::host::read;
use crate::packed::Start;
use crate::tape::{Output, record_one};
use crate::{Around, Before, LayerNorm, Precision, linear_around, split};
use candle_core::{Result, Tensor, bail};

/// Multiplications that are worth a product of weights.
const WORTHWHILE: usize = 1 << 20;

/// Tokens; or wider tokens `x` and the reduction `W LN(x)` that still makes them what they are.
///
/// A linear `V` of them need not form `W LN(x)`: it is `(V W) LN(x)`, and where `V` has far fewer rows than `W` that saves
/// nearly all of the arithmetic.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use tadformer_ops::Features;
///
/// let features = Features::from(Tensor::ones((1, 2, 2, 3), DType::F32, &Device::Cpu)?);
/// let weight = Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu)?;
/// assert_eq!(features.linear(&weight, None)?.flatten_all()?.to_vec1::<f32>()?, [6.0; 4]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Features {
    tokens: Tensor,
    reduction: Option<(LayerNorm, Tensor)>,
}

impl From<Tensor> for Features {
    /// Tokens as they are.
    fn from(tokens: Tensor) -> Self {
        Self { tokens, reduction: None }
    }
}

impl Features {
    /// `W LN(x)` of tokens `x`.
    ///
    /// # Shapes
    /// - `tokens` `(b, h, w, in)`, `norm` of `in` features, `weight` `(out, in)`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn reduced(tokens: Tensor, norm: &LayerNorm, weight: &Tensor) -> Result<Self> {
        const OP: &str = "reduced features";
        norm.check(OP, tokens.dims())?;
        if tokens.rank() != 4 || tokens.dims().last() != weight.dims().get(1) || weight.rank() != 2 {
            bail!("{OP}: tokens {:?} and a weight {:?} do not fit", tokens.dims(), weight.dims());
        }
        Ok(Self { tokens, reduction: Some((norm.clone(), weight.clone())) })
    }

    /// The shape of [`tensor`](Self::tensor).
    pub fn dims(&self) -> Vec<usize> {
        let mut dims = self.tokens.dims().to_vec();
        if let (Some(last), Some((_, weight))) = (dims.last_mut(), &self.reduction) {
            *last = weight.dims()[0];
        }
        dims
    }

    /// The tokens, reduced.
    ///
    /// # Errors
    /// Tensors that are not `f32` on the CPU.
    pub fn tensor(&self) -> Result<Tensor> {
        match &self.reduction {
            Some((norm, weight)) => {
                linear_around(&self.tokens, weight, None, Around::after(Before::LayerNorm(norm)))
            }
            None => Ok(self.tokens.clone()),
        }
    }

    /// [`linear`](crate::linear) of the reduced tokens, in the order that takes fewer multiplications.
    ///
    /// # Errors
    /// As [`linear`](crate::linear).
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match &self.reduction {
            Some((_, reduction)) if self.saved(weight, reduction)? > WORTHWHILE => {
                self.joined_linear(weight, bias)
            }
            _ => crate::linear(&self.tensor()?, weight, bias),
        }
    }

    /// How many multiplications joining saves.
    fn saved(&self, weight: &Tensor, reduction: &Tensor) -> Result<usize> {
        let ((out, _), (mid, inner)) = (weight.dims2()?, reduction.dims2()?);
        let tokens = self.tokens.elem_count() / inner.max(1);
        Ok((tokens * mid * (inner + out)).saturating_sub(out * inner * (mid + tokens)))
    }

    /// [`linear`](Self::linear) by the product of both weights.
    fn joined_linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let Some((norm, reduction)) = &self.reduction else {
            return crate::linear(&self.tokens, weight, bias);
        };
        let around = Around::after(Before::LayerNorm(norm));
        linear_around(&self.tokens, &joined(weight, reduction)?, bias, around)
    }

    /// Equal parts along the first dimension.
    ///
    /// # Errors
    /// As [`split`].
    pub fn split(&self, parts: usize) -> Result<Vec<Self>> {
        let tokens = split(&self.tokens, parts)?;
        Ok(tokens.into_iter().map(|tokens| Self { tokens, reduction: self.reduction.clone() }).collect())
    }
}

/// `V W`, never rounded to less than `f32`; a `W` that does not train gets no gradient.
fn joined(weight: &Tensor, reduction: &Tensor) -> Result<Tensor> {
    const OP: &str = "joined linears";
    let ((rows, inner), (reduced, cols)) = (weight.dims2()?, reduction.dims2()?);
    if inner != reduced {
        bail!("{OP}: a weight {:?} cannot follow one {:?}", weight.dims(), reduction.dims());
    }
    if reduction.track_op() {
        return weight.matmul(reduction);
    }
    let (weight, reduction) = (weight.contiguous()?, reduction.contiguous()?);
    let product = {
        let (v, w) = (read(OP, &weight)?, read(OP, &reduction)?);
        let w = Matrix::new(&w, inner, cols);
        Factor::new(Precision::F32, rows, 1.0, w).product(Matrix::new(&v, rows, inner), Start::Zero)
    };
    record_one(OP, &[&weight], Output::new(product, (rows, cols)), move |grad| {
        let grad = grad.contiguous()?;
        let (g, w) = (read(OP, &grad)?, read(OP, &reduction)?);
        let w = Matrix::new(&w, inner, cols).t();
        let dv = Factor::new(Precision::F32, rows, 1.0, w).product(Matrix::new(&g, rows, cols), Start::Zero);
        Ok(vec![Some(Tensor::from_vec(dv, (rows, inner), grad.device())?)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_refused, gradcheck, named_tensor};

    /// Tokens of `inner` features on grids of side `side`, reduced to `mid`, and a weight that brings them to `out`.
    fn inputs(side: usize, inner: usize, mid: usize, out: usize) -> Vec<Tensor> {
        let tensor = |name: &str, shape: &[usize]| named_tensor(name, shape, 0.5, 1.0).unwrap();
        vec![
            tensor("tokens", &[4, side, side, inner]),
            tensor("norm", &[inner]),
            tensor("shift", &[inner]),
            tensor("weight", &[out, mid]),
            tensor("reduction", &[mid, inner]),
        ]
    }

    fn features(i: &[Tensor], reduction: &Tensor) -> Result<Features> {
        Features::reduced(i[0].clone(), &LayerNorm { weight: i[1].clone(), bias: i[2].clone() }, reduction)
    }

    #[test]
    fn a_linear_of_them_is_the_linear_of_what_they_are() {
        // Worth joining, and not.
        for (side, worth) in [(16, true), (2, false)] {
            let inputs = inputs(side, 64, 32, 8);
            let whole = features(&inputs, &inputs[4]).unwrap();
            assert_eq!(whole.saved(&inputs[3], &inputs[4]).unwrap() > WORTHWHILE, worth);
            let bias = named_tensor("bias", 8, 0.0, 1.0).unwrap();
            let expected = crate::linear(&whole.tensor().unwrap(), &inputs[3], Some(&bias)).unwrap();
            assert_close("linear", &whole.linear(&inputs[3], Some(&bias)).unwrap(), &expected, 3e-6);
            assert_eq!(whole.dims(), whole.tensor().unwrap().dims());
            for (i, part) in whole.split(4).unwrap().iter().enumerate() {
                let found = part.linear(&inputs[3], Some(&bias)).unwrap();
                assert_close("part", &found, &expected.narrow(0, i, 1).unwrap(), 3e-6);
            }
        }
    }

    #[test]
    fn all_that_trains_gets_its_gradient() {
        let inputs = inputs(2, 7, 6, 3);
        gradcheck("all", &inputs, 1e-2, |i| features(i, &i[4])?.joined_linear(&i[3], None));
        gradcheck("frozen", &inputs[..4], 1e-2, |i| features(i, &inputs[4])?.joined_linear(&i[3], None));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let i = inputs(2, 8, 6, 2);
        let norm = |width: usize| LayerNorm {
            weight: i[1].narrow(0, 0, width).unwrap(),
            bias: i[2].narrow(0, 0, width).unwrap(),
        };
        assert_refused(Features::reduced(i[0].clone(), &norm(7), &i[4]), &["[4, 2, 2, 8]", "[7]"]);
        let message = Features::reduced(i[0].clone(), &norm(8), &i[3]).unwrap_err().to_string();
        assert!(message.contains("[4, 2, 2, 8]") && message.contains("[2, 6]"), "{message}");
        let other = named_tensor("other", (2, 5), 0.0, 1.0).unwrap();
        let whole = features(&i, &i[4]).unwrap();
        assert_refused(whole.linear(&other, None), &["[4, 2, 2, 6]", "5 features"]);
        let message = whole.joined_linear(&other, None).unwrap_err().to_string();
        assert!(message.contains("[2, 5]") && message.contains("[6, 8]"), "{message}");
    }
}
