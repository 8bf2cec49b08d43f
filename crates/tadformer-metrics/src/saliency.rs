//! Saliency: intersection over union and F measure over thresholds.
//!
//! Two conventions of the literature side by side. Per image and threshold (Maninis et al., CVPR 2019):
//! IoU, precision and recall of `sigmoid(logit) > threshold`, averaged over images, then the best threshold.
//! Pooled over the split (Achanta et al., CVPR 2009): one precision and recall a threshold, and F with
//! β² = 0.3, which weighs precision more.

use crate::binary::{self, Label};
use crate::error::Error;
use crate::exact_sum::ExactSum;
use crate::meter::{Meter, Score, same_kind, share};
use crate::planes::Planes;

const NAME: &str = "saliency";

/// Weight of recall against precision in the pooled F measure.
const BETA_SQUARED: f64 = 0.3;

/// All thresholds, in percent: those of the pooled figure. The averages use the ones from 20 to 90.
const STEP: u32 = 5;
const POOLED: usize = 19;
const AVERAGED: std::ops::Range<usize> = 3..18;

/// The averages over images at one threshold, each in `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SaliencyAverages {
    /// Probability above which a pixel is taken for salient.
    pub threshold: f64,
    /// Mean over images of the intersection over union.
    pub iou: f64,
    /// Mean over images of the precision.
    pub precision: f64,
    /// Mean over images of the recall.
    pub recall: f64,
}

/// The counts over all images at one threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SaliencyCounts {
    /// Probability above which a pixel is taken for salient.
    pub threshold: f64,
    /// Salient pixels taken for salient.
    pub true_positives: u64,
    /// Pixels taken for salient.
    pub predicted: u64,
    /// Salient pixels.
    pub labelled: u64,
}

/// The meter of saliency maps.
///
/// Scores: `mIoU`, the best over the thresholds 0.20, 0.25 … 0.90 of the mean IoU of images; `maxF`, the best F
/// measure (β = 1) of mean precision and mean recall over the same; `maxF pooled`, the best F measure with
/// β² = 0.3 of precision and recall pooled over images, thresholds 0.05, 0.10 … 0.95.
///
/// An image with no salient pixel that is predicted so scores 1 in all three; a denominator that is
/// empty otherwise gives 0. An image without labelled pixel is not counted.
///
/// # Shapes
/// Logits `(1, h, w)`, finite or not; label `(1, h, w)`, 1 where salient, 0 elsewhere, 255 where not labelled.
#[derive(Debug, Clone)]
pub struct Saliency {
    /// The thresholds as logits, ascending.
    thresholds: [f64; POOLED],
    images: u64,
    iou: [ExactSum; POOLED],
    precision: [ExactSum; POOLED],
    recall: [ExactSum; POOLED],
    true_positives: [u64; POOLED],
    predicted: [u64; POOLED],
    labelled: u64,
}

impl Default for Saliency {
    fn default() -> Self {
        Self::new()
    }
}

impl Saliency {
    /// A meter that has seen nothing.
    pub fn new() -> Self {
        Self {
            thresholds: std::array::from_fn(|i| binary::logit(threshold(i))),
            images: 0,
            iou: Default::default(),
            precision: Default::default(),
            recall: Default::default(),
            true_positives: [0; POOLED],
            predicted: [0; POOLED],
            labelled: 0,
        }
    }

    /// The averages over images at the 15 thresholds 0.20 to 0.90; NaN as long as nothing is scored.
    pub fn averages(&self) -> Vec<SaliencyAverages> {
        let mean = |sum: &ExactSum| sum.value() / self.images as f64;
        AVERAGED
            .map(|i| SaliencyAverages {
                threshold: threshold(i),
                iou: mean(&self.iou[i]),
                precision: mean(&self.precision[i]),
                recall: mean(&self.recall[i]),
            })
            .collect()
    }

    /// The pooled counts at the 19 thresholds 0.05 to 0.95.
    pub fn counts(&self) -> Vec<SaliencyCounts> {
        (0..POOLED)
            .map(|i| SaliencyCounts {
                threshold: threshold(i),
                true_positives: self.true_positives[i],
                predicted: self.predicted[i],
                labelled: self.labelled,
            })
            .collect()
    }
}

impl Meter for Saliency {
    fn update(&mut self, logits: Planes<'_>, label: Planes<'_>) -> Result<(), Error> {
        logits.expect_channels(NAME, "logits", 1)?;
        logits.expect_size_of(NAME, label)?;
        logits.expect_numbers(NAME)?;
        let label = binary::read(NAME, label)?;

        // Pixels by the number of thresholds that they pass, all and salient ones.
        let mut all = [0u64; POOLED + 1];
        let mut salient = [0u64; POOLED + 1];
        for (&logit, label) in logits.data().iter().zip(label) {
            if label != Label::Ignored {
                let level = binary::level(&self.thresholds, logit);
                all[level] += 1;
                salient[level] += u64::from(label == Label::Positive);
            }
        }
        if all.iter().sum::<u64>() == 0 {
            return Ok(());
        }
        let labelled: u64 = salient.iter().sum();
        let (mut predicted, mut true_positives) = (0, 0);
        for i in (0..POOLED).rev() {
            predicted += all[i + 1];
            true_positives += salient[i + 1];
            let (iou, precision, recall) = if predicted == 0 && labelled == 0 {
                (1.0, 1.0, 1.0)
            } else {
                let union = predicted + labelled - true_positives;
                (
                    share(true_positives, union),
                    share(true_positives, predicted),
                    share(true_positives, labelled),
                )
            };
            self.iou[i].add(iou);
            self.precision[i].add(precision);
            self.recall[i].add(recall);
            self.predicted[i] += predicted;
            self.true_positives[i] += true_positives;
        }
        self.labelled += labelled;
        self.images += 1;
        Ok(())
    }

    fn scores(&self) -> Vec<Score> {
        let best = |values: &mut dyn Iterator<Item = f64>| {
            if self.images == 0 { f64::NAN } else { values.fold(0.0, f64::max) }
        };
        let averages = self.averages();
        let pooled = |c: SaliencyCounts| match (c.predicted, c.labelled) {
            (0, 0) => 1.0,
            _ => f_measure(
                share(c.true_positives, c.predicted),
                share(c.true_positives, c.labelled),
                BETA_SQUARED,
            ),
        };
        vec![
            Score::percent("mIoU", best(&mut averages.iter().map(|at| at.iou))),
            Score::percent(
                "maxF",
                best(&mut averages.iter().map(|at| f_measure(at.precision, at.recall, 1.0))),
            ),
            Score::percent("maxF pooled", best(&mut self.counts().into_iter().map(pooled))),
        ]
    }

    fn reset(&mut self) {
        *self = Self::new();
    }

    fn merge(&mut self, other: &dyn Meter) -> Result<(), Error> {
        let other: &Self = same_kind(NAME, other)?;
        for i in 0..POOLED {
            self.iou[i].merge(&other.iou[i]);
            self.precision[i].merge(&other.precision[i]);
            self.recall[i].merge(&other.recall[i]);
            self.predicted[i] += other.predicted[i];
            self.true_positives[i] += other.true_positives[i];
        }
        self.labelled += other.labelled;
        self.images += other.images;
        Ok(())
    }
}

/// The `i`-th threshold as a probability.
fn threshold(i: usize) -> f64 {
    let percent = STEP * (i as u32 + 1);
    f64::from(percent) / 100.0
}

/// `(1 + β²)·P·R / (β²·P + R)`, 0 where both are 0.
pub(crate) fn f_measure(precision: f64, recall: f64, beta_squared: f64) -> f64 {
    let denominator = beta_squared * precision + recall;
    if denominator == 0.0 { 0.0 } else { (1.0 + beta_squared) * precision * recall / denominator }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(meter: &mut Saliency, logits: &[f32], label: &[f32]) -> Result<(), Error> {
        let view = |data| Planes::new(data, 1, 1, logits.len()).expect("sizes fit");
        meter.update(view(logits), view(label))
    }

    fn values(meter: &Saliency) -> Vec<f64> {
        meter.scores().iter().map(|score| score.value).collect()
    }

    #[test]
    fn figures_follow_the_definition() {
        let mut meter = Saliency::new();
        // Probabilities 0.88, 0.62, 0.38, 0.12; the third pixel is salient but weakly predicted.
        update(&mut meter, &[2.0, 0.5, -0.5, -2.0], &[1.0, 0.0, 1.0, 255.0]).expect("image fits");
        update(&mut meter, &[2.0, -2.0], &[1.0, 0.0]).expect("image fits");
        let at_half = meter.averages()[6];
        assert_eq!(at_half.threshold, 0.5);
        assert_eq!((at_half.iou, at_half.precision, at_half.recall), ((1.0 / 3.0 + 1.0) / 2.0, 0.75, 0.75));
        let pooled = meter.counts()[9];
        assert_eq!((pooled.true_positives, pooled.predicted, pooled.labelled), (2, 3, 3));
        // 0.2 and 0.25 to 0.35 take the three labelled pixels of the first image: IoU 2/3.
        assert!((values(&meter)[0] - 100.0 * (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn an_image_with_nothing_salient_is_right_when_nothing_is_predicted() {
        let mut meter = Saliency::new();
        update(&mut meter, &[-9.0, f32::NEG_INFINITY], &[0.0, 0.0]).expect("image fits");
        assert_eq!(values(&meter), [100.0, 100.0, 100.0]);
        update(&mut meter, &[9.0, 9.0], &[0.0, 0.0]).expect("image fits");
        assert_eq!(values(&meter), [50.0, 50.0, 0.0]);
    }

    #[test]
    fn an_image_without_label_does_not_count() {
        let mut meter = Saliency::new();
        update(&mut meter, &[9.0, -9.0], &[255.0, 255.0]).expect("image fits");
        assert!(values(&meter).iter().all(|value| value.is_nan()));
        update(&mut meter, &[9.0, -9.0], &[1.0, 0.0]).expect("image fits");
        assert_eq!(values(&meter), [100.0, 100.0, 100.0]);
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        let mut meter = Saliency::new();
        let error = update(&mut meter, &[0.0, f32::NAN], &[1.0, 0.0]).expect_err("not a number");
        assert!(error.to_string().contains("saliency: the logit at channel 0, row 0, column 1"), "{error}");
        assert_eq!(meter.images, 0);
    }
}
