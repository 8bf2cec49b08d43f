//! A folder that is there as a whole or not at all.

use crate::{Error, Result};
use std::path::Path;

/// Whether there is a file at `path`.
///
/// # Errors
/// A folder on the way that may not be looked into.
pub(crate) fn is_file(path: &Path) -> Result<bool> {
    tadformer_files::is_file(path).map_err(Error::io("read", path))
}

/// Makes the folder `path` with what `fill` puts into it: beside it first, then renamed.
///
/// # Errors
/// A `path` that is there already and not an empty folder, a parent that cannot be written to, or what `fill` says.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let taken = std::fs::read_dir(path).map_or(path.exists(), |mut entries| entries.next().is_some());
    if taken {
        return Err(Error::file(path, "is there already; name another folder with `--output`"));
    }
    let parent = tadformer_files::folder_of(path);
    std::fs::create_dir_all(parent).map_err(Error::io("make the folder", parent))?;
    let beside = tempfile::Builder::new()
        .prefix(".unfinished-")
        .tempdir_in(parent)
        .map_err(Error::io("make a folder in", parent))?;
    fill(beside.path())?;
    std::fs::rename(beside.path(), path).map_err(Error::io("make the folder", path))?;
    // It has another name now, so there is nothing left to remove.
    let _ = beside.keep();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let refused = write(&path, |folder| {
            std::fs::write(folder.join("half"), "x").unwrap();
            Err(Error::Config("stop".to_owned()))
        });
        assert_eq!(refused.unwrap_err().to_string(), "configuration: stop");
        assert_eq!(std::fs::read_dir(place.path().join("a")).unwrap().count(), 0);
        write(&path, |folder| {
            std::fs::write(folder.join("whole"), "x").unwrap();
            Ok(())
        })
        .unwrap();
        assert_eq!(std::fs::read_to_string(path.join("whole")).unwrap(), "x");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
            std::fs::create_dir(place.path().join("ordinary")).unwrap();
            assert_eq!(mode(&path), mode(&place.path().join("ordinary")));
        }
        let message = write(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("is there already"), "{message}");
    }
}
