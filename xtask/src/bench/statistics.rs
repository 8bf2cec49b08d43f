//! Median and spread of a few numbers.

use serde::Serialize;

/// What a table says of one worker's steps, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// First and third quartile.
    pub(crate) quartiles: [f64; 2],
    pub(crate) count: usize,
}

impl Summary {
    /// Nothing for no numbers.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let at = |share: f64| quantile(&sorted, share);
        Some(Self { median: at(0.5), min, max, quartiles: [at(0.25), at(0.75)], count: sorted.len() })
    }
}

/// Linear between neighbours, as numpy has it; `sorted` is not empty.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// Intercept and slope of the straight line with the least squared distance to `points`.
///
/// Nothing for fewer than two different places.
pub(crate) fn straight_line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (spread > 0.0).then(|| (y - together / spread * x, together / spread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_between_two_middle_numbers() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((summary.median, summary.min, summary.max), (2.5, 1.0, 4.0));
        assert_eq!(summary.quartiles, [1.75, 3.25]);
        assert_eq!(Summary::of(&[7.0]).unwrap().quartiles, [7.0, 7.0]);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn a_straight_line_goes_through_points_that_lie_on_one() {
        assert_eq!(straight_line(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]), Some((3.0, 2.0)));
        assert_eq!(straight_line(&[(1.0, 5.0), (1.0, 7.0)]), None);
        assert_eq!(straight_line(&[]), None);
    }
}
