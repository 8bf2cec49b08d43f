//! Weight files in: safetensors and PyTorch pickles, the published names of Swin, and the Hugging Face Hub's cache.
//!
//! This crate knows no model and no tensor library: it turns files into named arrays of bytes. Nothing in a file is
//! executed, and nothing is allocated that the file's own length does not justify, so files of strangers may be read.
//!
//! The way of a pretrained backbone: [`locate`] finds the file, [`StateDict::read`] reads it, [`names::map`] gives its
//! tensors our names, [`names::Mapped::resize_position_bias`] adapts it to another window, and [`fit`] hands out exactly
//! what the model wants or lists every difference.
//!
//! ```
//! use tadformer_weights::{StateDict, Tensor, fit, names};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("tiny.safetensors");
//! let mut dict = StateDict::new();
//! dict.insert(Tensor::from_f32("patch_embed.norm.weight", vec![2], &[1.0, 2.0])?)?;
//! dict.insert(Tensor::from_f32("head.fc.bias", vec![1], &[0.0])?)?;
//! dict.write_safetensors(&path)?;
//!
//! let mapped = names::map(&StateDict::read(&path)?)?;
//! assert_eq!(mapped.ignored[0].name, "head.fc.bias");
//! let fitted = fit(&mapped, &[("backbone.patch_embed.norm.weight".to_owned(), vec![2])])?;
//! assert_eq!(fitted.tensors()[0].to_f32(), [1.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod large_pages;
mod fill;
mod bytes;
mod dtype;
mod state_dict;
mod safetensors_file;
mod safetensors_writer;
mod zip;
mod pickle;
mod checkpoint;
mod wrapper;
pub mod names;
mod position_bias;
mod variant;
mod fit;
mod known;
mod cache;
#[cfg(feature = "hub")]
pub mod hub;

pub use bytes::Bytes;
pub use cache::{Cache, Source, locate};
pub use checkpoint::Checkpoint;
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use fit::{Differing, Fitted, Mismatch, fit};
pub use known::{KNOWN_MODELS, KnownModel, known_model};
pub use pickle::PickleValue;
pub use position_bias::{ResizedTable, resize_table};
pub use safetensors_writer::SafetensorsWriter;
pub use state_dict::{Skipped, StateDict, Tensor};
pub use variant::Variant;
