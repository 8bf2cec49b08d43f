//! Arrays that are written piece by piece.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tadformer_files::{Durability, WholeFile};

use crate::{Error, Result};

/// The header's length, mark and length field included, is a multiple of this.
const ALIGNMENT: usize = 64;

/// A `.npy` file of `f32` under way (version 1, little-endian, last dimension fastest). It takes its name in
/// [`finish`](Self::finish).
#[derive(Debug)]
pub struct NpyWriter {
    file: WholeFile,
    path: PathBuf,
    start: u64,
    count: usize,
}

impl NpyWriter {
    /// Begins the array `path` of this shape. What is not written until the end is 0.
    ///
    /// # Errors
    /// A folder that cannot be written to, a shape that no disk holds.
    pub fn create(path: impl AsRef<Path>, shape: &[usize]) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let count = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
        let Some((count, bytes)) = count.and_then(|n| Some((n, n.checked_mul(size_of::<f32>())?))) else {
            return Err(Error::Config(format!("cannot write `{}`: no disk holds {shape:?}", path.display())));
        };
        let header = header(shape);
        let start = header.len() as u64;
        let begun = WholeFile::create(&path).and_then(|mut file| {
            file.write_all(&header)?;
            file.set_len(start + bytes as u64)?;
            Ok(file)
        });
        Ok(Self { file: begun.map_err(Error::io("write", &path))?, path, start, count })
    }

    /// Writes elements from element `first` on.
    ///
    /// # Errors
    /// Elements beyond the array's end, a full disk.
    pub fn write(&mut self, first: usize, values: &[f32]) -> Result<()> {
        if first.checked_add(values.len()).is_none_or(|end| end > self.count) {
            return Err(Error::Config(format!(
                "cannot write `{}`: {} elements from {first} on are more than its {}",
                self.path.display(),
                values.len(),
                self.count
            )));
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let at = SeekFrom::Start(self.start + (first * size_of::<f32>()) as u64);
        let written = self.file.seek(at).and_then(|_| self.file.write_all(&bytes));
        written.map_err(Error::io("write", &self.path))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// A full disk, a name that a folder has.
    pub fn finish(self) -> Result<()> {
        self.file.commit(Durability::Remade).map(drop).map_err(Error::io("write", &self.path))
    }
}

/// Mark, version, length and text of the header (NEP 1).
fn header(shape: &[usize]) -> Vec<u8> {
    let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    // A tuple of one keeps its comma.
    let sides = if shape.len() == 1 { sides.trim_end() } else { sides.trim_end_matches(", ") };
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sides}), }}");
    let length = (10 + text.len() + 1).next_multiple_of(ALIGNMENT) - 10;
    text.extend(std::iter::repeat_n(' ', length - 1 - text.len()));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    // Few dimensions of at most 20 digits: far below 64 KiB.
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.into_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::npy::Npy;

    #[test]
    fn headers_are_as_numpy_writes_them() {
        // `numpy.save` of zeros((2, 3)), zeros(5) and zeros(()), float32.
        for (shape, tuple) in [(&[2, 3][..], "(2, 3)"), (&[5], "(5,)"), (&[], "()")] {
            let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple}, }}");
            let found = header(shape);
            assert_eq!(found.len(), 128, "{tuple}");
            assert_eq!(&found[..10], b"\x93NUMPY\x01\x00\x76\x00");
            let written = std::str::from_utf8(&found[10..]).unwrap();
            assert_eq!(written.trim_end(), text);
            assert!(written.ends_with(" \n"));
        }
    }

    #[test]
    fn pieces_in_any_order_are_read_as_one_array() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("array.npy");
        let values: Vec<f32> = (0..24).map(|i| i as f32 / 3.0).collect();
        let mut file = NpyWriter::create(&path, &[2, 3, 4]).unwrap();
        file.write(10, &values[10..]).unwrap();
        file.write(0, &values[..10]).unwrap();
        let message = file.write(23, &[0.0; 2]).unwrap_err().to_string();
        assert!(message.contains("2 elements from 23 on are more than its 24"), "{message}");
        assert!(!path.exists());
        file.finish().unwrap();
        let array = Npy::read(&path).unwrap();
        assert_eq!((array.shape.as_slice(), array.to_f32()), ([2, 3, 4].as_slice(), values));
        let huge = NpyWriter::create(&path, &[usize::MAX, 2]).unwrap_err().to_string();
        assert!(huge.contains("no disk holds"), "{huge}");
    }
}
