//! Blocks of a Markdown file that this program writes, between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.

use anyhow::{Context, Result, bail};
use std::path::Path;
use tadformer_files::Durability;

/// Puts `content` between the marks of the block `name`.
///
/// # Errors
/// A text without the marks, with two of them, or with the end before the start.
pub(crate) fn replace(text: &str, name: &str, content: &str) -> Result<String> {
    let (open, close) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    for mark in [&open, &close] {
        let count = text.matches(mark.as_str()).count();
        if count != 1 {
            bail!("`{mark}` stands {count} times in it, expected once");
        }
    }
    let start = text.split_once(&open).map(|(before, _)| before.len() + open.len());
    let end = text.find(&close);
    match (start, end) {
        (Some(start), Some(end)) if start <= end => {
            Ok(format!("{}\n{}\n{}", &text[..start], content.trim(), &text[end..]))
        }
        _ => bail!("`{close}` stands before `{open}`"),
    }
}

/// Rewrites blocks of a file: all of them or none.
///
/// # Errors
/// A file that cannot be read or written, or that lacks a block.
pub(crate) fn update(path: &Path, blocks: &[(&str, String)]) -> Result<()> {
    let mut text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    for (name, content) in blocks {
        text =
            replace(&text, name, content).with_context(|| format!("cannot update `{}`", path.display()))?;
    }
    write(path, text.as_bytes())
}

/// Writes a file beside `path` and renames it.
///
/// # Errors
/// A folder that cannot be written to.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = std::fs::create_dir_all(tadformer_files::folder_of(path))
        .and_then(|()| tadformer_files::write(path, bytes, Durability::Synced));
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n";

    #[test]
    fn only_what_lies_between_the_marks_changes() {
        let changed = replace(TEXT, "x", "new\n").unwrap();
        assert_eq!(changed, TEXT.replace("old", "new"));
        assert_eq!(replace(&changed, "x", "new").unwrap(), changed);
    }

    #[test]
    fn missing_and_crossed_marks_are_named() {
        let message = |text: &str| replace(text, "x", "new").unwrap_err().to_string();
        assert!(message("").contains("`<!-- bench:x -->` stands 0 times"));
        assert!(message(&format!("{TEXT}{TEXT}")).contains("2 times"));
        assert!(message("<!-- /bench:x -->\n<!-- bench:x -->").contains("stands before"));
    }

    #[test]
    fn a_file_that_lacks_a_block_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.md");
        std::fs::write(&path, TEXT).unwrap();
        let blocks = [("x", "new".to_owned()), ("y", "new".to_owned())];
        assert!(update(&path, &blocks).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), TEXT);
        update(&path, &blocks[..1]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), TEXT.replace("old", "new"));
    }
}
