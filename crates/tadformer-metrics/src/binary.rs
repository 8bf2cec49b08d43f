//! Binary maps, as saliency and edges share them: labels of 0, 1 or 255, and thresholds as logits.

use crate::error::Error;
use crate::planes::{IGNORE, Planes};

/// What a binary label says of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    Negative,
    Positive,
    Ignored,
}

/// Reads a label `(1, h, w)`: up to 1, positive from 0.5 on (as a resized label may hold), or 255.
///
/// # Errors
/// Any other value.
pub(crate) fn read(meter: &'static str, label: Planes<'_>) -> Result<Vec<Label>, Error> {
    label.expect_channels(meter, "label", 1)?;
    read_all(meter, label)
}

/// [`read`] of labels `(n, h, w)`, plane after plane.
///
/// # Errors
/// Any other value.
pub(crate) fn read_all(meter: &'static str, label: Planes<'_>) -> Result<Vec<Label>, Error> {
    let read = |(at, &value): (usize, &f32)| match value {
        IGNORE => Ok(Label::Ignored),
        0.5..=1.0 => Ok(Label::Positive),
        0.0..0.5 => Ok(Label::Negative),
        _ => Err(Error::Label {
            meter,
            value,
            place: label.place(at),
            expected: "0 to 1, or 255 for an unlabelled pixel".to_owned(),
        }),
    };
    label.data().iter().enumerate().map(read).collect()
}

/// The logit at which the logistic function reaches `probability`.
///
/// `sigmoid(x) > p` is `x > logit(p)`: the exponential is spared for every pixel, and 0.5 is exact.
pub(crate) fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

/// How many of the ascending `thresholds` lie strictly below `value`.
pub(crate) fn level(thresholds: &[f64], value: f32) -> usize {
    let value = f64::from(value);
    thresholds.partition_point(|&threshold| threshold < value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_binary_or_ignored() {
        let data = [0.0, 0.25, 0.5, 1.0, 255.0];
        fn planes(data: &[f32; 5]) -> Planes<'_> {
            Planes::new(data, 1, 1, 5).expect("sizes fit")
        }
        use Label::{Ignored, Negative, Positive};
        assert_eq!(read("edges", planes(&data)), Ok(vec![Negative, Negative, Positive, Positive, Ignored]));
        for wrong in [-0.5, 1.5, 254.0, f32::NAN] {
            let error = read("edges", planes(&[0.0, 1.0, wrong, 0.0, 0.0])).expect_err("no binary label");
            assert!(error.to_string().contains("row 0, column 2"), "{error}");
        }
    }

    #[test]
    fn a_level_counts_the_thresholds_below() {
        let thresholds: Vec<f64> = [0.25, 0.5, 0.75].into_iter().map(logit).collect();
        for (value, expected) in [(-9.0, 0), (-1.0, 1), (0.0, 1), (1e-6, 2), (1.0, 2), (9.0, 3)] {
            assert_eq!(level(&thresholds, value), expected, "{value}");
        }
    }
}
