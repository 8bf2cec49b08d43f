//! The multi-task gain Δm: how much better than single-task models, on average over tasks.

use crate::meter::Direction;

/// The relative gain of one task over its single-task model, in percent, better is positive.
///
/// `100 · s · (ours − single_task) / single_task`, with `s = 1` where higher is better, else `−1`.
/// Both figures must be in the same unit; a reference of 0 gives an infinity or NaN.
pub fn relative_gain(ours: f64, single_task: f64, direction: Direction) -> f64 {
    let sign = match direction {
        Direction::HigherIsBetter => 1.0,
        Direction::LowerIsBetter => -1.0,
    };
    100.0 * sign * (ours - single_task) / single_task
}

/// The multi-task gain Δm in percent: the mean of [`relative_gain`] over `(ours, single_task, direction)`.
///
/// Maninis, Radosavovic and Kokkinos (CVPR 2019), with single-task models as reference. It is
/// NaN for no task and wherever a figure is NaN, so a task that was not scored cannot pass unnoticed.
///
/// The references belong to a data set and a backbone and are the caller's. TADFormer at rank 64 on
/// PASCAL-Context with Swin-T, against the single-task row of its table:
///
/// ```
/// use tadformer_metrics::{Direction::{HigherIsBetter, LowerIsBetter}, delta_m};
///
/// let gain = delta_m(&[
///     (70.82, 67.21, HigherIsBetter), // semseg, mIoU in %
///     (60.45, 61.93, HigherIsBetter), // human_parts, mIoU in %
///     (65.88, 62.35, HigherIsBetter), // sal, mIoU in %
///     (16.48, 17.97, LowerIsBetter),  // normals, mean angle in degrees
/// ]);
/// assert!((gain - 4.2337).abs() < 1e-4);
/// ```
pub fn delta_m(tasks: &[(f64, f64, Direction)]) -> f64 {
    let sum: f64 =
        tasks.iter().map(|&(ours, single_task, direction)| relative_gain(ours, single_task, direction)).sum();
    sum / tasks.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_is_positive_in_both_directions() {
        assert_eq!(relative_gain(55.0, 50.0, Direction::HigherIsBetter), 10.0);
        assert_eq!(relative_gain(18.0, 20.0, Direction::LowerIsBetter), 10.0);
        assert_eq!(relative_gain(22.0, 20.0, Direction::LowerIsBetter), -10.0);
    }

    #[test]
    fn an_unscored_task_or_no_task_is_not_a_number() {
        assert!(delta_m(&[]).is_nan());
        assert!(
            delta_m(&[(f64::NAN, 1.0, Direction::HigherIsBetter), (2.0, 1.0, Direction::HigherIsBetter)])
                .is_nan()
        );
    }
}
