//! Mean intersection over union of classes: semantic segmentation and human parts.
//!
//! `IoU_c = TP_c / (TP_c + FP_c + FN_c)` from counts pooled over the split (Everingham et al., "The
//! PASCAL Visual Object Classes Challenge: A Retrospective", 2015), labelled pixels only.

use crate::error::{Error, Place};
use crate::meter::{Meter, Score, same_kind, share};
use crate::planes::{IGNORE, Planes};

const NAME: &str = "mean IoU";

/// Pixels that go through the arg-max together: small enough that their state stays in the first cache.
const BLOCK: usize = 1024;

/// Counts of one class over all labelled pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassCounts {
    /// Pixels of the class, predicted so.
    pub true_positives: u64,
    /// Pixels of another class, predicted to be of this one.
    pub false_positives: u64,
    /// Pixels of the class, predicted to be of another one.
    pub false_negatives: u64,
}

impl ClassCounts {
    /// Intersection over union, `0..=1`; 0 for a class neither labelled nor predicted.
    pub fn iou(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)
    }

    /// Whether any pixel is labelled with the class.
    pub fn is_labelled(&self) -> bool {
        self.true_positives + self.false_negatives > 0
    }

    /// Whether any labelled pixel is of the class or predicted so.
    pub fn occurs(&self) -> bool {
        self.is_labelled() || self.false_positives > 0
    }
}

/// The meter of class maps.
///
/// Scores: `mIoU`, the mean over all classes, where a class that does not occur counts 0; `mIoU present`, the
/// mean over the classes that occur in the labels; `mIoU occurring`, the mean over those that occur in the labels or the
/// predictions, which is torchmetrics' macro Jaccard index; `pixel accuracy`.
///
/// # Shapes
/// Logits `(classes, h, w)`, of which the largest wins, the first of equals; label `(1, h, w)` of class
/// indices, 255 where not labelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeanIou {
    classes: usize,
    /// Pixels by `label · classes + prediction`.
    confusion: Vec<u64>,
}

impl MeanIou {
    /// A meter of `classes` classes, background included where the data set has one.
    ///
    /// # Errors
    /// No class, or more than 255: the value 255 marks pixels without label.
    pub fn new(classes: usize) -> Result<Self, Error> {
        if !(1..=255).contains(&classes) {
            let found = classes.to_string();
            return Err(Error::Setting { meter: NAME, setting: "classes", found, expected: "1 to 255" });
        }
        Ok(Self { classes, confusion: vec![0; classes * classes] })
    }

    /// Scores one image whose arg-max was taken elsewhere: `predicted` holds a class a pixel, row by row.
    ///
    /// # Errors
    /// As [`Meter::update`], and a predicted class beyond the last one, also under an unlabelled pixel.
    pub fn update_classes(&mut self, predicted: &[u8], label: Planes<'_>) -> Result<(), Error> {
        label.expect_channels(NAME, "label", 1)?;
        if predicted.len() != label.pixels() {
            return Err(Error::Length { meter: NAME, found: predicted.len(), expected: label.pixels() });
        }
        if let Some(at) = predicted.iter().position(|&class| usize::from(class) >= self.classes) {
            let (found, classes, place) = (predicted[at], self.classes, label.place(at));
            return Err(Error::PredictedClass { meter: NAME, found, classes, place });
        }
        let mut counts = vec![0; self.confusion.len()];
        self.count(predicted, label.data(), &mut counts).map_err(|at| self.bad_label(label, at))?;
        self.add(&counts);
        Ok(())
    }

    /// The counts of every class, in the order of the classes.
    pub fn class_counts(&self) -> Vec<ClassCounts> {
        let n = self.classes;
        (0..n)
            .map(|class| {
                let labelled: u64 = self.confusion[class * n..][..n].iter().sum();
                let predicted: u64 = self.confusion.iter().skip(class).step_by(n).sum();
                let true_positives = self.confusion[class * n + class];
                ClassCounts {
                    true_positives,
                    false_positives: predicted - true_positives,
                    false_negatives: labelled - true_positives,
                }
            })
            .collect()
    }

    /// Each class's name and its IoU in percent.
    ///
    /// # Errors
    /// Another number of names than classes.
    pub fn class_ious<'n, S: AsRef<str>>(&self, names: &'n [S]) -> Result<Vec<(&'n str, f64)>, Error> {
        if names.len() != self.classes {
            return Err(Error::ClassNames { meter: NAME, found: names.len(), expected: self.classes });
        }
        let ious = self.class_counts().into_iter().map(|counts| 100.0 * counts.iou());
        Ok(names.iter().map(S::as_ref).zip(ious).collect())
    }

    /// Counts pixels into a confusion matrix; the index of the first label that is no class on failure.
    fn count(&self, predicted: &[u8], label: &[f32], counts: &mut [u64]) -> Result<(), usize> {
        for (at, (&predicted, &label)) in predicted.iter().zip(label).enumerate() {
            if label == IGNORE {
                continue;
            }
            // The cast saturates, so whatever is not a class comes back as a different number.
            let class = label as usize;
            if class >= self.classes || class as f32 != label {
                return Err(at);
            }
            counts[class * self.classes + usize::from(predicted)] += 1;
        }
        Ok(())
    }

    fn add(&mut self, counts: &[u64]) {
        for (total, count) in self.confusion.iter_mut().zip(counts) {
            *total += count;
        }
    }

    fn bad_label(&self, label: Planes<'_>, at: usize) -> Error {
        let Place { row, column, .. } = label.place(at);
        Error::Label {
            meter: NAME,
            value: label.data()[at],
            place: Place { channel: 0, row, column },
            expected: format!("a class 0 to {} or 255 for an unlabelled pixel", self.classes - 1),
        }
    }
}

impl Meter for MeanIou {
    fn update(&mut self, logits: Planes<'_>, label: Planes<'_>) -> Result<(), Error> {
        logits.expect_channels(NAME, "logits", self.classes)?;
        label.expect_channels(NAME, "label", 1)?;
        logits.expect_size_of(NAME, label)?;
        let mut counts = vec![0; self.confusion.len()];
        let mut predicted = [0; BLOCK];
        for start in (0..label.pixels()).step_by(BLOCK) {
            let len = BLOCK.min(label.pixels() - start);
            if !arg_max(logits, start, &mut predicted[..len]) {
                logits.expect_numbers(NAME)?;
            }
            self.count(&predicted[..len], &label.data()[start..start + len], &mut counts)
                .map_err(|at| self.bad_label(label, start + at))?;
        }
        self.add(&counts);
        Ok(())
    }

    fn scores(&self) -> Vec<Score> {
        let counts = self.class_counts();
        // The other classes have 0 in either sum.
        let sum: f64 = counts.iter().map(ClassCounts::iou).sum();
        let over = |classes: usize| sum / classes as f64;
        let number = |of: fn(&ClassCounts) -> bool| counts.iter().filter(|class| of(class)).count();
        let pixels: u64 = self.confusion.iter().sum();
        let right: u64 = counts.iter().map(|class| class.true_positives).sum();
        let scored = |value: f64| if pixels == 0 { f64::NAN } else { value };
        vec![
            Score::percent("mIoU", scored(over(self.classes))),
            Score::percent("mIoU present", scored(over(number(ClassCounts::is_labelled)))),
            Score::percent("mIoU occurring", scored(over(number(ClassCounts::occurs)))),
            Score::percent("pixel accuracy", scored(share(right, pixels))),
        ]
    }

    fn reset(&mut self) {
        self.confusion.fill(0);
    }

    fn merge(&mut self, other: &dyn Meter) -> Result<(), Error> {
        let other: &Self = same_kind(NAME, other)?;
        if other.classes != self.classes {
            let difference = format!("has {} classes, this one {}", other.classes, self.classes);
            return Err(Error::Merge { meter: NAME, difference });
        }
        self.add(&other.confusion);
        Ok(())
    }
}

/// The class of the largest logit of the `predicted.len()` pixels from `start`, the first of equals.
///
/// Returns whether every logit was a number; otherwise the classes mean nothing.
fn arg_max(logits: Planes<'_>, start: usize, predicted: &mut [u8]) -> bool {
    let len = predicted.len();
    // Class and logit have the same width, so that compare and select vectorise.
    let mut best = [f32::NEG_INFINITY; BLOCK];
    let mut class = [0u32; BLOCK];
    let mut not_a_number = false;
    for (number, plane) in (0u32..).zip(logits.planes()) {
        let plane = &plane[start..start + len];
        for ((best, class), &logit) in best[..len].iter_mut().zip(&mut class[..len]).zip(plane) {
            let better = logit > *best;
            *best = if better { logit } else { *best };
            *class = if better { number } else { *class };
            not_a_number |= logit.is_nan();
        }
    }
    for (predicted, &class) in predicted.iter_mut().zip(&class[..len]) {
        *predicted = u8::try_from(class).expect("there are at most 255 classes");
    }
    !not_a_number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(data: &[f32], channels: usize, width: usize) -> Planes<'_> {
        Planes::new(data, channels, data.len() / channels / width, width).expect("sizes fit")
    }

    #[test]
    fn counts_follow_the_definition() {
        // Predictions 0 1 1 0, labels 0 1 0 ignored.
        let logits = [1.0, 0.0, 0.0, 9.0, 0.0, 2.0, 3.0, 0.0, -1.0, -1.0, -1.0, -1.0];
        let mut meter = MeanIou::new(3).expect("three classes");
        meter.update(view(&logits, 3, 2), view(&[0.0, 1.0, 0.0, 255.0], 1, 2)).expect("image fits");
        let counts = meter.class_counts();
        assert_eq!(counts[0], ClassCounts { true_positives: 1, false_positives: 0, false_negatives: 1 });
        assert_eq!(counts[1], ClassCounts { true_positives: 1, false_positives: 1, false_negatives: 0 });
        assert_eq!(counts[2], ClassCounts::default());
        let values: Vec<f64> = meter.scores().iter().map(|score| score.value).collect();
        assert!((values[0] - 100.0 / 3.0).abs() < 1e-12 && values[1..3] == [50.0, 50.0], "{values:?}");
        assert!((values[3] - 200.0 / 3.0).abs() < 1e-12, "{values:?}");
        let named = meter.class_ious(&["sky", "sea", "sand"]).expect("three names");
        assert_eq!(named, [("sky", 50.0), ("sea", 50.0), ("sand", 0.0)]);
        let message = meter.class_ious(&["sky"]).unwrap_err().to_string();
        assert!(message.contains("1 names for 3 classes"), "{message}");
    }

    #[test]
    fn each_mean_is_over_its_own_classes() {
        // Classes 0 and 1 are labelled, 2 is only predicted, 3 neither.
        let mut meter = MeanIou::new(4).expect("four classes");
        meter.update_classes(&[0, 0, 1, 2], view(&[0.0, 0.0, 1.0, 1.0], 1, 2)).expect("image fits");
        let values: Vec<(&str, f64)> = meter.scores().iter().map(|score| (score.name, score.value)).collect();
        // 1.9's `MulticlassJaccardIndex(num_classes=4, average="macro")` of torchmetrics gives 0.5.
        assert_eq!(values[..3], [("mIoU", 37.5), ("mIoU present", 75.0), ("mIoU occurring", 50.0)]);
    }

    #[test]
    fn the_first_of_equal_logits_wins() {
        let logits = [1.0, f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY];
        let mut meter = MeanIou::new(2).expect("two classes");
        meter.update(view(&logits, 2, 2), view(&[0.0, 0.0], 1, 2)).expect("image fits");
        assert_eq!(meter.class_counts()[0].true_positives, 2);
    }

    #[test]
    fn classes_and_logits_score_alike_beyond_one_block() {
        let (classes, pixels) = (5, 2 * BLOCK + 77);
        let logits: Vec<f32> = (0..classes * pixels).map(|i| ((i * 7919) % 1013) as f32).collect();
        let label: Vec<f32> = (0..pixels).map(|i| [0.0, 1.0, 2.0, 3.0, 4.0, 255.0][i * 31 % 6]).collect();
        let plain: Vec<u8> = (0..pixels)
            .map(|i| {
                let at = |c: usize| logits[c * pixels + i];
                (0..classes).fold(0, |best, c| if at(c) > at(best) { c } else { best }) as u8
            })
            .collect();
        let mut fused = MeanIou::new(classes).expect("five classes");
        let mut meter = fused.clone();
        meter.update(view(&logits, classes, 1), view(&label, 1, 1)).expect("image fits");
        fused.update_classes(&plain, view(&label, 1, 1)).expect("image fits");
        assert_eq!(meter, fused);
        assert!(meter.scores()[0].value > 0.0);
    }

    #[test]
    fn wrong_labels_and_classes_are_refused_and_leave_the_meter_unchanged() {
        let mut meter = MeanIou::new(2).expect("two classes");
        let fresh = meter.clone();
        let logits = [0.0; 4];
        for wrong in [2.0, -1.0, 0.5, f32::NAN, 254.0] {
            let error = meter.update(view(&logits, 2, 2), view(&[0.0, wrong], 1, 2)).expect_err("no class");
            assert!(error.to_string().contains("row 0, column 1"), "{error}");
            assert!(error.to_string().contains("a class 0 to 1 or 255"), "{error}");
        }
        let error = meter.update_classes(&[0, 2], view(&[0.0, 255.0], 1, 2)).expect_err("no such class");
        assert!(error.to_string().contains("predicted class 2 at row 0, column 1"), "{error}");
        let error = meter.update_classes(&[0], view(&[0.0, 0.0], 1, 2)).expect_err("one class of two");
        assert!(matches!(error, Error::Length { found: 1, expected: 2, .. }), "{error}");
        let nan = [0.0, 0.0, 0.0, f32::NAN];
        let error = meter.update(view(&nan, 2, 2), view(&[0.0, 0.0], 1, 2)).expect_err("not a number");
        assert!(error.to_string().contains("channel 1, row 0, column 1"), "{error}");
        assert_eq!(meter, fresh);
        for classes in [0, 256] {
            let message = MeanIou::new(classes).expect_err("no such meter").to_string();
            assert!(message.contains(&format!("{classes}")) && message.contains("1 to 255"), "{message}");
        }
    }

    #[test]
    fn nothing_scored_is_not_a_number() {
        let mut meter = MeanIou::new(2).expect("two classes");
        assert!(meter.scores().iter().all(|score| score.value.is_nan()));
        meter.update(view(&[0.0; 2], 2, 1), view(&[255.0], 1, 1)).expect("image fits");
        assert!(meter.scores().iter().all(|score| score.value.is_nan()));
    }
}
