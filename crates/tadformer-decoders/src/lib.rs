//! Dense prediction heads: from the four feature maps of a hierarchical backbone to one map the size of the image.
//!
//! Features come and go as channels-last tokens `(b, h, w, c)`, so that a 1×1 convolution is a linear layer; only the
//! last step of a [`Decoder`] turns them into planes `(b, outputs, H, W)`. Weights keep the names and the shapes of the
//! published checkpoints, 1×1 convolutions `(out, in, 1, 1)` included.
//!
//! A decoder knows its outputs and nothing of what they mean: classes, normals and depths are the same to it.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use tadformer_decoders::{Decoder, DecoderConfig};
//! use tadformer_ops::{Mode, ParamStore};
//!
//! # fn main() -> candle_core::Result<()> {
//! let store = ParamStore::new(0);
//! let dims = [8, 16, 32, 64];
//! let decoder = Decoder::new(&DecoderConfig::default(), "semseg", dims, 21, &store.params())?;
//! // A 64×64 image at strides 4, 8, 16 and 32.
//! let features: Vec<Tensor> = [16, 8, 4, 2]
//!     .into_iter()
//!     .zip(dims)
//!     .map(|(side, c)| Tensor::ones((1, side, side, c), DType::F32, &Device::Cpu))
//!     .collect::<candle_core::Result<_>>()?;
//! let logits = decoder.forward(&features, (64, 64), &mut Mode::Eval)?;
//! assert_eq!(logits.dims(), [1, 21, 64, 64]);
//! # Ok(())
//! # }
//! ```

mod config;
mod conv;
mod fuse;
mod downsampler;
mod hrnet;
mod segformer;
mod aspp;
mod deconv;
mod decoder;

pub use aspp::AsppHead;
pub use config::DecoderConfig;
pub use decoder::{Decoder, logit_planes};
pub use deconv::DeconvHead;
pub use downsampler::Downsampler;
pub use hrnet::HrnetHead;
pub use segformer::SegformerHead;
