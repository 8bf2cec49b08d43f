//! What a meter refuses, and where it stands in the image.

use std::fmt;

/// A place in a planar map: channel, row and column, each counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Channel, from 0.
    pub channel: usize,
    /// Row, from 0 at the top.
    pub row: usize,
    /// Column, from 0 at the left.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {}, row {}, column {}", self.channel, self.row, self.column)
    }
}

/// Why an image cannot be scored; the meter is as it was before the call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice does not hold `channels · height · width` values, or one of them is 0.
    #[error(
        "cannot view {found} values as {channels} channels of {height}x{width}: give at least one value, and as many as the sizes say"
    )]
    Shape {
        /// Values in the slice.
        found: usize,
        /// Channels asked for.
        channels: usize,
        /// Rows asked for.
        height: usize,
        /// Columns asked for.
        width: usize,
    },

    /// Logits or label have another number of channels than the meter works on.
    #[error("cannot score {meter}: the {what} has {found} channels, expected {expected}")]
    Channels {
        /// The meter that refuses.
        meter: &'static str,
        /// `logits` or `label`.
        what: &'static str,
        /// Channels found.
        found: usize,
        /// Channels expected.
        expected: usize,
    },

    /// Logits and label are of different size.
    #[error(
        "cannot score {meter}: the prediction is {}x{} and the label {}x{}; resize the prediction to the label first",
        prediction.0, prediction.1, label.0, label.1
    )]
    Size {
        /// The meter that refuses.
        meter: &'static str,
        /// Height and width of the prediction.
        prediction: (usize, usize),
        /// Height and width of the label.
        label: (usize, usize),
    },

    /// A slice of predicted classes is not as long as the label has pixels.
    #[error("cannot score {meter}: {found} predicted classes for a label of {expected} pixels")]
    Length {
        /// The meter that refuses.
        meter: &'static str,
        /// Predicted classes given.
        found: usize,
        /// Pixels of the label.
        expected: usize,
    },

    /// A logit that is not a number, or is infinite where the meter computes with its value.
    #[error("cannot score {meter}: the logit at {place} is {value}; did the training diverge?")]
    Logit {
        /// The meter that refuses.
        meter: &'static str,
        /// The value found.
        value: f32,
        /// Where it stands.
        place: Place,
    },

    /// A predicted class beyond the meter's classes.
    #[error(
        "cannot score {meter}: predicted class {found} at row {}, column {}, expected less than {classes}",
        place.row, place.column
    )]
    PredictedClass {
        /// The meter that refuses.
        meter: &'static str,
        /// The class found.
        found: u8,
        /// The number of classes.
        classes: usize,
        /// Where it stands.
        place: Place,
    },

    /// A label value that means nothing to the meter.
    #[error("cannot score {meter}: the label at {place} is {value}, expected {expected}")]
    Label {
        /// The meter that refuses.
        meter: &'static str,
        /// The value found.
        value: f32,
        /// Where it stands.
        place: Place,
        /// What a label may hold, in words.
        expected: String,
    },

    /// A meter cannot be made from these settings.
    #[error("cannot make the meter of {meter}: {setting} is {found}, expected {expected}")]
    Setting {
        /// The meter that refuses.
        meter: &'static str,
        /// The setting's name.
        setting: &'static str,
        /// What was given.
        found: String,
        /// What is accepted, in words.
        expected: &'static str,
    },

    /// Two meters that do not count the same thing.
    #[error("cannot merge into the meter of {meter}: the other {difference}")]
    Merge {
        /// The meter that refuses.
        meter: &'static str,
        /// How the other one differs, in words.
        difference: String,
    },

    /// Class names for another number of classes.
    #[error("cannot name the classes of {meter}: {found} names for {expected} classes")]
    ClassNames {
        /// The meter that refuses.
        meter: &'static str,
        /// Names given.
        found: usize,
        /// Classes counted.
        expected: usize,
    },
}
