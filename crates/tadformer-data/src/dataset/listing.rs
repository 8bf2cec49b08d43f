//! Which files exist, asked folder by folder: ten thousand samples cost a few directory reads, not sixty thousand
//! questions to the file system.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// The names in each folder that was asked for.
#[derive(Debug, Default)]
pub(super) struct Listing {
    folders: HashMap<PathBuf, HashSet<OsString>>,
}

impl Listing {
    /// Whether the folder of `path` has an entry of its name. A folder that cannot be read has none.
    pub(super) fn has(&mut self, path: &Path) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        self.names(folder).contains(name)
    }

    /// An entry whose name differs from that of `path` in upper and lower case only.
    pub(super) fn other_case(&mut self, path: &Path) -> Option<OsString> {
        let (folder, name) = (path.parent()?, path.file_name()?);
        let mut matches: Vec<_> =
            self.names(folder).iter().filter(|found| found.eq_ignore_ascii_case(name)).cloned().collect();
        matches.sort_unstable();
        matches.into_iter().find(|found| found.as_os_str() != OsStr::new(name))
    }

    fn names(&mut self, folder: &Path) -> &HashSet<OsString> {
        if !self.folders.contains_key(folder) {
            let names = fs::read_dir(folder)
                .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect())
                .unwrap_or_default();
            self.folders.insert(folder.to_owned(), names);
        }
        &self.folders[folder]
    }
}
