//! Which samples belong to a split, in words.

use serde::{Deserialize, Serialize};

use crate::dataset::pattern::check_relative;

/// Which samples belong to a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Table")]
pub enum SplitSource {
    /// The lines of a text file.
    List {
        /// Its path under the root.
        list: String,
        /// What each line holds; without it, the sample's id alone.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        columns: Vec<Column>,
        /// What is cut off in front of each path of a line.
        #[serde(skip_serializing_if = "String::is_empty")]
        strip: String,
    },
    /// Every picture that the image patterns find, in alphabetical order.
    Scan {
        /// Must be true.
        scan: bool,
    },
}

/// What stands in one place of a list's lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Column {
    /// The sample's id.
    Id,
    /// The path of its picture under the root.
    Image,
    /// The path of the label of the task of this name.
    Label(String),
    /// Something that is not looked at.
    Other,
}

impl From<String> for Column {
    fn from(name: String) -> Self {
        match name.as_str() {
            "id" => Self::Id,
            "image" => Self::Image,
            "-" => Self::Other,
            _ => Self::Label(name),
        }
    }
}

impl From<Column> for String {
    fn from(column: Column) -> Self {
        match column {
            Column::Id => "id".to_owned(),
            Column::Image => "image".to_owned(),
            Column::Other => "-".to_owned(),
            Column::Label(task) => task,
        }
    }
}

/// The keys as they stand in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    list: Option<String>,
    #[serde(default)]
    columns: Vec<Column>,
    #[serde(default)]
    strip: String,
    scan: Option<bool>,
}

impl TryFrom<Table> for SplitSource {
    type Error = &'static str;

    fn try_from(table: Table) -> Result<Self, &'static str> {
        match table {
            Table { list: Some(list), scan: None, columns, strip } => Ok(Self::List { list, columns, strip }),
            Table { list: None, scan: Some(scan), columns, strip }
                if columns.is_empty() && strip.is_empty() =>
            {
                Ok(Self::Scan { scan })
            }
            Table { list: None, scan: Some(_), .. } => {
                Err("`columns` and `strip` belong to a `list`; a scan has no lines")
            }
            _ => Err("a split is either `list = \"FILE\"` or `scan = true`"),
        }
    }
}

impl SplitSource {
    /// What it states and cannot be, in a data set that labels `tasks`.
    pub(super) fn problem(&self, tasks: &[&str]) -> Option<String> {
        match self {
            Self::Scan { scan } => (!scan).then(|| "`scan` must be true".into()),
            Self::List { list, columns, .. } => check_relative(&list.replace("{split}", "split"))
                .err()
                .or_else(|| columns_problem(columns, tasks)),
        }
    }
}

fn columns_problem(columns: &[Column], tasks: &[&str]) -> Option<String> {
    if columns.is_empty() {
        return None;
    }
    for (i, column) in columns.iter().enumerate() {
        let name = String::from(column.clone());
        if *column != Column::Other && columns[..i].contains(column) {
            return Some(format!("`columns` names `{name}` twice"));
        }
        if matches!(column, Column::Label(task) if !tasks.contains(&task.as_str())) {
            return Some(format!(
                "`columns` names `{name}`; expected `image`, `id`, `-` for what is not looked at, or one of the \
                 tasks {}",
                tasks.join(", ")
            ));
        }
    }
    let named = columns.contains(&Column::Image) || columns.contains(&Column::Id);
    (!named).then(|| "`columns` needs `image` or `id`, by which a sample is known".into())
}
