//! A run's folder and what is in it.

use crate::{Config, Error, Override, Result};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of a run.
///
/// ```text
/// config.toml              every setting, resolved
/// log.jsonl                one JSON object an update and an evaluation
/// metrics.json metrics.md  scores before, best and last
/// checkpoints/             last.safetensors, best.safetensors
/// panels/                  epoch-NNN-<image>.png: input, predictions and labels
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

    /// The run's configuration, with changes.
    ///
    /// # Errors
    /// A configuration that cannot be understood.
    pub fn config(&self, overrides: &[Override]) -> Result<Config> {
        Config::read(&self.config_path(), overrides)
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
