//! Swin Transformer (arXiv 2103.14030) with named sites for parameter-efficient fine-tuning.
//!
//! Tokens are `(b, h, w, c)` everywhere. What sits at the linears of a block (`qkv`, `proj`, `fc1`, `fc2`) is decided
//! when the network is built, by a [`Tuning`]; no forward pass reads the configuration.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use tadformer_backbone::{Swin, SwinConfig, Tuning};
//! use tadformer_ops::{Mode, ParamStore};
//!
//! let config = SwinConfig { embed_dim: 16, depths: [1, 1, 1, 1], num_heads: [1, 2, 4, 8], ..SwinConfig::tiny() };
//! let swin = Swin::new(&config, &Tuning::Frozen, &ParamStore::new(0).params())?;
//! let image = Tensor::zeros((1, 3, 64, 96), DType::F32, &Device::Cpu)?;
//! let stages = swin.forward(&image, &mut Mode::Eval)?;
//! assert_eq!(stages[0].xs.dims(), [1, 8, 12, 32]);
//! assert_eq!(stages[3].xs.dims(), [1, 2, 3, 128]);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod config;
mod patch_embed;
mod patch_merging;
mod attention;
mod mlp;
mod task_streams;
mod block;
mod stage_block;
mod stage;
mod swin;

pub use attention::WindowAttention;
pub use block::{BlockOutput, Position, SwinBlock};
pub use config::{Adaptation, Skip, SwinConfig, Tuning, WindowPadding};
pub use mlp::{Mlp, MlpTrace};
pub use patch_embed::PatchEmbed;
pub use patch_merging::PatchMerging;
pub use stage::{StageOutput, SwinStage};
pub use swin::Swin;
pub use task_streams::TaskOutput;
