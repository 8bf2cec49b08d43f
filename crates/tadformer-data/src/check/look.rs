//! A look at some labels of a split before hours are spent on it.

use std::path::Path;

use rayon::prelude::*;

use super::report::TaskReport;
use super::tags::Tags;
use super::{LabelFindings, advice, look_at};
use crate::dataset::FolderDataset;
use crate::dataset::census::Census;
use crate::dataset::label::LabelReader;
use crate::dataset::orientation::Sides;
use crate::{Dataset, Descriptor, Result, Task};

/// Samples that are looked at for classes that are not seen yet, at most.
const FOR_CLASSES: usize = 256;

/// Samples that are looked at for a task without any label yet, at most.
const FOR_LABELS: usize = 1024;

/// Samples read at a time.
const BLOCK: usize = 32;

/// What a look at a split shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Tasks without a labelled pixel: what was looked at, what was found, and what would mend it.
    pub unlabelled: Vec<(Task, String)>,
    /// Tasks with classes that no pixel has.
    pub empty_classes: Vec<(Task, String)>,
    /// What is odd about the pictures.
    pub remarks: Vec<String>,
}

/// Reads labels of samples spread over a split, until each task has a label and each class a pixel, or until it has
/// seen enough: at most 256 samples for classes, 1024 for labels. Of the first 32 it reads the pictures, too.
///
/// # Errors
/// What [`open`](crate::dataset::open) refuses, and files that cannot be read or do not belong together.
pub fn look(descriptor: &Descriptor, root: &Path, split: &str, tasks: &[Task]) -> Result<Look> {
    let dataset = FolderDataset::open(descriptor, root, split, tasks)?;
    let samples = dataset.len();
    let mut views: Vec<View> =
        dataset.tasks().iter().map(|spec| View::new(TaskReport::empty(spec))).collect();
    let mut tags = Tags::default();
    let order: Vec<usize> = spread(samples).take(FOR_LABELS).collect();
    for (at, block) in order.chunks(BLOCK).enumerate() {
        let open: Vec<usize> = (0..views.len()).filter(|&at| views[at].is_open()).collect();
        if open.is_empty() {
            break;
        }
        let read = |&index: &usize| sample(&dataset, index, at == 0, &open);
        let found: Vec<Sample> = block.par_iter().map(read).collect::<Result<_>>()?;
        for (sides, labels) in found {
            if let Some(sides) = sides {
                tags.add(sides, labels.iter().any(Option::is_some));
            }
            for (&at, label) in open.iter().zip(labels) {
                views[at].add(label);
            }
        }
    }
    let remarks = tags.remark(dataset.orientation()).into_iter().collect();
    let mut seen = Look { remarks, ..Look::default() };
    for (at, view) in views.iter().enumerate() {
        let task = dataset.tasks()[at].task;
        let encodings: Vec<_> = dataset.encodings(at).collect();
        let of = format!("in {} of {samples} samples of split `{split}`, spread over it", view.looked);
        if view.report.labelled_samples == 0 {
            let why = advice::nothing(&view.report, &view.census, &encodings);
            seen.unlabelled.push((task, format!("looked at {of}: {why}")));
        } else if let Some(classes) = advice::absent(&view.report) {
            let why = advice::dropped_class(&view.report, &view.census, &encodings);
            let why = why.map(|why| format!("; {why}")).unwrap_or_default();
            seen.empty_classes.push((task, format!("no pixel of {classes} {of}{why}")));
        }
    }
    Ok(seen)
}

/// The sides of a sample's picture, where they were looked at, and its labels.
type Sample = (Option<Sides>, Vec<Option<LabelFindings>>);

/// Reads the labels of a sample for the tasks at these places, and its picture if that is wanted.
fn sample(dataset: &FolderDataset, index: usize, picture: bool, tasks: &[usize]) -> Result<Sample> {
    let sides = match picture {
        true => Some(Sides::of(&dataset.load_photo(index)?)),
        false => None,
    };
    let mut reader = LabelReader::counting(sides);
    let label = |&at: &usize| {
        let map = dataset.load_label(index, at, &mut reader)?;
        Ok(map.map(|map| look_at(&map, &dataset.tasks()[at], reader.take_census())))
    };
    let labels = tasks.iter().map(label).collect::<Result<_>>()?;
    Ok((sides, labels))
}

/// What was seen of a task.
struct View {
    report: TaskReport,
    census: Census,
    looked: usize,
}

impl View {
    fn new(report: TaskReport) -> Self {
        Self { report, census: Census::default(), looked: 0 }
    }

    fn is_open(&self) -> bool {
        match self.report.labelled_samples {
            0 => true,
            _ => self.looked < FOR_CLASSES && advice::absent(&self.report).is_some(),
        }
    }

    fn add(&mut self, label: Option<LabelFindings>) {
        self.looked += 1;
        if let Some(label) = label {
            self.report.add(&label);
            self.census.add(&label.census);
        }
    }
}

/// Every number below `n` once, each beginning of the order spread over all.
fn spread(n: usize) -> impl Iterator<Item = usize> {
    // The golden ratio's part of n, moved on to the next number without a divisor in common.
    let common = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step =
        ((n as f64 * 0.618_034) as usize..).find(|&step| step > 0 && common(step, n) == 1).unwrap_or(1);
    (0..n).map(move |k| (k as u128 * step as u128 % n as u128) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_has_each_sample_once_and_its_beginning_is_spread() {
        for n in [0, 1, 2, 3, 10, 17, 64, 1000] {
            let mut order: Vec<_> = spread(n).collect();
            if n >= 64 {
                for quarter in 0..4 {
                    let inside = order[..16].iter().filter(|&&i| i * 4 / n == quarter).count();
                    assert!((3..=5).contains(&inside), "{n}: {:?}", &order[..16]);
                }
            }
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }
}
