//! TADFormer (CVPR 2025, arXiv 2501.04293): one frozen backbone, many dense tasks.

mod error;
pub mod config;
mod model;
mod params;
pub mod losses;
pub mod optim;
pub mod embedded;
mod pretrained;
mod checkpoint;
mod session;
mod run;
mod evaluate;
mod report;
mod train;
mod predict;

pub use checkpoint::{Checkpoint, TrainState};
pub use config::{Config, Override};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, ScoreRecord, evaluate, meter};
pub use losses::{Losses, MultiTaskLoss, task_loss};
pub use model::MultiTaskModel;
pub use params::{GROUPS, ParameterCount};
pub use predict::Predictor;
pub use pretrained::{Origin, Pretrained};
pub use report::{Report, Snapshot};
pub use run::{Log, RunDir};
pub use session::Session;
pub use train::{Reporter, Trainer, UpdateRecord};
