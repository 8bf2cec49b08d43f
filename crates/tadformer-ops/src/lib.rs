//! Differentiable tensor operations that candle lacks or does slowly.

mod rng;

pub use rng::{Mode, Rng};
