//! What a backward needs of an input.

use crate::no_grad;
use candle_core::{Result, Tensor};
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
