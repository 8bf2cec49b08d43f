//! What the findings of a task mean, and what would mend it.

use crate::dataset::FolderDataset;
use crate::dataset::census::{Census, Why};
use crate::descriptor::{Encoding, ignored_ids};
use crate::{Dataset, LabelKind};

use super::report::{Range, TaskReport};

/// The split that training reads, unless the configuration names another.
const TRAINING: &str = "train";

/// What to say of a task.
#[derive(Debug, Default)]
pub(super) struct Advice {
    /// What looks odd but need not be wrong.
    pub(super) remarks: Vec<String>,
    /// Why nothing can be learnt, if that is so.
    pub(super) problem: Option<String>,
}

/// What to say of the task at this place of the data set.
pub(super) fn on(
    dataset: &FolderDataset,
    task: usize,
    report: &TaskReport,
    census: &Census,
    split: &str,
) -> Advice {
    let kind = dataset.tasks()[task].task.label;
    let encodings: Vec<&Encoding> = dataset.encodings(task).collect();
    let mut advice = Advice::default();
    if report.labelled_samples == 0 {
        let text = format!("{}: {}", report.task, nothing(report, census, &encodings));
        // A split without any label of a task that may lack them can be meant so, if it is not the one to learn from.
        match (report.read_samples, split) {
            // Each sample is reported on its own.
            (0, _) if !dataset.is_optional(task) => {}
            (0, split) if split != TRAINING => advice.remarks.push("no sample has a label for it".into()),
            _ => advice.problem = Some(text),
        }
        return advice;
    }
    if let Some(text) = absent(report) {
        let dropped = dropped_class(report, census, &encodings);
        advice.remarks.push(format!("never labelled: {text}"));
        match dropped {
            Some(why) if labelled_classes(report) == 1 => {
                advice.problem = Some(format!("{}: nothing but one class is labelled; {why}", report.task));
            }
            dropped => advice.remarks.extend(dropped),
        }
    }
    if kind == LabelKind::Metres {
        advice.remarks.extend(odd_distances(report, census, &encodings));
        advice.remarks.extend(sentinel(report, census));
    }
    advice
}

/// Classes that no pixel has, by name.
pub(super) fn absent(report: &TaskReport) -> Option<String> {
    let absent: Vec<_> =
        report.classes.iter().filter(|class| class.pixels == 0).map(|class| class.class.as_str()).collect();
    (!absent.is_empty()).then(|| absent.join(", "))
}

fn labelled_classes(report: &TaskReport) -> usize {
    report.classes.iter().filter(|class| class.pixels > 0).count()
}

/// Why no pixel is labelled, and what would mend it.
pub(super) fn nothing(report: &TaskReport, census: &Census, encodings: &[&Encoding]) -> String {
    if report.read_samples == 0 {
        return "no sample has a label for it".into();
    }
    let reasons: Vec<String> = census
        .unlabelled
        .iter()
        .filter(|(_, pixels)| *pixels > 0)
        .map(|(why, pixels)| format!("{} {why}", report.share(*pixels)))
        .collect();
    let mut text = format!("no pixel of {} samples has a label: {}", report.read_samples, reasons.join(", "));
    if let Some((low, high)) = census.stored {
        text.push_str(&format!("; the files hold {low} to {high}"));
    }
    let remedy = encodings.first().and_then(|encoding| match encoding {
        Encoding::Metres(_) => other_scale(census, encodings),
        Encoding::Vectors(_) => Some(
            "expected vectors of length 1; `range = [LOW, HIGH]` in the encoding says which numbers stand for -1 and 1"
                .to_owned(),
        ),
        Encoding::ClassIds { .. } => dropped_class(report, census, encodings),
        _ => None,
    });
    remedy.map_or(text.clone(), |remedy| format!("{text}; {remedy}"))
}

/// What to say where a class is missing and files hold a number that is dropped, or too small to count.
pub(super) fn dropped_class(report: &TaskReport, census: &Census, encodings: &[&Encoding]) -> Option<String> {
    encodings.iter().find_map(|encoding| match encoding {
        Encoding::ClassIds { ids, ignore: None, .. } => dropped_id(report, census, ids.as_deref()),
        Encoding::Binary { full: None, .. } => {
            let (low, high) = census.stored?;
            (report.classes.get(1)?.pixels == 0 && high > 0.0).then(|| {
                format!(
                    "the files hold {low} to {high}, and without `full` the deepest value of a PNG stands for 1; if {high} \
                     does, say `full = {high}`"
                )
            })
        }
        _ => None,
    })
}

/// What to say where 255, which is ignored because nothing else is said, may be the class that is missing.
fn dropped_id(report: &TaskReport, census: &Census, ids: Option<&[i32]>) -> Option<String> {
    let id = *ignored_ids(ids, None).first()?;
    let pixels = census.count(|why| why == Why::Ignored(id as f32));
    if pixels == 0 {
        return None;
    }
    let said = format!(
        "{} hold {id}, which means \"no label\" because the encoding has no `ignore`",
        report.share(pixels)
    );
    let missing: Vec<usize> = (0..report.classes.len()).filter(|&k| report.classes[k].pixels == 0).collect();
    let [class] = missing[..] else {
        return Some(format!("{said}; if it stands for a class, list it in `ids` and say `ignore = []`"));
    };
    let mut own: Vec<i32> = ids.map_or_else(|| (0..report.classes.len() as i32).collect(), <[i32]>::to_vec);
    *own.get_mut(class)? = id;
    let name = &report.classes[class].class;
    Some(format!("{said}; if {id} stands for `{name}`, say `ids = {own:?}` and `ignore = []`"))
}

/// What to say of distances that are hardly any.
fn odd_distances(report: &TaskReport, census: &Census, encodings: &[&Encoding]) -> Option<String> {
    let Range { min, max } = report.range?;
    let far = census.count(|why| why == Why::Far);
    if far > report.labelled_pixels {
        let scale = other_scale(census, encodings).unwrap_or_else(|| "is the scale too large?".into());
        return Some(format!("more pixels are too far away than have a label; {scale}"));
    }
    if max < 0.1 {
        return Some(format!("the farthest point is {max} m away; is the scale too small?"));
    }
    if min > 100.0 {
        return Some(format!("the nearest point is {min} m away; is the scale too large?"));
    }
    None
}

/// What to say of a largest number that stands apart and fills many pixels: it may mean "no label".
fn sentinel(report: &TaskReport, census: &Census) -> Option<String> {
    let (number, pixels) = census.largest?;
    if census.count(|why| matches!(why, Why::Far | Why::Above(_))) > 0 {
        return None;
    }
    let apart =
        census.second.is_none_or(|second| second < 0.5 * number) || [255.0, 65_535.0].contains(&number);
    let many = pixels * 1000 >= report.labelled_pixels && pixels > 1;
    (apart && many && report.labelled_pixels > pixels).then(|| {
        format!(
            "{} hold {number}, the largest number there is, and are labels; if it means \"no label\", say `ignore = \
             [{number}]`",
            report.share(pixels)
        )
    })
}

/// A scale under which what the files hold would be distances.
fn other_scale(census: &Census, encodings: &[&Encoding]) -> Option<String> {
    let Some(Encoding::Metres(metres)) = encodings.first() else { return None };
    let (low, high) = census.stored?;
    if high <= 0.0 {
        return Some("distances are positive; store them so".into());
    }
    let far = census.count(|why| why == Why::Far) > 0;
    let known = [(0.001, "millimetres"), (0.01, "centimetres"), (0.0001, "tenths of a millimetre")];
    let metres_at = |number: f32, scale: f64| (f64::from(number) * scale) as f32;
    // The scale that makes rooms and streets of it.
    let likely = known
        .into_iter()
        .find(|&(scale, _)| scale < metres.scale && (1.0..=100.0).contains(&metres_at(high, scale)));
    let said = format!(
        "`scale` is {}, so these would be {} to {} m",
        metres.scale,
        metres_at(low, metres.scale),
        metres_at(high, metres.scale)
    );
    match likely.filter(|_| far) {
        Some((scale, unit)) => Some(format!(
            "{said}; if the numbers are {unit}, say `scale = {scale}` ({} to {} m)",
            metres_at(low, scale),
            metres_at(high, scale)
        )),
        None => Some(said),
    }
}
