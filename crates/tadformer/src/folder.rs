//! A folder that is there as a whole or not at all.

use crate::{Error, Result};
use std::path::Path;

/// Makes the folder `path` with what `fill` puts into it: beside it first, then renamed.
///
/// # Errors
/// A `path` that is there already and not an empty folder, a parent that cannot be written to, or what `fill` says.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let taken = std::fs::read_dir(path).map_or(path.exists(), |mut entries| entries.next().is_some());
    if taken {
        return Err(Error::file(path, "is there already; name another folder with `--output`"));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(Error::io("make the folder", parent))?;
    let beside = tempfile::Builder::new()
        .prefix(".unfinished-")
        .tempdir_in(parent)
        .map_err(Error::io("make a folder in", parent))?;
    fill(beside.path())?;
    readable_by_all(beside.path()).map_err(Error::io("make readable", beside.path()))?;
    std::fs::rename(beside.path(), path).map_err(Error::io("make the folder", path))?;
    // It has another name now, so there is nothing left to remove.
    let _ = beside.keep();
    Ok(())
}

/// Temporary folders are made for their owner alone.
#[cfg(unix)]
fn readable_by_all(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn readable_by_all(_: &Path) -> std::io::Result<()> {
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
        assert!(refused.is_err());
        assert_eq!(std::fs::read_dir(place.path().join("a")).unwrap().count(), 0);
        write(&path, |folder| {
            std::fs::write(folder.join("whole"), "x").unwrap();
            Ok(())
        })
        .unwrap();
        assert_eq!(std::fs::read_to_string(path.join("whole")).unwrap(), "x");
        let message = write(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("is there already"), "{message}");
    }
}
