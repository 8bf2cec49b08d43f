//! `y = x Wᵀ + b`, all three trainable.

use crate::around::Around;
use crate::autocast::Precision;
use crate::gemm::{Factor, Matrix, matmul_tall};
use crate::host::read;
use crate::kept::Kept;
use crate::low_rank::merged_weight;
use crate::packed::Start;
use crate::rows::sum_blocks;
use crate::simd::{Kernel, vectorize};
use crate::tape::{Output, record_one, recording};
use crate::vector::{Level, Vector};
use crate::{Init, Params};
use candle_core::{Result, Tensor, bail};

/// A trainable linear layer; state-dict names `weight` `(out, in)` and `bias` `(out)`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `(out, in)`.
    pub weight: Tensor,
    /// `(out)`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// A linear from `in_dim` to `out_dim` with weights drawn from `init` and, if asked for, a bias of zeros.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(
        in_dim: usize,
        out_dim: usize,
        init: Init,
        bias: Option<Init>,
        params: &Params,
    ) -> Result<Self> {
        let weight = params.trainable("weight", (out_dim, in_dim), init)?;
        let bias = bias.map(|init| params.trainable("bias", out_dim, init)).transpose()?;
        Ok(Self { weight, bias })
    }

    /// `(…, in)` to `(…, out)`.
    ///
    /// # Errors
    /// A last dimension other than `in`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        linear(xs, &self.weight, self.bias.as_ref())
    }

    /// [`forward`](Self::forward) with what is done before and after it ([`linear_around`]).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_around(&self, xs: &Tensor, around: Around<'_>) -> Result<Tensor> {
        linear_around(xs, &self.weight, self.bias.as_ref(), around)
    }
}

/// `y = x Wᵀ + b` with a gradient for each of the three that a variable leads to (`torch.nn.functional.linear`).
///
/// Kept for the backward: `x`, `W`.
///
/// # Shapes
/// - `xs` `(…, in)`, `weight` `(out, in)`, `bias` `(out)`
/// - output `(…, out)`
///
/// # Errors
/// Shapes that do not fit, a weight without rows or columns, or tensors that are not `f32` on the CPU.
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_kept(xs, xs.clone().into(), weight, bias)
}

/// [`linear`] that keeps `kept` for its backward instead of `x`: the same numbers, which can be made again.
///
/// # Errors
/// As [`linear`]. In the backward: those of making the input again, and another shape of it.
pub fn linear_kept(xs: &Tensor, kept: Kept, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out_dim, in_dim) = weight.dims2()?;
    check("linear", xs, in_dim, out_dim, bias)?;
    let (xs, weight) = (xs.contiguous()?, weight.contiguous()?);
    let precision = Precision::in_use();
    let ys = product("linear", precision, &xs, &weight, bias)?;
    let mut inputs = vec![&xs, &weight];
    inputs.extend(bias);
    let (has_bias, wants_x, wants_weight) = (bias.is_some(), xs.track_op(), weight.track_op());
    let (kept_weight, xs_shape) = (weight.clone(), xs.shape().clone());
    record_one("linear", &inputs, ys, move |grad| {
        let grad = grad.contiguous()?;
        let g = read("linear", &grad)?;
        let rows = g.len() / out_dim;
        let grad_xs =
            wants_x.then(|| input_gradient("linear", precision, &grad, &kept_weight)).transpose()?;
        let grad_weight = if wants_weight {
            let xs = kept.get_for("linear", &xs_shape)?;
            let x = read("linear", &xs)?;
            let (g, x) = (Matrix::new(&g, rows, out_dim), Matrix::new(&x, rows, in_dim));
            let dw = matmul_tall(precision, 1.0, g, x);
            Some(Tensor::from_vec(dw, (out_dim, in_dim), grad.device())?)
        } else {
            None
        };
        let mut grads = vec![grad_xs, grad_weight];
        if has_bias {
            grads.push(Some(Tensor::from_vec(column_sums(&g, out_dim), out_dim, grad.device())?));
        }
        Ok(grads)
    })
}

/// [`linear`] with what is done before and after it: in one pass where nothing is recorded.
///
/// # Errors
/// As [`linear`]; shapes around it that do not fit.
pub fn linear_around(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    around: Around<'_>,
) -> Result<Tensor> {
    const OP: &str = "linear";
    let others: Vec<&Tensor> = around.tensors().into_iter().chain(bias).collect();
    if recording(&[xs, weight]) || recording(&others) {
        let (us, kept) = around.before.recorded(xs)?;
        return around.finish(linear_kept(&us, kept, weight, bias)?);
    }
    let (out_dim, in_dim) = weight.dims2()?;
    check(OP, xs, in_dim, out_dim, bias)?;
    let mut shape = xs.dims().to_vec();
    *shape.last_mut().expect("the rank was checked") = out_dim;
    let packed = merged_weight(Precision::in_use(), weight, None)?;
    let ys = around.predict(OP, &packed, &xs.contiguous()?, bias, &shape)?;
    Output::new(ys, shape).plain(OP)
}

/// [`linear`] with some columns of a weight: `y = x W[:, first..first + in]ᵀ + b`, without a copy of them.
///
/// Kept for the backward: `x`, `W`.
///
/// # Shapes
/// - `xs` `(…, in)`, `weight` `(out, columns)`, `bias` `(out)`
/// - output `(…, out)`
///
/// # Errors
/// As [`linear`]; columns that the weight does not have.
pub fn linear_columns(xs: &Tensor, weight: &Tensor, first: usize, bias: Option<&Tensor>) -> Result<Tensor> {
    const OP: &str = "linear over columns";
    let (out_dim, columns) = weight.dims2()?;
    let in_dim = xs.dims().last().copied().unwrap_or(0);
    if first.checked_add(in_dim).is_none_or(|end| end > columns) {
        bail!(
            "{OP}: the input has shape {:?}, but from {first} on the weight takes {columns} features",
            xs.dims()
        );
    }
    check(OP, xs, in_dim, out_dim, bias)?;
    let (xs, weight) = (xs.contiguous()?, weight.contiguous()?);
    let rows = xs.elem_count() / in_dim;
    let precision = Precision::in_use();
    let ys = {
        let (x, w) = (read(OP, &xs)?, read(OP, &weight)?);
        let bias = bias.map(|bias| read(OP, bias)).transpose()?;
        let w = Matrix::new(&w, out_dim, columns).some_cols(first, in_dim);
        Factor::new(precision, rows, 1.0, w.t())
            .product(Matrix::new(&x, rows, in_dim), Start::bias(bias.as_deref()))
    };
    let mut shape = xs.dims().to_vec();
    *shape.last_mut().expect("the rank was checked") = out_dim;
    let mut inputs = vec![&xs, &weight];
    inputs.extend(bias);
    let has_bias = bias.is_some();
    let (kept_xs, kept_weight) = (xs.clone(), weight.clone());
    record_one(OP, &inputs, Output::new(ys, shape), move |grad| {
        let grad = grad.contiguous()?;
        let (g, x, w) = (read(OP, &grad)?, read(OP, &kept_xs)?, read(OP, &kept_weight)?);
        let matrix = Matrix::new(&g, rows, out_dim);
        let grad_xs = || {
            let w = Matrix::new(&w, out_dim, columns).some_cols(first, in_dim);
            let dx = Factor::new(precision, rows, 1.0, w).product(matrix, Start::Zero);
            Tensor::from_vec(dx, kept_xs.shape(), grad.device())
        };
        let grad_weight = || {
            let part = matmul_tall(precision, 1.0, matrix, Matrix::new(&x, rows, in_dim));
            let mut dw = vec![0f32; out_dim * columns];
            for (dw, part) in dw.chunks_exact_mut(columns).zip(part.chunks_exact(in_dim)) {
                dw[first..first + in_dim].copy_from_slice(part);
            }
            Tensor::from_vec(dw, (out_dim, columns), grad.device())
        };
        let mut grads = vec![
            kept_xs.track_op().then(grad_xs).transpose()?,
            kept_weight.track_op().then(grad_weight).transpose()?,
        ];
        if has_bias {
            grads.push(Some(Tensor::from_vec(column_sums(&g, out_dim), out_dim, grad.device())?));
        }
        Ok(grads)
    })
}

/// Refuses shapes that a linear cannot take, by name. No rows of an input are no trouble: the output has none either.
pub(crate) fn check(
    op: &'static str,
    xs: &Tensor,
    in_dim: usize,
    out_dim: usize,
    bias: Option<&Tensor>,
) -> Result<()> {
    if xs.dims().last() != Some(&in_dim) {
        bail!("{op}: the input has shape {:?}, but the weight takes {in_dim} features", xs.dims());
    }
    if in_dim == 0 || out_dim == 0 {
        bail!("{op}: a weight of shape [{out_dim}, {in_dim}] takes or gives no features");
    }
    if let Some(bias) = bias
        && bias.dims() != [out_dim]
    {
        bail!("{op}: the bias has shape {:?}, but the weight gives {out_dim} features", bias.dims());
    }
    Ok(())
}

/// `x Wᵀ + b` of contiguous tensors.
pub(crate) fn product(
    op: &'static str,
    precision: Precision,
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Output> {
    let (out_dim, in_dim) = weight.dims2()?;
    let bias = bias.map(|bias| read(op, bias)).transpose()?;
    let (x, w) = (read(op, xs)?, read(op, weight)?);
    let (x, w) = (Matrix::of_rows(&x, in_dim), Matrix::new(&w, out_dim, in_dim));
    let ys = Factor::new(precision, x.shape().0, 1.0, w.t()).product(x, Start::bias(bias.as_deref()));
    let mut shape = xs.dims().to_vec();
    *shape.last_mut().expect("the rank was checked") = out_dim;
    Ok(Output::new(ys, shape))
}

/// `g W`: what reaches the input.
pub(crate) fn input_gradient(
    op: &'static str,
    precision: Precision,
    grad: &Tensor,
    weight: &Tensor,
) -> Result<Tensor> {
    let (out_dim, in_dim) = weight.dims2()?;
    let (g, w) = (read(op, grad)?, read(op, weight)?);
    let (g, w) = (Matrix::of_rows(&g, out_dim), Matrix::new(&w, out_dim, in_dim));
    let dx = Factor::new(precision, g.shape().0, 1.0, w).product(g, Start::Zero);
    let mut shape = grad.dims().to_vec();
    *shape.last_mut().expect("a gradient has the rank of its output") = in_dim;
    Tensor::from_vec(dx, shape, grad.device())
}

/// Sums of the columns of a row-major matrix.
pub(crate) fn column_sums(matrix: &[f32], cols: usize) -> Vec<f32> {
    sum_blocks(matrix.len() / cols, cols, |first, last, sum| {
        vectorize(AddRows(&matrix[first * cols..last * cols], sum));
    })
}

struct AddRows<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(rows, sum) = self;
        for row in rows.chunks_exact(sum.len()) {
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrozenLinear;
    use crate::testing::{assert_close, assert_refused, gradcheck, named_tensor};
    use candle_core::Var;

    #[test]
    fn it_matches_the_composition_and_its_gradient_the_differences() {
        for (shape, out_dim) in [(vec![1, 1], 1), (vec![2, 3, 5], 7), (vec![131, 33], 65)] {
            let in_dim = *shape.last().unwrap();
            let xs = named_tensor("xs", shape, 0.0, 1.0).unwrap();
            let w = named_tensor("w", (out_dim, in_dim), 0.0, 0.5).unwrap();
            let b = named_tensor("b", out_dim, 0.0, 0.5).unwrap();
            let expected =
                xs.broadcast_matmul(&w.t().unwrap()).unwrap_or_else(|_| xs.matmul(&w.t().unwrap()).unwrap());
            let expected = expected.broadcast_add(&b).unwrap();
            assert_close("linear", &linear(&xs, &w, Some(&b)).unwrap(), &expected, 2e-6);
            let frozen = FrozenLinear::new(&w, Some(&b)).unwrap();
            assert_close("frozen", &frozen.forward(&xs).unwrap(), &expected, 2e-6);
            gradcheck("frozen", std::slice::from_ref(&xs), 1e-2, |i| frozen.forward(&i[0]));
            gradcheck("linear", &[xs, w, b], 1e-2, |i| linear(&i[0], &i[1], Some(&i[2])));
        }
    }

    #[test]
    fn some_columns_of_a_weight_are_those_of_narrow() {
        let tensor = |name: &str, shape: &[usize]| named_tensor(name, shape, 0.0, 1.0).unwrap();
        for (rows, in_dim, out_dim) in [(3, 2, 4), (70, 33, 50)] {
            let inputs =
                [tensor("xs", &[rows, in_dim]), tensor("w", &[out_dim, in_dim + 5]), tensor("b", &[out_dim])];
            let columns = inputs[1].narrow(1, 2, in_dim).unwrap().contiguous().unwrap();
            let expected = linear(&inputs[0], &columns, Some(&inputs[2])).unwrap();
            let found = linear_columns(&inputs[0], &inputs[1], 2, Some(&inputs[2])).unwrap();
            assert_close("columns", &found, &expected, 0.0);
            assert_refused(linear_columns(&inputs[0], &inputs[1], 6, None), &["from 6 on"]);
            if rows == 3 {
                gradcheck("columns", &inputs, 1e-2, |i| linear_columns(&i[0], &i[1], 2, Some(&i[2])));
            }
        }
    }

    #[test]
    fn a_frozen_weight_gets_no_gradient_even_from_a_variable() {
        let w = Var::from_tensor(&named_tensor("w", (4, 3), 0.0, 1.0).unwrap()).unwrap();
        let xs = Var::from_tensor(&named_tensor("xs", (2, 3), 0.0, 1.0).unwrap()).unwrap();
        let ys = FrozenLinear::new(&w, None).unwrap().forward(&xs).unwrap();
        let grads = ys.sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&xs).is_some() && grads.get(&w).is_none());
    }

    #[test]
    fn a_wrong_width_is_named() {
        let w = named_tensor("w", (4, 3), 0.0, 1.0).unwrap();
        let message =
            linear(&named_tensor("x", (2, 5), 0.0, 1.0).unwrap(), &w, None).unwrap_err().to_string();
        assert!(message.contains("[2, 5]") && message.contains("3 features"), "{message}");
    }
}
