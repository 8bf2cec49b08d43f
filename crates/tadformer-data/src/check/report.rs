//! What a check found, for people (`Display`) and programs (serde).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::LabelFindings;
use crate::dataset::census::{Census, Why};
use crate::{LabelKind, TaskSpec};

/// What was found in a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the data set.
    pub name: String,
    /// Its folder.
    pub root: String,
    /// What was found in each split.
    pub splits: Vec<SplitReport>,
}

impl Report {
    /// Number of problems in all splits; a set without problems has none.
    pub fn problem_count(&self) -> usize {
        self.splits.iter().map(|split| split.problems.count).sum()
    }

    /// Number of remarks in all splits: what looks odd but need not be wrong.
    pub fn remark_count(&self) -> usize {
        let of_tasks = |split: &SplitReport| split.tasks.iter().map(|task| task.remarks.len()).sum::<usize>();
        self.splits.iter().map(|split| split.remarks.len() + of_tasks(split)).sum()
    }
}

/// What was found in one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitReport {
    /// Name of the split.
    pub split: String,
    /// Number of samples that belong to it.
    pub samples: usize,
    /// What is wrong.
    pub problems: Problems,
    /// Number of different picture sizes.
    pub distinct_sizes: usize,
    /// The most frequent sizes.
    pub sizes: Vec<SizeCount>,
    /// What looks odd but need not be wrong.
    pub remarks: Vec<String>,
    /// What is labelled.
    pub tasks: Vec<TaskReport>,
}

impl SplitReport {
    pub(super) fn unreadable(split: &str, problem: String) -> Self {
        Self {
            split: split.to_owned(),
            samples: 0,
            problems: Problems { count: 1, first: vec![problem] },
            distinct_sizes: 0,
            sizes: Vec::new(),
            remarks: Vec::new(),
            tasks: Vec::new(),
        }
    }
}

/// Problems: how many there are, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    /// How many there are.
    pub count: usize,
    /// The first, in the order of the samples.
    pub first: Vec<String>,
}

/// How many pictures have a size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeCount {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Number of pictures.
    pub samples: usize,
}

/// The smallest and the largest value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
}

/// How much a task is labelled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Name of the task.
    pub task: String,
    /// Samples whose label could be read.
    pub read_samples: usize,
    /// Samples whose label could be read and has at least one labelled pixel.
    pub labelled_samples: usize,
    /// Pixels with a label.
    pub labelled_pixels: u64,
    /// Pixels without one.
    pub ignored_pixels: u64,
    /// Pixels and samples of each class; empty for quantities.
    pub classes: Vec<ClassCount>,
    /// Range of the quantity; of unit vectors' components, metres.
    pub range: Option<Range>,
    /// Range of the numbers that the files hold, without those that never are a label.
    pub stored: Option<Range>,
    /// Why pixels have no label.
    pub unlabelled: Vec<Unlabelled>,
    /// What looks odd but need not be wrong.
    pub remarks: Vec<String>,
}

/// How many pixels have no label for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlabelled {
    /// The reason, as it goes on after "pixels": "hold 255", "are not finite".
    pub why: String,
    /// Number of pixels.
    pub pixels: u64,
}

/// How often a class occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// Its name; "0" and "1" for tasks of two values.
    pub class: String,
    /// Pixels of it.
    pub pixels: u64,
    /// Samples that have any.
    pub samples: usize,
}

impl TaskReport {
    pub(super) fn empty(spec: &TaskSpec) -> Self {
        let names = match spec.task.label {
            LabelKind::Classes => spec.classes.clone(),
            LabelKind::Binary => vec!["0".into(), "1".into()],
            LabelKind::UnitVector | LabelKind::Metres => Vec::new(),
        };
        let classes = names.into_iter().map(|class| ClassCount { class, pixels: 0, samples: 0 }).collect();
        Self {
            task: spec.task.name.into(),
            read_samples: 0,
            labelled_samples: 0,
            labelled_pixels: 0,
            ignored_pixels: 0,
            classes,
            range: None,
            stored: None,
            unlabelled: Vec::new(),
            remarks: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, label: &LabelFindings) {
        let labelled: u64 = label.counts.iter().sum();
        self.read_samples += 1;
        self.labelled_samples += usize::from(labelled > 0);
        self.labelled_pixels += labelled;
        self.ignored_pixels += label.ignored;
        for (class, &pixels) in self.classes.iter_mut().zip(&label.counts) {
            class.pixels += pixels;
            class.samples += usize::from(pixels > 0);
        }
        if let Some(new) = label.range {
            let old = self.range.unwrap_or(new);
            self.range = Some(Range { min: old.min.min(new.min), max: old.max.max(new.max) });
        }
    }

    /// Takes over what the files hold.
    pub(super) fn tell(&mut self, census: &Census) {
        self.stored = census.stored.map(|(min, max)| Range { min, max });
        let told = |&(why, pixels): &(Why, u64)| Unlabelled { why: format!("{why}"), pixels };
        self.unlabelled = census.unlabelled.iter().filter(|(_, pixels)| *pixels > 0).map(told).collect();
    }

    /// A number of pixels as a share of all.
    pub(super) fn share(&self, pixels: u64) -> String {
        let all = (self.labelled_pixels + self.ignored_pixels).max(1) as f64;
        format!("{:.3} % of the pixels", 100.0 * pixels as f64 / all)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} in {}", self.name, self.root)?;
        for split in &self.splits {
            write!(f, "{split}")?;
        }
        match self.problem_count() {
            0 if self.remark_count() > 0 => write!(f, "no problems, but see the notes above"),
            0 => write!(f, "no problems"),
            1 => write!(f, "1 problem"),
            n => write!(f, "{n} problems"),
        }
    }
}

impl fmt::Display for SplitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {} samples, {} sizes", self.split, self.samples, self.distinct_sizes)?;
        for size in &self.sizes {
            writeln!(f, "  {:>5} × {:<5} {:>7} samples", size.width, size.height, size.samples)?;
        }
        for remark in &self.remarks {
            writeln!(f, "  note: {remark}")?;
        }
        for task in &self.tasks {
            write!(f, "{task}")?;
        }
        for problem in &self.problems.first {
            writeln!(f, "  problem: {problem}")?;
        }
        let more = self.problems.count - self.problems.first.len();
        if more > 0 {
            writeln!(f, "  … and {more} more, {} in all", self.problems.count)?;
        }
        Ok(())
    }
}

impl fmt::Display for TaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (self.labelled_pixels + self.ignored_pixels).max(1) as f64;
        let share = 100.0 * self.labelled_pixels as f64 / all;
        write!(
            f,
            "  {}: {} samples labelled, {share:.1} % of their pixels",
            self.task, self.labelled_samples
        )?;
        if let Some(range) = self.range {
            write!(f, ", {} to {}", range.min, range.max)?;
        }
        writeln!(f)?;
        for class in &self.classes {
            let share = 100.0 * class.pixels as f64 / self.labelled_pixels.max(1) as f64;
            writeln!(f, "    {:<24} {share:>7.3} % of pixels {:>7} samples", class.class, class.samples)?;
        }
        for Unlabelled { why, pixels } in &self.unlabelled {
            writeln!(f, "    no label: {} {why}", self.share(*pixels))?;
        }
        for remark in &self.remarks {
            writeln!(f, "    note: {remark}")?;
        }
        Ok(())
    }
}
