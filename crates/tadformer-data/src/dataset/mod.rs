//! Data sets: where samples come from.

pub(crate) mod pattern;
pub(crate) mod split;
mod list;
mod listing;
mod thin;
mod columns;
pub(crate) mod class_png;
pub(crate) mod census;
pub(crate) mod orientation;
pub(crate) mod label;
mod quantity;
mod pascal_context;
mod bsds;
mod cityscapes;
mod fingerprint;
mod folder;

use std::path::Path;

use crate::{Descriptor, Error, Result, Sample, Task, TaskSpec, did_you_mean};

pub use folder::FolderDataset;

/// A split of a data set, its samples in a fixed order.
pub trait Dataset: Send + Sync {
    /// Name of the data set, as configurations spell it.
    fn name(&self) -> &str;

    /// What it labels, in the order of [`Sample::labels`].
    fn tasks(&self) -> &[TaskSpec];

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of the sample at `index`.
    fn id(&self, index: usize) -> String;

    /// Text that changes when the files that samples are read from do, or the way they are read; nothing if there are no files.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    /// Reads the sample at `index`, in its own size.
    ///
    /// # Errors
    /// A file that is missing, unreadable or holds values that its task does not allow.
    fn load(&self, index: usize) -> Result<Sample>;
}

/// Opens a split of the data set called `name` in the folder `root`, with the given tasks in the given order.
///
/// `name` is that of a [known](list) set, or `folder` for a folder with a `dataset.toml` of its own. A `dataset.toml`
/// in the root that carries the name asked for takes the place of the built-in descriptor, so that a copy of a known
/// set with other units or other paths needs no new name.
///
/// # Errors
/// An unknown name, split or task (what exists is listed), a folder that is not laid out as it should be, missing
/// files (the first twenty and their number).
pub fn open(name: &str, root: &Path, split: &str, tasks: &[Task]) -> Result<Box<dyn Dataset>> {
    Ok(Box::new(FolderDataset::open(&descriptor(name, root)?, root, split, tasks)?))
}

/// Every data set that comes with the crate.
pub fn list() -> &'static [Descriptor] {
    Descriptor::known()
}

/// The descriptor of the data set called `name` in the folder `root`, as [`open`] finds it.
///
/// # Errors
/// An unknown name, or a `dataset.toml` that cannot be understood.
pub fn descriptor(name: &str, root: &Path) -> Result<Descriptor> {
    let own = root.join("dataset.toml");
    if tadformer_files::is_file(&own).map_err(Error::io("read", &own))? {
        let own = Descriptor::read(root)?;
        if name == "folder" || name == own.name {
            return Ok(own);
        }
    } else if name == "folder" {
        return Err(Error::Layout {
            name: name.into(),
            root: root.to_owned(),
            reason: "there is no `dataset.toml` in it; write one as `datasets/README.md` shows".into(),
        });
    }
    list().iter().find(|known| known.name == name).cloned().ok_or_else(|| {
        let known: Vec<_> = list().iter().map(|known| known.name.as_str()).collect();
        Error::Config(format!(
            "there is no data set `{name}`; known are {}, and `folder` for a folder with a `dataset.toml`{}",
            known.join(", "),
            did_you_mean(name, known.iter().copied())
        ))
    })
}
