//! What can go wrong between a configuration and a finished run.

use std::path::{Path, PathBuf};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that cannot be used.
    #[error("configuration: {0}")]
    Config(String),
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was being done: "read", "write", …
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("`{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found, what was expected, what to do.
        reason: String,
    },
    /// Training went wrong.
    #[error("training: {0}")]
    Training(String),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The optimiser or its schedule refused.
    #[error(transparent)]
    Optim(#[from] crate::optim::Error),
    /// Weights could not be read or written.
    #[error(transparent)]
    Weights(#[from] tadformer_weights::Error),
    /// Data could not be read.
    #[error(transparent)]
    Data(#[from] tadformer_data::Error),
    /// A meter refused an image.
    #[error("image `{id}`")]
    Metric {
        /// The image.
        id: String,
        /// Why.
        #[source]
        source: tadformer_metrics::Error,
    },
}

impl Error {
    /// Wraps an I/O error with what was being done to which file.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A file with something wrong in it.
    pub(crate) fn file(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), reason: reason.into() }
    }
}

/// The result of anything that can go wrong so.
pub type Result<T> = std::result::Result<T, Error>;
