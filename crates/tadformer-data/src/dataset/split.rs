//! Which samples a split has: the lines of a list, or the pictures of a folder.

use std::fs;
use std::path::Path;

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

/// The samples of a split, in its order; `task` is the one that advice names.
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
) -> Result<Vec<Member>> {
    match source {
        SplitSource::List { list, columns, strip } => {
            let path = root.join(list.replace("{split}", split));
            let bytes = read_list(&path)?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|e| Error::decode(&path, "split list", format!("{e}; expected UTF-8 text")))?;
            let lines = Lines { split, root, list, columns, strip, images, task };
            lines.parse(text).map_err(|reason| Error::decode(&path, "split list", reason))
        }
        SplitSource::Scan { .. } => {
            let (folder, ending) = images.first().and_then(|image| image.scan(split)).ok_or_else(|| {
                Error::Config("a scan needs an image pattern such as `images/{split}/{id}.jpg`".into())
            })?;
            let folder = root.join(folder);
            let mut ids = Vec::new();
            scan(&folder, "", &ending, MAX_DEPTH, &mut ids)?;
            ids.sort_unstable();
            Ok(ids.into_iter().map(Member::of_id).collect())
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

fn scan(folder: &Path, prefix: &str, ending: &str, depth: usize, ids: &mut Vec<String>) -> Result<()> {
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
        if is_folder {
            if depth > 0 && !name.starts_with('.') {
                scan(&path, &format!("{prefix}{name}/"), ending, depth - 1, ids)?;
            }
        } else if let Some(stem) =
            name.strip_suffix(ending).filter(|stem| !stem.is_empty() && !stem.starts_with('.'))
        {
            let id = format!("{prefix}{stem}");
            check_id(&id).map_err(|reason| Error::file(&path, reason))?;
            ids.push(id);
        }
    }
    Ok(())
}
