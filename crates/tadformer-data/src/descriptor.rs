//! What a data set is, in words: `datasets/<name>/dataset.toml`, or `dataset.toml` in a folder of your own.
//!
//! `datasets/README.md` explains every key with a worked example.

mod quantity;
mod split;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use quantity::{MetresEncoding, StoredVector, VectorsEncoding};
pub use split::{Column, SplitSource};

use crate::dataset::pattern::{Pattern, check_relative};
use crate::explain::{did_you_mean, toml_error};
use crate::format::picture::Orientation;
use crate::{Drawing, EDGE_TOLERANCE, Error, LabelKind, Metric, Result, Task, TaskSpec};

/// The descriptors that come with the crate.
static KNOWN: [(&str, &str); 4] = [
    ("pascal-context", include_str!("../../../datasets/pascal-context/dataset.toml")),
    ("nyud", include_str!("../../../datasets/nyud/dataset.toml")),
    ("cityscapes", include_str!("../../../datasets/cityscapes/dataset.toml")),
    ("bsds500", include_str!("../../../datasets/bsds500/dataset.toml")),
];

static PARSED: LazyLock<Vec<Descriptor>> = LazyLock::new(|| {
    KNOWN
        .iter()
        .map(|(name, text)| {
            Descriptor::parse(text, Path::new(name)).expect("a test parses every embedded descriptor")
        })
        .collect()
});

/// The largest `dataset.toml` that is read.
const MAX_TEXT: usize = 1 << 20;

/// A data set as its descriptor states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// Name in configurations and on the command line.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// Under which terms it may be used.
    #[serde(default)]
    pub licence: String,
    /// How to get it.
    #[serde(default)]
    pub obtain: String,
    /// Published checksums of its archives.
    #[serde(default)]
    pub checksums: Vec<Checksum>,
    /// Whether a file may be a link that leads out of the folder in which it is looked for.
    #[serde(default)]
    pub follow_links: bool,
    /// Whether its samples are made in memory; it then has neither pictures nor label files.
    #[serde(default)]
    pub generated: bool,
    /// Where the pictures lie.
    #[serde(default)]
    pub image: ImageSource,
    /// Which samples belong to which split.
    #[serde(default)]
    pub splits: BTreeMap<String, SplitSource>,
    /// What is labelled.
    pub tasks: Vec<TaskDescriptor>,
}

/// The checksum of a published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checksum {
    /// Name of the file.
    pub file: String,
    /// Name of the function: "sha256" or "md5".
    pub function: String,
    /// Its value, hexadecimal.
    pub value: String,
    /// Who published it.
    #[serde(default)]
    pub source: String,
}

/// Where the pictures lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSource {
    /// Pattern of a picture's path, for example `JPEGImages/{id}.jpg`. Several are tried in order.
    pub files: Vec<String>,
    /// Whether pictures are read as they are stored (without it, they are) or turned upright by their orientation tag:
    /// as the labels are drawn.
    #[serde(default)]
    pub orientation: Option<Orientation>,
}

/// A task as the descriptor states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskDescriptor {
    /// Name of the task.
    pub task: String,
    /// Names of the classes, for tasks that classify.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Colour of each class, for tasks that classify.
    #[serde(default)]
    pub palette: Vec<[u8; 3]>,
    /// Whether a sample may lack this label; it is then all ignored.
    #[serde(default)]
    pub optional: bool,
    /// Whether a label map of another size than its picture's is resized to it (nearest) instead of refused.
    #[serde(default)]
    pub resize: bool,
    /// For `edge`: how far a predicted edge may lie from a labelled one, a share of the picture's diagonal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// Score of a network trained for this task alone, by backbone: the reference of Δm.
    #[serde(default)]
    pub single_task: BTreeMap<String, f64>,
    /// Where its label files lie and how they are read; the first that exists is taken.
    #[serde(default)]
    pub sources: Vec<LabelSource>,
}

/// A pattern of label files and what their numbers mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSource {
    /// Pattern of the path, for example `semseg/{id}.png`.
    pub file: String,
    /// What the numbers mean.
    pub encoding: Encoding,
}

/// How the numbers of a label file become a label map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum Encoding {
    /// A PNG or `.npy` of class numbers.
    ClassIds {
        /// The number in the file that stands for each class; without it, class `k` is `k`.
        #[serde(default)]
        ids: Option<Vec<i32>>,
        /// Numbers that mean "no label"; without it 255, unless that is one of `ids`.
        #[serde(default)]
        ignore: Option<Vec<i32>>,
        /// What of a PNG the numbers are.
        #[serde(default, skip_serializing_if = "Numbers::is_auto")]
        numbers: Numbers,
        /// Colours that mean "no label".
        #[serde(default, alias = "ignore_colors", skip_serializing_if = "Vec::is_empty")]
        ignore_colours: Vec<[u8; 3]>,
    },
    /// A PNG or `.npy` in which large values are positive.
    Binary {
        /// What is more than this share of `full` is positive.
        #[serde(default = "one_half")]
        threshold: f32,
        /// The value that counts as 1; without it, the deepest PNG value, or 1 in a `.npy`.
        #[serde(default)]
        full: Option<f32>,
        /// Numbers that mean "no label".
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ignore: Vec<f64>,
    },
    /// Unit vectors: an RGB PNG, or a `.npy` `(h, w, 3)`. A vector whose length is far from 1 has no label.
    Vectors(VectorsEncoding),
    /// A `.npy` or PNG of distances.
    Metres(MetresEncoding),
    /// A 16-bit PNG of disparities as Cityscapes has them: `(v − 1) / 256` pixels, 0 means "none".
    Disparity {
        /// Distance between the cameras in metres.
        baseline: f64,
        /// Focal length in pixels.
        focal: f64,
        /// Pattern of Cityscapes' camera files (JSON); where there is one, its numbers take the place of these.
        #[serde(default)]
        camera: Option<String>,
    },
    /// A `.mat` of PASCAL-Part (`anno`): the 24 parts of people as six.
    PascalParts,
    /// A `.mat` of BSDS500 (`groundTruth`): the outlines of every annotator, see [`annotators`](crate::annotators).
    BsdsBoundaries,
    /// A `.mat` of PASCAL-Context (`LabelMap`): thinned outlines of its regions.
    LabelMapEdges,
    /// As [`Vectors`](Self::Vectors), where a PASCAL-Context `LabelMap` has one of the given classes.
    VectorsOnClasses {
        /// Pattern of the `.mat` file.
        label_map: String,
        /// The classes whose vectors are valid.
        valid: Vec<u16>,
    },
    /// A TIFF of Panoptic Parts: the parts of the given classes.
    PanopticParts {
        /// Class numbers of people.
        people: Vec<u32>,
    },
}

/// What of a PNG class ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numbers {
    /// What the kind of file says: levels of grey, indices of a palette, the classes of colours.
    #[default]
    Auto,
    /// The samples as they lie: palette indices, and grey of few bits without stretching it.
    Stored,
    /// The levels of grey that pixels show.
    Levels,
    /// The classes whose colours pixels show.
    #[serde(alias = "colors")]
    Colours,
}

impl Numbers {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

fn one_half() -> f32 {
    0.5
}

/// Why `value` is no positive number, if it is none.
fn positive(name: &str, value: f64) -> Option<String> {
    (!(value.is_finite() && value > 0.0)).then(|| format!("{name} is {value}; expected more than 0"))
}

impl Descriptor {
    /// Every data set that comes with the crate.
    pub fn known() -> &'static [Self] {
        &PARSED
    }

    /// Reads `dataset.toml` in the folder `root`.
    ///
    /// # Errors
    /// A file that is missing, no TOML, or that states what cannot be; line and column are given where there are any.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join("dataset.toml");
        let bytes = crate::format::read_bounded(&path)?;
        if bytes.len() > MAX_TEXT {
            return Err(Error::decode(
                &path,
                "TOML",
                format!("{} bytes; the limit is {MAX_TEXT}", bytes.len()),
            ));
        }
        let text = String::from_utf8(bytes).map_err(|e| Error::decode(&path, "TOML", e.to_string()))?;
        Self::parse(&text, &path)
    }

    /// Understands the text of a descriptor that came from `origin`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, origin: &Path) -> Result<Self> {
        let descriptor: Self = toml::from_str(text).map_err(|e| {
            Error::decode(origin, "data set descriptor", format!("\n{}", toml_error(text, &e)))
        })?;
        let problems = descriptor.problems();
        if problems.is_empty() {
            return Ok(descriptor);
        }
        Err(Error::decode(origin, "data set descriptor", problems.join("; ")))
    }

    /// The tasks that it labels, in its own order.
    pub fn task_list(&self) -> Vec<Task> {
        self.tasks.iter().filter_map(|described| Task::from_name(&described.task)).collect()
    }

    /// What it labels, in its own order, with classes and colours.
    pub fn task_specs(&self) -> Vec<TaskSpec> {
        self.tasks.iter().filter_map(TaskDescriptor::spec).collect()
    }

    /// Everything that it states and that cannot be.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.name.is_empty() || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            problems.push(format!("name `{}`: expected letters, digits, `-`, `_`, `.`", self.name));
        }
        if self.image.files.is_empty() && !self.generated {
            problems.push("image.files is empty".into());
        }
        for file in &self.image.files {
            problems.extend(Pattern::parse(file).err().map(|e| format!("image.files: {e}")));
        }
        if self.splits.is_empty() && !self.generated {
            problems.push("there are no splits".into());
        }
        let tasks: Vec<&str> = self.tasks.iter().map(|task| task.task.as_str()).collect();
        for (name, split) in &self.splits {
            problems.extend(split.problem(&tasks).map(|e| format!("splits.{name}: {e}")));
            problems.extend(check_relative(name).err().map(|e| format!("splits.{name}: {e}")));
        }
        if self.tasks.is_empty() {
            problems.push("there are no tasks".into());
        }
        for (i, task) in self.tasks.iter().enumerate() {
            if self.tasks[..i].iter().any(|other| other.task == task.task) {
                problems.push(format!("task `{}` stands there twice", task.task));
            }
            if task.sources.is_empty() && !self.generated {
                problems.push(format!("task `{}` has no sources", task.task));
            }
            problems.extend(task.problems().into_iter().map(|e| format!("task `{}`: {e}", task.task)));
        }
        problems
    }
}

impl TaskDescriptor {
    /// The task as the rest of the system knows it, if there is one of this name.
    pub fn spec(&self) -> Option<TaskSpec> {
        let task = Task::from_name(&self.task)?;
        Some(TaskSpec {
            task,
            outputs: task.outputs(self.classes.len()),
            classes: self.classes.clone(),
            palette: self.palette.clone(),
            edge_tolerance: self.tolerance.unwrap_or(EDGE_TOLERANCE),
        })
    }

    fn problems(&self) -> Vec<String> {
        let Some(task) = Task::from_name(&self.task) else {
            let known = Task::names();
            let nearest = did_you_mean(&self.task, known.iter().copied());
            return vec![format!("there is no such task; expected one of {}{nearest}", known.join(", "))];
        };
        let mut problems = Vec::new();
        let classes = task.label == LabelKind::Classes;
        if classes && !(2..255).contains(&self.classes.len()) {
            problems.push(format!("{} classes; expected 2 to 254", self.classes.len()));
        }
        if !classes && !self.classes.is_empty() {
            problems.push("it has no classes".into());
        }
        if task.drawing == Drawing::Palette && self.palette.len() != self.classes.len() {
            problems.push(format!("{} colours for {} classes", self.palette.len(), self.classes.len()));
        }
        match self.tolerance {
            Some(_) if task.metric != Metric::Edge => {
                problems.push("`tolerance` is for edges, expected none here".into());
            }
            Some(tolerance) if !(0.0..=0.05).contains(&tolerance) => {
                problems.push(format!("tolerance {tolerance}; expected 0 to 0.05, a share of the diagonal"));
            }
            _ => {}
        }
        for (backbone, figure) in &self.single_task {
            if !(figure.is_finite() && *figure > 0.0) {
                problems.push(format!("single_task.{backbone} is {figure}; expected a figure above 0"));
            }
        }
        for source in &self.sources {
            problems.extend(Pattern::parse(&source.file).err());
            problems.extend(source.encoding.problem(task, self.classes.len()));
        }
        problems
    }
}

impl Encoding {
    /// Why this encoding cannot label `task`, if it cannot.
    fn problem(&self, task: Task, classes: usize) -> Option<String> {
        let (kind, label) = match self {
            Self::ClassIds { .. } => ("class-ids", LabelKind::Classes),
            Self::PascalParts => ("pascal-parts", LabelKind::Classes),
            Self::PanopticParts { .. } => ("panoptic-parts", LabelKind::Classes),
            Self::Binary { .. } => ("binary", LabelKind::Binary),
            Self::BsdsBoundaries => ("bsds-boundaries", LabelKind::Binary),
            Self::LabelMapEdges => ("label-map-edges", LabelKind::Binary),
            Self::Vectors(_) => ("vectors", LabelKind::UnitVector),
            Self::VectorsOnClasses { .. } => ("vectors-on-classes", LabelKind::UnitVector),
            Self::Metres(_) => ("metres", LabelKind::Metres),
            Self::Disparity { .. } => ("disparity", LabelKind::Metres),
        };
        if label != task.label {
            return Some(format!("encoding `{kind}` does not give what this task needs"));
        }
        match self {
            Self::ClassIds { ids, ignore, .. } => ids_problem(ids.as_deref(), ignore.as_deref(), classes),
            Self::PascalParts if classes != 7 => {
                Some(format!("{classes} classes; the parts are 7 with background"))
            }
            Self::PanopticParts { .. } if classes != 5 => {
                Some(format!("{classes} classes; the parts of people are 5 with background"))
            }
            Self::Metres(metres) => metres.problem(),
            Self::Vectors(vectors) => vectors.problem(),
            Self::Disparity { baseline, focal, camera } => positive("baseline", *baseline)
                .or_else(|| positive("focal", *focal))
                .or_else(|| camera.as_ref().and_then(|pattern| Pattern::parse(pattern).err())),
            Self::Binary { threshold, full, ignore } => positive("full", f64::from(full.unwrap_or(1.0)))
                .or_else(|| (!threshold.is_finite()).then(|| "threshold is no number".into()))
                .or_else(|| quantity::no_number("ignore", ignore)),
            Self::VectorsOnClasses { label_map, .. } => Pattern::parse(label_map).err(),
            _ => None,
        }
    }
}

/// The largest class number either way: the deepest label PNG holds it, and only arrays have negative ones.
const MAX_ID: i32 = 65_535;

/// The numbers without a label of a map of class numbers: those listed, or else 255 where it is no class.
pub(crate) fn ignored_ids(ids: Option<&[i32]>, ignore: Option<&[i32]>) -> Vec<i32> {
    match ignore {
        Some(ignore) => ignore.to_vec(),
        None if ids.is_some_and(|ids| ids.contains(&255)) => Vec::new(),
        None => vec![255],
    }
}

/// What class numbers state and cannot be.
fn ids_problem(ids: Option<&[i32]>, ignore: Option<&[i32]>, classes: usize) -> Option<String> {
    let ignored = ignored_ids(ids, ignore);
    let listed = ids.unwrap_or_default();
    if let Some(id) = listed.iter().chain(&ignored).find(|&&id| !(-MAX_ID..=MAX_ID).contains(&id)) {
        return Some(format!("id {id}; expected -{MAX_ID} to {MAX_ID}, the most that a label PNG holds"));
    }
    let Some(ids) = ids else {
        let clash = ignored.iter().find(|&&id| usize::try_from(id).is_ok_and(|id| id < classes));
        return clash
            .map(|id| format!("id {id} is a class and means no label; list the classes' ids in `ids`"));
    };
    if ids.len() != classes {
        return Some(format!("{} ids for {classes} classes", ids.len()));
    }
    let twice = ids.iter().enumerate().find(|(i, id)| ids[..*i].contains(id) || ignored.contains(id));
    twice.map(|(_, id)| format!("id {id} stands for two classes, or for a class and for no label"))
}

#[cfg(test)]
mod tests;
