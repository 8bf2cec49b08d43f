//! TADFormer (CVPR 2025, arXiv 2501.04293): one frozen backbone, many dense tasks.

mod error;
pub mod config;
mod coarse_logits;
mod model;
mod params;
pub mod losses;
pub mod optim;
pub mod embedded;
mod pretrained;
mod checkpoint;
mod transfer;
mod session;
mod folder;
mod run;
mod shared_backbone;
mod complete;
mod saved;
mod evaluate;
mod report;
mod train;
mod predict;
mod map_files;
mod export;
mod import;

pub use checkpoint::{Checkpoint, TrainState};
pub use coarse_logits::CoarseLogits;
pub use config::{Config, Override};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, ScoreRecord, evaluate, meter};
pub use export::Export;
pub use import::{Imported, import};
pub use losses::{Losses, MultiTaskLoss, task_loss};
pub use map_files::{MapFiles, RawFormat};
pub use model::MultiTaskModel;
pub use params::{GROUPS, ParameterCount};
pub use predict::Predictor;
pub use pretrained::{Origin, Pretrained};
pub use report::{Report, Snapshot};
pub use run::{Log, RunDir, RunLock};
pub use saved::SavedModel;
pub use session::Session;
pub use shared_backbone::SharedBackbone;
pub use train::{Reporter, Trainer, UpdateRecord};
pub use transfer::Transfer;
// What a program that runs a model sets and asks.
pub use tadformer_ops::{Precision, autocast, simd_limit};
