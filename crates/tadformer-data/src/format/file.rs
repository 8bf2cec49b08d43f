//! A whole file in memory, if it is a file of sensible size.

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// The largest file that is read into memory.
const MAX_FILE: u64 = 256 << 20;

/// Reads the regular file at `path`.
///
/// # Errors
/// A file that is missing, unreadable, empty, larger than 256 MiB, or no regular file (a pipe would block for ever).
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let found = fs::metadata(path).map_err(Error::io("read", path))?;
    if !found.is_file() {
        return Err(Error::file(path, "this is no regular file; expected one"));
    }
    if found.len() > MAX_FILE {
        return Err(Error::file(path, format!("{} bytes, more than the limit of {MAX_FILE}", found.len())));
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    // The file may have grown since it was measured, so the limit is held here too.
    let mut file = fs::File::open(path).map_err(Error::io("read", path))?.take(MAX_FILE);
    file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.is_empty() {
        return Err(Error::file(path, "the file is empty; copy it again"));
    }
    Ok(bytes)
}
