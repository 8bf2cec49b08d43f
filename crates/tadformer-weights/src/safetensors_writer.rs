//! Safetensors files that are written piece by piece, for tensors that never are in memory whole.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use tadformer_files::{Durability, WholeFile};

use crate::error::{Error, Result};

/// A safetensors file of `f32` tensors under way. It takes its name in [`finish`](Self::finish).
///
/// ```
/// use tadformer_weights::{SafetensorsWriter, StateDict};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("two.safetensors");
/// let mut file = SafetensorsWriter::create(&path, &[("b", vec![2]), ("a", vec![1, 3])])?;
/// file.write("a", 1, &[8.0, 9.0])?;
/// file.write("b", 0, &[1.0, 2.0])?;
/// file.write("a", 0, &[7.0])?;
/// file.finish()?;
/// assert_eq!(StateDict::read(&path)?.get("a").unwrap().to_f32(), [7.0, 8.0, 9.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SafetensorsWriter {
    file: WholeFile,
    path: PathBuf,
    /// Name, first byte and number of elements of each tensor.
    places: Vec<(String, u64, usize)>,
}

impl SafetensorsWriter {
    /// Begins the file `path` of tensors with these names and shapes. What is not written until the end is 0.
    ///
    /// # Errors
    /// A folder that cannot be written to, two tensors of one name, shapes that no disk holds.
    pub fn create(path: impl AsRef<Path>, tensors: &[(&str, Vec<usize>)]) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let failed = |e: std::io::Error| Error::io("write", &path, e);
        // The order in which the format's own crate writes tensors of one type.
        let mut sorted: Vec<_> = tensors.to_vec();
        sorted.sort_by_key(|(name, _)| *name);
        let (mut infos, mut end) = (Vec::new(), 0usize);
        let mut places: Vec<(String, u64, usize)> = Vec::new();
        for (name, shape) in sorted {
            let count = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
            let bounds = count.and_then(|n| Some((n, end.checked_add(n.checked_mul(size_of::<f32>())?)?)));
            let Some((count, next)) = bounds else {
                return Err(Error::tensor("write", name, format!("no disk holds the shape {shape:?}")));
            };
            if places.last().is_some_and(|(last, ..)| last == name) {
                return Err(Error::tensor("write", name, "there are two tensors of this name"));
            }
            let info = TensorInfo { dtype: safetensors::Dtype::F32, shape, data_offsets: (end, next) };
            infos.push((name.to_owned(), info));
            places.push((name.to_owned(), end as u64, count));
            end = next;
        }
        let refused = |e| failed(std::io::Error::other(e));
        let metadata = Metadata::new(None, infos).map_err(|e| failed(std::io::Error::other(e)))?;
        let mut header = serde_json::to_vec(&metadata).map_err(refused)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = WholeFile::create(&path).map_err(failed)?;
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(&header).map_err(failed)?;
        let start = 8 + header.len() as u64;
        file.set_len(start + end as u64).map_err(failed)?;
        places.iter_mut().for_each(|(_, first, _)| *first += start);
        Ok(Self { file, path, places })
    }

    /// Writes elements of the tensor `name`, row-major, from element `first` on.
    ///
    /// # Errors
    /// A name that the file was not begun with, elements beyond the tensor's end, a full disk.
    pub fn write(&mut self, name: &str, first: usize, values: &[f32]) -> Result<()> {
        let Some((_, start, count)) = self.places.iter().find(|(known, ..)| known == name) else {
            return Err(Error::tensor("write", name, "the file was begun without it"));
        };
        if first.checked_add(values.len()).is_none_or(|end| end > *count) {
            let reason = format!("{} elements from {first} on are more than its {count}", values.len());
            return Err(Error::tensor("write", name, reason));
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let at = SeekFrom::Start(start + (first * size_of::<f32>()) as u64);
        let written = self.file.seek(at).and_then(|_| self.file.write_all(&bytes));
        written.map_err(|e| Error::io("write", &self.path, e))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// A full disk, a name that a folder has.
    pub fn finish(self) -> Result<()> {
        let Self { file, path, .. } = self;
        file.commit(Durability::Remade).map(drop).map_err(|e| Error::io("write", &path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StateDict, Tensor};

    #[test]
    fn piece_by_piece_is_the_same_file_as_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<f32> = (0..60).map(|i| i as f32 / 7.0 - 3.0).collect();
        let tensors = [("semseg", vec![1, 3, 4, 5]), ("depth", vec![2, 2]), ("edge", vec![7])];
        let mut dict = StateDict::new();
        for (name, shape) in &tensors {
            let count = shape.iter().product();
            dict.insert(Tensor::from_f32(*name, shape.clone(), &values[..count]).unwrap()).unwrap();
        }
        let (whole, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
        dict.write_safetensors(&whole).unwrap();
        let mut file = SafetensorsWriter::create(&pieces, &tensors).unwrap();
        for first in (0..60).step_by(7).collect::<Vec<_>>().into_iter().rev() {
            for (name, shape) in &tensors {
                let count: usize = shape.iter().product();
                if first < count {
                    file.write(name, first, &values[first..count.min(first + 7)]).unwrap();
                }
            }
        }
        assert!(!pieces.exists());
        file.finish().unwrap();
        assert!(std::fs::read(&whole).unwrap() == std::fs::read(&pieces).unwrap());
    }

    #[test]
    fn what_does_not_belong_is_refused_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = SafetensorsWriter::create(&path, &[("a", vec![2, 2])]).unwrap();
        let message = file.write("b", 0, &[1.0]).unwrap_err().to_string();
        assert!(message.contains("`b`") && message.contains("begun without it"), "{message}");
        let message = file.write("a", 3, &[1.0, 2.0]).unwrap_err().to_string();
        assert!(message.contains("2 elements from 3 on are more than its 4"), "{message}");
        drop(file);
        let twice = SafetensorsWriter::create(&path, &[("a", vec![1]), ("a", vec![2])]).unwrap_err();
        assert!(twice.to_string().contains("two tensors"), "{twice}");
        let huge = SafetensorsWriter::create(&path, &[("a", vec![usize::MAX, 2])]).unwrap_err();
        assert!(huge.to_string().contains("no disk"), "{huge}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
