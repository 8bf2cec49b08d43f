//! Decoded samples in one file, so that JPEG, PNG and MATLAB files are decoded once and not once an epoch.
//!
//! The file holds a mark, one [block](block) a sample, an index in JSON, and a footer: length and CRC-32 of the index, and the
//! mark again. It is written beside its place and renamed, so a file of that name is complete. Samples come back bit for
//! bit, by positioned reads: any number of threads share one descriptor, and the system's page cache is the only one.
//!
//! A cache of other data is built again when it is opened. A sample that is damaged is read from the data set, and the file
//! is removed, so that the next to open it builds it again.

mod block;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tadformer_files::{Durability, WholeFile};

use crate::{Dataset, Error, Result, Sample, TaskSpec};

/// First and last bytes of the file; the digit is the version of the layout.
const MARK: &[u8; 8] = b"TADCACH1";
/// The version of what is read from a data set's files; it rises when a reader or a rule gives other numbers.
const READERS: u32 = 1;
/// Length of the index, its checksum, and the mark.
const FOOTER: u64 = 8 + 4 + 8;
/// Samples that are decoded at once while a cache is built; what they take is the memory that it needs.
const CHUNK: usize = 32;

/// A data set read from its cache.
///
/// The name, the tasks and the names of the samples are those of the data set behind it.
pub struct CachedDataset {
    dataset: Arc<dyn Dataset>,
    path: PathBuf,
    file: PositionedFile,
    blocks: Vec<Block>,
}

/// What a cache was made from; another key makes it worthless.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    readers: u32,
    name: String,
    fingerprint: String,
    /// Name and outputs of each task.
    tasks: Vec<(String, usize)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    key: Key,
    blocks: Vec<Block>,
}

/// Where a sample lies.
#[derive(Debug, Serialize, Deserialize)]
struct Block {
    id: String,
    offset: u64,
    length: u64,
    crc: u32,
}

impl CachedDataset {
    /// Opens the cache of `dataset` at `path`, or builds it there if there is none, or none of this data.
    ///
    /// `fingerprint` stands for what the data set is read from, as [`Dataset::fingerprint`] gives it: text that changes when
    /// the files or the way they are read do. Name, tasks and names of samples are compared too.
    /// While it builds, `progress(done, all)` is called now and then.
    ///
    /// # Errors
    /// A sample that cannot be read, or a file that cannot be written; then what stood at `path` stands there still.
    pub fn open(
        dataset: Arc<dyn Dataset>,
        path: impl AsRef<Path>,
        fingerprint: &str,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let key = Key::new(dataset.as_ref(), fingerprint);
        if let Some((file, blocks)) = read_index(&path, &key, dataset.as_ref()) {
            return Ok(Self { dataset, path, file, blocks });
        }
        let (file, blocks) = build(dataset.as_ref(), &path, key, progress)?;
        Ok(Self { dataset, path, file, blocks })
    }

    /// The sample, if its bytes are as they were written.
    fn read(&self, index: usize) -> Option<Sample> {
        let block = self.blocks.get(index)?;
        let bytes = self.file.read(block.offset, block.length).ok()?;
        if checksum(&bytes) != block.crc {
            return None;
        }
        let (image, labels) = block::decode(&bytes, self.dataset.tasks())?;
        Some(Sample { id: block.id.clone(), image, labels })
    }
}

impl Dataset for CachedDataset {
    fn name(&self) -> &str {
        self.dataset.name()
    }

    fn tasks(&self) -> &[TaskSpec] {
        self.dataset.tasks()
    }

    fn len(&self) -> usize {
        self.blocks.len()
    }

    fn id(&self, index: usize) -> String {
        self.dataset.id(index)
    }

    fn fingerprint(&self) -> Option<String> {
        self.dataset.fingerprint()
    }

    fn load(&self, index: usize) -> Result<Sample> {
        if let Some(sample) = self.read(index) {
            return Ok(sample);
        }
        // It may be gone already; then another thread has found the damage first.
        let _ = std::fs::remove_file(&self.path);
        self.dataset.load(index)
    }
}

impl Key {
    fn new(dataset: &dyn Dataset, fingerprint: &str) -> Self {
        let tasks = dataset.tasks().iter().map(|spec| (spec.task.name.to_owned(), spec.outputs)).collect();
        Self { readers: READERS, name: dataset.name().to_owned(), fingerprint: fingerprint.to_owned(), tasks }
    }
}

/// Writes the cache beside its place and renames it.
fn build(
    dataset: &dyn Dataset,
    path: &Path,
    key: Key,
    mut progress: impl FnMut(usize, usize),
) -> Result<(PositionedFile, Vec<Block>)> {
    let failed = || Error::io("write the cache", path);
    let mut file = WholeFile::create(path).map_err(failed())?;
    file.write_all(MARK).map_err(failed())?;
    let mut offset = MARK.len() as u64;
    let mut index = Index { key, blocks: Vec::with_capacity(dataset.len()) };
    let all: Vec<usize> = (0..dataset.len()).collect();
    for chunk in all.chunks(CHUNK) {
        let encoded: Vec<Result<Vec<u8>>> = chunk
            .par_iter()
            .map(|&i| dataset.load(i).map(|sample| block::encode(&sample, dataset.tasks())))
            .collect();
        for (&i, bytes) in chunk.iter().zip(encoded) {
            let bytes = bytes?;
            file.write_all(&bytes).map_err(failed())?;
            let (id, length, crc) = (dataset.id(i), bytes.len() as u64, checksum(&bytes));
            index.blocks.push(Block { id, offset, length, crc });
            offset += length;
        }
        progress(index.blocks.len(), all.len());
    }
    let text = serde_json::to_vec(&index).map_err(|error| failed()(error.into()))?;
    file.write_all(&text).map_err(failed())?;
    file.write_all(&(text.len() as u64).to_le_bytes()).map_err(failed())?;
    file.write_all(&checksum(&text).to_le_bytes()).map_err(failed())?;
    file.write_all(MARK).map_err(failed())?;
    let file = file.commit(Durability::Synced).map_err(failed())?;
    Ok((PositionedFile::new(file), index.blocks))
}

/// The index of the cache at `path`, if it is complete and has this key; otherwise the cache is built again.
fn read_index(path: &Path, key: &Key, dataset: &dyn Dataset) -> Option<(PositionedFile, Vec<Block>)> {
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let file = PositionedFile::new(file);
    let footer_at = size.checked_sub(FOOTER)?;
    let footer = file.read(footer_at, FOOTER).ok()?;
    let (length, rest) = footer.split_first_chunk()?;
    let (crc, mark) = rest.split_first_chunk()?;
    // Between the two marks there is at most the file, so the length is bounded before memory is taken for it.
    let index_at = footer_at.checked_sub(u64::from_le_bytes(*length))?;
    if mark != MARK || index_at < MARK.len() as u64 {
        return None;
    }
    let text = file.read(index_at, footer_at - index_at).ok()?;
    if checksum(&text) != u32::from_le_bytes(*crc) {
        return None;
    }
    let index: Index = serde_json::from_slice(&text).ok()?;
    let whole = |block: &Block| block.offset.checked_add(block.length).is_some_and(|end| end <= index_at);
    let same = index.key == *key
        && index.blocks.len() == dataset.len()
        && index.blocks.iter().enumerate().all(|(i, block)| whole(block) && block.id == dataset.id(i));
    same.then_some((file, index.blocks))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A file that many threads read at places of their own.
struct PositionedFile {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
}

impl PositionedFile {
    #[cfg(unix)]
    fn new(file: File) -> Self {
        Self { file }
    }

    #[cfg(not(unix))]
    fn new(file: File) -> Self {
        Self { file: std::sync::Mutex::new(file) }
    }

    /// `length` bytes from `offset`; the caller has checked that the file is that long.
    fn read(&self, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(std::io::Error::other)?;
        let mut bytes = vec![0; length];
        self.fill(offset, &mut bytes)?;
        Ok(bytes)
    }

    #[cfg(unix)]
    fn fill(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
    }

    #[cfg(not(unix))]
    fn fill(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }
}
