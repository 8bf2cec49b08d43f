//! What can go wrong with data on disk.

use std::path::{Path, PathBuf};

/// Why a sample, a label or a data set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was being done: "read", "list", …
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not what the format says.
    #[error("cannot decode `{}` as {format}: {reason}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The format it was read as.
        format: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// What is at the path is not a file that can be read at all.
    #[error("cannot read `{}`: {reason}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A file decodes, but holds values its task does not allow.
    #[error("label `{}` of `{task}`: {reason}", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The task it should label.
        task: &'static str,
        /// What was found, where, and what was expected.
        reason: String,
    },
    /// The data set's folder is not laid out as it should be.
    #[error("data set `{name}` at `{}`: {reason}", root.display())]
    Layout {
        /// The data set.
        name: String,
        /// Its root.
        root: PathBuf,
        /// What is missing and what to do.
        reason: String,
    },
    /// A request that no data could satisfy.
    #[error("{0}")]
    Config(String),
}

impl Error {
    /// Wraps an I/O error with what was being done to which file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A path at which there is no file to read.
    pub fn file(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    /// A decoding error.
    pub fn decode(path: impl AsRef<Path>, format: &'static str, reason: impl Into<String>) -> Self {
        Self::Decode { path: path.as_ref().to_owned(), format, reason: reason.into() }
    }
}

/// The result of reading data.
pub type Result<T> = std::result::Result<T, Error>;
