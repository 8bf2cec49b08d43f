//! A run's folder and what is in it.

use crate::checkpoint::TrainState;
use crate::checkpoints::Checkpoints;
use crate::config::WeightsSource;
use crate::folder::is_file;
use crate::{Config, Error, Override, Result};
use serde::Serialize;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use tadformer_files::Durability;

/// The folder of a run.
///
/// ```text
/// config.toml              every setting, resolved
/// log.jsonl                one JSON object an update and an evaluation
/// metrics.json metrics.md  scores before, best and last
/// checkpoints/             last.safetensors, the ones before it, best.safetensors
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
        if !is_file(&run.config_path())? {
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

    /// The run's checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::in_run(&self.path)
    }

    /// What is said of a run that was stopped before it had a checkpoint.
    pub(crate) fn without_checkpoint(&self) -> Error {
        Error::file(
            &self.path,
            format!(
                "has no checkpoint `{}` yet: the run was stopped before its first evaluation was over. Start it again with \
                 `finetune --config {} --output FOLDER`",
                self.checkpoints().last().display(),
                self.config_path().display()
            ),
        )
    }

    /// Removes what a killed process left half-written in the folder. Only the holder of the lock may do so.
    ///
    /// # Errors
    /// A folder that cannot be read or written to.
    pub(crate) fn sweep(&self, _: &RunLock) -> Result<()> {
        for folder in [self.path.clone(), self.path.join("checkpoints"), self.path.join("panels")] {
            let entries = std::fs::read_dir(&folder).map_err(Error::io("list", &folder))?;
            for entry in entries {
                let path = entry.map_err(Error::io("list", &folder))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with(UNFINISHED) && path.is_file() && !path.is_symlink() {
                    std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                }
            }
        }
        Ok(())
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
        tadformer_files::write(&path, bytes, Durability::Synced).map_err(Error::io("write", &path))
    }

    /// Holds the folder for this process until the lock is dropped; the system lets go of a killed process's lock.
    ///
    /// # Errors
    /// Another process that holds it, named by its number.
    pub fn lock(&self) -> Result<RunLock> {
        let path = self.path.join("run.lock");
        let mut file = open_lock(&path)?;
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

    /// Opens the log to go on from `state`: what was logged after it is dropped, because it will be done again.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(crate) fn log_until(&self, state: &TrainState) -> Result<Log> {
        const NAME: &str = "log.jsonl";
        let path = self.path.join(NAME);
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let mut kept = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_after(line, state)) {
            kept.extend_from_slice(line);
        }
        if kept.len() < text.len() {
            self.write(NAME, &kept)?;
        }
        self.log()
    }

    fn config_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }
}

/// How names of files begin that are not yet whole, here and in `tadformer-files`.
const UNFINISHED: &str = ".unfinished-";

/// Opens the lock file, or makes it. What it holds is overwritten, so it has to be the run's own: a link is not followed.
fn open_lock(path: &Path) -> Result<File> {
    let foreign = || Error::file(path, "is a link or no ordinary file, expected the run's lock; remove it");
    let mut options = File::options();
    options.create(true).read(true).write(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    if path.is_symlink() {
        return Err(foreign());
    }
    let file = options.open(path).map_err(Error::io("open", path))?;
    let found = file.metadata().map_err(Error::io("open", path))?;
    if found.is_file() { Ok(file) } else { Err(foreign()) }
}

/// Whether a line of the log was written after `state`, or is the half of a line at which a process was killed.
fn is_after(line: &[u8], state: &TrainState) -> bool {
    let Ok(record) = serde_json::from_slice::<serde_json::Value>(line) else {
        return !line.ends_with(b"\n");
    };
    let number = |key: &str| record.get(key).and_then(serde_json::Value::as_u64);
    match record.get("kind").and_then(serde_json::Value::as_str) {
        Some("update") => number("update").is_some_and(|update| update >= state.update),
        Some("evaluation") => number("epoch").is_some_and(|epoch| epoch > state.epoch as u64),
        _ => false,
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

    /// Waits until everything so far is on the disk.
    ///
    /// # Errors
    /// A disk that refuses.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_on_where_the_checkpoint_was() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), &Config::default()).unwrap();
        let evaluation = |epoch: u64| format!("{{\"kind\":\"evaluation\",\"epoch\":{epoch}}}\n");
        let update = |update: u64| format!("{{\"kind\":\"update\",\"update\":{update},\"epoch\":9}}\n");
        let until = [evaluation(0), update(0), "not JSON\n".to_owned(), update(1), evaluation(1)].concat();
        let after = [update(2), update(3), evaluation(2), "{\"kind\":\"upd".to_owned()].concat();
        let state = TrainState { epoch: 1, update: 2, ..TrainState::default() };
        for written in [[until.clone(), after].concat(), until.clone()] {
            run.write("log.jsonl", written.as_bytes()).unwrap();
            run.log_until(&state).unwrap().add(&serde_json::json!({"kind": "next"})).unwrap();
            let text = std::fs::read_to_string(run.path().join("log.jsonl")).unwrap();
            assert_eq!(text, format!("{until}{{\"kind\":\"next\"}}\n"));
        }
    }

    #[test]
    fn a_run_without_a_checkpoint_says_how_to_start_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), &Config::default()).unwrap();
        let message = run.without_checkpoint().to_string();
        assert!(message.contains("last.safetensors") && message.contains("finetune --config"), "{message}");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), &Config::default()).unwrap();
        let (left, other) = ([".unfinished-a1", "checkpoints/.unfinished-last.safetensors"], ".unfinishable");
        for name in left.iter().chain([&other]) {
            std::fs::write(run.path().join(name), "half").unwrap();
        }
        run.sweep(&run.lock().unwrap()).unwrap();
        assert!(left.iter().all(|name| !run.path().join(name).exists()));
        assert!(run.path().join(other).exists() && run.path().join("config.toml").exists());
    }

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

    #[cfg(unix)]
    #[test]
    fn a_lock_that_is_a_link_is_refused_and_its_target_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir { path: folder.path().to_owned() };
        let target = folder.path().join("letter.txt");
        std::fs::write(&target, "dear reader").unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("run.lock")).unwrap();
        let message = run.lock().unwrap_err().to_string();
        assert!(message.contains("run.lock") && message.contains("is a link"), "{message}");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "dear reader");
    }

    #[cfg(unix)]
    #[test]
    fn files_of_a_run_have_the_permissions_of_the_umask() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), &Config::default()).unwrap();
        run.log().unwrap();
        let mode = |name: &str| run.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode("config.toml"), mode("log.jsonl"));
    }
}
