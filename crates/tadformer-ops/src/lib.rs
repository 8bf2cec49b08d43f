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
mod batch_norm;
mod activation;
mod drop;
mod windows;
mod window_attention;
mod task_condition;
mod filter_norm;
mod dynamic_conv;
mod gate;
mod interpolate;
mod losses;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use activation::{gelu, relu};
pub use batch_norm::{BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, BatchNorm};
pub use drop::{drop_path_factors, dropout, residual};
pub use dynamic_conv::{dynamic_conv, window_mean};
pub use filter_norm::filter_norm;
pub use frozen_linear::FrozenLinear;
pub use gate::gated_mix;
pub use init::Init;
pub use interpolate::{interpolate_planes, interpolate_tokens, interpolate_tokens_sum};
pub use layer_norm::{LAYER_NORM_EPS, LayerNorm, layer_norm};
pub use linear::{Linear, linear};
pub use losses::{LossValue, balanced_bce, balanced_bce_labelled, cross_entropy, masked_l1, normals_l1};
pub use params::{Entry, ParamStore, Params, Role, Source};
pub use rng::{Mode, Rng};
pub use simd::{SimdLevel, simd_level};
pub use task_condition::task_condition;
pub use window_attention::{Attended, window_attention};
pub use windows::Windows;
