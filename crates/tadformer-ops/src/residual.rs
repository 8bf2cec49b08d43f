//! Residual connections, added where a branch's rows are still in the cache.

use crate::host::{Slice, read};
use crate::rng::Rng;
use crate::rows::{AddTo, make};
use crate::simd::{Kernel, for_vectors, vectorize};
use crate::tape::{Output, record_one};
use crate::vector::{Level, Vector};
use candle_core::{Result, Shape, Tensor, bail};
use std::sync::Arc;

const OP: &str = "residual";

/// Numbers a row when a tensor is worked through without regard to its shape.
const STRIP: usize = 64;

/// Factors of drop path (stochastic depth), one for each of `n` samples: 0 with probability `rate`, else `1 / (1 − rate)`.
///
/// # Errors
/// A rate outside `0..1`.
pub fn drop_path_factors(n: usize, rate: f64, rng: &mut Rng) -> Result<Vec<f32>> {
    if !(0.0..1.0).contains(&rate) {
        bail!("drop path: the rate {rate} is not in 0..1");
    }
    Ok((0..n).map(|_| if rng.bernoulli(rate) { 0.0 } else { (1.0 / (1.0 - rate)) as f32 }).collect())
}

/// `shortcut + factor · branch`, as an operation of its own ([`Residual::add`]).
///
/// # Errors
/// Shapes that do not fit, or tensors that are not `f32` on the CPU.
pub fn residual(shortcut: &Tensor, branch: &Tensor, factors: Option<Vec<f32>>) -> Result<Tensor> {
    Residual::new(shortcut, factors)?.add(branch)
}

/// Where a branch ends: `shortcut + factor · branch`, with a factor for each sample of the branch (drop path), or 1.
///
/// A shortcut of fewer samples is repeated: `(b, …)` for a branch `(parts · b, …)`. Operations that take one add their output
/// to it row by row, instead of writing a branch that another operation would read again.
#[derive(Debug, Clone)]
pub struct Residual {
    shortcut: Tensor,
    factors: Option<Arc<[f32]>>,
}

impl Residual {
    /// A branch will be added to `shortcut`.
    ///
    /// # Errors
    /// None in practice: copying a shortcut that is not contiguous.
    pub fn new(shortcut: &Tensor, factors: Option<Vec<f32>>) -> Result<Self> {
        Ok(Self { shortcut: shortcut.contiguous()?, factors: factors.map(Arc::from) })
    }

    /// `shortcut + factor · branch`. Kept for the backward: nothing of the branch.
    ///
    /// # Errors
    /// Shapes that do not fit, or tensors that are not `f32` on the CPU.
    pub fn add(&self, branch: &Tensor) -> Result<Tensor> {
        let branch = branch.contiguous()?;
        let ys = {
            let (rows, b) = (self.rows(OP, branch.dims())?, read(OP, &branch)?);
            make(b.len(), STRIP, |first, block| {
                let start = first * STRIP;
                block.copy_from_slice(&b[start..start + block.len()]);
                rows.add_to(start, block);
            })
        };
        let backward = self.backward();
        record_one(OP, &[&self.shortcut, &branch], Output::new(ys, branch.shape()), move |grad| {
            let (shortcut, branch) = backward.gradients(&grad)?;
            Ok(vec![Some(shortcut), Some(branch)])
        })
    }

    /// What it adds to.
    pub(crate) fn shortcut(&self) -> &Tensor {
        &self.shortcut
    }

    /// As the operation `op` takes it for a branch of that shape.
    pub(crate) fn rows(&self, op: &'static str, branch: &[usize]) -> Result<ResidualRows<'_>> {
        let fits = match (branch, self.shortcut.dims()) {
            ([n, inner @ ..], [m, shortcut @ ..]) => {
                let factors = self.factors.as_ref().is_none_or(|factors| factors.len() == *n);
                (*m > 0 && n % m == 0 || *m == 0 && *n == 0) && inner == shortcut && factors
            }
            _ => false,
        };
        if !fits {
            bail!(
                "{op}: shortcut {:?} and branch {branch:?} with {:?} factors do not fit",
                self.shortcut.dims(),
                self.factors.as_ref().map(|factors| factors.len())
            );
        }
        let sample = branch[1..].iter().product();
        Ok(ResidualRows { shortcut: read(op, &self.shortcut)?, factors: self.factors.as_deref(), sample })
    }

    /// What its backward needs.
    pub(crate) fn backward(&self) -> ResidualBackward {
        ResidualBackward { shortcut: self.shortcut.shape().clone(), factors: self.factors.clone() }
    }
}

/// The backward of a [`Residual`], which holds no tensor.
pub(crate) struct ResidualBackward {
    shortcut: Shape,
    factors: Option<Arc<[f32]>>,
}

impl ResidualBackward {
    /// The gradients of the shortcut and of the branch.
    pub(crate) fn gradients(&self, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        let grad = grad.contiguous()?;
        let n = grad.dims()[0];
        let shortcut =
            if n == self.shortcut.dims()[0] { grad.clone() } else { sum_repeats(&grad, &self.shortcut)? };
        let factors = match &self.factors {
            Some(factors) if factors.iter().any(|factor| *factor != 1.0) => factors,
            _ => return Ok((shortcut, grad)),
        };
        let g = read(OP, &grad)?;
        let sample = g.len().checked_div(n).unwrap_or(0);
        let branch = make(g.len(), STRIP, |first, block| {
            let start = first * STRIP;
            for (at, part) in parts_of_samples(start, block, sample) {
                vectorize(Scaled(factors[at / sample], &g[at..at + part.len()], part));
            }
        });
        Ok((shortcut, Tensor::from_vec(branch, grad.shape(), grad.device())?))
    }
}

/// The gradient of a shortcut, if there is one, and of what was added to it.
pub(crate) fn split_gradient(
    residual: Option<&ResidualBackward>,
    grad: &Tensor,
) -> Result<(Option<Tensor>, Tensor)> {
    Ok(match residual {
        Some(residual) => {
            let (shortcut, branch) = residual.gradients(grad)?;
            (Some(shortcut), branch)
        }
        None => (None, grad.contiguous()?),
    })
}

/// A [`Residual`] of a branch whose samples have `sample` numbers.
pub(crate) struct ResidualRows<'a> {
    shortcut: Slice<'a>,
    factors: Option<&'a [f32]>,
    sample: usize,
}

impl ResidualRows<'_> {
    /// Adds the numbers of the branch from `start` on, which are in `ys`, to the shortcut's.
    pub(crate) fn add_to(&self, start: usize, ys: &mut [f32]) {
        for (at, part) in parts_of_samples(start, ys, self.sample) {
            let factor = self.factors.map_or(1.0, |factors| factors[at / self.sample]);
            let shortcut = &self.shortcut[at % self.shortcut.len()..][..part.len()];
            vectorize(AddShortcut(shortcut, factor, part));
        }
    }
}

/// `ys` cut where a sample ends, each part with its place in the tensor; `ys` itself begins at `start`.
fn parts_of_samples(
    start: usize,
    ys: &mut [f32],
    sample: usize,
) -> impl Iterator<Item = (usize, &mut [f32])> {
    let (mut at, mut rest) = (start, ys);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = rest.len().min(sample - at % sample);
        let (part, others) = std::mem::take(&mut rest).split_at_mut(len);
        rest = others;
        at += len;
        Some((at - len, part))
    })
}

/// `ys = shortcut + factor · ys`.
struct AddShortcut<'a>(&'a [f32], f32, &'a mut [f32]);

impl Kernel for AddShortcut<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, level: Level<V>) {
        let Self(shortcut, factor, ys) = self;
        let factor = level.splat(factor);
        for_vectors(level, ys, [shortcut], |y, [s]| s.add(y.mul(factor)));
    }
}

/// `ys = factor · xs`.
struct Scaled<'a>(f32, &'a [f32], &'a mut [f32]);

impl Kernel for Scaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(factor, xs, ys) = self;
        ys.iter_mut().zip(xs).for_each(|(y, x)| *y = factor * x);
    }
}

/// The sum over the repeats of a tensor of `shape`.
pub(crate) fn sum_repeats(grad: &Tensor, shape: &Shape) -> Result<Tensor> {
    let g = read("sum of repeats", grad)?;
    let size = shape.elem_count();
    let sum = make(size, STRIP, |first, block| {
        for repeat in g.chunks_exact(size) {
            vectorize(AddTo(&repeat[first * STRIP..][..block.len()], block));
        }
    });
    Tensor::from_vec(sum, shape, grad.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_refused, gradcheck, named_tensor};
    use candle_core::{Device, Var};

    #[test]
    fn it_repeats_its_shortcut_and_drops_whole_samples() {
        let s = Var::from_vec(vec![1f32, 2.], (1, 2), &Device::Cpu).unwrap();
        let b = Var::from_vec(vec![10f32, 20., 30., 40.], (2, 2), &Device::Cpu).unwrap();
        let y = residual(&s, &b, Some(vec![0.0, 2.0])).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[1., 2.], [61., 82.]]);
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&s).unwrap().to_vec2::<f32>().unwrap(), [[2., 2.]]);
        assert_eq!(grads.get(&b).unwrap().to_vec2::<f32>().unwrap(), [[0., 0.], [2., 2.]]);
    }

    #[test]
    fn samples_of_any_length_keep_their_factors() {
        // Longer and shorter than what a thread takes at a time, and ending anywhere in it.
        for (m, n, sample) in [(1, 3, 21_001), (2, 4, 77), (3, 3, 5)] {
            let shortcut = named_tensor("shortcut", (m, sample), 0.0, 1.0).unwrap();
            let branch = named_tensor("branch", (n, sample), 0.0, 1.0).unwrap();
            let factors: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let column = Tensor::from_slice(&factors, (n, 1), &Device::Cpu).unwrap();
            let repeated = Tensor::cat(&vec![shortcut.clone(); n / m], 0).unwrap();
            let expected = (repeated + branch.broadcast_mul(&column).unwrap()).unwrap();
            let add = |s: &Tensor, b: &Tensor| residual(s, b, Some(factors.clone()));
            assert_close("residual", &add(&shortcut, &branch).unwrap(), &expected, 0.0);
            if sample < 100 {
                gradcheck("residual", &[shortcut, branch], 1e-2, |i| add(&i[0], &i[1]));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let tensor = |shape: (usize, usize)| named_tensor("x", shape, 0.0, 1.0).unwrap();
        for (shortcut, branch, factors) in
            [((2, 3), (1, 3), None), ((1, 3), (2, 4), None), ((1, 3), (2, 3), Some(vec![1.0]))]
        {
            let message = residual(&tensor(shortcut), &tensor(branch), factors).unwrap_err().to_string();
            assert!(message.contains("do not fit"), "{message}");
        }
    }

    #[test]
    fn a_rate_of_one_is_refused() {
        assert_refused(drop_path_factors(2, 1.0, &mut Rng::named(0, "path", 0)), &["rate 1 is not in 0..1"]);
    }
}
