//! Checking a data set: every file is read once, and everything that is wrong is said, not the first thing only.

mod forms;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::path::Path;

use rayon::prelude::*;

use crate::dataset::FolderDataset;
use crate::dataset::class_png::Form;
use crate::dataset::label::LabelReader;
use crate::{Descriptor, Error, IGNORE, LabelKind, Raster, Result, Task, TaskSpec};

use forms::Forms;
pub use report::{ClassCount, Problems, Range, Report, SizeCount, SplitReport, TaskReport};

/// Samples read at a time; between two blocks progress is reported and findings are added up.
const BLOCK: usize = 128;

/// Sizes that a report lists.
const SIZES: usize = 8;

/// Reads every file of the given splits (all splits, if none is given) that the given tasks (all tasks, if none is
/// given) need, and reports what is missing, unreadable or inconsistent, with at most `listed` messages a split.
///
/// `progress` is told the split, how many of its samples are done and how many there are.
///
/// # Errors
/// A root that is no folder, an unknown split or task. What is wrong inside a split is in the report.
pub fn check(
    descriptor: &Descriptor,
    root: &Path,
    splits: &[&str],
    tasks: &[Task],
    listed: usize,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<Report> {
    let all_splits: Vec<&str> = descriptor.splits.keys().map(String::as_str).collect();
    let splits = if splits.is_empty() { &all_splits } else { splits };
    let all_tasks = descriptor.task_list();
    let tasks = if tasks.is_empty() { &all_tasks } else { tasks };
    let mut report = Report {
        name: descriptor.name.clone(),
        root: root.display().to_string(),
        splits: Vec::with_capacity(splits.len()),
    };
    for &split in splits {
        report.splits.push(check_split(descriptor, root, split, tasks, listed, &mut progress)?);
    }
    Ok(report)
}

fn check_split(
    descriptor: &Descriptor,
    root: &Path,
    split: &str,
    tasks: &[Task],
    listed: usize,
    progress: &mut impl FnMut(&str, usize, usize),
) -> Result<SplitReport> {
    let known = descriptor.splits.contains_key(split);
    let dataset = match FolderDataset::index(descriptor, root, split, tasks) {
        Ok(dataset) => dataset,
        // A list that is missing or empty is a finding about this split; the others are still checked.
        Err(error @ (Error::Io { .. } | Error::File { .. } | Error::Decode { .. })) if known => {
            return Ok(SplitReport::unreadable(split, describe(&error)));
        }
        Err(error @ Error::Layout { .. }) if known && root.is_dir() => {
            return Ok(SplitReport::unreadable(split, describe(&error)));
        }
        Err(error) => return Err(error),
    };
    let mut missing: HashMap<usize, Vec<(&'static str, String)>> = HashMap::new();
    for file in dataset.missing_files() {
        missing.entry(file.sample).or_default().push((file.what, file.message));
    }
    let specs = crate::Dataset::tasks(&dataset);
    let samples = crate::Dataset::len(&dataset);
    let mut totals = Totals::new(specs, listed);
    for start in (0..samples).step_by(BLOCK) {
        let block: Vec<Findings> = (start..samples.min(start + BLOCK))
            .into_par_iter()
            .map(|index| read_sample(&dataset, index, missing.get(&index).map_or(&[], Vec::as_slice)))
            .collect();
        // In order, so that the report does not depend on the number of threads.
        for findings in block {
            totals.add(findings);
        }
        progress(split, samples.min(start + BLOCK), samples);
    }
    Ok(totals.into_report(split, samples))
}

/// What one sample shows.
struct Findings {
    problems: Vec<String>,
    size: Option<(usize, usize)>,
    /// One a task; `None` where there is no label or none that could be read.
    labels: Vec<Option<LabelFindings>>,
    /// How each task's label file is stored, if it is a PNG.
    forms: Vec<Option<Form>>,
    id: String,
}

/// What one label map shows.
struct LabelFindings {
    /// Labelled pixels of each class; of 0 and 1; or of all.
    counts: Vec<u64>,
    ignored: u64,
    range: Option<Range>,
}

fn read_sample(dataset: &FolderDataset, index: usize, missing: &[(&'static str, String)]) -> Findings {
    let lacks = |what: &str| missing.iter().any(|(missing, _)| *missing == what);
    let id = crate::Dataset::id(dataset, index);
    let mut problems: Vec<String> = missing.iter().map(|(_, m)| format!("`{id}`: missing {m}")).collect();
    let mut note = |error: &Error| problems.push(format!("`{id}`: {}", describe(error)));
    let size = match lacks("image") {
        true => None,
        false => {
            dataset.load_image(index).map(|image| (image.height, image.width)).map_err(|e| note(&e)).ok()
        }
    };
    let mut reader = LabelReader::new(size);
    let mut forms = Vec::new();
    let labels = crate::Dataset::tasks(dataset)
        .iter()
        .enumerate()
        .map(|(at, spec)| {
            forms.push(None);
            if lacks(spec.task.name) {
                return None;
            }
            let map = dataset.load_label(index, at, &mut reader).map_err(|e| note(&e)).ok();
            forms[at] = reader.form.take();
            Some(look_at(&map??, spec))
        })
        .collect();
    Findings { problems, size, labels, forms, id }
}

fn look_at(map: &Raster, spec: &TaskSpec) -> LabelFindings {
    let mut ignored = 0;
    match spec.task.label {
        LabelKind::Classes | LabelKind::Binary => {
            let mut counts = vec![0; spec.outputs.max(2)];
            for &v in &map.data {
                // A pixel that some annotators drew holds more than one half.
                match counts.get_mut((v + 0.5) as usize) {
                    Some(count) => *count += 1,
                    None => ignored += 1,
                }
            }
            LabelFindings { counts, ignored, range: None }
        }
        LabelKind::UnitVector | LabelKind::Metres => {
            let mut range: Option<Range> = None;
            for &v in map.data.iter().filter(|&&v| v != IGNORE) {
                let range = range.get_or_insert(Range { min: v, max: v });
                range.min = range.min.min(v);
                range.max = range.max.max(v);
            }
            let pixels = map.plane(0);
            ignored = pixels.iter().filter(|&&v| v == IGNORE).count() as u64;
            LabelFindings { counts: vec![pixels.len() as u64 - ignored], ignored, range }
        }
    }
}

/// Findings of many samples.
struct Totals<'d> {
    specs: &'d [TaskSpec],
    listed: usize,
    problems: Problems,
    sizes: BTreeMap<(usize, usize), usize>,
    tasks: Vec<TaskReport>,
    /// One a task.
    forms: Vec<Forms>,
}

impl<'d> Totals<'d> {
    fn new(specs: &'d [TaskSpec], listed: usize) -> Self {
        let tasks = specs.iter().map(TaskReport::empty).collect();
        let forms = specs.iter().map(|_| Forms::default()).collect();
        Self { specs, listed, problems: Problems::default(), sizes: BTreeMap::new(), tasks, forms }
    }

    fn add(&mut self, findings: Findings) {
        self.add_problems(findings.problems);
        for (forms, form) in self.forms.iter_mut().zip(&findings.forms) {
            if let Some(form) = form {
                forms.add(form, &findings.id);
            }
        }
        if let Some(size) = findings.size {
            *self.sizes.entry(size).or_default() += 1;
        }
        for (task, label) in self.tasks.iter_mut().zip(findings.labels) {
            if let Some(label) = label {
                task.add(&label.counts, label.ignored, label.range);
            }
        }
    }

    fn add_problems(&mut self, problems: Vec<String>) {
        self.problems.count += problems.len();
        let room = self.listed.saturating_sub(self.problems.first.len());
        self.problems.first.extend(problems.into_iter().take(room));
    }

    fn into_report(mut self, split: &str, samples: usize) -> SplitReport {
        for (task, spec) in self.tasks.iter_mut().zip(self.specs) {
            task.remark(spec.task);
        }
        for (at, forms) in std::mem::take(&mut self.forms).into_iter().enumerate() {
            self.tasks[at].remarks.extend(forms.remark());
            self.add_problems(forms.into_problems());
        }
        let distinct_sizes = self.sizes.len();
        let mut sizes: Vec<_> = self
            .sizes
            .into_iter()
            .map(|((height, width), samples)| SizeCount { height, width, samples })
            .collect();
        sizes.sort_by_key(|size| std::cmp::Reverse(size.samples));
        sizes.truncate(SIZES);
        SplitReport {
            split: split.to_owned(),
            samples,
            problems: self.problems,
            distinct_sizes,
            sizes,
            tasks: self.tasks,
        }
    }
}

/// An error with its causes.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
