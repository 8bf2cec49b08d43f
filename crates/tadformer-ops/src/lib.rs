//! Differentiable tensor operations that candle lacks, gets silently wrong, or does slowly.
//!
//! Everything here works on `f32` tensors in main memory, has a backward of its own, and gives the same bits for any number
//! of threads. The widest vectors of the processor are chosen at run time ([`simd_level`]). Under [`autocast`] the products
//! of linear layers round their operands to `bf16`. What comes before and after a linear can be done in its pass
//! ([`Around`]).
//!
//! | operation | from | to | kept for the backward |
//! | --- | --- | --- | --- |
//! | [`linear`], [`linear_columns`] | `(…, in)`, `(out, in)` | `(…, out)` | input, weight |
//! | [`FrozenLinear`] | `(…, in)` | `(…, out)` | nothing; no weight gradient exists |
//! | [`low_rank_linear`] | `(…, in)` | `(…, out)` | input, codes |
//! | [`low_rank_up`] | `(b, …, out)`, `(parts · b, …, r)` | `(parts · b, …, out)` | codes |
//! | [`task_codes`] | frozen `(b, …, hidden)`, codes `(tasks · b, …, r)` | codes | inputs |
//! | [`layer_norm`] | `(…, c)` | the same | input |
//! | [`BatchNorm`] | `(…, c)` | the same | input, statistics |
//! | [`gelu`], [`relu`] | any | the same | input |
//! | [`dropout`] | any | the same | a 64-bit key |
//! | [`residual`], [`Residual`] | two streams | their sum | a factor a sample |
//! | [`window_attention`] | `(b, h, w, 3c)`, prompts | context, prompts, raw scores | inputs |
//! | [`task_condition`] | scores, context | `(tasks · b, h, w, c)` | inputs |
//! | [`window_mean`], [`dynamic_conv`] | `(n, h, w, c)` | pooled; filtered | nothing; inputs |
//! | [`filter_norm`] | `(n, c · taps)` | the same | input |
//! | [`image_patches`] | `(b, c, H, W)` | `(b, H/p, W/p, c · p²)` | nothing |
//! | [`merge_patches`] | `(n, h, w, c)` | `(n, h/2, w/2, 4c)` | nothing |
//! | [`Features`] | `(…, in)`, a reduction `(mid, in)`, a weight `(out, mid)` | `(…, out)` | input, weights |
//! | [`split`] | `(parts · n, …)` | equal parts | nothing |
//! | [`gated_mix`] | two streams, a gate | one stream | inputs |
//! | [`interpolate_planes`], [`interpolate_tokens`] | any grid | any grid | nothing |
//! | [`linear_of_resized`] | grids of tokens | a linear of their sum | as its parts |
//! | [`resized_strips`], [`each_resized_strip`] | tokens | what is made of strips of planes | (no backward) |
//! | [`checkpoint`] | any | any | inputs, the random stream |
//! | [`cross_entropy`], [`balanced_bce`], [`normals_l1`], [`masked_l1`] | logits, labels | a number | the gradient itself |
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use tadformer_ops::{LAYER_NORM_EPS, layer_norm};
//!
//! let xs = Var::new(&[[1f32, 3.], [2., 2.]], &Device::Cpu)?;
//! let (weight, bias) = (Tensor::new(&[2f32, 2.], &Device::Cpu)?, Tensor::new(&[0f32, 1.], &Device::Cpu)?);
//! let ys = layer_norm(&xs, &weight, &bias, LAYER_NORM_EPS)?;
//! assert!((ys.to_vec2::<f32>()?[0][1] - 3.0).abs() < 1e-4);
//! assert!(ys.sum_all()?.backward()?.get(&xs).is_some());
//! # Ok::<(), candle_core::Error>(())
//! ```

mod rng;
mod init;
mod params;
mod tape;
mod host;
mod kept;
mod simd;
mod autocast;
mod elementary;
mod rows;
mod vector;
mod packed;
mod gemm;
mod few_rows;
mod small_matmul;
mod linear;
mod frozen_linear;
mod layer_norm;
mod batch_norm;
mod activation;
mod drop;
mod residual;
mod around;
mod low_rank;
mod low_rank_up;
mod task_codes;
mod windows;
mod window_attention;
mod task_condition;
mod filter_norm;
mod dynamic_conv;
mod gate;
mod split;
mod image_patches;
mod merge_patches;
mod features;
mod interpolate;
mod losses;
mod checkpoint;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod empty_sides;

pub use activation::{gelu, relu};
pub use around::{Around, Before};
pub use autocast::{Precision, autocast};
pub use batch_norm::{BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, BatchNorm};
pub use checkpoint::checkpoint;
pub use drop::{DropoutMask, dropout};
pub use dynamic_conv::{dynamic_conv, window_mean};
pub use features::Features;
pub use filter_norm::filter_norm;
pub use frozen_linear::FrozenLinear;
pub use gate::gated_mix;
pub use image_patches::image_patches;
pub use init::Init;
pub use interpolate::{
    ResizeStep, Strip, each_resized_strip, interpolate_planes, interpolate_tokens, interpolate_tokens_sum,
    linear_of_resized, resized_strips,
};
pub use kept::Kept;
pub use layer_norm::{LAYER_NORM_EPS, LayerNorm, layer_norm};
pub use linear::{Linear, linear, linear_around, linear_columns, linear_kept};
pub use losses::{
    DenseLogits, LossValue, balanced_bce, balanced_bce_labelled, cross_entropy, masked_l1, normals_l1,
};
pub use low_rank::{LowRankUpdate, low_rank_linear};
pub use low_rank_up::low_rank_up;
pub use merge_patches::merge_patches;
pub use params::{Entry, ParamStore, Params, Role, Source};
pub use residual::{Residual, drop_path_factors, residual};
pub use rng::{Mode, Rng};
pub use simd::{SimdLevel, simd_level, simd_limit};
pub use split::split;
pub use tape::no_grad;
pub use task_codes::task_codes;
pub use task_condition::task_condition;
pub use window_attention::{Attended, window_attention};
pub use windows::Windows;
