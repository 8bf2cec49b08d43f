//! Quantities in label files: what their numbers stand for, and which of them are no labels.

use serde::{Deserialize, Serialize};

use crate::IGNORE;

/// How numbers become metres, and which are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetresEncoding {
    /// Metres of one unit of the file.
    pub scale: f64,
    /// Numbers in the file that mean "no label", besides NaN, infinity, zero and negative ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<f64>,
    /// Nearer points have no label, in metres.
    pub min: Option<f64>,
    /// Farther points have no label, in metres.
    pub max: Option<f64>,
}

/// How numbers become vectors, and which are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VectorsEncoding {
    /// The numbers in the file that stand for −1 and for 1; without it 0 and 255 in a PNG, −1 and 1 in a `.npy`.
    pub range: Option<[f64; 2]>,
    /// Numbers in the file that mean "no label".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<StoredVector>,
    /// Shorter vectors have no label.
    pub min: f64,
    /// Longer vectors have no label.
    pub max: f64,
}

/// The three numbers that a file has for a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StoredVector {
    /// One number three times.
    Same(f64),
    /// Three numbers.
    Each([f64; 3]),
}

impl Default for MetresEncoding {
    fn default() -> Self {
        Self { scale: 1.0, ignore: Vec::new(), min: None, max: None }
    }
}

impl Default for VectorsEncoding {
    /// Every direction that is the mean of unit vectors up to 120° apart, and no vector that is longer than rounding
    /// makes one.
    fn default() -> Self {
        Self { range: None, ignore: Vec::new(), min: 0.5, max: 1.25 }
    }
}

impl MetresEncoding {
    /// What it states and cannot be.
    pub(super) fn problem(&self) -> Option<String> {
        super::positive("scale", self.scale)
            .or_else(|| no_number("ignore", &self.ignore))
            .or_else(|| self.min.and_then(|min| super::positive("min", min)))
            .or_else(|| self.max.and_then(|max| super::positive("max", max)))
            .or_else(|| {
                let max = self.max.filter(|&max| max > f64::from(IGNORE))?;
                Some(format!("max is {max}; distances are kept below {IGNORE} m"))
            })
            .or_else(|| {
                let (min, max) = (self.min?, self.max?);
                (min >= max).then(|| format!("min is {min} and max {max}; expected min below max"))
            })
    }
}

impl VectorsEncoding {
    /// What it states and cannot be.
    pub(super) fn problem(&self) -> Option<String> {
        let ignored: Vec<f64> = self.ignore.iter().flat_map(|stored| stored.numbers()).collect();
        if let Some([low, high]) = self.range
            && !(low.is_finite() && high.is_finite() && low != high)
        {
            return Some(format!(
                "range is [{low}, {high}]; expected the two numbers that stand for -1 and 1"
            ));
        }
        if !(self.min > 0.0 && self.min < 1.0 && self.max > 1.0 && self.max.is_finite()) {
            return Some(format!(
                "min is {} and max {}; expected lengths with 0 < min < 1 < max",
                self.min, self.max
            ));
        }
        no_number("ignore", &ignored)
    }
}

impl StoredVector {
    /// The three numbers.
    pub fn numbers(self) -> [f64; 3] {
        match self {
            Self::Same(number) => [number; 3],
            Self::Each(numbers) => numbers,
        }
    }
}

/// A number of a list that is none. NaN and infinity are no labels anyway.
pub(super) fn no_number(name: &str, numbers: &[f64]) -> Option<String> {
    let found = numbers.iter().find(|number| !number.is_finite())?;
    Some(format!("{name} has {found}, which never is a label; expected numbers"))
}
