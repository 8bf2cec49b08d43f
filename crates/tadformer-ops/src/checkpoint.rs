//! Activation checkpointing: a part of a network runs twice, so that what it needs for its backward is not kept meanwhile.
//!
//! Chen et al., *Training Deep Nets with Sublinear Memory Cost* (arXiv 1604.06174); `torch.utils.checkpoint`.

use crate::autocast::{Precision, autocast};
use crate::host::read;
use crate::rng::{Mode, Rng};
use crate::rows::make;
use crate::tape::{
    InputGrads, Output, OutputGrads, no_grad, record_all, record_one, recording, with_gradients,
};
use candle_core::{DType, Result, Tensor, Var, bail};
use std::sync::{Arc, Mutex, PoisonError};

const OP: &str = "checkpoint";

/// Numbers side by side when outputs are copied.
const STRIP: usize = 64;

/// `f(inputs, mode)`, of which nothing but the inputs is kept: in the backward `f` runs a second time, on a tape of its own
/// that lives for the length of that backward.
///
/// `parameters` are the variables that `f` uses besides its inputs; one that is not among them gets no gradient from
/// here. The second run draws the same random numbers as the first, in the same precision, and the stream of `mode` goes
/// on as if there had been one run: losses are those of `f` itself to the last bit, gradients to rounding (what several
/// functions use gets a sum, whose order may be another one on the second tape).
///
/// `f` has no effect but its outputs: a BatchNorm in it would update its running statistics twice. It runs only once where
/// no variable leads to inputs or parameters and under [`no_grad`], and so in the first run of another checkpointed part.
///
/// Kept for the backward: the inputs and the state of the random stream. Computed again: everything else. The outputs are
/// copied once, and in the backward the inputs.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use tadformer_ops::{Mode, checkpoint, gelu, linear};
/// let weight = Var::new(&[[1f32, -2.], [3., 0.5]], &Device::Cpu)?;
/// let xs = Tensor::new(&[[0.3f32, 0.7]], &Device::Cpu)?;
/// let own = weight.as_tensor().clone();
/// let ys = checkpoint(&[&xs], &[own.clone()], &mut Mode::Eval, move |inputs, _| {
///     Ok(vec![gelu(&linear(&inputs[0], &own, None)?)?])
/// })?;
/// assert!(ys[0].sum_all()?.backward()?.get(&weight).is_some());
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// Those of `f`, of either run; an output that is not `f32` on the CPU; a second run with another number of outputs.
pub fn checkpoint(
    inputs: &[&Tensor],
    parameters: &[Tensor],
    mode: &mut Mode<'_>,
    f: impl Fn(&[Tensor], &mut Mode<'_>) -> Result<Vec<Tensor>> + Send + 'static,
) -> Result<Vec<Tensor>> {
    let tied: Vec<&Tensor> = inputs.iter().copied().chain(parameters).collect();
    if !recording(&tied) {
        let inputs: Vec<Tensor> = inputs.iter().map(|input| (*input).clone()).collect();
        return f(&inputs, mode);
    }
    let rng = match mode {
        Mode::Eval => None,
        Mode::Train(rng) => Some((*rng).clone()),
    };
    let kept: Vec<Tensor> = inputs.iter().map(|input| input.detach()).collect();
    let outputs = no_grad(|| f(&kept, mode))?.iter().map(copy).collect::<Result<Vec<_>>>()?;
    let wanted: Vec<bool> = inputs.iter().map(|input| input.track_op()).collect();
    let (own, precision) = (parameters.to_vec(), Precision::in_use());
    record_all(OP, &tied, outputs, move |grads| {
        let second_run = || second_run(kept, &wanted, &own, rng, f, grads);
        autocast(precision, || with_gradients(true, second_run))
    })
}

/// An output of the first run. It is copied, because it may be an input or share memory with one.
fn copy(output: &Tensor) -> Result<Output> {
    let output = output.contiguous()?;
    let x = read(OP, &output)?;
    let values = make(x.len(), STRIP, |first, block| {
        block.copy_from_slice(&x[first * STRIP..][..block.len()]);
    });
    Ok(Output::new(values, output.shape()))
}

/// Runs `f` with a tape and gives the gradients of the `inputs` that are `wanted`, then of the `parameters`.
fn second_run(
    inputs: Vec<Tensor>,
    wanted: &[bool],
    parameters: &[Tensor],
    mut rng: Option<Rng>,
    f: impl Fn(&[Tensor], &mut Mode<'_>) -> Result<Vec<Tensor>>,
    grads: OutputGrads,
) -> Result<InputGrads> {
    let starts = inputs
        .iter()
        .zip(wanted)
        .map(|(input, wanted)| if *wanted { Start::at(input).map(Some) } else { Ok(None) })
        .collect::<Result<Vec<_>>>()?;
    let tracked = starts.iter().zip(inputs);
    let inputs: Vec<Tensor> =
        tracked.map(|(start, input)| start.as_ref().map_or(input, |start| start.tensor.clone())).collect();
    let mut mode = rng.as_mut().map_or(Mode::Eval, Mode::Train);
    let outputs = f(&inputs, &mut mode)?;
    drop(inputs);
    if outputs.len() != grads.len() {
        bail!("{OP}: the first run gave {} outputs, the second {}", grads.len(), outputs.len());
    }
    let (outputs, grads): (Vec<Tensor>, OutputGrads) =
        outputs.into_iter().zip(grads).filter(|(output, grad)| grad.is_some() && output.track_op()).unzip();
    let ends: Vec<&Tensor> = outputs.iter().collect();
    // A function whose gradients are the ones that came in, whatever its value.
    let end = record_one(OP, &ends, Output::new(vec![0.0], ()), move |_| Ok(grads))?;
    drop(outputs);
    let found = end.backward()?;
    let of_inputs = starts.into_iter().map(|start| start.and_then(Start::into_gradient));
    let of_parameters = parameters.iter().map(|parameter| found.get(parameter).cloned());
    Ok(of_inputs.chain(of_parameters).collect())
}

/// Where the tape of a second run begins: an input, and its gradient when that tape has run backwards.
///
/// It is an output of a function like any other tensor, so that gradients are moved and added as everywhere; candle would
/// add those of a variable to zeros, on one thread.
struct Start {
    tensor: Tensor,
    gradient: Arc<Mutex<Option<Tensor>>>,
}

impl Start {
    fn at(input: &Tensor) -> Result<Self> {
        let gradient = Arc::new(Mutex::new(None));
        let found = Arc::clone(&gradient);
        let origin = Var::zeros((), DType::F32, input.device())?;
        let tensor = record_one(OP, &[&origin], copy(input)?, move |grad| {
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(grad);
            Ok(vec![None])
        })?;
        Ok(Self { tensor, gradient })
    }

    fn into_gradient(self) -> Option<Tensor> {
        self.gradient.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradcheck, named_tensor};
    use crate::{dropout, gelu, layer_norm, linear, residual};
    use candle_core::Device;

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn var(name: &str, shape: (usize, usize)) -> Var {
        Var::from_tensor(&named_tensor(name, shape, 0.0, 1.0).unwrap()).unwrap()
    }

    /// Two outputs of two inputs, a shared parameter and dropout.
    fn block(inputs: &[Tensor], weight: &Tensor, mode: &mut Mode<'_>) -> Result<Vec<Tensor>> {
        let hidden = gelu(&linear(&inputs[0], weight, None)?)?;
        let hidden = match mode {
            Mode::Train(rng) => dropout(&hidden, 0.3, rng)?,
            Mode::Eval => hidden,
        };
        let (ones, zeros) =
            (Tensor::ones(4, DType::F32, &Device::Cpu)?, Tensor::zeros(4, DType::F32, &Device::Cpu)?);
        let mixed = residual(&inputs[1], &linear(&hidden, &weight.t()?.contiguous()?, None)?, None)?;
        Ok(vec![layer_norm(&mixed, &ones, &zeros, 1e-5)?, hidden])
    }

    fn checkpointed(inputs: &[Tensor], weight: &Tensor, mode: &mut Mode<'_>) -> Result<Vec<Tensor>> {
        let own = weight.clone();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        checkpoint(&inputs, std::slice::from_ref(weight), mode, move |inputs, mode| block(inputs, &own, mode))
    }

    type Part = fn(&[Tensor], &Tensor, &mut Mode<'_>) -> Result<Vec<Tensor>>;

    /// Two parts that share a parameter, in training: outputs, the next number of the stream, and gradients.
    fn train(part: Part) -> (Vec<f32>, u64, [Tensor; 3]) {
        let (x, y, weight) = (var("x", (5, 4)), var("y", (5, 4)), var("weight", (4, 4)));
        let mut rng = Rng::named(3, "checkpoint", 0);
        let mut mode = Mode::Train(&mut rng);
        let first = part(&[x.as_tensor().clone(), y.as_tensor().clone()], &weight, &mut mode).unwrap();
        let second = part(&[first[1].clone(), first[0].clone()], &weight, &mut mode).unwrap();
        let loss = (second[0].sqr().unwrap() + (&first[0] * 0.5).unwrap()).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        let found = [&x, &y, &weight].map(|var| grads.get(var).unwrap().clone());
        (values(&second[0]), rng.next_u64(), found)
    }

    #[track_caller]
    fn assert_trains_like_one_run(part: Part) {
        let ((outputs, next, [x, y, shared]), (once, once_next, [once_x, once_y, once_shared])) =
            (train(part), train(block));
        assert_eq!((outputs, next), (once, once_next));
        assert_eq!((values(&x), values(&y)), (values(&once_x), values(&once_y)));
        assert_close("shared parameter", &shared, &once_shared, 1e-6);
    }

    #[test]
    fn outputs_gradients_and_the_random_stream_are_those_of_one_run() {
        assert_trains_like_one_run(checkpointed);
    }

    #[test]
    fn the_gradient_is_that_of_the_differences() {
        let inputs = [(5, 4), (5, 4), (4, 4)].map(|shape| named_tensor("part", shape, 0.1, 1.0).unwrap());
        gradcheck("checkpoint", &inputs, 1e-2, |i| {
            let outputs = checkpointed(&i[..2], &i[2], &mut Mode::Eval)?;
            &outputs[0] + &outputs[1]
        });
    }

    #[test]
    fn what_needs_no_gradient_gets_none_and_without_a_tape_there_is_one_run() {
        let (x, y, weight) = (var("x", (5, 4)), var("y", (5, 4)), var("weight", (4, 4)));
        let constant = y.as_tensor().detach();
        let inputs = [x.as_tensor().clone(), constant.clone()];
        let outputs = checkpointed(&inputs, &weight.as_tensor().detach(), &mut Mode::Eval).unwrap();
        // The second output alone: nothing of the first is needed.
        let grads = outputs[1].sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&x).is_some() && grads.get(&constant).is_none() && grads.get(&weight).is_none());
        let plain = no_grad(|| checkpointed(&inputs, &weight, &mut Mode::Eval)).unwrap();
        assert!(plain.iter().all(|output| !output.track_op()));
        assert_eq!(values(&plain[0]), values(&outputs[0]));
    }

    #[test]
    fn a_parameter_that_is_not_used_gets_no_gradient() {
        let (x, weight, other) = (var("x", (5, 4)), var("weight", (4, 4)), var("other", (4, 4)));
        let own = weight.as_tensor().clone();
        let parameters = [weight.as_tensor().clone(), other.as_tensor().clone()];
        let outputs = checkpoint(&[&x], &parameters, &mut Mode::Eval, move |inputs, _| {
            Ok(vec![linear(&inputs[0], &own, None)?])
        });
        let grads = outputs.unwrap()[0].sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&weight).is_some() && grads.get(&other).is_none());
    }

    #[test]
    fn the_second_run_has_the_precision_of_the_first() {
        let run = |part: Part| {
            let weight = var("weight", (4, 4));
            let inputs = [var("x", (5, 4)), var("y", (5, 4))].map(Var::into_inner);
            let outputs = autocast(Precision::Bf16, || part(&inputs, &weight, &mut Mode::Eval)).unwrap();
            let grads = outputs[0].sqr().unwrap().sum_all().unwrap().backward().unwrap();
            values(grads.get(&weight).unwrap())
        };
        assert_eq!(run(checkpointed), run(block));
    }

    #[test]
    fn a_checkpoint_may_hold_another() {
        let nested: Part = |inputs, weight, mode| {
            let own = weight.clone();
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            checkpoint(&inputs, std::slice::from_ref(weight), mode, move |inputs, mode| {
                checkpointed(inputs, &own, mode)
            })
        };
        assert_trains_like_one_run(nested);
    }

    #[test]
    fn errors_of_both_runs_come_out() {
        let x = var("x", (5, 4));
        let failing = |run: usize| {
            let runs = std::sync::atomic::AtomicUsize::new(0);
            checkpoint(&[&x], &[], &mut Mode::Eval, move |inputs, _| {
                if runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == run {
                    bail!("run {run} failed");
                }
                Ok(vec![gelu(&inputs[0])?])
            })
        };
        assert!(failing(0).unwrap_err().to_string().contains("run 0 failed"));
        let message = failing(1).unwrap()[0].sum_all().unwrap().backward().unwrap_err().to_string();
        assert!(message.contains("run 1 failed"), "{message}");
    }
}
