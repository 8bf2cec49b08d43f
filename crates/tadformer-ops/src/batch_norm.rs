//! BatchNorm over all rows of channels-last features, with a backward for both modes.

use crate::host::read;
use crate::kept::Kept;
use crate::rows::{make, sum_blocks};
use crate::simd::{Kernel, mul_add, vectorize};
use crate::tape::{Output, record_one};
use crate::vector::{Level, Vector};
use crate::{Init, Mode, Params};
use candle_core::{Device, Result, Tensor, Var, bail};
use rayon::prelude::*;

/// Added to the variance.
pub const BATCH_NORM_EPS: f32 = 1e-5;
/// The share of the batch's statistics in the new running ones.
pub const BATCH_NORM_MOMENTUM: f32 = 0.1;

/// A BatchNorm over the last dimension; state-dict names `weight`, `bias`, `running_mean` and `running_var`, all `(c)`.
///
/// `torch.nn.BatchNorm2d` for channels-last tokens: [`Mode::Train`] normalises by the batch's own mean and biased
/// variance and moves the running statistics a tenth of the way (the variance unbiased), [`Mode::Eval`] normalises by the
/// running statistics.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// Scale, `(c)`.
    pub weight: Tensor,
    /// Shift, `(c)`.
    pub bias: Tensor,
    /// Running mean, `(c)`.
    pub running_mean: Var,
    /// Running unbiased variance, `(c)`.
    pub running_var: Var,
}

impl BatchNorm {
    /// A BatchNorm of `dim` features: scale 1, shift 0, running mean 0 and variance 1.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(dim: usize, params: &Params) -> Result<Self> {
        Ok(Self {
            weight: params.trainable("weight", dim, Init::ONES)?,
            bias: params.trainable("bias", dim, Init::ZEROS)?,
            running_mean: params.buffer("running_mean", dim, Init::ZEROS)?,
            running_var: params.buffer("running_var", dim, Init::ONES)?,
        })
    }

    /// `(…, c)` to the same shape; in training the running statistics are updated.
    ///
    /// # Errors
    /// A last dimension other than `c`, tensors of the layer that differ in length, or fewer than two rows in training.
    pub fn forward(&self, xs: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let xs = xs.contiguous()?;
        let (moments, own) = self.moments(&xs, mode)?;
        normalize::<false>(&xs, &self.weight, &self.bias, moments, own)
    }

    /// [`relu`](crate::relu) of [`forward`](Self::forward) in one pass, the same bits: nothing lies between the two, and
    /// which numbers were cut off is computed again in the backward.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_relu(&self, xs: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        Ok(self.forward_relu_kept(xs, mode)?.0)
    }

    /// [`forward_relu`](Self::forward_relu), and what a backward keeps of it: it is made again of the input.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_relu_kept(&self, xs: &Tensor, mode: &Mode<'_>) -> Result<(Tensor, Kept)> {
        let xs = xs.contiguous()?;
        let (moments, own) = self.moments(&xs, mode)?;
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        let make = move || normalize::<true>(&xs, &weight, &bias, moments.clone(), own);
        Ok((make()?, Kept::again(make)))
    }

    /// What it does to rows of an input of those `dims` by its running statistics, for kernels that record nothing.
    pub(crate) fn running(&self, op: &'static str, dims: &[usize]) -> Result<RunningNorm> {
        self.check(op, dims)?;
        let (weight, variance) = (read(op, &self.weight)?, read(op, &self.running_var)?);
        let scale = weight.iter().zip(&*variance).map(|(w, v)| w * (1.0 / (v + BATCH_NORM_EPS).sqrt()));
        Ok(RunningNorm {
            mean: read(op, &self.running_mean)?.to_vec(),
            scale: scale.collect(),
            bias: read(op, &self.bias)?.to_vec(),
        })
    }

    /// The number of features, where an input of those `dims` has as many, and so has all that the layer holds.
    fn check(&self, op: &'static str, dims: &[usize]) -> Result<usize> {
        let c = self.weight.dims1()?;
        if dims.last() != Some(&c) || c == 0 {
            bail!("{op}: the input has shape {dims:?}, but the layer takes {c} features");
        }
        let (bias, mean, variance) = (self.bias.dims(), self.running_mean.dims(), self.running_var.dims());
        if [bias, mean, variance].iter().any(|dims| *dims != [c]) {
            bail!(
                "{op}: weight [{c}], bias {bias:?}, running mean {mean:?} and running variance {variance:?} do not fit"
            );
        }
        Ok(c)
    }

    /// Mean and variance to normalise by, and whether they are those of `xs` itself; running ones are updated in training.
    fn moments(&self, xs: &Tensor, mode: &Mode<'_>) -> Result<(Moments, bool)> {
        let c = self.check(OP, xs.dims())?;
        let rows = xs.elem_count() / c;
        if matches!(mode, Mode::Eval) {
            let moments = Moments {
                mean: read(OP, &self.running_mean)?.to_vec(),
                variance: read(OP, &self.running_var)?.to_vec(),
            };
            return Ok((moments, false));
        }
        if rows < 2 {
            bail!(
                "{OP}: the input has shape {:?}, but fewer than two rows have no variance; train on larger batches or images",
                xs.dims()
            );
        }
        let moments = Moments::of(&read(OP, xs)?, c);
        let unbiased = rows as f32 / (rows - 1) as f32;
        update(&self.running_mean, moments.mean.iter().copied())?;
        update(&self.running_var, moments.variance.iter().map(|v| v * unbiased))?;
        Ok((moments, true))
    }
}

const OP: &str = "batch norm";

fn update(running: &Var, batch: impl Iterator<Item = f32>) -> Result<()> {
    let new: Vec<f32> = read(OP, running)?
        .iter()
        .zip(batch)
        .map(|(old, new)| old + BATCH_NORM_MOMENTUM * (new - old))
        .collect();
    running.set(&Tensor::from_vec(new, running.shape(), &Device::Cpu)?)
}

/// `y = (x − mean) / √(variance + eps) · weight + bias` for rows `x`, or with `RELU` what of it
/// is positive.
///
/// `own` says that the moments are those of `xs` itself, so that gradients flow through them too. Kept for the backward:
/// `x`, the moments, `weight`, `bias`.
fn normalize<const RELU: bool>(
    xs: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    moments: Moments,
    own: bool,
) -> Result<Tensor> {
    let c = moments.mean.len();
    let mean = moments.mean;
    let rstd: Vec<f32> = moments.variance.iter().map(|v| 1.0 / (v + BATCH_NORM_EPS).sqrt()).collect();
    let ys = {
        let (x, w, b) = (read(OP, xs)?, read(OP, weight)?, read(OP, bias)?);
        let scale: Vec<f32> = w.iter().zip(&rstd).map(|(w, r)| w * r).collect();
        make(xs.elem_count(), c, |first, block| {
            let x = &x[first * c..][..block.len()];
            vectorize(ForwardRows::<RELU>(x, &mean, &scale, &b, block));
        })
    };
    let (kept, kept_weight, kept_bias) = (xs.clone(), weight.clone(), bias.clone());
    record_one(OP, &[xs, weight, bias], Output::new(ys, xs.shape()), move |grad| {
        let grad = grad.contiguous()?;
        let (x, g) = (read(OP, &kept)?, read(OP, &grad)?);
        let (w, b) = (read(OP, &kept_weight)?, read(OP, &kept_bias)?);
        let scale: Vec<f32> = w.iter().zip(&rstd).map(|(w, r)| w * r).collect();
        let rows = x.len() / c;
        let sums = sum_blocks(rows, 2 * c, |first, last, sum| {
            let range = first * c..last * c;
            vectorize(ParameterRows::<RELU>(&x[range.clone()], &g[range], &mean, &scale, &b, sum));
        });
        let (dnormal, dbias) = sums.split_at(c);
        let dweight: Vec<f32> = dnormal.iter().zip(&rstd).map(|(sum, r)| sum * r).collect();
        let grad_xs = if kept.track_op() {
            // What the batch's own mean and variance take away: `offset + slope · (x − mean)`.
            let n = rows as f32;
            let part = |of: f32| if own { of / n } else { 0.0 };
            let offset: Vec<f32> = dbias.iter().map(|&sum| part(sum)).collect();
            let slope: Vec<f32> = dweight.iter().zip(&rstd).map(|(&sum, r)| part(sum) * r).collect();
            let dx = make(x.len(), c, |first, block| {
                let range = first * c..first * c + block.len();
                let (x, g) = (&x[range.clone()], &g[range]);
                vectorize(BackwardRows::<RELU>(x, g, &mean, &scale, &b, &offset, &slope, block));
            });
            Some(Tensor::from_vec(dx, kept.shape(), grad.device())?)
        } else {
            None
        };
        let parameter = |values: &[f32]| Tensor::from_slice(values, c, grad.device());
        Ok(vec![grad_xs, Some(parameter(&dweight)?), Some(parameter(dbias)?)])
    })
}

/// `(x − mean) · scale + bias` of rows that are in the cache.
pub(crate) struct RunningNorm {
    mean: Vec<f32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl RunningNorm {
    /// What of it is positive.
    pub(crate) fn relu(&self, xs: &[f32], ys: &mut [f32]) {
        vectorize(ForwardRows::<true>(xs, &self.mean, &self.scale, &self.bias, ys));
    }
}

struct ForwardRows<'a, const RELU: bool>(&'a [f32], &'a [f32], &'a [f32], &'a [f32], &'a mut [f32]);

impl<const RELU: bool> Kernel for ForwardRows<'_, RELU> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, mean, scale, bias, ys) = self;
        let c = mean.len();
        let (scale, bias) = (&scale[..c], &bias[..c]);
        for (x, y) in xs.chunks_exact(c).zip(ys.chunks_exact_mut(c)) {
            for i in 0..c {
                let value = mul_add::<V>(x[i] - mean[i], scale[i], bias[i]);
                // A NaN is neither and stays.
                y[i] = if RELU && value <= 0.0 { 0.0 } else { value };
            }
        }
    }
}

/// The gradient of the normalised and scaled number: with `RELU`, 0 where the forward cut it off.
#[inline(always)]
fn pass<V: Vector, const RELU: bool>(grad: f32, centred: f32, scale: f32, bias: f32) -> f32 {
    if RELU && mul_add::<V>(centred, scale, bias) <= 0.0 { 0.0 } else { grad }
}

/// Adds `g · (x − mean)` to the first half of `sum` and `g` to the second.
struct ParameterRows<'a, const RELU: bool>(
    &'a [f32],
    &'a [f32],
    &'a [f32],
    &'a [f32],
    &'a [f32],
    &'a mut [f32],
);

impl<const RELU: bool> Kernel for ParameterRows<'_, RELU> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, grads, mean, scale, bias, sum) = self;
        let c = mean.len();
        let (dnormal, dbias) = sum.split_at_mut(c);
        let (scale, bias, dbias) = (&scale[..c], &bias[..c], &mut dbias[..c]);
        for (x, g) in xs.chunks_exact(c).zip(grads.chunks_exact(c)) {
            for i in 0..c {
                let centred = x[i] - mean[i];
                let g = pass::<V, RELU>(g[i], centred, scale[i], bias[i]);
                dnormal[i] += g * centred;
                dbias[i] += g;
            }
        }
    }
}

/// `dx = scale · (g − offset − slope · (x − mean))`.
struct BackwardRows<'a, const RELU: bool>(
    &'a [f32],
    &'a [f32],
    &'a [f32],
    &'a [f32],
    &'a [f32],
    &'a [f32],
    &'a [f32],
    &'a mut [f32],
);

impl<const RELU: bool> Kernel for BackwardRows<'_, RELU> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(xs, grads, mean, scale, bias, offset, slope, dxs) = self;
        let c = mean.len();
        let (scale, bias, offset, slope) = (&scale[..c], &bias[..c], &offset[..c], &slope[..c]);
        for ((x, g), dx) in xs.chunks_exact(c).zip(grads.chunks_exact(c)).zip(dxs.chunks_exact_mut(c)) {
            for i in 0..c {
                let centred = x[i] - mean[i];
                let g = pass::<V, RELU>(g[i], centred, scale[i], bias[i]);
                dx[i] = scale[i] * (g - offset[i] - slope[i] * centred);
            }
        }
    }
}

/// Mean and biased variance of each feature.
#[derive(Clone)]
struct Moments {
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl Moments {
    /// Of the rows of `xs`, read from memory once: each block of rows is averaged, then its squared deviations are added
    /// while it is in the cache; blocks are merged by Chan's formula in `f64`, in their order.
    fn of(xs: &[f32], c: usize) -> Self {
        const BLOCK: usize = 64;
        let parts: Vec<(Vec<f32>, usize)> = xs
            .par_chunks(BLOCK * c)
            .map(|block| {
                let mut part = vec![0f32; 2 * c];
                vectorize(BlockMoments(block, &mut part));
                (part, block.len() / c)
            })
            .collect();
        let (mut mean, mut squares, mut n) = (vec![0f64; c], vec![0f64; c], 0f64);
        for (part, rows) in parts {
            let rows = rows as f64;
            let total = n + rows;
            for i in 0..c {
                let delta = f64::from(part[i]) - mean[i];
                mean[i] += delta * rows / total;
                squares[i] += f64::from(part[c + i]) + delta * delta * n * rows / total;
            }
            n = total;
        }
        Self {
            mean: mean.into_iter().map(|m| m as f32).collect(),
            variance: squares.into_iter().map(|s| (s / n) as f32).collect(),
        }
    }
}

/// Writes the mean of each column to the first half of `part` (all zeros) and its squared deviations to the second.
struct BlockMoments<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for BlockMoments<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(block, part) = self;
        let (mean, squares) = part.split_at_mut(part.len() / 2);
        let c = mean.len();
        let squares = &mut squares[..c];
        for x in block.chunks_exact(c) {
            for i in 0..c {
                mean[i] += x[i];
            }
        }
        let rows = (block.len() / c) as f32;
        for m in mean.iter_mut() {
            *m /= rows;
        }
        for x in block.chunks_exact(c) {
            for i in 0..c {
                squares[i] += (x[i] - mean[i]) * (x[i] - mean[i]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{GoldenStore, assert_close, gradcheck, named_tensor};
    use crate::{ParamStore, Rng};

    fn layer(c: usize) -> BatchNorm {
        BatchNorm::new(c, &GoldenStore::new().params()).unwrap()
    }

    fn composed(xs: &Tensor, layer: &BatchNorm, mean: &Tensor, variance: &Tensor) -> Tensor {
        let normal = xs.broadcast_sub(mean).unwrap();
        let deviation = (variance + f64::from(BATCH_NORM_EPS)).unwrap().sqrt().unwrap();
        let normal = normal.broadcast_div(&deviation).unwrap();
        normal.broadcast_mul(&layer.weight).unwrap().broadcast_add(&layer.bias).unwrap()
    }

    #[test]
    fn a_linear_that_makes_its_input_again_has_the_same_gradients() {
        let [xs, weight, bias, next] =
            [("xs", vec![40, 6]), ("weight", vec![6]), ("bias", vec![6]), ("next", vec![3, 6])].map(
                |(name, shape)| Var::from_tensor(&named_tensor(name, shape, 0.3, 1.0).unwrap()).unwrap(),
            );
        let store = ParamStore::new(0);
        let norm = BatchNorm {
            weight: weight.as_tensor().clone(),
            bias: bias.as_tensor().clone(),
            ..BatchNorm::new(6, &store.params()).unwrap()
        };
        let mut rng = Rng::named(0, "norm", 0);
        let mut gradients = |again: bool| {
            let (us, kept) = norm.forward_relu_kept(&xs, &Mode::Train(&mut rng)).unwrap();
            let kept = if again { kept } else { us.clone().into() };
            let ys = crate::linear_kept(&us, kept, &next, None).unwrap();
            let grads = ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            [&xs, &weight, &bias, &next].map(|var| grads.get(var).unwrap().clone())
        };
        let (found, expected) = (gradients(true), gradients(false));
        for (found, expected) in found.iter().zip(&expected) {
            assert_close("gradient", found, expected, 0.0);
        }
    }

    #[test]
    fn training_matches_the_composition_and_moves_the_running_statistics() {
        for shape in [vec![2, 1, 1, 3], vec![3, 5, 7, 33], vec![130, 17]] {
            let c = *shape.last().unwrap();
            let rows = shape.iter().product::<usize>() / c;
            let layer = layer(c);
            let xs = named_tensor("xs", shape, 0.5, 2.0).unwrap();
            let flat = xs.reshape((rows, c)).unwrap();
            let mean = flat.mean(0).unwrap();
            let variance = flat.broadcast_sub(&mean).unwrap().sqr().unwrap().mean(0).unwrap();
            let moved =
                |old: &Var, new: &Tensor| ((old.as_tensor() * 0.9).unwrap() + (new * 0.1).unwrap()).unwrap();
            let unbiased = (&variance * (rows as f64 / (rows - 1) as f64)).unwrap();
            let expected_mean = moved(&layer.running_mean, &mean);
            let expected_var = moved(&layer.running_var, &unbiased);
            let ys = layer.forward(&xs, &Mode::Train(&mut Rng::named(0, "", 0))).unwrap();
            assert_close("train", &ys, &composed(&xs, &layer, &mean, &variance), 3e-6);
            assert_close("running mean", &layer.running_mean, &expected_mean, 1e-6);
            assert_close("running variance", &layer.running_var, &expected_var, 1e-6);
        }
    }

    #[test]
    fn evaluation_uses_the_running_statistics_and_leaves_them() {
        let layer = layer(19);
        let before = layer.running_var.as_tensor().copy().unwrap();
        let xs = named_tensor("xs", (70, 19), 0.5, 2.0).unwrap();
        let expected = composed(&xs, &layer, &layer.running_mean, &layer.running_var);
        assert_close("eval", &layer.forward(&xs, &Mode::Eval).unwrap(), &expected, 2e-6);
        assert_close("running variance", &layer.running_var, &before, 0.0);
        // A single row is no trouble here.
        layer.forward(&xs.narrow(0, 3, 1).unwrap(), &Mode::Eval).unwrap();
    }

    #[test]
    fn gradients_are_those_of_the_differences_in_both_modes() {
        let base = layer(5);
        let inputs =
            [named_tensor("xs", (2, 3, 3, 5), 0.5, 2.0).unwrap(), base.weight.detach(), base.bias.detach()];
        for train in [false, true] {
            gradcheck("batch norm", &inputs, 1e-2, |i| {
                let layer = BatchNorm { weight: i[1].clone(), bias: i[2].clone(), ..base.clone() };
                let mut rng = Rng::named(0, "", 0);
                layer.forward(&i[0], &if train { Mode::Train(&mut rng) } else { Mode::Eval })
            });
        }
    }

    #[test]
    fn with_relu_in_the_same_pass_values_and_gradients_are_those_of_the_two() {
        let mut rng = Rng::named(0, "", 0);
        for mode in [Mode::Eval, Mode::Train(&mut rng)] {
            let run = |fused: bool| {
                let layer = layer(37);
                let xs = Var::from_tensor(&named_tensor("xs", (150, 37), 0.2, 2.0).unwrap()).unwrap();
                let ys = if fused {
                    layer.forward_relu(&xs, &mode).unwrap()
                } else {
                    crate::relu(&layer.forward(&xs, &mode).unwrap()).unwrap()
                };
                let cotangent = named_tensor("cotangent", ys.shape(), 0.0, 1.0).unwrap();
                let grads = (&ys * cotangent).unwrap().sum_all().unwrap().backward().unwrap();
                let mut found = vec![ys];
                for input in [xs.as_tensor(), &layer.weight, &layer.bias] {
                    found.push(grads.get(input).unwrap().clone());
                }
                found
            };
            for (found, expected) in run(true).iter().zip(&run(false)) {
                assert_close("batch norm and relu", found, expected, 0.0);
            }
        }
    }

    #[test]
    fn a_large_mean_does_not_swallow_the_variance() {
        let xs = named_tensor("xs", (1000, 3), 1000.0, 1.0).unwrap();
        let values: Vec<f32> = xs.flatten_all().unwrap().to_vec1().unwrap();
        let moments = Moments::of(&values, 3);
        for i in 0..3 {
            let column: Vec<f64> = values[i..].iter().step_by(3).map(|&x| f64::from(x)).collect();
            let mean = column.iter().sum::<f64>() / 1000.0;
            let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0;
            assert!((f64::from(moments.variance[i]) - variance).abs() < 1e-4 * variance);
        }
    }

    #[test]
    fn a_single_row_in_training_and_a_wrong_width_are_named() {
        let layer = BatchNorm::new(4, &ParamStore::new(0).params()).unwrap();
        let mut rng = Rng::named(0, "", 0);
        let one = named_tensor("xs", (1, 1, 1, 4), 0.0, 1.0).unwrap();
        let message = layer.forward(&one, &Mode::Train(&mut rng)).unwrap_err().to_string();
        assert!(message.contains("[1, 1, 1, 4]") && message.contains("fewer than two rows"), "{message}");
        let wide = named_tensor("xs", (2, 5), 0.0, 1.0).unwrap();
        let message = layer.forward(&wide, &Mode::Eval).unwrap_err().to_string();
        assert!(message.contains("[2, 5]") && message.contains("4 features"), "{message}");
        let uneven = BatchNorm { bias: layer.bias.narrow(0, 0, 3).unwrap(), ..layer };
        for mode in [Mode::Eval, Mode::Train(&mut rng)] {
            let found = uneven.forward(&named_tensor("xs", (2, 4), 0.0, 1.0).unwrap(), &mode);
            crate::testing::assert_refused(found, &["weight [4], bias [3]"]);
        }
    }
}
