//! Weight files in: safetensors and PyTorch pickles, the published names of Swin, and the Hugging Face Hub's cache.
//!
//! This crate builds no model and knows no tensor library: it turns files into named arrays of bytes. Of Swin it knows the
//! names, and the sizes that they tell ([`names`], [`Variant`]). Nothing in a file is executed, and nothing is allocated that
//! the file's own length does not justify, so files of strangers may be read.
//!
//! The way of a pretrained backbone: [`locate`] finds the file, [`StateDict::read`] reads it, [`names::map`] gives its
//! tensors the names of our Swin, [`names::Mapped::resize_position_bias`] adapts it to another window, and
//! [`Tensor::to_finite_f32`] gives its numbers.
//!
//! ```
//! use tadformer_weights::{StateDict, Tensor, names};
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
//! let weight = mapped.tensors.get("backbone.patch_embed.norm.weight").expect("it was in the file");
//! assert_eq!(weight.to_finite_f32()?, [1.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod limits;
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
mod known;
mod environment;
mod cache;
#[cfg(feature = "hub")]
pub mod hub;

pub use bytes::Bytes;
pub use cache::{Cache, Source, locate};
pub use checkpoint::Checkpoint;
pub use dtype::Dtype;
pub use error::{Error, NotFinite, Result};
pub use known::{KNOWN_MODELS, KnownModel, known_model};
pub use limits::FileLimits;
pub use pickle::PickleValue;
pub use position_bias::{ResizedTable, TableResize, resize_table};
pub use safetensors_writer::SafetensorsWriter;
pub use state_dict::{Skipped, StateDict, Tensor};
pub use variant::Variant;
