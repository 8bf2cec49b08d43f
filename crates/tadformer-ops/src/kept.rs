//! What a backward needs of an input.

use crate::no_grad;
use candle_core::{Result, Shape, Tensor, bail};
use std::fmt;
use std::sync::Arc;

/// A tensor as the backward of an operation needs it: itself, or how to make it again of what other backwards keep.
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use tadformer_ops::{Kept, gelu, linear_kept};
///
/// let xs = Var::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let weight = Var::ones((1, 3), DType::F32, &Device::Cpu)?;
/// let inner = xs.as_tensor().clone();
/// let ys = linear_kept(&gelu(&xs)?, Kept::again(move || gelu(&inner)), &weight, None)?;
/// assert!(ys.sum_all()?.backward()?.get(&weight).is_some());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Kept(Source);

#[derive(Clone)]
enum Source {
    Tensor(Tensor),
    Again(Arc<dyn Fn() -> Result<Tensor> + Send + Sync>),
}

impl From<Tensor> for Kept {
    fn from(tensor: Tensor) -> Self {
        Self(Source::Tensor(tensor))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Tensor(tensor) => write!(f, "Kept({tensor:?})"),
            Source::Again(_) => f.write_str("Kept(made again)"),
        }
    }
}

impl Kept {
    /// What `make` gives, each time the same; what it holds is kept.
    pub fn again(make: impl Fn() -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self(Source::Again(Arc::new(make)))
    }

    /// [`get`](Self::get) for the backward of `op`, whose input had that `shape`.
    ///
    /// # Errors
    /// Those of making it; another shape.
    pub(crate) fn get_for(&self, op: &'static str, shape: &Shape) -> Result<Tensor> {
        let tensor = self.get()?;
        if tensor.shape() != shape {
            bail!(
                "{op}: the input had shape {shape:?}, but what was kept to make it again gives {:?}",
                tensor.shape()
            );
        }
        Ok(tensor)
    }

    /// The tensor, contiguous; one that is made again is on no tape.
    ///
    /// # Errors
    /// Those of making it.
    pub fn get(&self) -> Result<Tensor> {
        match &self.0 {
            Source::Tensor(tensor) => tensor.contiguous(),
            Source::Again(make) => no_grad(|| make())?.contiguous(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_refused, named_tensor};
    use crate::{Around, Before, linear_around, linear_kept};
    use candle_core::Var;

    #[test]
    fn what_is_made_again_in_another_shape_is_refused() {
        let tensor = |name: &str, shape: (usize, usize)| named_tensor(name, shape, 0.0, 1.0).unwrap();
        let xs = Var::from_tensor(&tensor("xs", (4, 3))).unwrap();
        let weight = Var::from_tensor(&tensor("weight", (2, 3))).unwrap();
        for other in [(2, 3), (4, 2), (9, 9)] {
            let kept = || Kept::again(move || named_tensor("other", other, 0.0, 1.0));
            let before = kept();
            let outputs = [
                linear_kept(&xs, kept(), &weight, None),
                linear_around(&xs, &weight, None, Around::after(Before::GeluOf(&before))),
            ];
            for ys in outputs {
                assert_refused(ys.unwrap().sum_all().unwrap().backward(), &["[4, 3]", "to make it again"]);
            }
        }
    }
}
