//! How much of its error a task has lost since a reference of its own.

use crate::meter::Direction;

/// Errors below this share of a metric's range do not count as smaller: see [`error_reduction`].
const FLOOR: f64 = 0.01;

/// The share of the reference's error that is gone, in percent: 100 for a perfect score, 0 for the reference's own,
/// −100 where next to everything is lost.
///
/// `100 · (e₀ − e) / max(e₀, e, floor)`, where `e` is how far `ours` is from a perfect score, `e₀` how far `reference` is:
/// the score itself where less is better, what it lacks to 100 where more is better, which is a percentage then. `floor` is
/// 1 % of the metric's range: one percentage point, 1.8 degrees, nothing for metres, which have no range.
///
/// A relative gain, [`relative_gain`](crate::relative_gain), is what the literature prints against figures of trained
/// networks. Against the first score of an untrained one it says nothing: 0.4 % of mIoU that become 4.6 are +1050 %, and
/// 0 has none. The share of the error is bounded both ways, whatever the reference, and rises with every better score.
///
/// `unit` is a [`Score`](crate::Score)'s. The result is NaN where a figure is.
///
/// ```
/// use tadformer_metrics::{Direction::{HigherIsBetter, LowerIsBetter}, error_reduction};
///
/// assert_eq!(error_reduction(25.0, 0.0, "%", HigherIsBetter), 25.0);
/// assert_eq!(error_reduction(60.0, 20.0, "%", HigherIsBetter), 50.0);
/// assert_eq!(error_reduction(1.0, 5.0, "m", LowerIsBetter), 80.0);
/// assert_eq!(error_reduction(5.0, 1.0, "m", LowerIsBetter), -80.0);
/// ```
pub fn error_reduction(ours: f64, reference: f64, unit: &str, direction: Direction) -> f64 {
    let range = match unit {
        "%" => 100.0,
        "degrees" => 180.0,
        _ => 0.0,
    };
    let error = |value: f64| match direction {
        Direction::HigherIsBetter => 100.0 - value,
        Direction::LowerIsBetter => value,
    };
    let (before, now) = (error(reference), error(ours));
    if before == now {
        // Also where both are perfect and nothing is left to divide by.
        return 0.0;
    }
    // `f64::max` would pass over what is not a number; the difference does not.
    100.0 * (before - now) / before.max(now).max(FLOOR * range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{HigherIsBetter, LowerIsBetter};

    #[test]
    fn no_reference_makes_a_task_count_more_than_one_hundred() {
        for reference in [0.0, 1e-9, 0.39, 50.0, 99.999_999, 100.0] {
            for ours in [0.0, 1e-9, 4.6, 50.0, 99.999_999, 100.0] {
                let gain = error_reduction(ours, reference, "%", HigherIsBetter);
                assert!((-100.0..=100.0).contains(&gain), "{reference} to {ours}: {gain}");
                assert_eq!(gain > 0.0, ours > reference, "{reference} to {ours}: {gain}");
                let gain = error_reduction(ours, reference, "m", LowerIsBetter);
                assert!((-100.0..=100.0).contains(&gain), "{reference} to {ours}: {gain}");
                assert_eq!(gain > 0.0, ours < reference, "{reference} to {ours}: {gain}");
            }
        }
    }

    #[test]
    fn next_to_a_perfect_reference_small_changes_are_small() {
        // A hundredth of a point, of an error of a hundredth of a point.
        let gain = error_reduction(99.98, 99.99, "%", HigherIsBetter);
        assert!((gain + 1.0).abs() < 1e-9, "{gain}");
        let gain = error_reduction(0.02, 0.002, "degrees", LowerIsBetter);
        assert!((gain + 1.0).abs() < 1e-9, "{gain}");
        assert_eq!(error_reduction(0.0, 0.0, "m", LowerIsBetter), 0.0);
    }

    #[test]
    fn every_better_score_gains_more() {
        let gains: Vec<f64> =
            (0..=100).map(|ours| error_reduction(f64::from(ours), 7.0, "%", HigherIsBetter)).collect();
        assert!(gains.is_sorted_by(|a, b| a < b), "{gains:?}");
    }

    #[test]
    fn what_was_not_scored_gains_nothing_that_is_a_number() {
        for (ours, reference) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::NAN, f64::NAN)] {
            assert!(error_reduction(ours, reference, "%", HigherIsBetter).is_nan());
            assert!(error_reduction(ours, reference, "m", LowerIsBetter).is_nan());
        }
    }
}
