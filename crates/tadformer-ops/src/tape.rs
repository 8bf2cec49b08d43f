//! Functions of any number of tensors, with a backward of their own, on candle's tape.
//!
//! Candle's custom operations take at most three tensors and give one, and its backward pass starts the gradient of
//! every tensor from zeros and adds to it in another pass over memory. [`record`] avoids both with three kinds of node
//! around a scalar:
//!
//! ```text
//! input 0 ──Tie──┐
//! input 1 ──Tie──┴─ anchor ──Run── root ──Take── output 0
//!                                       └─Take── output 1
//! ```
//!
//! In the backward pass every `Take` leaves its output's gradient with the function and passes on a scalar; candle's
//! order guarantees that `Run` comes after all of them: it calls the function's backward once; every `Tie` then hands out
//! one input's gradient. Inputs that no variable leads to are not tied, so nothing is computed into the void for them.
//!
//! Where an input is itself an output of a recorded function, its `Tie` goes to that function's root instead, and carries
//! the gradient over by itself: candle then walks scalars only, and the first gradient that arrives is moved, not added.
//! It also means that candle's graph holds no activation: a backward is a closure, what it captures is what is kept
//! between the passes, and it is freed when it has run.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, InplaceOp2, Layout, Result, Shape, Tensor, TensorId,
    bail,
};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, Weak};

use crate::host::read;
use crate::rows::{AddTo, for_blocks, make};
use crate::simd::{Kernel, vectorize};
use crate::vector::{Level, Vector};

/// One output of a function: fresh `f32` numbers, row-major, and their shape.
pub(crate) struct Output {
    values: Vec<f32>,
    shape: Shape,
}

impl Output {
    pub(crate) fn new(values: Vec<f32>, shape: impl Into<Shape>) -> Self {
        Self { values, shape: shape.into() }
    }

    /// The numbers as a tensor that is on no tape.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) fn plain(self, name: &'static str) -> Result<Tensor> {
        self.check(name)?;
        Tensor::from_vec(self.values, self.shape, &Device::Cpu)
    }

    /// Refuses more or fewer numbers than the shape has places: candle takes the outputs of custom operations at their
    /// word, and its own operations would then read past the end of the memory.
    fn check(&self, name: &'static str) -> Result<()> {
        let (found, dims) = (self.values.len(), self.shape.dims());
        if dims.iter().try_fold(1usize, |count, side| count.checked_mul(*side)) != Some(found) {
            bail!("{name}: {found} numbers were made for an output of shape {dims:?}");
        }
        Ok(())
    }
}

/// Gradients of the outputs, in their order; `None` for an output that the loss does not depend on.
pub(crate) type OutputGrads = Vec<Option<Tensor>>;
/// Gradients of the inputs, in their order; `None` is allowed where no gradient is wanted.
pub(crate) type InputGrads = Vec<Option<Tensor>>;

type Backward = Box<dyn FnOnce(OutputGrads) -> Result<InputGrads> + Send>;

/// A recorded function. Its outputs and the functions that use them own it; what leads to it refers to it weakly.
struct Node {
    name: &'static str,
    root: OnceLock<Tensor>,
    outputs: OnceLock<Vec<TensorId>>,
    backward: Mutex<Option<Backward>>,
    output_grads: Mutex<Vec<Sum>>,
    input_grads: Mutex<InputGrads>,
}

/// The functions whose outputs are alive, by output.
static PRODUCERS: LazyLock<Mutex<HashMap<TensorId, (Weak<Node>, usize)>>> = LazyLock::new(Mutex::default);

impl Node {
    /// The function that gave `tensor`, and as which output.
    fn of(tensor: &Tensor) -> Option<(Arc<Self>, usize)> {
        let producers = lock(&PRODUCERS);
        let (node, index) = producers.get(&tensor.id())?;
        Some((node.upgrade()?, *index))
    }

    /// Adds to the gradient of output `index`.
    fn receive(&self, index: usize, grad: Tensor) -> Result<()> {
        match lock(&self.output_grads).get_mut(index) {
            Some(sum) => sum.add(grad),
            None => bail!("{}: a gradient came for output {index} after its backward had run", self.name),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(outputs) = self.outputs.get() {
            let mut producers = lock(&PRODUCERS);
            outputs.iter().for_each(|id| drop(producers.remove(id)));
        }
    }
}

/// A sum of gradients.
#[derive(Default)]
struct Sum {
    total: Option<Tensor>,
    /// Whether `total` was made here: a gradient that came from elsewhere may be held elsewhere too, and is not written to.
    own: bool,
}

impl Sum {
    fn add(&mut self, grad: Tensor) -> Result<()> {
        match &self.total {
            None => self.total = Some(grad),
            Some(total) if self.own => total.inplace_op2(&grad.contiguous()?, &Accumulate)?,
            Some(total) => {
                let (a, b) = (total.contiguous()?, grad.contiguous()?);
                let sum = {
                    let (a, b) = (read("sum of gradients", &a)?, read("sum of gradients", &b)?);
                    make(a.len().min(b.len()), STRIP, |first, block| {
                        let range = first * STRIP..first * STRIP + block.len();
                        vectorize(SumStrip(&a[range.clone()], &b[range], block));
                    })
                };
                (self.total, self.own) = (Some(Tensor::from_vec(sum, a.shape(), a.device())?), true);
            }
        }
        Ok(())
    }
}

/// `a += b`.
struct Accumulate;

impl InplaceOp2 for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, at: &Layout, b: &CpuStorage, from: &Layout) -> Result<()> {
        match (a, at.contiguous_offsets(), b, from.contiguous_offsets()) {
            (CpuStorage::F32(a), Some((a0, a1)), CpuStorage::F32(b), Some((b0, b1)))
                if a1 - a0 == b1 - b0 =>
            {
                let (a, b) = (&mut a[a0..a1], &b[b0..b1]);
                for_blocks(a, STRIP, |first, block| {
                    vectorize(AddTo(&b[first * STRIP..][..block.len()], block));
                });
                Ok(())
            }
            _ => bail!("a gradient is not f32, or not of the shape of its tensor"),
        }
    }
}

const STRIP: usize = 64;

struct SumStrip<'a>(&'a [f32], &'a [f32], &'a mut [f32]);

impl Kernel for SumStrip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(a, b, to) = self;
        to.iter_mut().zip(a).zip(b).for_each(|((to, a), b)| *to = a + b);
    }
}

thread_local! {
    static GRADIENTS_OFF: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` without a tape: the operations of this crate give plain tensors even of variables, so that nothing is kept
/// for a backward pass (`torch.no_grad`). It holds for the calling thread.
///
/// ```
/// use candle_core::{DType, Device, Var};
/// use tadformer_ops::{gelu, no_grad};
/// let x = Var::ones(3, DType::F32, &Device::Cpu)?;
/// assert!(gelu(&x)?.track_op());
/// assert!(!no_grad(|| gelu(&x))?.track_op());
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    with_gradients(false, f)
}

/// Runs `f` with or without a tape, whatever is so around it.
pub(crate) fn with_gradients<R>(on: bool, f: impl FnOnce() -> R) -> R {
    /// Puts the switch back, also when `f` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            GRADIENTS_OFF.set(self.0);
        }
    }
    let _restore = Restore(GRADIENTS_OFF.replace(!on));
    f()
}

/// Whether a function of `inputs` would be put on the tape.
pub(crate) fn recording(inputs: &[&Tensor]) -> bool {
    !GRADIENTS_OFF.get() && inputs.iter().any(|input| input.track_op())
}

/// Puts computed `outputs` on the tape as a function of `inputs`.
///
/// When no variable leads to any input the outputs are plain tensors and `backward` is dropped at once.
///
/// # Errors
/// An output with more or fewer numbers than its shape has places.
pub(crate) fn record<const N: usize>(
    name: &'static str,
    inputs: &[&Tensor],
    outputs: [Output; N],
    backward: impl FnOnce(OutputGrads) -> Result<InputGrads> + Send + 'static,
) -> Result<[Tensor; N]> {
    let taken = record_all(name, inputs, outputs.into(), backward)?;
    Ok(taken.try_into().expect("one tensor was taken for each output"))
}

/// [`record`] for a number of outputs that is known only at run time.
pub(crate) fn record_all(
    name: &'static str,
    inputs: &[&Tensor],
    outputs: Vec<Output>,
    backward: impl FnOnce(OutputGrads) -> Result<InputGrads> + Send + 'static,
) -> Result<Vec<Tensor>> {
    if !recording(inputs) {
        return outputs.into_iter().map(|output| output.plain(name)).collect();
    }
    outputs.iter().try_for_each(|output| output.check(name))?;
    let node = Arc::new(Node {
        name,
        root: OnceLock::new(),
        outputs: OnceLock::new(),
        backward: Mutex::new(Some(Box::new(backward))),
        output_grads: Mutex::new(outputs.iter().map(|_| Sum::default()).collect()),
        input_grads: Mutex::new(Vec::new()),
    });
    let mut root = Tensor::zeros((), DType::F32, &Device::Cpu)?;
    for (index, input) in inputs.iter().enumerate().filter(|(_, input)| input.track_op()) {
        let source = Node::of(input);
        let end = source.as_ref().and_then(|(producer, _)| producer.root.get());
        let (node, shape) = (Arc::downgrade(&node), input.shape().clone());
        root = root.apply_op2(end.unwrap_or(input), Tie { node, index, shape, source: source.clone() })?;
    }
    let run = root.apply_op1(Run { node: Arc::downgrade(&node) })?;
    let root = node.root.get_or_init(|| run);
    let mut taken = Vec::with_capacity(outputs.len());
    for (index, Output { values, shape }) in outputs.into_iter().enumerate() {
        let take = Take { node: Arc::clone(&node), index, output: Mutex::new(Some((values, shape))) };
        taken.push(root.apply_op1(take)?);
    }
    let ids = node.outputs.get_or_init(|| taken.iter().map(Tensor::id).collect());
    lock(&PRODUCERS).extend(ids.iter().enumerate().map(|(index, id)| (*id, (Arc::downgrade(&node), index))));
    Ok(taken)
}

/// [`record`] for the common case of one output.
pub(crate) fn record_one(
    name: &'static str,
    inputs: &[&Tensor],
    output: Output,
    backward: impl FnOnce(Tensor) -> Result<InputGrads> + Send + 'static,
) -> Result<Tensor> {
    let [tensor] = record(name, inputs, [output], move |mut grads| match grads.pop().flatten() {
        Some(grad) => backward(grad),
        None => Ok(Vec::new()),
    })?;
    Ok(tensor)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn scalar() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), Shape::from(()))
}

/// What is said when the owner of a weak reference is gone, which candle's walk from the loss rules out.
const ALIVE: &str = "a function is alive while a loss depends on it";

struct Tie {
    node: Weak<Node>,
    index: usize,
    shape: Shape,
    /// The function and output that the input is, where it is one.
    source: Option<(Arc<Node>, usize)>,
}

impl CustomOp2 for Tie {
    fn name(&self) -> &'static str {
        "tie"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(scalar())
    }

    fn bwd(
        &self,
        anchor: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let node = self.node.upgrade().expect(ALIVE);
        let found = lock(&node.input_grads).get_mut(self.index).and_then(Option::take);
        if let Some(found) = &found
            && found.shape() != &self.shape
        {
            let (index, name) = (self.index, node.name);
            bail!("{name}: gradient {index} has shape {:?}, its input {:?}", found.shape(), self.shape);
        }
        let to_anchor = anchor.track_op().then(|| grad.clone());
        let Some((source, output)) = &self.source else {
            return Ok((to_anchor, found));
        };
        if let Some(found) = found {
            source.receive(*output, found)?;
        }
        // A scalar, so that candle comes to the source.
        Ok((to_anchor, Some(grad.clone())))
    }
}

struct Run {
    node: Weak<Node>,
}

impl CustomOp1 for Run {
    fn name(&self) -> &'static str {
        "run"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(scalar())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let node = self.node.upgrade().expect(ALIVE);
        let Some(backward) = lock(&node.backward).take() else {
            bail!("{}: the backward of this graph has already run, and what it needed is freed", node.name);
        };
        let sums = std::mem::take(&mut *lock(&node.output_grads));
        *lock(&node.input_grads) = backward(sums.into_iter().map(|sum| sum.total).collect())?;
        Ok(Some(grad.clone()))
    }
}

struct Take {
    node: Arc<Node>,
    index: usize,
    output: Mutex<Option<(Vec<f32>, Shape)>>,
}

impl CustomOp1 for Take {
    fn name(&self) -> &'static str {
        self.node.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let (values, shape) =
            lock(&self.output).take().expect("an output is taken once, right after it is made");
        Ok((CpuStorage::F32(values), shape))
    }

    fn bwd(&self, root: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        // A second backward of one graph finds the slots gone; `Run` says so.
        if !lock(&self.node.output_grads).is_empty() {
            self.node.receive(self.index, grad.clone())?;
        }
        Ok(Some(root.zeros_like()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    /// `(a + b, a - b)` by hand, gradients included.
    fn sum_and_difference(a: &Tensor, b: &Tensor) -> Result<[Tensor; 2]> {
        let (x, y) = (a.to_vec1::<f32>()?, b.to_vec1::<f32>()?);
        let sum = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        let difference = x.iter().zip(&y).map(|(x, y)| x - y).collect();
        let n = x.len();
        record("sum_and_difference", &[a, b], [Output::new(sum, n), Output::new(difference, n)], |grads| {
            let zero = Tensor::zeros(3, DType::F32, &Device::Cpu)?;
            let [sum, difference] = [0, 1].map(|i| grads[i].clone().unwrap_or_else(|| zero.clone()));
            Ok(vec![Some((&sum + &difference)?), Some((&sum - &difference)?)])
        })
    }

    fn variables() -> (Var, Var) {
        let a = Var::from_vec(vec![1f32, 2., 3.], 3, &Device::Cpu).unwrap();
        let b = Var::from_vec(vec![5f32, 7., 11.], 3, &Device::Cpu).unwrap();
        (a, b)
    }

    #[test]
    fn every_input_gets_the_gradient_of_every_output() {
        let (a, b) = variables();
        let [sum, difference] = sum_and_difference(&a, &b).unwrap();
        let loss = (sum.sqr().unwrap() + (difference * 3.).unwrap()).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap(), [15., 21., 31.]);
        assert_eq!(grads.get(&b).unwrap().to_vec1::<f32>().unwrap(), [9., 15., 25.]);
    }

    #[test]
    fn an_unused_output_and_a_constant_input_are_no_trouble() {
        let (a, b) = variables();
        let constant = b.as_tensor().detach();
        let [_, difference] = sum_and_difference(&a, &constant).unwrap();
        let grads = difference.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap(), [1., 1., 1.]);
        assert!(grads.get(&constant).is_none());
    }

    #[test]
    fn one_tensor_as_both_inputs_gets_both_gradients() {
        let (a, _) = variables();
        let [sum, difference] = sum_and_difference(&a, &a).unwrap();
        let grads = (sum + difference).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap(), [2., 2., 2.]);
    }

    #[test]
    fn an_output_without_a_number_for_every_place_is_refused() {
        let (a, _) = variables();
        // The last one has places for 2⁶⁴ numbers, which is 0 where it wraps around.
        for shape in [vec![2], vec![4], vec![3, 0], vec![1 << 32, 1 << 32]] {
            for input in [a.as_tensor().clone(), a.as_tensor().detach()] {
                let values = if shape.len() == 2 && shape[1] > 0 { vec![] } else { vec![1.0; 3] };
                let output = Output::new(values, shape.clone());
                let found = record_one("short", &[&input], output, |_| Ok(vec![None]));
                let message = found.unwrap_err().to_string();
                assert!(message.contains("short: ") && message.contains(&format!("{shape:?}")), "{message}");
            }
        }
    }

    #[test]
    fn constants_leave_no_graph_and_a_second_backward_says_so() {
        let (a, b) = variables();
        let [sum, _] = sum_and_difference(&a.as_tensor().detach(), &b.as_tensor().detach()).unwrap();
        assert!(!sum.track_op());
        let [sum, _] = sum_and_difference(&a, &b).unwrap();
        let loss = sum.sum_all().unwrap();
        loss.backward().unwrap();
        let message = loss.backward().unwrap_err().to_string();
        assert!(message.contains("already run"), "{message}");
    }

    #[test]
    fn gradients_of_functions_of_functions_add_up_whoever_uses_an_output() {
        let (a, b) = variables();
        let [sum, difference] = sum_and_difference(&a, &b).unwrap();
        let made = [sum.id(), difference.id()];
        // The sum goes to three recorded functions, to one of them twice, and to an operation of candle's.
        let [twice_a, _] = sum_and_difference(&sum, &difference).unwrap();
        let [_, twice_b] = sum_and_difference(&sum, &difference).unwrap();
        let [twice_sum, nothing] = sum_and_difference(&sum, &sum).unwrap();
        let own = ((twice_a * 3.).unwrap() + (twice_b * 5.).unwrap()).unwrap();
        let rest = ((twice_sum + nothing).unwrap() + (sum * 7.).unwrap()).unwrap();
        drop(difference);
        // 3 · 2a + 5 · 2b + 2 (a + b) + 7 (a + b)
        let loss = (own + rest).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap(), [15.; 3]);
        assert_eq!(grads.get(&b).unwrap().to_vec1::<f32>().unwrap(), [19.; 3]);
        drop((grads, loss));
        let producers = lock(&PRODUCERS);
        assert!(made.iter().all(|id| !producers.contains_key(id)), "functions leave nothing behind");
    }
}
