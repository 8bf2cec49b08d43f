//! The Hugging Face cache on disk: where a file is, without a network.
//!
//! `models--ORG--NAME/{refs/REVISION, blobs/ETAG, snapshots/COMMIT/FILE → ../../blobs/ETAG}`; the layout is that of
//! `huggingface_hub`, so what Python has fetched is found here and the other way round.

use std::io::Read;
use std::path::{Path, PathBuf};

use hf_hub::{CacheRepo, Repo, RepoType};
use sha2::{Digest, Sha256};

use crate::environment;
use crate::error::{Error, Result};
use crate::known::{KNOWN_MODELS, known_model};

/// A file of a repository on the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `organisation/name`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Path inside the repository.
    pub file: String,
    /// SHA-256 of the contents in hexadecimal, if it is to be pinned.
    pub sha256: Option<String>,
}

impl Source {
    /// Checks that no part can leave the cache folder or mean something else in an address.
    ///
    /// # Errors
    /// A part is empty, has characters beyond letters, digits, `-`, `_`, `.` and `/`, or has an empty or dotted
    /// component; or the checksum is not of 64 hexadecimal digits.
    pub fn check(&self) -> Result<()> {
        let refused = |what: &str, value: &str, expected: &str| {
            Err(Error::Environment(format!("the {what} `{value}` is not {expected}")))
        };
        let is_path = |path: &str| path.split('/').all(is_component);
        if !is_path(&self.repo) || self.repo.matches('/').count() != 1 {
            return refused("repository", &self.repo, "`organisation/name`");
        }
        if !is_path(&self.revision) {
            return refused("revision", &self.revision, "a branch, tag or commit");
        }
        if !is_path(&self.file) {
            return refused("file", &self.file, "a relative path");
        }
        match &self.sha256 {
            Some(hash) if !is_sha256(hash) => refused("checksum", hash, "64 lower-case hexadecimal digits"),
            _ => Ok(()),
        }
    }

    /// `organisation/name/file`, for messages.
    pub fn display(&self) -> String {
        format!("{}/{}", self.repo, self.file)
    }
}

fn is_component(part: &str) -> bool {
    let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    plain && !part.is_empty() && !part.bytes().all(|b| b == b'.')
}

pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A Hugging Face cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in that folder, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The user's cache: `HF_HUB_CACHE`, else its former name `HUGGINGFACE_HUB_CACHE`, else `$HF_HOME/hub`, else
    /// `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`; `~` and `$NAME` in them are expanded.
    ///
    /// # Errors
    /// None of these and no home folder is set.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(&|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), with the variables that `var` gives; empty ones count as unset.
    ///
    /// # Errors
    /// None of the variables is set.
    pub fn from_vars(var: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        environment::cache(var).map(Self::new)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file, if it is in the cache under that revision. Its contents are not looked at.
    pub fn find(&self, source: &Source) -> Option<PathBuf> {
        source.check().ok()?;
        let snapshot = self.repo(source).pointer_path(&source.revision).join(&source.file);
        // A revision that is a commit has no reference; every other one has.
        if snapshot.is_file() {
            Some(snapshot)
        } else {
            self.repo(source).get(&source.file).filter(|path| path.is_file())
        }
    }

    /// The cached path of a source whose contents are what they should be: of the pinned checksum, or, without a pin,
    /// of the checksum that the cache keeps it under. `None` if it is not there, an error if it is something else.
    ///
    /// # Errors
    /// The contents have another checksum, or cannot be read.
    pub fn verified(&self, source: &Source) -> Result<Option<PathBuf>> {
        let Some(path) = self.find(source) else { return Ok(None) };
        let expected = source.sha256.clone().or_else(|| blob_checksum(&path));
        if let Some(expected) = expected {
            let found = sha256_of(&path)?;
            if found != expected {
                return Err(Error::Refused {
                    path,
                    reason: format!(
                        "its SHA-256 is {found}, expected {expected}; delete it and download it again"
                    ),
                });
            }
        }
        Ok(Some(path))
    }

    pub(crate) fn repo(&self, source: &Source) -> CacheRepo {
        hf_hub::Cache::new(self.root.clone()).repo(Repo::with_revision(
            source.repo.clone(),
            RepoType::Model,
            source.revision.clone(),
        ))
    }

    /// `models--ORG--NAME` in the cache.
    #[cfg(feature = "hub")]
    pub(crate) fn repo_folder(&self, source: &Source) -> PathBuf {
        self.root.join(Repo::model(source.repo.clone()).folder_name())
    }
}

/// The checksum in the name of the blob that a snapshot's link points to, if it has one.
fn blob_checksum(snapshot: &Path) -> Option<String> {
    let blob = std::fs::read_link(snapshot).ok()?;
    let name = blob.file_name()?.to_str()?;
    is_sha256(name).then(|| name.to_owned())
}

/// SHA-256 of a file's contents in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String> {
    let failed = |e| Error::io("read", path, e);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file of a known model's name (from the cache, verified) or of a path, without a network.
///
/// # Errors
/// A known name that is not in the cache, a cached file of the wrong checksum, or a name that is neither known nor a
/// file.
pub fn locate(name_or_path: &str) -> Result<PathBuf> {
    locate_in(&|| Cache::from_env(), name_or_path)
}

fn locate_in(cache: &dyn Fn() -> Result<Cache>, name_or_path: &str) -> Result<PathBuf> {
    if let Some(model) = known_model(name_or_path) {
        let cache = cache()?;
        return cache
            .verified(&model.source())?
            .ok_or_else(|| Error::NotCached { name: model.name.to_owned(), cache: cache.root().to_owned() });
    }
    let path = PathBuf::from(name_or_path);
    if path.exists() {
        return Ok(path);
    }
    let known: Vec<&str> = KNOWN_MODELS.iter().map(|model| model.name).collect();
    Err(Error::UnknownModel { name: name_or_path.to_owned(), known: known.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(revision: &str, sha256: Option<String>) -> Source {
        Source {
            repo: "org/name".into(),
            revision: revision.into(),
            file: "model.safetensors".into(),
            sha256,
        }
    }

    /// A cache that holds `contents` as Python's client would leave it.
    fn cached(folder: &Path, contents: &[u8], etag: &str) -> Cache {
        let repo = folder.join("models--org--name");
        for part in ["refs", "blobs", "snapshots/0123"] {
            std::fs::create_dir_all(repo.join(part)).unwrap();
        }
        std::fs::write(repo.join("refs/main"), "0123").unwrap();
        std::fs::write(repo.join("blobs").join(etag), contents).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(
            format!("../../blobs/{etag}"),
            repo.join("snapshots/0123/model.safetensors"),
        )
        .unwrap();
        Cache::new(folder)
    }

    #[cfg(unix)]
    #[test]
    fn a_cached_file_is_found_and_its_checksum_verified() {
        let folder = tempfile::tempdir().unwrap();
        let sum = hex(&Sha256::digest(b"weights"));
        let cache = cached(folder.path(), b"weights", &sum);
        let path = cache.verified(&source("main", None)).unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"weights");
        assert!(cache.verified(&source("0123", Some(sum.clone()))).unwrap().is_some());
        assert!(cache.verified(&source("v2", None)).unwrap().is_none());
        let pinned = source("main", Some("0".repeat(64)));
        let message = cache.verified(&pinned).unwrap_err().to_string();
        assert!(message.contains(&format!("is {sum}, expected 000")), "{message}");
        std::fs::write(folder.path().join("models--org--name/blobs").join(&sum), b"weighty").unwrap();
        let message = cache.verified(&source("main", None)).unwrap_err().to_string();
        assert!(message.contains(&sum) && message.contains("delete it"), "{message}");
    }

    #[test]
    fn a_source_cannot_leave_the_cache() {
        let refused = |source: &Source| match source.check() {
            Err(Error::Environment(reason)) => reason,
            other => panic!("{source:?}: {other:?}"),
        };
        for bad in ["..", "a/../b", "/etc", "a//b", "", "a b", "a?b", "a%2fb", "a\\b", "a\0"] {
            let file = Source { file: bad.to_owned(), ..source("main", None) };
            assert_eq!(refused(&file), format!("the file `{bad}` is not a relative path"));
            assert_eq!(
                refused(&source(bad, None)),
                format!("the revision `{bad}` is not a branch, tag or commit")
            );
        }
        for bad in ["name", "a/b/c", "../name", "org/.."] {
            let repo = Source { repo: bad.to_owned(), ..source("main", None) };
            assert_eq!(refused(&repo), format!("the repository `{bad}` is not `organisation/name`"));
        }
        let short = refused(&source("main", Some("abc".into())));
        assert_eq!(short, "the checksum `abc` is not 64 lower-case hexadecimal digits");
        source("refs/pr/1", None).check().unwrap();
    }

    #[test]
    fn a_name_is_looked_up_before_a_path_and_an_unknown_one_lists_the_known() {
        let folder = tempfile::tempdir().unwrap();
        let cache = || Ok(Cache::new(folder.path()));
        let message = locate_in(&cache, "swin-tiny").unwrap_err().to_string();
        assert!(message.contains("cargo xtask download-weights swin-tiny"), "{message}");
        let message = locate_in(&cache, "swin-tny").unwrap_err().to_string();
        assert!(message.contains("swin-tiny, swin-tiny-22k"), "{message}");
        let file = folder.path().join("my.safetensors");
        std::fs::write(&file, b"").unwrap();
        assert_eq!(locate_in(&cache, file.to_str().unwrap()).unwrap(), file);
    }
}
