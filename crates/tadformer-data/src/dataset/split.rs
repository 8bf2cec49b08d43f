//! Which samples a split has: the lines of a list, or the pictures of a folder.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::list::Lines;
use super::pattern::{Pattern, check_id};
use crate::descriptor::{Column, SplitSource};
use crate::format::read_bounded;
use crate::{Error, Result, Task};

/// How many problems a message lists.
pub(crate) const LISTED: usize = 20;

/// Levels of folders that a scan walks down.
const MAX_DEPTH: usize = 4;

/// A sample as its split names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its id.
    pub(super) id: String,
    /// Paths under the root that a list gives instead of patterns.
    pub(super) paths: Vec<(Column, String)>,
}

impl Member {
    /// A sample of which the id alone is known.
    pub(super) fn of_id(id: String) -> Self {
        Self { id, paths: Vec::new() }
    }

    /// The path of its picture, if the list gives it.
    pub(super) fn image(&self) -> Option<&str> {
        self.path(|column| *column == Column::Image)
    }

    /// The path of its label of `task`, if the list gives it.
    pub(super) fn label(&self, task: Task) -> Option<&str> {
        self.path(|column| matches!(column, Column::Label(name) if name == task.name))
    }

    fn path(&self, of: impl Fn(&Column) -> bool) -> Option<&str> {
        self.paths.iter().find(|(column, _)| of(column)).map(|(_, path)| path.as_str())
    }
}

/// The samples of a split, in its order, and the files that a scan came upon and did not take; `task` is the one that
/// advice names.
///
/// # Errors
/// A list that is missing or no text, ids that could leave the folder or stand there twice (all at once), a folder
/// that cannot be read.
pub(super) fn members(
    root: &Path,
    split: &str,
    source: &SplitSource,
    images: Vec<&Pattern>,
    task: &str,
) -> Result<(Vec<Member>, Vec<String>)> {
    match source {
        SplitSource::List { list, columns, strip } => {
            let path = root.join(list.replace("{split}", split));
            let bytes = read_list(&path)?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|e| Error::decode(&path, "split list", format!("{e}; expected UTF-8 text")))?;
            let lines = Lines { split, root, list, columns, strip, images, task };
            let members = lines.parse(text).map_err(|reason| Error::decode(&path, "split list", reason))?;
            Ok((members, Vec::new()))
        }
        SplitSource::Scan { .. } => {
            let Scanned { ids, passed_over } = scan(root, split, &images)?;
            Ok((ids.into_iter().map(Member::of_id).collect(), passed_over))
        }
    }
}

/// An empty list is an empty split, not a broken file.
fn read_list(path: &Path) -> Result<Vec<u8>> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() == 0 => Ok(Vec::new()),
        _ => read_bounded(path),
    }
}

/// The first problems, and how many there are.
pub(crate) fn first_of(problems: &[String]) -> String {
    let mut text = problems[..problems.len().min(LISTED)].join("; ");
    if problems.len() > LISTED {
        text.push_str(&format!("; … {} in all", problems.len()));
    }
    text
}

/// What a scan finds.
#[derive(Debug, Default)]
struct Scanned {
    /// The ids of pictures, ascending.
    ids: BTreeSet<String>,
    /// Paths of the other files under the root, ascending; hidden ones are not counted.
    passed_over: Vec<String>,
}

/// The pictures that the image patterns find; of several with one id the first pattern's is taken, as when it is read.
fn scan(root: &Path, split: &str, images: &[&Pattern]) -> Result<Scanned> {
    let places: Vec<(PathBuf, String)> = images.iter().filter_map(|image| image.scan(split)).collect();
    if places.is_empty() {
        return Err(Error::Config("a scan needs an image pattern such as `images/{split}/{id}.jpg`".into()));
    }
    let mut ids = BTreeSet::new();
    let (mut files, mut taken) = (BTreeSet::new(), HashSet::new());
    for (at, (folder, ending)) in places.iter().enumerate() {
        let place = root.join(folder);
        // Pictures of another kind need not have a folder of their own.
        if at > 0 && !place.is_dir() {
            continue;
        }
        walk(&place, "", MAX_DEPTH, &mut |prefix, name, path| {
            let file = path.strip_prefix(root).unwrap_or(path).display().to_string();
            if let Some(stem) =
                name.strip_suffix(ending.as_str()).filter(|stem| !stem.is_empty() && !stem.starts_with('.'))
            {
                let id = format!("{prefix}{stem}");
                check_id(&id).map_err(|reason| Error::file(path, reason))?;
                if ids.insert(id) {
                    taken.insert(file.clone());
                }
            }
            if !name.starts_with('.') {
                files.insert(file);
            }
            Ok(())
        })?;
    }
    let passed_over = files.into_iter().filter(|file| !taken.contains(file)).collect();
    Ok(Scanned { ids, passed_over })
}

/// Calls `found` with each file below `folder`: the folders on the way, its name and its path.
fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut dyn FnMut(&str, &str, &Path) -> Result<()>,
) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(Error::file(entry.path(), "its name is not UTF-8; rename it"));
        };
        let path = entry.path();
        let is_folder = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => path.is_dir(),
            Ok(kind) => kind.is_dir(),
            Err(e) => return Err(Error::io("list", &path)(e)),
        };
        if !is_folder {
            found(prefix, name, &path)?;
        } else if depth > 0 && !name.starts_with('.') {
            walk(&path, &format!("{prefix}{name}/"), depth - 1, found)?;
        }
    }
    Ok(())
}
