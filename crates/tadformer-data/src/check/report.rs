//! What a check found, for people (`Display`) and programs (serde).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{LabelKind, Task, TaskSpec};

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
    /// What looks odd but need not be wrong.
    pub remarks: Vec<String>,
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
            labelled_samples: 0,
            labelled_pixels: 0,
            ignored_pixels: 0,
            classes,
            range: None,
            remarks: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, counts: &[u64], ignored: u64, range: Option<Range>) {
        let labelled: u64 = counts.iter().sum();
        self.labelled_samples += usize::from(labelled > 0);
        self.labelled_pixels += labelled;
        self.ignored_pixels += ignored;
        for (class, &pixels) in self.classes.iter_mut().zip(counts) {
            class.pixels += pixels;
            class.samples += usize::from(pixels > 0);
        }
        if let Some(new) = range {
            let old = self.range.unwrap_or(new);
            self.range = Some(Range { min: old.min.min(new.min), max: old.max.max(new.max) });
        }
    }

    pub(super) fn remark(&mut self, task: Task) {
        if self.labelled_samples == 0 {
            self.remarks.push("no sample has a label for it".into());
            return;
        }
        let absent: Vec<_> =
            self.classes.iter().filter(|c| c.pixels == 0).map(|c| c.class.as_str()).collect();
        if !absent.is_empty() {
            self.remarks.push(format!("never labelled: {}", absent.join(", ")));
        }
        if let (LabelKind::Metres, Some(range)) = (task.label, self.range) {
            if range.max < 0.1 {
                self.remarks
                    .push(format!("the farthest point is {} m away; is the scale too small?", range.max));
            } else if range.min > 100.0 {
                self.remarks
                    .push(format!("the nearest point is {} m away; is the scale too large?", range.min));
            }
        }
        if let (LabelKind::UnitVector, Some(range)) = (task.label, self.range)
            && range.max.max(-range.min) < 0.5
        {
            self.remarks
                .push(format!("components lie in {}..={}; are these unit vectors?", range.min, range.max));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} in {}", self.name, self.root)?;
        for split in &self.splits {
            write!(f, "{split}")?;
        }
        match self.problem_count() {
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
        for remark in &self.remarks {
            writeln!(f, "    note: {remark}")?;
        }
        Ok(())
    }
}
