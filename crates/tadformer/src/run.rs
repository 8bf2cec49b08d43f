//! A run's folder and what is in it.

use crate::config::WeightsSource;
use crate::{Config, Error, Override, Result};
use serde::Serialize;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The folder of a run.
///
/// ```text
/// config.toml              every setting, resolved
/// log.jsonl                one JSON object an update and an evaluation
/// metrics.json metrics.md  scores before, best and last
/// checkpoints/             last.safetensors, best.safetensors
/// panels/                  epoch-NNN-<image>.png: input, predictions and labels
/// run.lock                 held by the process that trains in it
/// ```
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a fresh folder `path` and writes the configuration into it.
    ///
    /// # Errors
    /// A folder that already holds a run, or that cannot be made.
    pub fn create(path: &Path, config: &Config) -> Result<Self> {
        let run = Self { path: path.to_owned() };
        if run.config_path().exists() {
            return Err(Error::file(
                path,
                "already holds a run; name another folder or resume it with `--resume`",
            ));
        }
        for folder in [run.path.clone(), run.path.join("checkpoints"), run.path.join("panels")] {
            std::fs::create_dir_all(&folder).map_err(Error::io("make the folder", &folder))?;
        }
        run.write("config.toml", config.to_toml()?.as_bytes())?;
        Ok(run)
    }

    /// A new folder `<parent>/<name>-001`, or with the next free number.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn create_numbered(parent: &Path, name: &str, config: &Config) -> Result<Self> {
        let free = (1..10_000).map(|i| parent.join(format!("{name}-{i:03}"))).find(|path| !path.exists());
        match free {
            Some(path) => Self::create(&path, config),
            None => {
                Err(Error::file(parent, format!("10000 runs called `{name}`; name a folder with `--output`")))
            }
        }
    }

    /// The run in the folder `path`.
    ///
    /// # Errors
    /// A folder without a run.
    pub fn open(path: &Path) -> Result<Self> {
        let run = Self { path: path.to_owned() };
        if !run.config_path().is_file() {
            return Err(Error::file(path, "holds no run: there is no `config.toml` in it"));
        }
        Ok(run)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's configuration, with changes. Weights that lie in the run's own folder are found there, wherever it is.
    ///
    /// # Errors
    /// A configuration that cannot be understood.
    pub fn config(&self, overrides: &[Override]) -> Result<Config> {
        let mut config = Config::read(&self.config_path(), overrides)?;
        if let WeightsSource::File(weights) = &mut config.model.weights
            && weights.is_relative()
            && self.path.join(&weights).is_file()
        {
            *weights = self.path.join(&weights);
        }
        Ok(config)
    }

    /// The checkpoint after the last epoch.
    pub fn last_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoints").join("last.safetensors")
    }

    /// The checkpoint with the best scores.
    pub fn best_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoints").join("best.safetensors")
    }

    /// Where a panel of the image `id` after `epoch` goes.
    pub fn panel(&self, epoch: usize, id: &str) -> PathBuf {
        let name: String =
            id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        self.path.join("panels").join(format!("epoch-{epoch:03}-{name}.png"))
    }

    /// Writes a file of the run, beside it first and then renamed.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let written = tempfile::NamedTempFile::new_in(&self.path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        });
        written.map_err(Error::io("write", &path))
    }

    /// Holds the folder for this process until the lock is dropped; the system lets go of a killed process's lock.
    ///
    /// # Errors
    /// Another process that holds it, named by its number.
    pub fn lock(&self) -> Result<RunLock> {
        let path = self.path.join("run.lock");
        let opened = File::options().create(true).read(true).write(true).truncate(false).open(&path);
        let mut file = opened.map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Whoever holds it may be about to write its number.
                let _ = file.take(32).read_to_string(&mut holder);
                let holder = if holder.is_empty() { "another process" } else { holder.trim() };
                return Err(Error::file(
                    &self.path,
                    format!("is locked by {holder}, which trains in it; wait for it, or name another folder"),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(format!("process {}\n", std::process::id()).as_bytes()));
        written.map_err(Error::io("write", &path))?;
        Ok(RunLock { _file: file })
    }

    /// Opens the log to add to it.
    ///
    /// # Errors
    /// A file that cannot be written to.
    pub fn log(&self) -> Result<Log> {
        let path = self.path.join("log.jsonl");
        let file =
            File::options().create(true).append(true).open(&path).map_err(Error::io("write", &path))?;
        Ok(Log { path, file })
    }

    fn config_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }
}

/// A run's folder, held by this process.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// The log: JSON lines.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Adds a line.
    ///
    /// # Errors
    /// A file that cannot be written to.
    pub fn add(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).expect("a record is plain data");
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_held_by_one_and_free_when_that_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir { path: folder.path().to_owned() };
        let lock = run.lock().unwrap();
        let message = run.lock().unwrap_err().to_string();
        assert!(message.contains(&format!("locked by process {}", std::process::id())), "{message}");
        drop(lock);
        run.lock().unwrap();
    }
}
