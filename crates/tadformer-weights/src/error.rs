//! What can go wrong between a file and its tensors, by what the reader of the message can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A weight file that could not be read, named, used or fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused: the path does not exist, cannot be read, the disk is full.
    #[error("cannot {doing} `{path}`", path = path.display())]
    Io {
        /// What was being done, as the rest of "cannot …".
        doing: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is damaged, lies about its contents, or asks for something a weight file must not ask for.
    #[error("cannot read weights from `{path}`: {reason}", path = path.display())]
    Refused {
        /// The file concerned.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A tensor's parts contradict each other, or it is not of a kind the operation accepts.
    #[error("cannot {doing} `{name}`: {reason}")]
    Tensor {
        /// What was being done, as the rest of "cannot …".
        doing: &'static str,
        /// The tensor's name.
        name: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The names in the file follow none of the known Swin layouts, or follow one incompletely.
    #[error("cannot map tensor names: {0}")]
    Names(String),
    /// A tensor with numbers that no weight, picture or moment can be.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// A model name that is in no table and a path that does not exist.
    #[error("no weights `{name}`: neither a file nor a known model ({known})")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// The known names, joined by commas.
        known: String,
    },
    /// The weights are known but not in the local cache.
    #[error("the weights `{name}` are not in the cache `{cache}`: run `cargo xtask download-weights {name}`", cache = cache.display())]
    NotCached {
        /// The model's name or repository.
        name: String,
        /// The cache folder that was searched.
        cache: PathBuf,
    },
    /// A download that failed; nothing of it is in the cache under its final name.
    #[cfg(feature = "hub")]
    #[error("cannot download `{what}`: {reason}")]
    Download {
        /// Address or `repository/file`.
        what: String,
        /// What happened and what to do.
        reason: String,
    },
    /// The environment names no place for the cache, or an endpoint that is no address.
    #[error("cannot locate the weight cache: {0}")]
    Environment(String),
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }

    pub(crate) fn tensor(doing: &'static str, name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { doing, name: name.to_owned(), reason: reason.into() }
    }
}

/// How many numbers of a tensor are NaN, infinite, or beyond the range of `f32`, and where the first of them is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{count} of the {of} numbers of `{name}` are not finite in f32, the first is {value} at {index:?}")]
pub struct NotFinite {
    /// The tensor's name.
    pub name: String,
    /// How many numbers are not finite.
    pub count: usize,
    /// How many numbers the tensor has.
    pub of: usize,
    /// Place of the first, outermost side first.
    pub index: Vec<usize>,
    /// The first as it is stored.
    pub value: f64,
}

/// Why a parser stopped; the caller, who knows the path, makes it an [`Error::Refused`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

impl Refusal {
    pub(crate) fn at(self, path: &Path) -> Error {
        Error::Refused { path: path.to_owned(), reason: self.0 }
    }
}

/// Result of a parser that sees bytes and no path.
pub(crate) type Parse<T> = Result<T, Refusal>;

/// Ends a parser with a reason.
pub(crate) fn refuse<T>(reason: impl Into<String>) -> Parse<T> {
    Err(Refusal(reason.into()))
}
