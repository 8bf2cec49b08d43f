//! Checking a data set: every file is read once, and everything that is wrong is said, not the first thing only.

mod advice;
mod forms;
mod look;
mod report;
mod tags;

use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::path::Path;

use rayon::prelude::*;

use crate::dataset::FolderDataset;
use crate::dataset::census::{Census, Why};
use crate::dataset::class_png::Form;
use crate::dataset::label::LabelReader;
use crate::dataset::orientation::Sides;
use crate::{BackgroundOnly, Descriptor, Error, IGNORE, LabelKind, Raster, Result, Task, TaskSpec};

use advice::Advice;
use forms::Forms;
pub use look::{Look, look};
pub use report::{ClassCount, Problems, Range, Report, SizeCount, SplitReport, TaskReport, Unlabelled};
use tags::Tags;

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
    let samples = crate::Dataset::len(&dataset);
    let mut totals = Totals::new(&dataset, listed);
    if !missing.is_empty() {
        totals.add_problems(dataset.list_advice());
    }
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
    sides: Option<Sides>,
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
    census: Census,
}

fn read_sample(dataset: &FolderDataset, index: usize, missing: &[(&'static str, String)]) -> Findings {
    let lacks = |what: &str| missing.iter().any(|(missing, _)| *missing == what);
    let id = crate::Dataset::id(dataset, index);
    let mut problems: Vec<String> = missing.iter().map(|(_, m)| format!("`{id}`: missing {m}")).collect();
    let mut note = |error: &Error| problems.push(format!("`{id}`: {}", describe(error)));
    let sides = match lacks("image") {
        true => None,
        false => dataset.load_photo(index).map(|photo| Sides::of(&photo)).map_err(|e| note(&e)).ok(),
    };
    let mut reader = LabelReader::counting(sides);
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
            Some(look_at(&map??, spec, reader.take_census()))
        })
        .collect();
    Findings { problems, sides, labels, forms, id }
}

/// What training sees of a label map.
fn look_at(map: &Raster, spec: &TaskSpec, mut census: Census) -> LabelFindings {
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
            if spec.task.label == LabelKind::Classes
                && spec.task.background_only == BackgroundOnly::Ignored
                && counts[1..].iter().all(|&count| count == 0)
            {
                ignored += counts[0];
                census.unlabelled(Why::BackgroundAlone, counts[0]);
                counts[0] = 0;
            }
            LabelFindings { counts, ignored, range: None, census }
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
            LabelFindings { counts: vec![pixels.len() as u64 - ignored], ignored, range, census }
        }
    }
}

/// Findings of many samples.
struct Totals<'d> {
    dataset: &'d FolderDataset,
    listed: usize,
    problems: Problems,
    sizes: BTreeMap<(usize, usize), usize>,
    tags: Tags,
    tasks: Vec<(TaskReport, Census)>,
    /// One a task.
    forms: Vec<Forms>,
}

impl<'d> Totals<'d> {
    fn new(dataset: &'d FolderDataset, listed: usize) -> Self {
        let specs = crate::Dataset::tasks(dataset);
        let empty = |spec| (TaskReport::empty(spec), Census::default());
        Self {
            dataset,
            listed,
            problems: Problems::default(),
            sizes: BTreeMap::new(),
            tags: Tags::default(),
            tasks: specs.iter().map(empty).collect(),
            forms: specs.iter().map(|_| Forms::default()).collect(),
        }
    }

    fn add_problems(&mut self, problems: impl IntoIterator<Item = String>) {
        for problem in problems {
            self.problems.count += 1;
            if self.problems.first.len() < self.listed {
                self.problems.first.push(problem);
            }
        }
    }

    fn add(&mut self, findings: Findings) {
        self.add_problems(findings.problems);
        for (forms, form) in self.forms.iter_mut().zip(&findings.forms) {
            if let Some(form) = form {
                forms.add(form, &findings.id);
            }
        }
        if let Some(sides) = findings.sides {
            *self.sizes.entry(sides.size).or_default() += 1;
            self.tags.add(sides, findings.labels.iter().any(Option::is_some));
        }
        for ((task, census), label) in self.tasks.iter_mut().zip(findings.labels) {
            if let Some(label) = label {
                task.add(&label);
                census.add(&label.census);
            }
        }
    }

    fn into_report(mut self, split: &str, samples: usize) -> SplitReport {
        let mut tasks = Vec::with_capacity(self.tasks.len());
        let found = std::mem::take(&mut self.tasks).into_iter().zip(std::mem::take(&mut self.forms));
        for (at, ((mut task, census), forms)) in found.enumerate() {
            let Advice { remarks, problem } = advice::on(self.dataset, at, &task, &census, split);
            task.remarks = remarks;
            task.remarks.extend(forms.remark());
            task.tell(&census);
            self.add_problems(problem);
            self.add_problems(forms.into_problems());
            tasks.push(task);
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
            remarks: self
                .tags
                .remark(self.dataset.orientation())
                .into_iter()
                .chain(passed_over(self.dataset))
                .collect(),
            tasks,
        }
    }
}

/// How many files a scan passed over, and the first of them.
fn passed_over(dataset: &FolderDataset) -> Option<String> {
    let files = dataset.passed_over();
    let first = files.first()?;
    let more = if files.len() > 1 { " and more" } else { "" };
    Some(format!("{} files beside the pictures were passed over: `{first}`{more}", files.len()))
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
