//! Paths under the root of a data set, and what may stand in them.
//!
//! Lists and descriptors come with the data, so what they name must not lead out of the folder.

use std::path::{Path, PathBuf};

/// The longest sample id, in bytes.
const MAX_ID: usize = 255;

/// A path under the root with room for a sample's id and its split: `leftImg8bit/{split}/{id}_leftImg8bit.png`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
}

impl Pattern {
    /// Understands the text of a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.matches("{id}").count() != 1 {
            return Err(format!("the pattern `{text}` must hold `{{id}}` once"));
        }
        let plain = text.replace("{id}", "id").replace("{split}", "split");
        if plain.contains(['{', '}']) {
            return Err(format!("the pattern `{text}` may hold `{{id}}` and `{{split}}`, no other braces"));
        }
        check_relative(&plain)?;
        Ok(Self { text: text.to_owned() })
    }

    /// The path of a sample's file under the root.
    pub(crate) fn path(&self, split: &str, id: &str) -> PathBuf {
        PathBuf::from(self.text.replace("{split}", split).replace("{id}", id))
    }

    /// The id whose file has this path under the root.
    pub(crate) fn id_in(&self, split: &str, path: &str) -> Option<String> {
        let text = self.text.replace("{split}", split);
        let (before, after) = text.split_once("{id}")?;
        let id = path.strip_prefix(before)?.strip_suffix(after)?;
        (!id.is_empty()).then(|| id.to_owned())
    }

    /// The folder under the root that holds every match, and the ending behind the id.
    ///
    /// `None` if anything stands between the last folder and the id, or a folder behind it.
    pub(crate) fn scan(&self, split: &str) -> Option<(PathBuf, String)> {
        let text = self.text.replace("{split}", split);
        let (before, after) = text.split_once("{id}")?;
        let folder = before.strip_suffix('/').or(before.is_empty().then_some(""))?;
        (!after.contains('/')).then(|| (PathBuf::from(folder), after.to_owned()))
    }

    /// The folders in front of the first placeholder, under the root: what an id cannot change.
    pub(crate) fn fixed_folder(&self) -> &Path {
        let fixed = &self.text[..self.text.find('{').unwrap_or(self.text.len())];
        Path::new(fixed.rfind('/').map_or("", |slash| &fixed[..slash]))
    }
}

/// Whether `id` may name a sample.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_id(id: &str) -> Result<(), String> {
    if id.len() > MAX_ID {
        return Err(format!("an id of {} bytes; at most {MAX_ID} are allowed", id.len()));
    }
    if id.contains(['{', '}']) {
        return Err(format!("the id {id:?} holds braces"));
    }
    check_relative(id)
}

/// Whether `path` stays below the folder that it is joined to, on every system.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_relative(path: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{path:?} {what}; expected a path under the data set's folder"));
    if path.is_empty() {
        return wrong("is empty");
    }
    if path.chars().any(char::is_control) {
        return wrong("holds a control character");
    }
    if path.contains('\\') {
        return wrong("holds a backslash");
    }
    if path.starts_with('/') || path.get(1..2) == Some(":") {
        return wrong("is absolute");
    }
    for part in path.split('/') {
        match part {
            "" => return wrong("has an empty part"),
            "." | ".." => return wrong("walks up or stays in place"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_leave_the_folder_are_refused() {
        for (id, reason) in [
            ("../x", "walks up"),
            ("/a", "is absolute"),
            ("a/../../b", "walks up"),
            ("a\0b", "a control character"),
            ("a\nb", "a control character"),
            ("a\\..\\b", "a backslash"),
            ("", "is empty"),
            ("a//b", "an empty part"),
            ("./a", "stays in place"),
            ("C:x", "is absolute"),
            ("{id}", "holds braces"),
        ] {
            let message = check_id(id).unwrap_err();
            assert!(message.contains(reason), "{id:?}: {message}");
        }
        assert!(check_id(&"x".repeat(256)).unwrap_err().contains("an id of 256 bytes"));
    }

    #[test]
    fn ordinary_ids_are_accepted() {
        for id in [
            "2008_000001",
            "aachen/aachen_000000_000019",
            "with space",
            "a=b",
            "été",
            &"x".repeat(255),
            "..a",
        ] {
            assert_eq!(check_id(id), Ok(()), "{id:?}");
        }
    }

    #[test]
    fn patterns_name_what_they_may_hold() {
        for (bad, reason) in [
            ("a.png", "must hold `{id}` once"),
            ("{id}/{id}.png", "must hold `{id}` once"),
            ("../{id}.png", "walks up"),
            ("/{id}.png", "is absolute"),
            ("{city}/{id}.png", "no other braces"),
            ("a/{id}\n", "a control character"),
        ] {
            let message = Pattern::parse(bad).unwrap_err();
            assert!(message.contains(reason), "{bad:?}: {message}");
        }
        let pattern = Pattern::parse("left/{split}/{id}_left.png").unwrap();
        assert_eq!(pattern.path("val", "bonn/1"), Path::new("left/val/bonn/1_left.png"));
        assert_eq!(pattern.scan("val"), Some((PathBuf::from("left/val"), "_left.png".into())));
        assert_eq!(pattern.fixed_folder(), Path::new("left"));
        assert_eq!(pattern.id_in("val", "left/val/bonn/1_left.png"), Some("bonn/1".into()));
        for other in ["left/train/1_left.png", "left/val/_left.png", "left/val/1.png"] {
            assert_eq!(pattern.id_in("val", other), None, "{other}");
        }
        assert_eq!(Pattern::parse("{id}.jpg").unwrap().scan("x"), Some((PathBuf::new(), ".jpg".into())));
    }
}
