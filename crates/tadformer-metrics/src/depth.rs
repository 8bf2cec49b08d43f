//! Depth: errors in metres, in logarithms, and relative.
//!
//! Eigen, Puhrsch and Fergus (NeurIPS 2014), over all labelled pixels of the split:
//! `rmse = √mean (p − g)²`, `log rmse = √mean (ln p − ln g)²`, `abs rel = mean |p − g| / g`, and
//! `δ < 1.25ⁿ`, the share of pixels with `max(p/g, g/p) < 1.25ⁿ`.

use crate::error::Error;
use crate::exact_sum::ExactSum;
use crate::meter::{Meter, Score, same_kind};
use crate::planes::{IGNORE, Planes};

const NAME: &str = "depth";

/// Predictions at or below 0, which no surface has, count as this depth in metres.
const NEAREST: f64 = 1e-9;

/// The meter of depth maps.
///
/// Scores: `rmse` in metres, `log rmse`, `abs rel`, and the percentages `δ<1.25`, `δ<1.25²`, `δ<1.25³`.
/// A prediction of 0 or less counts as 1e-9 m in all of them, so one such pixel costs `log rmse` dearly.
///
/// # Shapes
/// Logits `(1, h, w)` in metres, finite; label `(1, h, w)` in metres, 0 or 255 where not labelled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Depth {
    pixels: u64,
    square: ExactSum,
    log_square: ExactSum,
    relative: ExactSum,
    /// Pixels within 1.25, 1.25² and 1.25³.
    within: [u64; 3],
}

impl Depth {
    /// A meter that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of pixels scored.
    pub fn pixels(&self) -> u64 {
        self.pixels
    }
}

impl Meter for Depth {
    fn update(&mut self, logits: Planes<'_>, label: Planes<'_>) -> Result<(), Error> {
        logits.expect_channels(NAME, "logits", 1)?;
        label.expect_channels(NAME, "label", 1)?;
        logits.expect_size_of(NAME, label)?;
        logits.expect_finite(NAME)?;
        let metres = |v: &f32| v.is_finite() && *v >= 0.0;
        if let Some(at) = label.data().iter().position(|v| !metres(v)) {
            return Err(Error::Label {
                meter: NAME,
                value: label.data()[at],
                place: label.place(at),
                expected: "metres, or 0 or 255 for an unlabelled pixel".to_owned(),
            });
        }

        let (mut square, mut log_square, mut relative) = (0.0, 0.0, 0.0);
        for (&logit, &label) in logits.data().iter().zip(label.data()) {
            if label == 0.0 || label == IGNORE {
                continue;
            }
            let label = f64::from(label);
            let depth = if logit > 0.0 { f64::from(logit) } else { NEAREST };
            let error = depth - label;
            let ratio = depth / label;
            let log_error = ratio.ln();
            square += error * error;
            log_square += log_error * log_error;
            relative += error.abs() / label;
            let worst = ratio.max(ratio.recip());
            for (count, bound) in self.within.iter_mut().zip([1.25, 1.25 * 1.25, 1.25 * 1.25 * 1.25]) {
                *count += u64::from(worst < bound);
            }
            self.pixels += 1;
        }
        self.square.add(square);
        self.log_square.add(log_square);
        self.relative.add(relative);
        Ok(())
    }

    fn scores(&self) -> Vec<Score> {
        let pixels = self.pixels as f64;
        let mean = |sum: &ExactSum| sum.value() / pixels;
        let within = |i: usize| self.within[i] as f64 / pixels;
        vec![
            Score::error("rmse", "m", mean(&self.square).sqrt()),
            Score::error("log rmse", "", mean(&self.log_square).sqrt()),
            Score::error("abs rel", "", mean(&self.relative)),
            Score::percent("δ<1.25", within(0)),
            Score::percent("δ<1.25²", within(1)),
            Score::percent("δ<1.25³", within(2)),
        ]
    }

    fn reset(&mut self) {
        *self = Self::new();
    }

    fn merge(&mut self, other: &dyn Meter) -> Result<(), Error> {
        let other: &Self = same_kind(NAME, other)?;
        self.pixels += other.pixels;
        self.square.merge(&other.square);
        self.log_square.merge(&other.log_square);
        self.relative.merge(&other.relative);
        for (count, more) in self.within.iter_mut().zip(other.within) {
            *count += more;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(logits: &[f32], label: &[f32]) -> Result<Depth, Error> {
        let view = |data| Planes::new(data, 1, 1, logits.len()).expect("sizes fit");
        let mut meter = Depth::new();
        meter.update(view(logits), view(label))?;
        Ok(meter)
    }

    #[test]
    fn figures_follow_the_definition() {
        let meter = scored(&[2.0, 1.5, 4.0, 9.0, 9.0], &[2.0, 1.0, 2.0, 0.0, 255.0]).expect("image fits");
        let values: Vec<f64> = meter.scores().iter().map(|score| score.value).collect();
        let (l1, l2) = (1.5f64.ln(), 2.0f64.ln());
        let third = 100.0 / 3.0;
        let expected = [
            (4.25f64 / 3.0).sqrt(),
            ((l1 * l1 + l2 * l2) / 3.0).sqrt(),
            0.5,
            third,
            2.0 * third,
            2.0 * third,
        ];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-12, "{values:?}");
        }
        assert_eq!(meter.pixels(), 3);
    }

    #[test]
    fn a_depth_of_nothing_or_less_counts_as_the_nearest() {
        let meter = scored(&[-3.0, 0.0], &[1.0, 1.0]).expect("image fits");
        let values: Vec<f64> = meter.scores().iter().map(|score| score.value).collect();
        assert!((values[0] - (1.0 - NEAREST)).abs() < 1e-15, "{values:?}");
        assert!((values[1] + NEAREST.ln()).abs() < 1e-12, "{values:?}");
        assert_eq!(values[3..], [0.0; 3]);
    }

    #[test]
    fn impossible_labels_and_predictions_are_refused() {
        for wrong in [-1.0, f32::NAN, f32::INFINITY] {
            let error = scored(&[1.0, 1.0], &[1.0, wrong]).expect_err("no depth");
            assert!(error.to_string().contains("the label at channel 0, row 0, column 1"), "{error}");
        }
        for (logit, label) in [(f32::NAN, 1.0), (f32::INFINITY, 255.0)] {
            let error = scored(&[logit], &[label]).expect_err("no depth");
            assert!(matches!(error, Error::Logit { .. }), "{error}");
        }
    }

    #[test]
    fn nothing_scored_is_not_a_number() {
        let meter = scored(&[1.0], &[255.0]).expect("image fits");
        assert!(meter.scores().iter().all(|score| score.value.is_nan()));
    }
}
