//! What a linear does on its way over the rows, instead of operations of their own before and after it.

use crate::Mode;
use crate::activation::{InputActivation, gelu_kept};
use crate::batch_norm::{BatchNorm, RunningNorm};
use crate::host::{Slice, read};
use crate::kept::Kept;
use crate::layer_norm::{LAYER_NORM_EPS, LayerNorm, normalize_rows};
use crate::packed::Packed;
use crate::residual::{Residual, ResidualRows};
use crate::rows::make;
use candle_core::{Result, Tensor};
use std::borrow::Cow;

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
    /// GELU of an input that can be made again itself, and is not kept.
    GeluOf(&'a Kept),
    /// A LayerNorm. Where gradients are recorded it is an operation of its own, whose output is made again in the backward.
    LayerNorm(&'a LayerNorm),
    /// A LayerNorm of the input after a residual; likewise.
    AddNorm(&'a Residual, &'a LayerNorm),
    /// A BatchNorm by its running statistics ([`Mode::Eval`](crate::Mode::Eval)), then ReLU. Where gradients are recorded it is
    /// an operation of its own.
    BatchNormRelu(&'a BatchNorm),
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
        let before = match self.before {
            Before::Nothing | Before::Gelu | Before::GeluOf(_) => Vec::new(),
            Before::LayerNorm(norm) => vec![&norm.weight, &norm.bias],
            Before::AddNorm(residual, norm) => vec![residual.shortcut(), &norm.weight, &norm.bias],
            Before::BatchNormRelu(norm) => vec![&norm.weight, &norm.bias],
        };
        before.into_iter().chain(self.onto.map(Residual::shortcut)).collect()
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
        let before = self.before.rows(op, xs.dims())?;
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
            Self::Gelu | Self::GeluOf(_) => crate::gelu(xs),
            Self::LayerNorm(norm) => norm.forward(xs),
            Self::AddNorm(residual, norm) => norm.forward(&residual.add(xs)?),
            Self::BatchNormRelu(norm) => norm.forward_relu(xs, &Mode::Eval),
        }
    }

    /// What [`apply`](Self::apply) gives, and what a backward keeps of it: where it can be made again of the input, nothing
    /// but that.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn recorded(&self, xs: &Tensor) -> Result<(Tensor, Kept)> {
        let input = xs.clone();
        Ok(match *self {
            Self::Nothing => (input, xs.clone().into()),
            Self::Gelu => (crate::gelu(xs)?, Kept::again(move || crate::gelu(&input))),
            Self::GeluOf(kept) => {
                let us = gelu_kept(xs, kept.clone())?;
                let kept = kept.clone();
                (us, Kept::again(move || crate::gelu(&kept.get()?)))
            }
            Self::LayerNorm(norm) => {
                let us = norm.forward(xs)?;
                let norm = norm.clone();
                (us, Kept::again(move || norm.forward(&input)))
            }
            Self::AddNorm(residual, norm) => {
                let (sum, summand) = (residual.add(xs)?, residual.clone());
                let kept = Kept::again(move || summand.add(&input));
                let us = norm.forward_kept(&sum, kept.clone())?;
                let norm = norm.clone();
                (us, Kept::again(move || norm.forward(&kept.get()?)))
            }
            Self::BatchNormRelu(_) => {
                let us = self.apply(xs)?;
                (us.clone(), us.into())
            }
        })
    }

    /// As kernels that record nothing take it, for an input of those `dims`.
    pub(crate) fn rows(&self, op: &'static str, dims: &[usize]) -> Result<RowsBefore<'_>> {
        let (residual, norm) = match self {
            Self::Nothing => return Ok(RowsBefore::Activation(InputActivation::Identity)),
            Self::Gelu | Self::GeluOf(_) => return Ok(RowsBefore::Activation(InputActivation::Gelu)),
            Self::LayerNorm(norm) => (None, norm),
            Self::AddNorm(residual, norm) => (Some(residual.rows(op, dims)?), norm),
            Self::BatchNormRelu(norm) => return Ok(RowsBefore::Affine(norm.running(op, dims)?)),
        };
        norm.check(op, dims)?;
        Ok(RowsBefore::Norm { residual, weight: read(op, &norm.weight)?, bias: read(op, &norm.bias)? })
    }
}

/// [`Before`] for rows in the cache.
pub(crate) enum RowsBefore<'a> {
    Activation(InputActivation),
    Norm { residual: Option<ResidualRows<'a>>, weight: Slice<'a>, bias: Slice<'a> },
    Affine(RunningNorm),
}

impl RowsBefore<'_> {
    /// What it makes of all rows, of `width` numbers each.
    pub(crate) fn whole<'a>(&self, xs: &'a [f32], width: usize) -> Cow<'a, [f32]> {
        match self {
            Self::Activation(InputActivation::Identity) => Cow::Borrowed(xs),
            _ => Cow::Owned(make(xs.len(), width, |first, us| {
                let start = first * width;
                us.copy_from_slice(self.of(start, &xs[start..][..us.len()], &mut Vec::new()));
            })),
        }
    }

    /// What it makes of `xs`, which begin at `start` of their tensor, in `space` where that is needed.
    pub(crate) fn of<'a>(&self, start: usize, xs: &'a [f32], space: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            Self::Activation(activation) => activation.of(xs, space),
            Self::Norm { residual: None, weight, bias } => {
                space.resize(xs.len(), 0.0);
                normalize_rows(xs, weight, bias, LAYER_NORM_EPS, space);
                space
            }
            Self::Norm { residual: Some(residual), weight, bias } => {
                space.resize(2 * xs.len(), 0.0);
                let (sum, normal) = space.split_at_mut(xs.len());
                sum.copy_from_slice(xs);
                residual.add_to(start, sum);
                normalize_rows(sum, weight, bias, LAYER_NORM_EPS, normal);
                normal
            }
            Self::Affine(norm) => {
                space.resize(xs.len(), 0.0);
                norm.relu(xs, space);
                space
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_refused, named_tensor};
    use crate::{DropoutMask, FrozenLinear, Linear, LowRankUpdate, linear_around, low_rank_linear, no_grad};
    use candle_core::Var;

    /// A linear with all that can be around it.
    struct Case {
        xs: Tensor,
        linear: Linear,
        norm: LayerNorm,
        running: BatchNorm,
        /// Of fewer samples than the input.
        summand: Residual,
        onto: Residual,
    }

    /// From `inner` to `outer` features, of samples of `h` rows.
    fn case(h: usize, inner: usize, outer: usize) -> Case {
        let tensor = |name: &str, shape: &[usize]| named_tensor(name, shape, 0.2, 1.0).unwrap();
        let factors = vec![0.0, 1.0, 2.0, 3.0, 0.0, 0.5];
        Case {
            xs: tensor("xs", &[6, h, 5, inner]),
            linear: Linear { weight: tensor("w", &[outer, inner]), bias: Some(tensor("b", &[outer])) },
            norm: LayerNorm { weight: tensor("scale", &[inner]), bias: tensor("shift", &[inner]) },
            running: BatchNorm {
                weight: tensor("scale", &[inner]),
                bias: tensor("shift", &[inner]),
                running_mean: Var::from_tensor(&tensor("mean", &[inner])).unwrap(),
                running_var: Var::from_tensor(&tensor("variance", &[inner]).sqr().unwrap()).unwrap(),
            },
            summand: Residual::new(&tensor("summand", &[2, h, 5, inner]), None).unwrap(),
            onto: Residual::new(&tensor("onto", &[3, h, 5, outer]), Some(factors)).unwrap(),
        }
    }

    #[test]
    fn one_pass_gives_what_operations_of_their_own_give() {
        // Blocks of rows that end within samples.
        check_one_pass(case(37, 33, 17));
    }

    #[test]
    fn so_does_a_matrix_that_outweighs_the_rows() {
        check_one_pass(case(7, 300, 1800));
    }

    #[track_caller]
    fn check_one_pass(case: Case) {
        let Case { xs, linear, norm, running, summand, onto } = case;
        let packed = FrozenLinear::new(&linear.weight, linear.bias.as_ref()).unwrap().packed(None).unwrap();
        for before in [
            Before::Nothing,
            Before::Gelu,
            Before::LayerNorm(&norm),
            Before::AddNorm(&summand, &norm),
            Before::BatchNormRelu(&running),
        ] {
            for onto in [None, Some(&onto)] {
                let around = Around { before, onto };
                let expected = around.finish(linear.forward(&before.apply(&xs).unwrap()).unwrap()).unwrap();
                let name = format!("{before:?}");
                assert_close(&name, &packed.forward_around(&xs, around).unwrap(), &expected, 5e-6);
                let passed = || linear_around(&xs, &linear.weight, linear.bias.as_ref(), around);
                assert_close(&name, &no_grad(passed).unwrap(), &expected, 5e-6);
            }
        }
    }

    /// Gradients of `f` at `inputs`, for a cotangent that is the same each time.
    fn gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
        let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
        let ys = f(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>()).unwrap();
        let cotangent = named_tensor("cotangent", ys.shape(), 0.0, 1.0).unwrap();
        let grads = (ys * cotangent).unwrap().sum_all().unwrap().backward().unwrap();
        vars.iter().map(|var| grads.get(var).cloned().unwrap_or_else(|| var.zeros_like().unwrap())).collect()
    }

    /// Names of the cases of [`with_before`].
    const BEFORE: [&str; 6] =
        ["nothing", "gelu", "gelu of what is made again", "layer norm", "add and norm", "batch norm"];

    /// Calls `f` with the input and what comes before a linear: `i` are `xs`, scale, shift and summand.
    fn with_before(
        name: &str,
        i: &[Tensor],
        f: impl Fn(&Tensor, Before<'_>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let norm = LayerNorm { weight: i[1].clone(), bias: i[2].clone() };
        match name {
            "nothing" => f(&i[0], Before::Nothing),
            "gelu" => f(&i[0], Before::Gelu),
            "gelu of what is made again" => {
                let inner = i[0].clone();
                let kept = Kept::again(move || crate::relu(&inner));
                f(&crate::relu(&i[0])?, Before::GeluOf(&kept))
            }
            "layer norm" => f(&i[0], Before::LayerNorm(&norm)),
            "add and norm" => f(&i[0], Before::AddNorm(&Residual::new(&i[3], None)?, &norm)),
            _ => {
                let running = |x| Var::from_tensor(&named_tensor("running", i[1].shape(), x, 0.1).unwrap());
                let (mean, variance) = (running(0.0)?, running(1.0)?);
                let (weight, bias) = (i[1].clone(), i[2].clone());
                let norm = BatchNorm { weight, bias, running_mean: mean, running_var: variance };
                f(&i[0], Before::BatchNormRelu(&norm))
            }
        }
    }

    /// A layer around which things are done: of all inputs, its own and what is around it.
    type Layer<'a> = &'a dyn Fn(&[Tensor], &Tensor, Around<'_>) -> Result<Tensor>;

    /// Compares gradients with those of the layer alone between operations of their own.
    #[track_caller]
    fn check_gradients(what: &str, inputs: &[Tensor], layer: Layer<'_>) {
        // Dropped samples, a shortcut of fewer samples, and none.
        let end = |i: &[Tensor]| Residual::new(&i[4], Some(vec![0.0, 1.0, 2.0, 3.0, 0.0, 0.5]));
        for (name, ends) in BEFORE.into_iter().flat_map(|name| [(name, false), (name, true)]) {
            let fused = |i: &[Tensor]| {
                let end = end(i)?;
                let onto = ends.then_some(&end);
                with_before(name, i, |xs, before| layer(i, xs, Around { before, onto }))
            };
            let composed = |i: &[Tensor]| {
                let alone = |us: &Tensor| layer(i, us, Around::default());
                let ys = with_before(name, i, |xs, before| alone(&before.apply(xs)?))?;
                if ends { end(i)?.add(&ys) } else { Ok(ys) }
            };
            let (found, expected) = (gradients(inputs, fused), gradients(inputs, composed));
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_close(&format!("{what}, {name}, {ends}: input {at}"), found, expected, 1e-5);
            }
            let moved = expected[0].abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(moved > 0.1, "{what}, {name}: no gradient at all");
        }
    }

    #[test]
    fn recorded_gradients_are_those_of_operations_of_their_own() {
        let Case { xs, linear, norm, summand, onto, .. } = case(7, 12, 9);
        let frozen = FrozenLinear::new(&linear.weight, linear.bias.as_ref()).unwrap();
        let mask = DropoutMask::draw(0.3, &mut Mode::Train(&mut crate::Rng::named(0, "mask", 0))).unwrap();
        let inputs = [
            xs,
            norm.weight,
            norm.bias,
            summand.shortcut().clone(),
            onto.shortcut().clone(),
            linear.weight,
            linear.bias.unwrap(),
            named_tensor("down", (3, 12), 0.0, 1.0).unwrap(),
            named_tensor("up", (9, 3), 0.0, 1.0).unwrap(),
        ];
        check_gradients("linear", &inputs, &|i, xs, around| linear_around(xs, &i[5], Some(&i[6]), around));
        check_gradients("low-rank linear", &inputs, &|i, xs, around| {
            low_rank_linear(xs, around, &frozen, &LowRankUpdate { down: &i[7], up: &i[8], scale: 2.0, mask })
        });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let Case { xs, linear, norm, summand, onto, .. } = case(37, 33, 17);
        let narrow = xs.narrow(3, 0, 32).unwrap();
        for around in [
            Around::after(Before::LayerNorm(&LayerNorm { bias: linear.weight.clone(), ..norm.clone() })),
            Around::after(Before::AddNorm(&onto, &norm)),
            Around::onto(&summand),
        ] {
            let message = linear_around(&xs, &linear.weight, None, around).unwrap_err().to_string();
            assert!(message.contains("do not fit"), "{message}");
        }
        let refused = linear_around(&narrow, &linear.weight, None, Around::default());
        assert_refused(refused, &["[6, 37, 5, 32]", "33 features"]);
    }
}
