//! Plain matrix products: how fast the processor multiplies decides how fast a step can be at all.

use crate::Work;
use anyhow::Result;
use candle_core::Tensor;
use tadformer_benches::normal;

/// Products a step; each of two 1024×1024 matrices, 2·1024³ operations.
const PRODUCTS: usize = 8;
const SIDE: usize = 1024;

pub(crate) struct Products {
    left: Tensor,
    right: Tensor,
}

impl Products {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { left: normal("left", &[SIDE, SIDE])?, right: normal("right", &[SIDE, SIDE])? })
    }
}

impl Work for Products {
    fn step(&mut self) -> Result<()> {
        for _ in 0..PRODUCTS {
            std::hint::black_box(self.left.matmul(&self.right)?);
        }
        Ok(())
    }
}
