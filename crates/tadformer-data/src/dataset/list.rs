//! Split lists: one id a line, or several columns as other programs write them.

use std::collections::HashSet;
use std::path::Path;

use super::pattern::{Pattern, check_id, check_relative};
use super::split::{Member, first_of};
use crate::descriptor::Column;

/// Endings of pictures and labels, by which a path is told from an id.
const ENDINGS: [&str; 11] = ["jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "gif", "ppm", "npy", "mat"];

/// How lines are read.
pub(super) struct Lines<'a> {
    /// Name of the split.
    pub(super) split: &'a str,
    /// The data set's root.
    pub(super) root: &'a Path,
    /// What the descriptor says the list is called.
    pub(super) list: &'a str,
    /// What each line holds; empty for an id alone.
    pub(super) columns: &'a [Column],
    /// What is cut off in front of paths.
    pub(super) strip: &'a str,
    /// Patterns of the picture, which tell the id in a path.
    pub(super) images: Vec<&'a Pattern>,
    /// Name of a task that a second column may label, for advice.
    pub(super) task: &'a str,
}

impl Lines<'_> {
    /// A byte order mark, carriage returns, blanks around a line and empty lines are stepped over.
    ///
    /// # Errors
    /// Every line that is not as it should be, or one word about all if they are lines of several paths.
    pub(super) fn parse(&self, text: &str) -> Result<Vec<Member>, String> {
        let lines: Vec<(usize, &str)> = text
            .trim_start_matches('\u{feff}')
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty())
            .collect();
        if self.columns.is_empty()
            && let Some(advice) = self.several_paths(&lines)
        {
            return Err(advice);
        }
        let mut members: Vec<Member> = Vec::with_capacity(lines.len());
        let mut seen = HashSet::with_capacity(lines.len());
        let mut problems = Vec::new();
        for (number, line) in lines {
            let member = if self.columns.is_empty() {
                check_id(line).map(|()| Member::of_id(line.to_owned()))
            } else {
                self.member(line)
            };
            match member {
                Err(reason) => problems.push(format!("line {number}: {reason}")),
                Ok(member) if !seen.insert(member.id.clone()) => {
                    problems.push(format!("line {number}: `{}` stands there twice", member.id));
                }
                Ok(member) => members.push(member),
            }
        }
        if problems.is_empty() { Ok(members) } else { Err(first_of(&problems)) }
    }

    /// A line of several columns.
    fn member(&self, line: &str) -> Result<Member, String> {
        let parts = parts(line, self.columns.len());
        if parts.len() != self.columns.len() {
            let names: Vec<String> = self.columns.iter().cloned().map(String::from).collect();
            return Err(format!(
                "it has {} parts, `columns` names {} ({}); `-` stands for a part that is not looked at",
                parts.len(),
                names.len(),
                names.join(", ")
            ));
        }
        let (mut id, mut paths) = (None, Vec::with_capacity(parts.len()));
        for (column, part) in self.columns.iter().zip(parts) {
            match column {
                Column::Other => {}
                Column::Id => {
                    check_id(&part)?;
                    id = Some(part);
                }
                Column::Image | Column::Label(_) => {
                    let path = part.replace('\\', "/");
                    let path = path.strip_prefix(self.strip).unwrap_or(&path);
                    check_relative(path).map_err(|reason| {
                        format!("{reason}; `strip = \"…\"` beside `columns` cuts off what stands in front")
                    })?;
                    paths.push((column.clone(), path.to_owned()));
                }
            }
        }
        let image = || Some(&paths.iter().find(|(column, _)| *column == Column::Image)?.1);
        let id = match (id, image()) {
            (Some(id), _) => id,
            (None, Some(path)) => self.id_of(path),
            (None, None) => return Err("it has neither an id nor a picture".into()),
        };
        check_id(&id)?;
        Ok(Member { id, paths })
    }

    /// The id in the path of a picture: as a pattern says, or else the path without its ending.
    fn id_of(&self, path: &str) -> String {
        let by_pattern = self.images.iter().find_map(|pattern| pattern.id_in(self.split, path));
        by_pattern.unwrap_or_else(|| match path.rsplit_once('.') {
            Some((stem, ending)) if !stem.is_empty() && !ending.contains('/') => stem.to_owned(),
            _ => path.to_owned(),
        })
    }

    /// What to say of a list whose lines hold several paths where one id is expected.
    fn several_paths(&self, lines: &[(usize, &str)]) -> Option<String> {
        let several = |line: &str| paths_in(line).iter().filter(|part| has_ending(part)).count() > 1;
        let (number, line) = lines.iter().find(|(_, line)| several(line))?;
        let parts = paths_in(line);
        let front = parts.iter().find_map(|part| self.in_front(part)).unwrap_or_default();
        let known = |part: &String| {
            let path = part.replace('\\', "/");
            let path = path.strip_prefix(&front).unwrap_or(&path);
            self.images.iter().any(|pattern| pattern.id_in(self.split, path).is_some())
        };
        let image = parts.iter().position(known).unwrap_or(0);
        let label = parts.iter().enumerate().position(|(at, part)| at != image && has_ending(part));
        let columns: Vec<String> = (0..parts.len())
            .map(|at| match at {
                _ if at == image => "\"image\"".to_owned(),
                _ if Some(at) == label => format!("\"{}\"", self.task),
                _ => "\"-\"".to_owned(),
            })
            .collect();
        let strip = if front.is_empty() { String::new() } else { format!(", strip = \"{front}\"") };
        let shown: String = line.chars().take(200).collect();
        Some(format!(
            "line {number}, `{shown}`: this line holds {} paths; one id a line is expected ({} of {} lines are so). In \
             `dataset.toml`, `{} = {{ list = \"{}\", columns = [{}]{strip} }}` reads them: `image` and tasks name the \
             paths of a line, `-` what is not looked at",
            in_words(parts.iter().filter(|part| has_ending(part)).count()),
            lines.iter().filter(|(_, line)| several(line)).count(),
            lines.len(),
            self.split,
            self.list,
            columns.join(", ")
        ))
    }

    /// What stands in front of a path's part under the root, if that is not the whole of it.
    fn in_front(&self, path: &str) -> Option<String> {
        let path = path.replace('\\', "/");
        if check_relative(&path).is_ok() && self.root.join(&path).is_file() {
            return None;
        }
        let starts = path.match_indices('/').map(|(at, _)| at + 1);
        let found = starts
            .into_iter()
            .find(|&at| check_relative(&path[at..]).is_ok() && self.root.join(&path[at..]).is_file());
        found.map(|at| path[..at].to_owned())
    }
}

fn in_words(n: usize) -> String {
    match n {
        2 => "two".into(),
        3 => "three".into(),
        n => n.to_string(),
    }
}

/// The parts of a line of nothing but paths, told by the endings of files, and numbers; otherwise none.
fn paths_in(line: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for part in by_endings(line) {
        if has_ending(&part) {
            parts.push(part);
        } else if part.split_whitespace().all(|word| word.parse::<f64>().is_ok()) {
            parts.extend(part.split_whitespace().map(str::to_owned));
        } else {
            return Vec::new();
        }
    }
    parts
}

/// The parts of a line: as many as are `wanted` if any usual separator gives that many.
fn parts(line: &str, wanted: usize) -> Vec<String> {
    let separated = |separator: char| line.split(separator).map(clean).collect::<Vec<_>>();
    for separator in ['\t', ',', ';', '|'] {
        let parts = separated(separator);
        if parts.len() == wanted && wanted > 1 {
            return parts;
        }
    }
    if wanted == 1 {
        return vec![clean(line)];
    }
    let blanks: Vec<String> = line.split_whitespace().map(clean).collect();
    if blanks.len() == wanted {
        return blanks;
    }
    // Names with blanks: a part goes on until its ending.
    let joined = by_endings(line);
    if joined.len() == wanted { joined } else { blanks }
}

/// The parts of a line at the usual separators, where a part goes on over a blank until it has a file's ending.
fn by_endings(line: &str) -> Vec<String> {
    let separator = ['\t', ',', ';', '|'].into_iter().find(|&separator| line.contains(separator));
    if let Some(separator) = separator {
        return line.split(separator).map(clean).filter(|part| !part.is_empty()).collect();
    }
    let mut parts: Vec<String> = Vec::new();
    let mut open = false;
    for word in line.split_whitespace() {
        match parts.last_mut() {
            Some(part) if open => {
                part.push(' ');
                part.push_str(word);
            }
            _ => parts.push(word.to_owned()),
        }
        open = !has_ending(parts.last().map_or("", String::as_str));
    }
    parts.iter().map(|part| clean(part)).collect()
}

fn has_ending(part: &str) -> bool {
    let part = part.trim_matches(QUOTES);
    part.rsplit_once('.')
        .is_some_and(|(_, ending)| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

const QUOTES: [char; 2] = ['"', '\''];

/// Without blanks and quotes around it.
fn clean(part: &str) -> String {
    part.trim().trim_matches(QUOTES).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_as(text: &str, columns: &[&str], strip: &str) -> Result<Vec<Member>, String> {
        let columns: Vec<Column> = columns.iter().map(|name| Column::from((*name).to_owned())).collect();
        let pattern = Pattern::parse("photos/{id}.jpg").unwrap();
        let lines = Lines {
            split: "train",
            root: Path::new("nowhere"),
            list: "train.txt",
            columns: &columns,
            strip,
            images: vec![&pattern],
            task: "semseg",
        };
        lines.parse(text)
    }

    fn ids(text: &str) -> Result<Vec<String>, String> {
        Ok(parse_as(text, &[], "")?.into_iter().map(|member| member.id).collect())
    }

    #[test]
    fn lists_from_every_editor_are_read() {
        let text = "\u{feff}a\r\nb  \r\n\r\n\tc d \n e=f";
        assert_eq!(ids(text).unwrap(), ["a", "b", "c d", "e=f"]);
        assert!(ids("").unwrap().is_empty());
    }

    #[test]
    fn every_bad_line_of_a_list_is_named() {
        let error = ids("a\n../b\na\n/c\nd\0\n").unwrap_err();
        for line in ["line 2", "line 3", "line 4", "line 5"] {
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn many_problems_are_counted_not_listed() {
        let text = "../x\n".repeat(500);
        let error = ids(&text).unwrap_err();
        assert!(
            error.contains("line 20") && !error.contains("line 21") && error.contains("500 in all"),
            "{error}"
        );
    }

    #[test]
    fn lines_of_several_paths_are_named_once_with_the_key_that_reads_them() {
        for (text, words) in [
            ("a/1.jpg b/1.png\na/2.jpg b/2.png\n", "two paths"),
            ("/data/a/1.jpg\tb/1.png", "two paths"),
            ("a/1.jpg,b/1.png", "two paths"),
            ("my a/1.jpg my b/1.png", "two paths"),
            ("a\\1.jpg b\\1.png", "two paths"),
            ("/a/1.jpg /b/1.png 1 1 0", "two paths"),
            ("\"a/1.jpg\";\"b/1.png\";\"c/1.npy\"", "three paths"),
        ] {
            let error = ids(text).unwrap_err();
            assert!(error.contains(words) && error.contains("one id a line is expected"), "{error}");
            assert!(error.contains("columns = [\"image\", \"semseg\""), "{error}");
            assert_eq!(
                error.contains("\"semseg\", \"-\", \"-\", \"-\"]"),
                text.ends_with("1 1 0"),
                "{error}"
            );
            assert_eq!(error.matches("this line").count(), 1, "{error}");
        }
        let error = ids("m/1.png photos/1.jpg").unwrap_err();
        assert!(error.contains("columns = [\"semseg\", \"image\"]"), "{error}");
        // Ids may have blanks, commas and endings.
        let odd = ["a b", "1,2", "a.jpg", "v1.5 final", "x.jpg copy"];
        assert_eq!(ids(&odd.join("\n")).unwrap(), odd);
    }

    #[test]
    fn columns_are_read_over_every_usual_separator() {
        let pair = |line: &str| {
            let members = parse_as(line, &["image", "semseg"], "").unwrap();
            let [(_, image), (_, label)] = &members[0].paths[..] else { panic!("{members:?}") };
            (members[0].id.clone(), image.clone(), label.clone())
        };
        let expected = ("x".to_owned(), "photos/x.jpg".to_owned(), "m/x.png".to_owned());
        for line in [
            "photos/x.jpg m/x.png",
            "photos/x.jpg   m/x.png  ",
            "photos/x.jpg\tm/x.png",
            "photos/x.jpg,m/x.png",
            "photos/x.jpg, m/x.png",
            "\"photos/x.jpg\";\"m/x.png\"",
            "photos\\x.jpg|m\\x.png",
        ] {
            assert_eq!(pair(line), expected, "{line:?}");
        }
        let (id, image, label) = pair("photos/my x.jpg my masks/my x.png");
        assert_eq!(
            (id.as_str(), image.as_str(), label.as_str()),
            ("my x", "photos/my x.jpg", "my masks/my x.png")
        );
        // A picture that no pattern finds is known by its path.
        assert_eq!(pair("left/y.png m/y.png").0, "left/y");
    }

    #[test]
    fn columns_may_be_left_out_and_prefixes_cut_off() {
        let members =
            parse_as("/data/photos/a.jpg /data/m/a.png 1 0", &["image", "semseg", "-", "-"], "/data/");
        assert_eq!(members.unwrap()[0].id, "a");
        let members = parse_as("2008_000002  1\n2008_000003 -1", &["id", "-"], "").unwrap();
        assert_eq!(members[1].id, "2008_000003");
        assert!(members[1].paths.is_empty());
        let error = parse_as("photos/a.jpg m/a.png 1", &["image", "semseg"], "").unwrap_err();
        assert!(
            error.contains("line 1") && error.contains("3 parts") && error.contains("names 2"),
            "{error}"
        );
        let error = parse_as("/data/a.jpg m/a.png", &["image", "semseg"], "").unwrap_err();
        assert!(error.contains("absolute") && error.contains("strip"), "{error}");
        assert!(parse_as("a.jpg ../m.png", &["image", "semseg"], "").unwrap_err().contains("walks up"));
        let twice = "photos/a.jpg m/a.png\nphotos/a.jpg m/b.png";
        assert!(
            parse_as(twice, &["image", "semseg"], "").unwrap_err().contains("line 2: `a` stands there twice")
        );
    }
}
