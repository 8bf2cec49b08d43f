//! From gradients to changed weights: accumulation, clipping, AdamW and the learning rate of each update.
//!
//! ```text
//! backward ─ Gradients::from_store ─ add … scale(1/k) ─ clip ─ AdamW::step(gradients, schedule.lr_for_update(s))
//! ```

mod schedule;
mod gradients;
mod clip;
mod adamw;

pub use adamw::{AdamW, AdamWConfig};
pub use gradients::Gradients;
pub use schedule::{Decay, Schedule, ScheduleConfig};

/// What can go wrong between the gradients and the weights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A gradient holds NaN or infinity; the weights are as they were.
    #[error("the gradient of `{tensor}` is not finite")]
    NotFinite {
        /// The first such tensor, in the order of the parameters.
        tensor: String,
    },
    /// Settings that no run can have; one line for each.
    #[error("{}", problems.join("; "))]
    Config {
        /// Field, value and bound of each problem.
        problems: Vec<String>,
    },
    /// Saved moments that do not fit the parameters; the optimiser is as it was.
    #[error("cannot restore the optimiser: {0}")]
    State(String),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;
