//! Tasks, data sets, transforms and the loader of multi-task dense prediction.

mod task;
mod task_spec;
mod raster;
mod sample;
pub mod annotators;
mod error;
mod explain;
pub mod format;
mod descriptor;
pub mod dataset;
pub mod check;
mod transforms;
mod sampler;
mod loader;
mod cache;
pub mod draw;
pub mod synthetic;

pub use cache::CachedDataset;
pub use dataset::Dataset;
pub use descriptor::{
    Checksum, Column, Descriptor, Encoding, ImageSource, LabelSource, MetresEncoding, Numbers, SplitSource,
    StoredVector, TaskDescriptor, VectorsEncoding,
};
pub use error::{Error, Result};
pub use explain::{did_you_mean, toml_error, with_suggestion};
pub use loader::{Batch, Epoch, Loader, augmentation_stream};
pub use raster::Raster;
pub use sample::Sample;
pub use sampler::{Sampler, Sampling};
pub use task::{
    BackgroundOnly, Drawing, EDGE_TOLERANCE, IGNORE, LabelKind, Loss, Metric, TASKS, Task, TaskDefinition,
    TaskSpec,
};
pub use transforms::{
    Augmentation, Draw, IMAGENET_MEAN, IMAGENET_STD, MAX_SIDE, Pipeline, Scale, denormalize, normalize,
};
