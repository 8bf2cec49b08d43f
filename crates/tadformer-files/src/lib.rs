//! Files that appear under their name as a whole or not at all: written beside it, then renamed.
//!
//! Every file that the workspace writes in one go is written here, so that there is one rule for what a reader may see
//! (the old file or the new one), for permissions (those of the umask) and for what a power failure may take.
//!
//! ```
//! use std::io::Write;
//! use tadformer_files::{Durability, WholeFile};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("scores.txt");
//! let mut file = WholeFile::create(&path)?;
//! write!(file, "42")?;
//! assert!(!path.exists());
//! file.commit(Durability::Synced)?;
//! assert_eq!(std::fs::read_to_string(&path)?, "42");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// What a power failure may take of a file that has just got its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: bytes are on the disk before the name is. For what took work to make, or says what was done.
    Synced,
    /// Its content. For pictures and the like, which are soon made again; a sync costs more than they do.
    Remade,
}

/// A file that is being written beside its place. It takes the place by [`commit`](Self::commit); dropped before, it
/// leaves nothing behind.
#[derive(Debug)]
pub struct WholeFile {
    out: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl WholeFile {
    /// Begins a file that is to be called `path`.
    ///
    /// # Errors
    /// A folder that is missing or cannot be written to.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let file = make_in(folder_of(&path))?;
        Ok(Self { out: BufWriter::new(file), path })
    }

    /// Where it is until then, for writers that take a path.
    pub fn beside(&self) -> &Path {
        self.out.get_ref().path()
    }

    /// Makes the file as long as it is going to be; what is not written is 0.
    ///
    /// # Errors
    /// A disk without as much space, where the system looks for it now.
    pub fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.out.get_ref().as_file().set_len(length)
    }

    /// Gives the file its name, in the place of any other file there, and hands it over.
    ///
    /// # Errors
    /// A disk that is full, a name that a folder has.
    pub fn commit(self, durability: Durability) -> io::Result<File> {
        let Self { out, path } = self;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        if durability == Durability::Synced {
            file.as_file().sync_all()?;
        }
        let file = file.persist(&path).map_err(|refused| refused.error)?;
        if durability == Durability::Synced {
            sync_folder(folder_of(&path));
        }
        Ok(file)
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Seek for WholeFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.out.seek(to)
    }
}

/// Writes `bytes` as the file `path`.
///
/// # Errors
/// A folder that is missing or cannot be written to, a full disk.
pub fn write(path: impl AsRef<Path>, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = WholeFile::create(path)?;
    file.write_all(bytes)?;
    file.commit(durability).map(drop)
}

/// Whether there is a file at `path`.
///
/// # Errors
/// A folder on the way that may not be looked into: what is in there is not missing, it is not known.
pub fn is_file(path: &Path) -> io::Result<bool> {
    match path.metadata() {
        Ok(found) => Ok(found.is_file()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A rename is durable once its folder is; not every system can sync one, and the file itself is safe.
pub fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// A temporary file is its owner's alone by default; this one becomes an ordinary file, open to whom the umask lets.
fn make_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".unfinished-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder).map_err(plain)
}

/// The system's own words, without the temporary name that `tempfile` adds to them and nobody knows.
fn plain(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.rsplit_once(" at path \"") {
        Some((own, _)) => io::Error::new(error.kind(), own.to_owned()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        std::fs::read_dir(folder).unwrap().map(name).collect()
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for durability in [Durability::Synced, Durability::Remade] {
            std::fs::write(&path, "old").unwrap();
            let mut file = WholeFile::create(&path).unwrap();
            file.write_all(b"new and longer").unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(b"NEW").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"old");
            file.commit(durability).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"NEW and longer");
            assert_eq!(names(folder.path()), ["file"]);
        }
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = WholeFile::create(folder.path().join("file")).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn another_writer_may_fill_it_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = WholeFile::create(&path).unwrap();
        std::fs::write(file.beside(), "by path").unwrap();
        file.commit(Durability::Synced).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"by path");
    }

    #[test]
    fn errors_are_the_systems_own() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(folder.path().join("none/file"), b"", Durability::Synced).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!error.to_string().contains("unfinished"), "{error}");
        std::fs::create_dir(folder.path().join("taken")).unwrap();
        let error = write(folder.path().join("taken"), b"", Durability::Synced).unwrap_err();
        assert!(!error.to_string().contains("unfinished"), "{error}");
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn what_cannot_be_looked_for_is_not_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(is_file(&file).unwrap());
        for missing in [folder.path().join("none"), file.join("below"), folder.path().to_owned()] {
            assert!(!is_file(&missing).unwrap(), "{missing:?}");
        }
        // Permissions stop nobody who runs tests as root; a name that no system takes stops all.
        let error = is_file(&folder.path().join("x".repeat(5000))).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_a_file_made_in_place() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| folder.path().join(name).metadata().unwrap().permissions().mode();
        std::fs::write(folder.path().join("in place"), "").unwrap();
        write(folder.path().join("beside"), b"", Durability::Remade).unwrap();
        assert_eq!(mode("beside"), mode("in place"));
    }
}
