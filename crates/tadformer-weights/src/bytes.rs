//! Bytes of a file, read once and shared: tensors are ranges of one allocation or mapping.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fill::fill;
use crate::large_pages::welcome_large_pages;

/// A shared, immutable run of bytes; clones and slices point into the same memory.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<Owner>,
    range: Range<usize>,
}

enum Owner {
    Heap(Vec<u8>),
    Map(memmap2::Mmap),
}

impl Bytes {
    /// Reads a regular file into one allocation of exactly its length.
    ///
    /// # Errors
    /// The path cannot be read, is no regular file, is cut while it is read, or is larger than the memory that can be had.
    pub fn read(path: &Path) -> Result<Self> {
        let (file, length) = open(path)?;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(length)
            .map_err(|e| Error::io("hold in memory", path, std::io::Error::other(e)))?;
        welcome_large_pages(&mut bytes);
        fill(&mut bytes, &file, length).map_err(|e| Error::io("read", path, e))?;
        Ok(bytes.into())
    }

    /// Maps a file into memory: nothing is read before it is used, and processes that map it share its pages.
    ///
    /// # Safety
    /// While this value or a clone or slice of it lives, nobody may write to the file or truncate it: readers would
    /// see bytes change under them, and a truncation ends the process. Files that are only ever replaced by
    /// renaming, such as the blobs of the Hugging Face cache and the files this crate writes, keep that promise.
    ///
    /// # Errors
    /// The path cannot be read, is no regular file, or cannot be mapped.
    pub unsafe fn map(path: &Path) -> Result<Self> {
        let (file, length) = open(path)?;
        if length == 0 {
            return Ok(Vec::new().into());
        }
        // SAFETY: the caller promises that the file does not change while the mapping lives.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))?;
        let range = 0..map.len();
        Ok(Self { owner: Arc::new(Owner::Map(map)), range })
    }

    /// The bytes `range` of these, sharing their memory, or `None` if they end before it.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Self { owner: Arc::clone(&self.owner), range: start..start + range.len() })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.owner {
            Owner::Heap(bytes) => bytes,
            Owner::Map(map) => map,
        };
        &all[self.range.clone()]
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { owner: Arc::new(Owner::Heap(bytes)), range }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

fn open(path: &Path) -> Result<(File, usize)> {
    let describe = |e| Error::io("open", path, e);
    // Checked before opening: opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(describe)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a folder" } else { "no regular file" };
        return Err(Error::Refused {
            path: path.to_owned(),
            reason: format!("it is {kind}; give the path of a .safetensors, .pth or .bin file"),
        });
    }
    let file = File::open(path).map_err(describe)?;
    let length = file.metadata().map_err(describe)?.len();
    let length = usize::try_from(length).map_err(|e| describe(std::io::Error::other(e)))?;
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_memory_and_never_leave_it() {
        let bytes: Bytes = vec![1, 2, 3, 4, 5].into();
        let middle = bytes.slice(1..4).unwrap();
        assert_eq!(&*middle, [2, 3, 4]);
        assert_eq!(middle.as_ptr(), bytes[1..].as_ptr());
        assert_eq!(&*middle.slice(1..3).unwrap(), [3, 4]);
        assert!(middle.slice(0..4).is_none());
        #[expect(clippy::reversed_empty_ranges, reason = "the case under test")]
        let reversed = 3..2;
        assert!(middle.slice(reversed).is_none());
    }

    #[test]
    fn a_mapping_reads_as_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"weights").unwrap();
        // SAFETY: nobody else knows the temporary file.
        let mapped = unsafe { Bytes::map(file.path()) }.unwrap();
        assert_eq!(&*mapped, b"weights");
        assert_eq!(&*Bytes::read(file.path()).unwrap(), b"weights");
    }

    #[test]
    fn a_folder_is_no_weight_file() {
        let message = Bytes::read(Path::new(".")).unwrap_err().to_string();
        assert!(message.contains("it is a folder"), "{message}");
    }
}
