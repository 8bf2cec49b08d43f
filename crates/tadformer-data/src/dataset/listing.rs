//! Which files exist, asked folder by folder: ten thousand samples cost a few directory reads, not sixty thousand
//! questions to the file system.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// The names in each folder that was asked for.
#[derive(Debug, Default)]
pub(super) struct Listing {
    folders: HashMap<PathBuf, Folder>,
}

#[derive(Debug, Default)]
struct Folder {
    names: HashSet<OsString>,
    /// Why its names are not known.
    unreadable: Option<String>,
}

impl Listing {
    /// Whether the folder of `path` has an entry of its name. A folder that cannot be read has none, see
    /// [`unreadable`](Self::unreadable).
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

    /// Why the folder of `path` could not be read, if it is there.
    pub(super) fn unreadable(&mut self, path: &Path) -> Option<String> {
        let folder = path.parent()?;
        let reason = self.folder(folder).unreadable.as_ref()?;
        Some(format!("`{}` cannot be listed: {reason}", folder.display()))
    }

    fn names(&mut self, folder: &Path) -> &HashSet<OsString> {
        &self.folder(folder).names
    }

    fn folder(&mut self, folder: &Path) -> &Folder {
        if !self.folders.contains_key(folder) {
            let listed = match fs::read_dir(folder).and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()
            }) {
                Ok(names) => Folder { names, unreadable: None },
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Folder::default(),
                Err(error) => Folder { names: HashSet::new(), unreadable: Some(error.to_string()) },
            };
            self.folders.insert(folder.to_owned(), listed);
        }
        &self.folders[folder]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_read_is_told_from_one_that_is_missing() {
        let root = tempfile::tempdir().unwrap();
        // What holds for a folder without permission holds for a file in its place, and root has every permission.
        fs::write(root.path().join("labels"), "").unwrap();
        let mut listing = Listing::default();
        let path = root.path().join("labels/a.png");
        assert!(!listing.has(&path));
        let why = listing.unreadable(&path).unwrap();
        assert!(why.contains("labels` cannot be listed: "), "{why}");
        assert_eq!(listing.unreadable(&root.path().join("none/a.png")), None);
        assert_eq!(listing.unreadable(&root.path().join("a.png")), None);
    }
}
