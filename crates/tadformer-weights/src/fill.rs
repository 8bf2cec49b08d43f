//! A file into memory, by several threads where the system can read from several places at once.

use rayon::prelude::*;
use std::fs::File;
use std::io;

/// The first `length` bytes of `file` behind those that `bytes` has, which has room for them.
///
/// # Errors
/// The file cannot be read, or ends before that.
#[cfg(unix)]
pub(crate) fn fill(bytes: &mut Vec<u8>, file: &File, length: usize) -> io::Result<()> {
    /// Bytes that one thread reads at a time: whole large pages, as long as the memory begins with one.
    const PART: usize = 4 << 20;
    let first = bytes.len();
    let space = &mut bytes.spare_capacity_mut()[..length];
    space.par_chunks_mut(PART).enumerate().try_for_each(|(i, part)| {
        let mut done = 0;
        while done < part.len() {
            done += read_at(file, &mut part[done..], i * PART + done)?;
        }
        Ok::<_, io::Error>(())
    })?;
    // SAFETY: every part was read whole.
    unsafe { bytes.set_len(first + length) };
    Ok(())
}

/// How many bytes from `offset` on could be read at once: one at least.
#[cfg(unix)]
fn read_at(file: &File, space: &mut [std::mem::MaybeUninit<u8>], offset: usize) -> io::Result<usize> {
    use std::os::fd::AsRawFd;
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    loop {
        // SAFETY: the file is open, and the call writes nowhere but to the space.
        let read = unsafe { libc::pread(file.as_raw_fd(), space.as_mut_ptr().cast(), space.len(), offset) };
        match usize::try_from(read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => return Ok(read),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// As on Unix, by one thread.
#[cfg(not(unix))]
pub(crate) fn fill(bytes: &mut Vec<u8>, mut file: &File, length: usize) -> io::Result<()> {
    use std::io::Read;
    let read = file.by_ref().take(length as u64).read_to_end(bytes)?;
    if read < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_come_to_their_place() {
        let written: Vec<u8> = (0..(9 << 20) + 7).map(|i: u32| (i % 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &written).unwrap();
        let opened = File::open(file.path()).unwrap();
        for length in [written.len(), written.len() - 1, 5, 0] {
            let mut bytes = vec![1, 2];
            bytes.reserve_exact(length);
            fill(&mut bytes, &opened, length).unwrap();
            assert!(bytes[..2] == [1, 2] && bytes[2..] == written[..length]);
        }
    }

    #[test]
    fn a_file_that_ends_too_early_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"weights").unwrap();
        let mut bytes = Vec::with_capacity(8);
        let error = fill(&mut bytes, file.as_file(), 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(bytes.len() <= 7);
    }
}
