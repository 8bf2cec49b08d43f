//! One file from the Hub into the cache: lock, transfer or resume, verify, name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tadformer_files::Durability;
#[cfg(not(unix))]
use tadformer_files::WholeFile;
use ureq::Body;
use ureq::http::Response;

use crate::cache::{Cache, Source, hex, sha256_of};
use crate::error::{Error, Result};

use super::Progress;
use super::client::{Client, Failure};
use super::metadata::Metadata;
use super::settings::{Limits, Settings};

pub(super) struct Download<'a> {
    limits: Limits,
    cache: &'a Cache,
    source: &'a Source,
    metadata: &'a Metadata,
    repo: PathBuf,
    blob: PathBuf,
    /// Not the name that other clients give to their partial files: they do not verify what they resume.
    part: PathBuf,
}

impl<'a> Download<'a> {
    pub(super) fn new(
        settings: &Settings,
        cache: &'a Cache,
        source: &'a Source,
        metadata: &'a Metadata,
    ) -> Self {
        let repo = cache.repo_folder(source);
        let blobs = repo.join("blobs");
        let blob = blobs.join(&metadata.etag);
        let part = blobs.join(format!("{}.tadformer.part", metadata.etag));
        Self { limits: settings.limits, cache, source, metadata, repo, blob, part }
    }

    /// Puts the file into the cache and returns its path there.
    pub(super) fn run(&self, client: &Client, progress: &mut dyn Progress) -> Result<PathBuf> {
        let blobs = self.repo.join("blobs");
        std::fs::create_dir_all(&blobs).map_err(|e| Error::io("create", &blobs, e))?;
        let _lock = self.lock(progress)?;
        if !self.blob_is_whole()? {
            self.transfer_verified(client, progress)?;
            std::fs::rename(&self.part, &self.blob)
                .map_err(|e| Error::io("rename the download to", &self.blob, e))?;
            // The file itself is synced: after a crash the worst is a partial file that is resumed.
            tadformer_files::sync_folder(&blobs);
        }
        self.link()
    }

    /// Waits for whoever is downloading the same file; the system lets go of the lock of a process that died.
    fn lock(&self, progress: &mut dyn Progress) -> Result<File> {
        let name = self.repo.file_name().unwrap_or_default();
        let folder = self.cache.root().join(".locks").join(name);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
        let path = folder.join(format!("{}.lock", self.metadata.etag));
        let failed = |e| Error::io("lock", &path, e);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        let since = Instant::now();
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
                Err(TryLockError::WouldBlock) if since.elapsed() < self.limits.lock => {
                    if !told {
                        progress.note("another process is downloading this file; waiting for it");
                        told = true;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => {
                    let reason = format!("another process has been downloading it for {:?}", since.elapsed());
                    return Err(self.failed(reason));
                }
            }
        }
    }

    /// Whether the blob is there and is what it should be; a damaged one is deleted.
    fn blob_is_whole(&self) -> Result<bool> {
        let Ok(found) = std::fs::metadata(&self.blob) else { return Ok(false) };
        let same_size = self.metadata.size.is_none_or(|size| size == found.len());
        let whole = same_size
            && match &self.metadata.sha256 {
                Some(expected) => sha256_of(&self.blob)? == *expected,
                None => true,
            };
        if !whole {
            std::fs::remove_file(&self.blob).map_err(|e| Error::io("delete the damaged", &self.blob, e))?;
        }
        Ok(whole)
    }

    /// Transfers into the partial file until it is whole and right. A resumed file that turns out wrong was damaged
    /// before, so it is fetched once more from its beginning.
    fn transfer_verified(&self, client: &Client, progress: &mut dyn Progress) -> Result<()> {
        let have = std::fs::metadata(&self.part).map_or(0, |found| found.len());
        let result = self.transfer(client, progress);
        progress.finished();
        match result? {
            Ok(()) => Ok(()),
            Err(wrong) if have > 0 => {
                progress
                    .note(&format!("the partial file was damaged ({wrong}); fetching it from the beginning"));
                let again = self.transfer(client, progress);
                progress.finished();
                again?.map_err(|wrong| self.failed(wrong))
            }
            Err(wrong) => Err(self.failed(wrong)),
        }
    }

    /// One transfer with its retries. `Ok(Err)` says in which way the complete file is wrong; it is deleted then.
    fn transfer(&self, client: &Client, progress: &mut dyn Progress) -> Result<Result<(), String>> {
        let mut part = Part::open(&self.part, self.metadata.size)?;
        progress.started(&self.source.display(), self.metadata.size, part.length);
        client.retrying(&self.source.display(), progress, |progress| {
            self.receive(client, &mut part, progress)
        })?;
        let wrong = self.wrong(&part);
        if wrong.is_some() {
            std::fs::remove_file(&self.part).map_err(|e| Error::io("delete", &self.part, e))?;
        } else {
            part.file.sync_all().map_err(|e| Error::io("write", &self.part, e))?;
        }
        Ok(wrong.map_or(Ok(()), Err))
    }

    fn wrong(&self, part: &Part) -> Option<String> {
        let size = self.metadata.size.unwrap_or(part.length);
        if part.length != size {
            return Some(format!("{} bytes arrived, {size} were announced", part.length));
        }
        let found = hex(&part.hash.clone().finalize());
        match &self.metadata.sha256 {
            Some(expected) if *expected != found => {
                Some(format!("its SHA-256 is {found}, expected {expected}; nothing was kept"))
            }
            _ => None,
        }
    }

    /// One request: appends its body to the partial file.
    fn receive(&self, client: &Client, part: &mut Part, progress: &mut dyn Progress) -> Result<(), Failure> {
        if self.metadata.size.is_some_and(|size| size == part.length) {
            return Ok(());
        }
        let answer = match client.get(&self.metadata.address, part.length) {
            Ok(answer) => answer,
            // Status 416 and its like: the server has no such range; begin again.
            Err(Failure::Final(reason)) if part.length > 0 && reason.starts_with("status 416") => {
                part.clear().map_err(|e| self.unwritable(&e))?;
                return Err(Failure::Passing { reason, wait: None });
            }
            Err(failure) => return Err(failure),
        };
        if !continues(&answer, part.length).map_err(Failure::Final)? {
            part.clear().map_err(|e| self.unwritable(&e))?;
        }
        let announced = self.metadata.size.unwrap_or(u64::MAX);
        let mut body = answer.into_body().into_reader().take((announced - part.length).saturating_add(1));
        let mut buffer = vec![0; 64 * 1024];
        let mut rate = Rate::new(self.limits);
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    let reason = format!("the transfer broke off after {} bytes: {e}", part.length);
                    return Err(Failure::Passing { reason, wait: None });
                }
            };
            part.append(&buffer[..count]).map_err(|e| self.unwritable(&e))?;
            progress.received(count as u64);
            if part.length > announced {
                // Kept for `wrong` to see and delete.
                return Ok(());
            }
            rate.count(count as u64).map_err(Failure::Final)?;
        }
        match self.metadata.size {
            Some(size) if part.length < size => Err(Failure::Passing {
                reason: format!("the transfer ended after {} of {size} bytes", part.length),
                wait: None,
            }),
            _ => Ok(()),
        }
    }

    /// Makes the blob visible under its name in the snapshot, and the revision point to the snapshot.
    fn link(&self) -> Result<PathBuf> {
        let cached = self.cache.repo(self.source);
        let path = cached.pointer_path(&self.metadata.commit).join(&self.source.file);
        let folder = path.parent().unwrap_or(&self.repo);
        std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        let depth = self.source.file.matches('/').count() + 2;
        let target = format!("{}blobs/{}", "../".repeat(depth), self.metadata.etag);
        replace_link(Path::new(&target), &self.blob, &path).map_err(|e| Error::io("link", &path, e))?;
        if self.source.revision != self.metadata.commit {
            let reference = self.repo.join("refs").join(&self.source.revision);
            write_whole(&reference, self.metadata.commit.as_bytes())
                .map_err(|e| Error::io("write", &reference, e))?;
        }
        Ok(path)
    }

    fn failed(&self, reason: String) -> Error {
        Error::Download { what: self.source.display(), reason }
    }

    fn unwritable(&self, e: &std::io::Error) -> Failure {
        let path = self.part.display();
        Failure::Final(format!(
            "cannot write `{path}`: {e}; make room or set HF_HOME to another disk, it will be resumed"
        ))
    }
}

/// The partial file and the hash of what is in it.
struct Part {
    file: File,
    length: u64,
    hash: Sha256,
}

impl Part {
    /// Opens or creates it, and reads what an earlier attempt left, as far as it reached when it was opened.
    fn open(path: &Path, size: Option<u64>) -> Result<Self> {
        let failed = |e| Error::io("open", path, e);
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        let mut part = Self { file, length: 0, hash: Sha256::new() };
        let length = part.file.metadata().map_err(failed)?.len();
        if size.is_none_or(|size| length > size) {
            part.clear().map_err(failed)?;
            return Ok(part);
        }
        let mut buffer = vec![0; 1 << 20];
        while part.length < length {
            let wanted = buffer.len().min(usize::try_from(length - part.length).unwrap_or(usize::MAX));
            let count = part.file.read(&mut buffer[..wanted]).map_err(failed)?;
            if count == 0 {
                break;
            }
            part.hash.update(&buffer[..count]);
            part.length += count as u64;
        }
        Ok(part)
    }

    fn clear(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.length = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Gives up a server that drips: each piece comes in time, but the file would take for ever.
struct Rate {
    limits: Limits,
    since: Instant,
    bytes: u64,
}

impl Rate {
    fn new(limits: Limits) -> Self {
        Self { limits, since: Instant::now(), bytes: 0 }
    }

    fn count(&mut self, bytes: u64) -> std::result::Result<(), String> {
        self.bytes += bytes;
        let elapsed = self.since.elapsed();
        if elapsed < self.limits.window {
            return Ok(());
        }
        if (self.bytes as f64) < self.limits.min_rate as f64 * elapsed.as_secs_f64() {
            return Err(format!(
                "the server sent {} bytes in {:.1} s, less than {} a second; run the command again to resume",
                self.bytes,
                elapsed.as_secs_f64(),
                self.limits.min_rate
            ));
        }
        *self = Self::new(self.limits);
        Ok(())
    }
}

/// Whether the answer's body continues the file at `from`, or is the whole file.
fn continues(answer: &Response<Body>, from: u64) -> std::result::Result<bool, String> {
    if answer.status().as_u16() != 206 {
        return Ok(from == 0);
    }
    let range = answer.headers().get("content-range").and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
    if start == Some(from) {
        return Ok(true);
    }
    Err(format!(
        "bytes from {from} on were asked for, and the answer is `{}`",
        range.unwrap_or("of no range")
    ))
}

/// Puts a link in place in one step, so that nobody sees the old one gone and the new one missing.
#[cfg(unix)]
fn replace_link(target: &Path, _blob: &Path, path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let link = tempfile::Builder::new()
        .prefix(".link-")
        .make_in(folder, |at| std::os::unix::fs::symlink(target, at))?;
    link.into_temp_path().persist(path).map_err(|e| e.error)
}

/// Without links, as Python's client does it there: a copy.
#[cfg(not(unix))]
fn replace_link(_target: &Path, blob: &Path, path: &Path) -> std::io::Result<()> {
    let copy = WholeFile::create(path)?;
    std::fs::copy(blob, copy.beside())?;
    copy.commit(Durability::Synced).map(drop)
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(tadformer_files::folder_of(path))?;
    tadformer_files::write(path, bytes, Durability::Synced)
}
