//! What label files hold before it is understood: what a check of a data set tells people.

use std::fmt;

use crate::IGNORE;

/// The numbers of label files, and the pixels without a label by the reason why.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Census {
    /// The smallest and the largest number that the files hold, of those that could mean something.
    pub(crate) stored: Option<(f32, f32)>,
    /// The largest number and how often it occurs.
    pub(crate) largest: Option<(f32, u64)>,
    /// The next number below the largest.
    pub(crate) second: Option<f32>,
    /// Pixels without a label.
    pub(crate) unlabelled: Vec<(Why, u64)>,
}

/// Why a pixel has no label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Why {
    /// The file has a number that the descriptor lists under `ignore`, or 255 as it does without a list.
    Ignored(f32),
    /// The file has a colour that the descriptor lists under `ignore_colours`.
    IgnoredColour,
    /// The file has a vector that the descriptor lists under `ignore`.
    IgnoredVector([f32; 3]),
    /// NaN or infinity.
    NotFinite,
    /// A distance of zero.
    Zero,
    /// A negative distance.
    Negative,
    /// A distance that is not kept.
    Far,
    /// A distance below the descriptor's bound.
    Below(f32),
    /// A distance above it.
    Above(f32),
    /// A vector below the least length.
    Short(f32),
    /// A vector above the largest.
    Long(f32),
    /// A map without any class but background, for a task where that says nothing.
    BackgroundAlone,
    /// A reason that belongs to one format: no disparity, an unnamed part, a class without vectors.
    Format,
}

impl Census {
    /// Counts a number of a file.
    pub(crate) fn number(&mut self, stored: f32) {
        let (low, high) = self.stored.unwrap_or((stored, stored));
        self.stored = Some((low.min(stored), high.max(stored)));
        self.rank(stored, 1);
    }

    /// Finds the place of a number that occurs so often among the two largest.
    fn rank(&mut self, number: f32, pixels: u64) {
        match &mut self.largest {
            Some((largest, count)) if *largest == number => *count += pixels,
            Some((largest, _)) if *largest > number => {
                self.second = Some(self.second.map_or(number, |second| second.max(number)));
            }
            largest => {
                self.second = largest.map(|(largest, _)| largest);
                *largest = Some((number, pixels));
            }
        }
    }

    /// Counts pixels without a label.
    pub(crate) fn unlabelled(&mut self, why: Why, pixels: u64) {
        match self.unlabelled.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += pixels,
            None => self.unlabelled.push((why, pixels)),
        }
    }

    /// Adds what other files hold.
    pub(crate) fn add(&mut self, other: &Self) {
        if let Some((low, high)) = other.stored {
            let (lowest, highest) = self.stored.unwrap_or((low, high));
            self.stored = Some((lowest.min(low), highest.max(high)));
        }
        for (number, pixels) in other.second.map(|second| (second, 0)).into_iter().chain(other.largest) {
            self.rank(number, pixels);
        }
        for &(why, pixels) in &other.unlabelled {
            self.unlabelled(why, pixels);
        }
    }

    /// Pixels without a label for this reason.
    pub(crate) fn count(&self, of: impl Fn(Why) -> bool) -> u64 {
        self.unlabelled.iter().filter(|(why, _)| of(*why)).map(|(_, pixels)| pixels).sum()
    }
}

impl fmt::Display for Why {
    /// As it goes on after "12.5 % of the pixels".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored(number) => write!(f, "hold {number}"),
            Self::IgnoredColour => f.write_str("have a colour without a label"),
            Self::IgnoredVector([x, y, z]) => write!(f, "hold ({x}, {y}, {z})"),
            Self::NotFinite => f.write_str("are not finite"),
            Self::Zero => f.write_str("are 0"),
            Self::Negative => f.write_str("are negative"),
            Self::Far => write!(f, "are {IGNORE} m away or more"),
            Self::Below(min) => write!(f, "are nearer than {min} m"),
            Self::Above(max) => write!(f, "are farther than {max} m"),
            Self::Short(min) => write!(f, "are vectors shorter than {min}"),
            Self::Long(max) => write!(f, "are vectors longer than {max}"),
            Self::BackgroundAlone => f.write_str("lie in pictures that show background alone"),
            Self::Format => f.write_str("have no label in the file"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_ranges_grow() {
        let mut a = Census::default();
        a.number(3.0);
        a.unlabelled(Why::Ignored(255.0), 2);
        a.unlabelled(Why::Zero, 1);
        let mut b = Census::default();
        b.number(-1.0);
        b.number(2.0);
        b.unlabelled(Why::Ignored(255.0), 5);
        a.add(&b);
        assert_eq!((a.stored, a.largest, a.second), (Some((-1.0, 3.0)), Some((3.0, 1)), Some(2.0)));
        assert_eq!(a.unlabelled, [(Why::Ignored(255.0), 7), (Why::Zero, 1)]);
        assert_eq!(a.count(|why| why == Why::Zero), 1);
        let mut c = a.clone();
        c.number(7.0);
        c.add(&a);
        a.add(&c);
        assert_eq!((a.largest, a.second, c.largest), (Some((7.0, 1)), Some(3.0), Some((7.0, 1))));
        assert_eq!(Why::Ignored(-1.0).to_string(), "hold -1");
    }
}
