//! A text that stands for the files of a split as they are now.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Hashes what is read and from where, file by file.
pub(super) struct Fingerprint<'a> {
    root: &'a Path,
    hasher: DefaultHasher,
    files: usize,
}

impl<'a> Fingerprint<'a> {
    /// Of files below `root` that are read as the text `described` says.
    pub(super) fn new(root: &'a Path, split: &str, described: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned()), split, described).hash(&mut hasher);
        Self { root, hasher, files: 0 }
    }

    /// Adds path, length and time of the last change of a file; one that is not there counts as such.
    pub(super) fn add(&mut self, path: &PathBuf) {
        let found = std::fs::metadata(self.root.join(path)).ok();
        let state =
            found.as_ref().map(|found| (found.len(), found.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
        self.files += usize::from(found.is_some());
        (path, state).hash(&mut self.hasher);
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        format!("{} files, {:016x}", self.files, self.hasher.finish())
    }
}
