//! Named tensors in the order of their file, whatever the file's format.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::bytes::Bytes;
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::error::{Error, NotFinite, Result};
use crate::large_pages::welcome_large_pages;
use crate::limits::FileLimits;
use crate::safetensors_file;

/// A named array: row-major, little-endian, its bytes shared with the file it came from.
#[derive(Debug, Clone)]
pub struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl Tensor {
    /// A tensor of `bytes`, row-major and little-endian.
    ///
    /// # Errors
    /// The number of bytes is not that of `shape` and `dtype`.
    pub fn new(
        name: impl Into<String>,
        dtype: Dtype,
        shape: Vec<usize>,
        bytes: impl Into<Bytes>,
    ) -> Result<Self> {
        let (name, bytes) = (name.into(), bytes.into());
        let expected = shape.iter().try_fold(dtype.size(), |n, &side| n.checked_mul(side));
        if expected != Some(bytes.len()) {
            let reason = format!("{} bytes do not make {dtype} {shape:?}", bytes.len());
            return Err(Error::tensor("make the tensor", &name, reason));
        }
        Ok(Self { name, dtype, shape, bytes })
    }

    /// A tensor of `f32` values in row-major order.
    ///
    /// # Errors
    /// The number of values is not that of `shape`.
    pub fn from_f32(name: impl Into<String>, shape: Vec<usize>, values: &[f32]) -> Result<Self> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(name, Dtype::F32, shape, bytes)
    }

    /// A tensor whose parts a parser has checked.
    pub(crate) fn checked(name: String, dtype: Dtype, shape: Vec<usize>, bytes: Bytes) -> Self {
        debug_assert_eq!(bytes.len(), dtype.size() * shape.iter().product::<usize>());
        Self { name, dtype, shape, bytes }
    }

    /// Its name, dots between the parts.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its sides, outermost first; empty for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements, row-major and little-endian.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its elements as the nearest `f32`, in row-major order.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.bytes.len() / self.dtype.size());
        welcome_large_pages(&mut values);
        self.dtype.extend_f32(&self.bytes, &mut values);
        values
    }

    /// As [`to_f32`](Self::to_f32), where every number has to be one: a NaN spreads over all that is computed from it.
    ///
    /// # Errors
    /// [`NotFinite`] if there is a NaN, an infinity, or a number beyond the range of `f32`.
    pub fn to_finite_f32(&self) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.bytes.len() / self.dtype.size());
        welcome_large_pages(&mut values);
        if self.dtype.extend_finite_f32(&self.bytes, &mut values) {
            return Ok(values);
        }
        Err(self.not_finite_of(&values).expect("one was seen").into())
    }

    /// Its numbers that are NaN, infinite, or beyond the range of `f32`; `None` if there are none.
    pub fn not_finite(&self) -> Option<NotFinite> {
        self.not_finite_of(&self.to_f32())
    }

    fn not_finite_of(&self, values: &[f32]) -> Option<NotFinite> {
        let first = values.iter().position(|value| !value.is_finite())?;
        let mut index = vec![0; self.shape.len()];
        let mut rest = first;
        for (place, side) in index.iter_mut().zip(&self.shape).rev() {
            (*place, rest) = (rest % side, rest / side);
        }
        Some(NotFinite {
            name: self.name.clone(),
            count: values.iter().filter(|value| !value.is_finite()).count(),
            of: values.len(),
            index,
            value: self.dtype.first_f64(&self.bytes[first * self.dtype.size()..])?,
        })
    }

    /// The same array under another name.
    #[must_use]
    pub fn renamed(&self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self.clone() }
    }
}

/// Something in a file that is no tensor of the state dict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its key in the file.
    pub name: String,
    /// What it is.
    pub kind: String,
}

/// Named tensors in the order of their file. Clones share the tensors' bytes.
///
/// ```
/// use tadformer_weights::{StateDict, Tensor};
///
/// let mut dict = StateDict::new();
/// dict.insert(Tensor::from_f32("norm.weight", vec![2], &[1.0, 0.5])?)?;
/// assert_eq!(dict.get("norm.weight").unwrap().to_f32(), [1.0, 0.5]);
/// # Ok::<(), tadformer_weights::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    tensors: Vec<Tensor>,
    index: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
    skipped: Vec<Skipped>,
    checkpoint: Option<Arc<Checkpoint>>,
}

impl StateDict {
    /// A dict without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a safetensors or PyTorch file, told apart by their contents.
    ///
    /// The file is read into one allocation and the tensors are ranges of it, so a clone of the dict, or a second
    /// model made from it, costs no second copy of the bytes. A PyTorch file's tensors are looked for at its top, then
    /// under `model`, `state_dict`, `model_state_dict`, `module`, `net` and `model_ema`, in this order; a prefix
    /// `module.` or `_orig_mod.` that all names share is taken off.
    ///
    /// # Errors
    /// The file cannot be read, is of another format, is damaged, lies about its contents, or holds no tensors.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(path, Bytes::read(path)?)
    }

    /// As [`read`](Self::read), but the file is mapped instead of read: safetensors and contiguous PyTorch tensors
    /// are pages of the file that the system loads when they are used and shares between processes.
    ///
    /// # Safety
    /// That of [`Bytes::map`]: nobody writes to the file or truncates it while the dict or any tensor of it lives.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub unsafe fn map(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // SAFETY: the caller's promise is the same.
        let bytes = unsafe { Bytes::map(path) }?;
        Self::from_bytes(path, bytes)
    }

    /// Reads a file's contents from memory; `path` is for messages.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), but for reading.
    pub fn from_bytes(path: &Path, bytes: impl Into<Bytes>) -> Result<Self> {
        Self::from_bytes_within(path, bytes, &FileLimits::default())
    }

    /// As [`from_bytes`](Self::from_bytes), with other limits to what a PyTorch file may ask for.
    ///
    /// # Errors
    /// Those of [`from_bytes`](Self::from_bytes).
    pub fn from_bytes_within(path: &Path, bytes: impl Into<Bytes>, limits: &FileLimits) -> Result<Self> {
        let bytes = bytes.into();
        if Checkpoint::recognises(&bytes) {
            return Checkpoint::from_bytes(path, bytes, limits)?.into_state_dict(None);
        }
        safetensors_file::read(&bytes).map_err(|refusal| refusal.at(path))
    }

    /// Reads the tensors that a PyTorch file holds under one of its top-level keys, such as `model_ema`.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); also if the file is no PyTorch file or has no tensors under that key.
    pub fn read_key(path: impl AsRef<Path>, key: &str) -> Result<Self> {
        Checkpoint::read(path)?.into_state_dict(Some(key))
    }

    /// Writes all tensors as a safetensors file, beside it first and then renamed, so that a reader of `path` never
    /// sees half of it. Tensors are ordered by element size and name, as the format's own writer does.
    ///
    /// # Errors
    /// The folder cannot be written to; the file that was there stays as it was.
    pub fn write_safetensors(&self, path: impl AsRef<Path>) -> Result<()> {
        safetensors_file::write(self, path.as_ref())
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&at| &self.tensors[at])
    }

    /// All tensors, in the file's order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tensor> {
        self.tensors.iter()
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Adds a tensor at the end.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn insert(&mut self, tensor: Tensor) -> Result<()> {
        if self.index.contains_key(&tensor.name) {
            return Err(Error::tensor("add the tensor", &tensor.name, "there is one of that name already"));
        }
        self.index.insert(tensor.name.clone(), self.tensors.len());
        self.tensors.push(tensor);
        Ok(())
    }

    /// Puts a tensor in the place of the one of its name, or adds it at the end; returns the one that was there.
    pub fn replace(&mut self, tensor: Tensor) -> Option<Tensor> {
        match self.index.get(&tensor.name) {
            Some(&at) => Some(std::mem::replace(&mut self.tensors[at], tensor)),
            None => {
                self.index.insert(tensor.name.clone(), self.tensors.len());
                self.tensors.push(tensor);
                None
            }
        }
    }

    /// The texts in the header of a safetensors file; those that [`write_safetensors`](Self::write_safetensors) writes.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The header texts, to change.
    pub fn metadata_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.metadata
    }

    /// Entries of a PyTorch state dict that are no tensors, and so are not among these.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The whole PyTorch file, if these tensors came from one: its configuration, epoch, optimizer state.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_deref()
    }

    pub(crate) fn add_skipped(&mut self, name: String, kind: String) {
        self.skipped.push(Skipped { name, kind });
    }

    pub(crate) fn set_checkpoint(&mut self, checkpoint: Checkpoint) {
        self.checkpoint = Some(Arc::new(checkpoint));
    }
}

impl<'a> IntoIterator for &'a StateDict {
    type Item = &'a Tensor;
    type IntoIter = std::slice::Iter<'a, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_told_with_its_place() {
        let mut values = [0.5f32; 12];
        let tensor = |values: &[f32]| Tensor::from_f32("attn.qkv.weight", vec![2, 3, 2], values).unwrap();
        assert_eq!(tensor(&values).to_finite_f32().unwrap(), values);
        (values[7], values[10]) = (f32::NEG_INFINITY, f32::NAN);
        assert_eq!(
            tensor(&values).to_finite_f32().unwrap_err().to_string(),
            "2 of the 12 numbers of `attn.qkv.weight` are not finite in f32, the first is -inf at [1, 0, 1]"
        );
        let large = Tensor::new("scale", Dtype::F64, vec![], 1e300f64.to_le_bytes().to_vec()).unwrap();
        let found = large.not_finite().unwrap();
        assert_eq!((found.value, found.index, found.count), (1e300, vec![], 1));
    }
}
