//! What every meter does, and what a score is.

use std::any::Any;
use std::fmt;

use crate::error::Error;
use crate::planes::Planes;

/// Which way a score improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// More is better: IoU, F measure, shares.
    HigherIsBetter,
    /// Less is better: errors and losses.
    LowerIsBetter,
}

impl Direction {
    /// Whether `a` is strictly better than `b`; never true when either is not a number.
    pub fn is_better(self, a: f64, b: f64) -> bool {
        match self {
            Self::HigherIsBetter => a > b,
            Self::LowerIsBetter => a < b,
        }
    }
}

/// A figure of merit with its name, unit and direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Name as tables print it, unique within a meter.
    pub name: &'static str,
    /// `"%"` (then the value is in `0..=100`), `"degrees"`, `"m"`, or `""`.
    pub unit: &'static str,
    /// Which way it improves.
    pub direction: Direction,
    /// The value; NaN as long as no pixel has been scored.
    pub value: f64,
}

impl Score {
    /// A share given as `0..=1`, printed in percent, more is better.
    pub(crate) fn percent(name: &'static str, share: f64) -> Self {
        Self { name, unit: "%", direction: Direction::HigherIsBetter, value: 100.0 * share }
    }

    /// An error or loss, less is better.
    pub(crate) fn error(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self { name, unit, direction: Direction::LowerIsBetter, value }
    }

    /// Value and unit as tables and logs print them, `71.69 degrees`; a dash and the reason where there is none.
    ///
    /// ```
    /// use tadformer_metrics::{Direction, Score};
    /// let score = |value, unit| Score { name: "x", unit, direction: Direction::LowerIsBetter, value };
    /// assert_eq!(score(71.694, "degrees").figure(), "71.69 degrees");
    /// assert_eq!(score(0.5, "").figure(), "0.50");
    /// assert_eq!(score(f64::NAN, "m").figure(), "– (nothing labelled)");
    /// ```
    pub fn figure(&self) -> String {
        let space = if self.unit.is_empty() { "" } else { " " };
        if self.value.is_nan() {
            return "– (nothing labelled)".to_owned();
        }
        format!("{:.2}{space}{}", self.value, self.unit)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.unit.is_empty() { "" } else { " " };
        if self.value.is_nan() {
            return write!(f, "{} {}", self.name, self.figure());
        }
        write!(f, "{} {:.4}{space}{}", self.name, self.value, self.unit)
    }
}

/// Scores the predictions of one task over a split, one image a call.
///
/// The scores depend on the images alone: neither their order nor the way they are split over
/// merged meters changes a bit, since counts are integers and sums are exact.
pub trait Meter: Any + Send {
    /// Scores one image: the network's raw output against the label.
    ///
    /// # Errors
    /// Sizes, channels or values that the task does not have; the meter is then unchanged.
    fn update(&mut self, logits: Planes<'_>, label: Planes<'_>) -> Result<(), Error>;

    /// The scores of all images since the last reset, the task's headline figure first.
    ///
    /// Values are NaN as long as no pixel has been scored.
    fn scores(&self) -> Vec<Score>;

    /// Forgets every image.
    fn reset(&mut self);

    /// Takes over the images of `other`, as if they had been scored here.
    ///
    /// # Errors
    /// A meter of another kind or with other settings; this one is then unchanged.
    fn merge(&mut self, other: &dyn Meter) -> Result<(), Error>;
}

/// The other meter of a merge as the kind it must be.
pub(crate) fn same_kind<'a, M: Meter>(meter: &'static str, other: &'a dyn Meter) -> Result<&'a M, Error> {
    let other: &dyn Any = other;
    other
        .downcast_ref()
        .ok_or_else(|| Error::Merge { meter, difference: "measures another kind of task".to_owned() })
}

/// `numerator / denominator`, and 0 where both are 0: an absent class, a prediction of nothing.
pub(crate) fn share(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 { 0.0 } else { numerator as f64 / denominator as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_better_than_what_is_not_a_number() {
        for direction in [Direction::HigherIsBetter, Direction::LowerIsBetter] {
            assert!(!direction.is_better(f64::NAN, 1.0) && !direction.is_better(1.0, f64::NAN));
        }
        assert!(Direction::HigherIsBetter.is_better(2.0, 1.0));
        assert!(Direction::LowerIsBetter.is_better(1.0, 2.0));
    }

    #[test]
    fn a_score_prints_with_its_unit() {
        assert_eq!(Score::percent("mIoU", 0.6721).to_string(), "mIoU 67.2100 %");
        assert_eq!(Score::error("loss", "", 0.25).to_string(), "loss 0.2500");
    }
}
