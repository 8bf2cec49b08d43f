//! The checkpoints of a run: the newest few, and the best.

use crate::checkpoint::{Checkpoint, TrainState};
use crate::optim::AdamW;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use tadformer_files::sync_folder;
use tadformer_ops::ParamStore;

/// The folder `checkpoints` of a run.
///
/// ```text
/// last.safetensors                    where training stands
/// last-1.safetensors last-2.… …       where it stood at the saves before
/// best.safetensors                    the best scores so far; no optimiser
/// damaged-1-last.safetensors …        what was found damaged when the run went on
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// The newest checkpoint that can be used, and what was passed over for it.
#[derive(Debug)]
pub(crate) struct Newest {
    pub(crate) checkpoint: Checkpoint,
    /// Newer ones, with what is wrong with each.
    pub(crate) damaged: Vec<(PathBuf, Error)>,
}

impl Checkpoints {
    pub(crate) fn in_run(run: &Path) -> Self {
        Self { folder: run.join("checkpoints") }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.older(0)
    }

    /// The checkpoint with the best scores.
    pub fn best(&self) -> PathBuf {
        self.folder.join("best.safetensors")
    }

    /// The checkpoint `saves` saves before the newest.
    fn older(&self, saves: usize) -> PathBuf {
        self.folder.join(match saves {
            0 => "last.safetensors".to_owned(),
            _ => format!("last-{saves}.safetensors"),
        })
    }

    /// Writes the newest checkpoint beside the others and keeps `keep` in all, at least 1. Until it is whole the others stay as
    /// they are.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub(crate) fn write_last(
        &self,
        keep: usize,
        store: &ParamStore,
        optimizer: &AdamW,
        state: &TrainState,
    ) -> Result<()> {
        let unfinished = self.folder.join(UNFINISHED);
        Checkpoint::write(&unfinished, store, Some(optimizer), state)?;
        self.make_room(keep)?;
        let last = self.last();
        std::fs::rename(&unfinished, &last).map_err(Error::io("write", &last))?;
        sync_folder(&self.folder);
        Ok(())
    }

    /// Moves each generation one back as far as the first gap, and removes what `keep` has no place for. A process that is
    /// killed in between leaves a gap, and nothing that was whole is lost.
    fn make_room(&self, keep: usize) -> Result<()> {
        let keep = keep.max(1);
        let mut gap = (0..keep).find(|&i| !self.older(i).exists()).unwrap_or(keep - 1);
        while gap > 0 {
            let (from, to) = (self.older(gap - 1), self.older(gap));
            std::fs::rename(&from, &to).map_err(Error::io("rename", &from))?;
            gap -= 1;
        }
        let left_over = (keep..).map(|i| self.older(i)).take_while(|path| path.exists());
        for path in left_over.collect::<Vec<_>>() {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }

    /// The newest checkpoint that is whole; nothing where there is none at all.
    ///
    /// # Errors
    /// Checkpoints of which none can be read: what is wrong with the newest.
    pub(crate) fn newest(&self) -> Result<Option<Newest>> {
        let mut damaged = Vec::new();
        for path in (0..MOST).map(|i| self.older(i)).filter(|path| path.exists()) {
            match Checkpoint::read(&path) {
                Ok(checkpoint) => return Ok(Some(Newest { checkpoint, damaged })),
                Err(error) => damaged.push((path, error)),
            }
        }
        match damaged.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(None),
        }
    }

    /// Takes a damaged checkpoint out of the way, so that the next save does not take it for one of its own.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub(crate) fn set_aside(&self, path: &Path) -> Result<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let free = (1..).map(|i| self.folder.join(format!("damaged-{i}-{name}"))).find(|to| !to.exists());
        let to = free.expect("one of all numbers is free");
        std::fs::rename(path, &to).map_err(Error::io("rename", path))?;
        Ok(to)
    }
}

/// The most generations that are looked for; `train.keep_checkpoints` allows no more.
pub(crate) const MOST: usize = 100;

/// What the newest checkpoint is called until the others have moved.
const UNFINISHED: &str = ".unfinished-last.safetensors";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamWConfig;

    /// The checkpoints of a run without tensors.
    struct Kept {
        checkpoints: Checkpoints,
        store: std::sync::Arc<ParamStore>,
        optimizer: AdamW,
        _folder: tempfile::TempDir,
    }

    impl Kept {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints::in_run(folder.path());
            std::fs::create_dir(checkpoints.folder()).unwrap();
            let optimizer = AdamW::new(&[], AdamWConfig::default()).unwrap();
            Self { checkpoints, store: ParamStore::new(0), optimizer, _folder: folder }
        }

        fn save(&self, keep: usize, update: u64) {
            let state = TrainState { update, ..TrainState::default() };
            self.checkpoints.write_last(keep, &self.store, &self.optimizer, &state).unwrap();
        }

        /// The updates of the generations, newest first.
        fn updates(&self) -> Vec<u64> {
            let paths = (0..5).map(|i| self.checkpoints.older(i)).filter(|path| path.exists());
            paths.map(|path| Checkpoint::read(&path).unwrap().state.update).collect()
        }

        fn newest(&self) -> u64 {
            self.checkpoints.newest().unwrap().unwrap().checkpoint.state.update
        }
    }

    #[test]
    fn the_newest_few_are_kept() {
        let kept = Kept::new();
        assert!(kept.checkpoints.newest().unwrap().is_none());
        (0..5).for_each(|update| kept.save(3, update));
        assert_eq!(kept.updates(), [4, 3, 2]);
        kept.save(1, 5);
        assert_eq!(kept.updates(), [5], "fewer are kept from now on");
    }

    #[test]
    fn a_save_that_was_killed_between_two_renames_loses_nothing() {
        let kept = Kept::new();
        (0..3).for_each(|update| kept.save(3, update));
        std::fs::rename(kept.checkpoints.older(0), kept.checkpoints.older(3)).unwrap();
        std::fs::rename(kept.checkpoints.older(3), kept.checkpoints.folder().join("gone")).unwrap();
        assert_eq!(kept.newest(), 1);
        kept.save(3, 7);
        assert_eq!(kept.updates(), [7, 1, 0]);
    }

    #[test]
    fn a_damaged_one_gives_way_to_the_one_before_and_is_named() {
        let kept = Kept::new();
        (0..3).for_each(|update| kept.save(3, update));
        for i in [0, 1] {
            let path = kept.checkpoints.older(i);
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
        let newest = kept.checkpoints.newest().unwrap().unwrap();
        assert_eq!((newest.checkpoint.state.update, newest.damaged.len()), (0, 2));
        let aside = kept.checkpoints.set_aside(&newest.damaged[0].0).unwrap();
        assert!(aside.ends_with("damaged-1-last.safetensors") && aside.exists());
        std::fs::write(kept.checkpoints.older(2), "x").unwrap();
        let message = kept.checkpoints.newest().unwrap_err().to_string();
        assert!(message.contains("last-1.safetensors"), "{message}");
    }
}
