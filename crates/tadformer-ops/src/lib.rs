//! Differentiable tensor operations that candle lacks or does slowly.

mod rng;
mod init;
mod params;
mod tape;
mod host;
mod simd;
mod elementary;
mod rows;
mod gemm;
mod small_matmul;
mod linear;
mod frozen_linear;
mod layer_norm;
mod activation;
mod drop;
mod windows;
mod window_attention;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use activation::{gelu, relu};
pub use drop::{drop_path_factors, dropout, residual};
pub use frozen_linear::FrozenLinear;
pub use init::Init;
pub use layer_norm::{LAYER_NORM_EPS, LayerNorm, layer_norm};
pub use linear::{Linear, linear};
pub use params::{Entry, ParamStore, Params, Role, Source};
pub use rng::{Mode, Rng};
pub use simd::{SimdLevel, simd_level};
pub use window_attention::{Attended, window_attention};
pub use windows::Windows;
