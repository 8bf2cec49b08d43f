//! Which samples a split has: the lines of a list, or the pictures of a folder.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::pattern::{Pattern, check_id};
use crate::descriptor::SplitSource;
use crate::format::read_bounded;
use crate::{Error, Result};

/// How many problems a message lists.
pub(crate) const LISTED: usize = 20;

/// Levels of folders that a scan walks down.
const MAX_DEPTH: usize = 4;

/// The ids of a split, in its order.
///
/// # Errors
/// A list that is missing or no text, ids that could leave the folder or stand there twice (all at once), a folder
/// that cannot be read.
pub(super) fn ids(root: &Path, split: &str, source: &SplitSource, image: &Pattern) -> Result<Vec<String>> {
    match source {
        SplitSource::List { list } => {
            let path = root.join(list.replace("{split}", split));
            let bytes = read_list(&path)?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|e| Error::decode(&path, "split list", format!("{e}; expected UTF-8 text")))?;
            parse_list(text).map_err(|reason| Error::decode(&path, "split list", reason))
        }
        SplitSource::Scan { .. } => {
            let (folder, ending) = image.scan(split).ok_or_else(|| {
                Error::Config("a scan needs an image pattern such as `images/{split}/{id}.jpg`".into())
            })?;
            let folder = root.join(folder);
            let mut ids = Vec::new();
            scan(&folder, "", &ending, MAX_DEPTH, &mut ids)?;
            ids.sort_unstable();
            Ok(ids)
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

/// One id a line. A byte order mark, carriage returns, blanks around an id and empty lines are stepped over.
fn parse_list(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut ids = Vec::new();
    let mut seen = HashSet::new();
    let mut problems = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let id = line.trim();
        if id.is_empty() {
            continue;
        }
        match check_id(id) {
            Err(reason) => problems.push(format!("line {}: {reason}", number + 1)),
            Ok(()) if !seen.insert(id) => {
                problems.push(format!("line {}: `{id}` stands there twice", number + 1));
            }
            Ok(()) => ids.push(id.to_owned()),
        }
    }
    if problems.is_empty() { Ok(ids) } else { Err(first_of(&problems)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_from_every_editor_are_read() {
        let text = "\u{feff}a\r\nb  \r\n\r\n\tc d \n e=f";
        assert_eq!(parse_list(text).unwrap(), ["a", "b", "c d", "e=f"]);
        assert!(parse_list("").unwrap().is_empty());
    }

    #[test]
    fn every_bad_line_of_a_list_is_named() {
        let error = parse_list("a\n../b\na\n/c\nd\0\n").unwrap_err();
        for line in ["line 2", "line 3", "line 4", "line 5"] {
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn many_problems_are_counted_not_listed() {
        let text = "../x\n".repeat(500);
        let error = parse_list(&text).unwrap_err();
        assert!(
            error.contains("line 20") && !error.contains("line 21") && error.contains("500 in all"),
            "{error}"
        );
    }
}
