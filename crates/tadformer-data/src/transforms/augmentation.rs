//! Which random changes a sample goes through, and the numbers drawn for one.

use serde::{Deserialize, Serialize};
use tadformer_ops::Rng;

use crate::{Error, Result};

/// Distributions of the random changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Probability of a flip left to right, `0.0..=1.0`.
    pub flip: f64,
    /// Largest rotation either way in degrees, `0.0..=180.0`; the angle is uniform.
    pub rotation: f64,
    /// Magnification about the centre.
    pub scale: Scale,
}

/// Distribution of the magnification; above 1 shows less, larger. Scales lie in `0.1..=10.0`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Uniform between the two.
    Range([f64; 2]),
    /// One of these, each equally likely.
    Choice(Vec<f64>),
}

/// The numbers drawn for one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Whether it is flipped left to right.
    pub flip: bool,
    /// Rotation in degrees, counter-clockwise.
    pub degrees: f64,
    /// Magnification about the centre.
    pub scale: f64,
}

impl Augmentation {
    /// PASCAL-Context: flip half of the time, ±20°, 0.75 to 1.25 times the size.
    pub fn pascal_context() -> Self {
        Self { flip: 0.5, rotation: 20.0, scale: Scale::Range([0.75, 1.25]) }
    }

    /// NYUDv2: flip half of the time, 1, 1.2 or 1.5 times the size.
    pub fn nyud() -> Self {
        Self { flip: 0.5, rotation: 0.0, scale: Scale::Choice(vec![1.0, 1.2, 1.5]) }
    }

    /// Nothing random.
    pub fn none() -> Self {
        Self { flip: 0.0, rotation: 0.0, scale: Scale::Range([1.0, 1.0]) }
    }

    /// Whether every number is in its range.
    ///
    /// # Errors
    /// Names the field, its value and the bound.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::Config(format!("`augmentation.{name}` is {value}, expected {low} to {high}")))
            }
        };
        check("flip", self.flip, 0.0, 1.0)?;
        check("rotation", self.rotation, 0.0, 180.0)?;
        let scales = match &self.scale {
            Scale::Range(bounds) => bounds.as_slice(),
            Scale::Choice(choice) => choice.as_slice(),
        };
        scales.iter().try_for_each(|&scale| check("scale", scale, 0.1, 10.0))?;
        match &self.scale {
            Scale::Range([low, high]) if low > high => Err(Error::Config(format!(
                "`augmentation.scale` ranges from {low} to {high}, expected the smaller number first"
            ))),
            Scale::Choice(choice) if choice.is_empty() => Err(Error::Config(
                "`augmentation.scale` is a choice of nothing, expected at least one number".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Draws the numbers for one sample; the distributions must be [valid](Self::validate).
    ///
    /// Three numbers leave the stream whatever the distributions are.
    pub fn draw(&self, rng: &mut Rng) -> Draw {
        let flip = rng.bernoulli(self.flip);
        let degrees = rng.range(-self.rotation, self.rotation);
        let position = rng.uniform();
        let scale = match &self.scale {
            Scale::Range([low, high]) => low + (high - low) * position,
            Scale::Choice(choice) => {
                let index = (position * choice.len() as f64) as usize;
                choice.get(index).copied().unwrap_or(1.0)
            }
        };
        Draw { flip, degrees, scale }
    }
}

impl Default for Augmentation {
    /// [`Augmentation::none`].
    fn default() -> Self {
        Self::none()
    }
}

impl Draw {
    /// Nothing changes.
    pub const NONE: Self = Self { flip: false, degrees: 0.0, scale: 1.0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_their_distributions() {
        let mut rng = Rng::named(3, "augment", 0);
        let draws: Vec<Draw> = (0..4000).map(|_| Augmentation::pascal_context().draw(&mut rng)).collect();
        let flips = draws.iter().filter(|draw| draw.flip).count();
        assert!((1850..2150).contains(&flips), "{flips} of 4000");
        let (low, high) =
            draws.iter().fold((0.0f64, 0.0f64), |(l, h), d| (l.min(d.degrees), h.max(d.degrees)));
        assert!((-20.0..-19.8).contains(&low) && (19.8..20.0).contains(&high), "{low} to {high}");
        let mean = draws.iter().map(|draw| draw.scale).sum::<f64>() / 4000.0;
        assert!((mean - 1.0).abs() < 0.01, "mean scale {mean}");
        assert!(draws.iter().all(|draw| (0.75..1.25).contains(&draw.scale)));

        for expected in [1.0, 1.2, 1.5] {
            let drawn = (0..3000).filter(|_| Augmentation::nyud().draw(&mut rng).scale == expected).count();
            assert!((880..1120).contains(&drawn), "scale {expected}: {drawn} of 3000");
        }
        assert_eq!(Augmentation::none().draw(&mut rng), Draw::NONE);
    }

    #[test]
    fn a_configuration_is_read_and_written() {
        let text = "flip = 0.5\nrotation = 20.0\n[scale]\nrange = [0.75, 1.25]\n";
        let read: Augmentation = toml::from_str(text).unwrap();
        assert_eq!(read, Augmentation::pascal_context());
        for known in [Augmentation::pascal_context(), Augmentation::nyud(), Augmentation::none()] {
            known.validate().unwrap();
            let written = toml::to_string(&known).unwrap();
            assert_eq!(toml::from_str::<Augmentation>(&written).unwrap(), known, "{written}");
        }
        assert_eq!(toml::from_str::<Augmentation>("").unwrap(), Augmentation::none());
        let refused = toml::from_str::<Augmentation>("rotaton = 1.0").unwrap_err().to_string();
        assert!(refused.contains("rotaton") && refused.contains("rotation"), "{refused}");
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let cases = [
            (Augmentation { flip: 1.5, ..Augmentation::none() }, "`augmentation.flip` is 1.5"),
            (Augmentation { flip: f64::NAN, ..Augmentation::none() }, "`augmentation.flip` is NaN"),
            (Augmentation { rotation: -1.0, ..Augmentation::none() }, "`augmentation.rotation` is -1"),
            (Augmentation { scale: Scale::Range([1.0, 0.5]), ..Augmentation::none() }, "from 1 to 0.5"),
            (
                Augmentation { scale: Scale::Range([0.0, 1.0]), ..Augmentation::none() },
                "`augmentation.scale` is 0",
            ),
            (Augmentation { scale: Scale::Choice(vec![]), ..Augmentation::none() }, "choice of nothing"),
        ];
        for (augmentation, expected) in cases {
            let message = augmentation.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
