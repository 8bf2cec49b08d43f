//! Files of `torch.save`: the ZIP container of PyTorch 1.6 and later, and the older sequence of pickles.
//!
//! Formats as in `torch/serialization.py`. ZIP: `<name>/data.pkl` holds the objects, `<name>/data/<key>` one storage
//! each. Legacy: five pickles (magic number, version, machine, objects, storage keys), then for each key its element
//! count as a 64-bit integer and its bytes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::bytes::Bytes;
use crate::error::{Parse, Result, refuse};
use crate::limits::FileLimits;
use crate::pickle::{self, Arena, Node, PickleValue, StorageSpec, TensorSpec};
use crate::state_dict::Tensor;
use crate::zip::Archive;

/// The first pickle of a legacy file: the integer 0x1950a86a20f9469cfc6c.
const LEGACY_START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const LEGACY_VERSION: i64 = 1001;

/// A PyTorch file: its objects as values, its tensors as ranges of bytes. Nothing in it was executed.
pub struct Checkpoint {
    path: PathBuf,
    arena: Arena,
    storages: Vec<Bytes>,
}

impl Checkpoint {
    /// Reads a `.pth`, `.pt` or `.bin` file.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or holds what no weight file holds; nothing is allocated beyond what the
    /// file's own length justifies.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(path, Bytes::read(path)?, &FileLimits::default())
    }

    /// Whether `bytes` begin as one of the two formats does.
    pub(crate) fn recognises(bytes: &[u8]) -> bool {
        Archive::recognises(bytes) || bytes.starts_with(LEGACY_START)
    }

    /// Reads the contents of `path` from memory.
    pub(crate) fn from_bytes(path: &Path, bytes: Bytes, limits: &FileLimits) -> Result<Self> {
        let parsed =
            if Archive::recognises(&bytes) { read_zip(bytes, limits) } else { read_legacy(bytes, limits) };
        let (arena, storages) = parsed.map_err(|refusal| refusal.at(path))?;
        Ok(Self { path: path.to_owned(), arena, storages })
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The saved object itself, usually a dict.
    pub fn root(&self) -> PickleValue<'_> {
        PickleValue::new(&self.arena, self.arena.root)
    }

    /// The tensor that `value` is, under the name `name`: shared with the file if contiguous there and stored with its own
    /// sign, copied if not.
    /// `None` if it is something else. A value of another checkpoint gives `None` or a wrong tensor.
    pub fn tensor(&self, name: &str, value: PickleValue<'_>) -> Option<Tensor> {
        let spec = self.arena.tensors.get(value.tensor_index()? as usize)?;
        let storage = &self.storages[spec.storage as usize];
        let bytes = contiguous(spec, storage);
        let bytes = if spec.negated { negated(&bytes, spec.dtype.size()) } else { bytes };
        Some(Tensor::checked(name.to_owned(), spec.dtype, spec.shape.clone(), bytes))
    }

    /// Bytes of all storages together: the measure for what making tensors contiguous may cost.
    pub(crate) fn storage_bytes(&self) -> usize {
        self.storages.iter().map(|storage| storage.len()).sum()
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "checkpoint {} with {} tensors", self.path.display(), self.arena.tensors.len())
    }
}

fn read_zip(bytes: Bytes, limits: &FileLimits) -> Parse<(Arena, Vec<Bytes>)> {
    let archive = Archive::open(bytes, limits)?;
    let mut pickles = archive
        .names()
        .filter(|name| name.split('/').nth(1) == Some("data.pkl") && name.matches('/').count() == 1);
    let Some(name) = pickles.next().map(str::to_owned) else {
        return refuse("the archive has no `data.pkl`: it was not written by `torch.save`");
    };
    if pickles.next().is_some() {
        return refuse("the archive has more than one `data.pkl`");
    }
    drop(pickles);
    let prefix = name.strip_suffix("data.pkl").expect("the name ends so");
    let order = format!("{prefix}byteorder");
    if archive.size(&order).is_some() && &*archive.read(&order)? != b"little" {
        return refuse("it was written on a big-endian machine; save it again on a little-endian one");
    }
    if archive.size(&name).is_some_and(|size| size > limits.pickle_bytes) {
        return refuse(format!("its pickle is larger than {} bytes", limits.pickle_bytes));
    }
    let (arena, _) = pickle::run(archive.read(&name)?, limits)?;
    if arena.tensors.is_empty() && archive.names().any(|name| name.starts_with(&format!("{prefix}code/"))) {
        return refuse("it is a TorchScript program; save the `state_dict()` of the module instead");
    }
    let mut storages = Vec::new();
    let mut inflated: HashMap<&str, Bytes> = HashMap::new();
    for spec in &arena.storages {
        let entry = format!("{prefix}data/{}", spec.key);
        match archive.size(&entry) {
            Some(size) if size == spec.bytes() => {}
            Some(size) => {
                let expected = spec.bytes();
                return refuse(format!("the storage `{}` has {size} bytes and claims {expected}", spec.key));
            }
            None => return refuse(format!("the storage `{}` is not in the archive", spec.key)),
        }
        let bytes = match inflated.get(spec.key.as_str()) {
            Some(bytes) => bytes.clone(),
            None => archive.read(&entry)?,
        };
        inflated.insert(&spec.key, bytes.clone());
        storages.push(bytes);
    }
    drop(inflated);
    Ok((arena, storages))
}

fn read_legacy(bytes: Bytes, limits: &FileLimits) -> Parse<(Arena, Vec<Bytes>)> {
    if !bytes.starts_with(LEGACY_START) {
        return refuse("it is neither a safetensors file nor one of `torch.save`");
    }
    let mut at = LEGACY_START.len();
    let mut next = |what: &str| -> Parse<(Arena, usize)> {
        let rest = bytes.slice(at..bytes.len()).expect("`at` lies inside");
        let (arena, length) = pickle::run(rest, limits)
            .map_err(|refusal| crate::error::Refusal(format!("{what}: {}", refusal.0)))?;
        at += length;
        Ok((arena, at))
    };
    let (version, _) = next("the version")?;
    if !matches!(version.node(version.root), Node::Int(LEGACY_VERSION)) {
        return refuse(format!(
            "its format version is {}; {LEGACY_VERSION} is read",
            version.kind(version.root)
        ));
    }
    let (machine, _) = next("the machine's description")?;
    let little = PickleValue::new(&machine, machine.root).get("little_endian").and_then(PickleValue::as_bool);
    if little == Some(false) {
        return refuse("it was written on a big-endian machine; save it again on a little-endian one");
    }
    let (arena, _) = next("the objects")?;
    let (keys, mut at) = next("the list of storages")?;
    let specs: HashMap<&str, &StorageSpec> =
        arena.storages.iter().map(|spec| (spec.key.as_str(), spec)).collect();
    let mut found = HashMap::new();
    for key in PickleValue::new(&keys, keys.root).members() {
        let Some(spec) = key.as_str().and_then(|key| specs.get(key)) else {
            return refuse("it lists a storage that no tensor views");
        };
        let Some(count) = bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|b| u64::from_le_bytes(*b))
        else {
            return refuse(format!("it ends before the storage `{}`", spec.key));
        };
        if count != spec.numel as u64 {
            return refuse(format!(
                "the storage `{}` has {count} elements and claims {}",
                spec.key, spec.numel
            ));
        }
        let start = at + 8;
        let Some(storage) = start.checked_add(spec.bytes()).and_then(|stop| bytes.slice(start..stop)) else {
            return refuse(format!(
                "it ends inside of the storage `{}`; the download or copy was cut off",
                spec.key
            ));
        };
        at = start + storage.len();
        if found.insert(spec.key.as_str(), storage).is_some() {
            return refuse(format!("it lists the storage `{}` twice", spec.key));
        }
    }
    let mut storages = Vec::new();
    for spec in &arena.storages {
        match found.get(spec.key.as_str()) {
            Some(bytes) if bytes.len() == spec.bytes() => storages.push(bytes.clone()),
            _ => return refuse(format!("the storage `{}` is not in the file", spec.key)),
        }
    }
    Ok((arena, storages))
}

/// The elements of a strided view in row-major order. The view was checked to lie inside its storage, and the
/// storage to have its declared size.
fn contiguous(spec: &TensorSpec, storage: &Bytes) -> Bytes {
    let size = spec.dtype.size();
    let elements: usize = spec.shape.iter().product();
    if elements == 0 {
        return Vec::new().into();
    }
    if is_contiguous(spec) {
        let start = spec.offset * size;
        return storage.slice(start..start + elements * size).expect("the view lies inside its storage");
    }
    let mut bytes = Vec::with_capacity(elements * size);
    let mut index = vec![0usize; spec.shape.len()];
    let mut at = spec.offset;
    for _ in 0..elements {
        bytes.extend_from_slice(&storage[at * size..][..size]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at += spec.strides[axis];
            if index[axis] < spec.shape[axis] {
                break;
            }
            at -= spec.strides[axis] * index[axis];
            index[axis] = 0;
        }
    }
    bytes.into()
}

/// Floats of `size` bytes with the other sign, which is the highest bit of the last byte.
fn negated(bytes: &[u8], size: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    for last in bytes.iter_mut().skip(size - 1).step_by(size) {
        *last ^= 0x80;
    }
    bytes.into()
}

fn is_contiguous(spec: &TensorSpec) -> bool {
    let mut expected = 1;
    for (&side, &stride) in spec.shape.iter().zip(&spec.strides).rev() {
        if side != 1 && stride != expected {
            return false;
        }
        expected *= side;
    }
    true
}
