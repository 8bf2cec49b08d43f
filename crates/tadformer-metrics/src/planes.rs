//! A borrowed planar map: one plane after the other, each row by row.

use crate::error::{Error, Place};

/// The label value of a pixel that is not scored.
pub const IGNORE: f32 = 255.0;

/// A planar `(c, h, w)` view of one image's logits or label.
///
/// # Shapes
/// `data[(c · height + y) · width + x]`, all three sizes at least 1.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    data: &'a [f32],
    channels: usize,
    height: usize,
    width: usize,
}

impl<'a> Planes<'a> {
    /// Views `data` as `channels` planes of `height` rows and `width` columns.
    ///
    /// # Errors
    /// A size of 0, or a slice of another length than the sizes' product.
    pub fn new(data: &'a [f32], channels: usize, height: usize, width: usize) -> Result<Self, Error> {
        let needed = channels.checked_mul(height).and_then(|rows| rows.checked_mul(width));
        if data.is_empty() || needed != Some(data.len()) {
            return Err(Error::Shape { found: data.len(), channels, height, width });
        }
        Ok(Self { data, channels, height, width })
    }

    /// All values, plane after plane.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Number of planes, at least 1.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Number of rows, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Number of columns, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Values in a plane.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// The planes in order, each of `pixels()` values.
    pub fn planes(&self) -> std::slice::ChunksExact<'a, f32> {
        self.data.chunks_exact(self.pixels())
    }

    /// Where the value with flat index `index` stands.
    pub(crate) fn place(&self, index: usize) -> Place {
        let pixel = index % self.pixels();
        Place { channel: index / self.pixels(), row: pixel / self.width, column: pixel % self.width }
    }

    /// Demands `expected` channels of `what`, in the name of `meter`.
    pub(crate) fn expect_channels(
        &self,
        meter: &'static str,
        what: &'static str,
        expected: usize,
    ) -> Result<(), Error> {
        if self.channels == expected {
            Ok(())
        } else {
            Err(Error::Channels { meter, what, found: self.channels, expected })
        }
    }

    /// Demands that the label has the size of these logits.
    pub(crate) fn expect_size_of(&self, meter: &'static str, label: Planes<'_>) -> Result<(), Error> {
        let prediction = (self.height, self.width);
        let label = (label.height, label.width);
        if prediction == label { Ok(()) } else { Err(Error::Size { meter, prediction, label }) }
    }

    /// Demands that every logit is a number; infinities pass, since comparing them is well defined.
    pub(crate) fn expect_numbers(&self, meter: &'static str) -> Result<(), Error> {
        // A sum of flags over a block has no exit inside, so the check runs at the speed of memory.
        let bad = |block: &[f32]| block.iter().fold(false, |bad, v| bad | v.is_nan());
        self.expect_no(meter, bad, f32::is_nan)
    }

    /// Demands that every logit is finite.
    pub(crate) fn expect_finite(&self, meter: &'static str) -> Result<(), Error> {
        let bad = |block: &[f32]| block.iter().fold(false, |bad, v| bad | !v.is_finite());
        self.expect_no(meter, bad, |v| !v.is_finite())
    }

    fn expect_no(
        &self,
        meter: &'static str,
        block_is_bad: impl Fn(&[f32]) -> bool,
        is_bad: impl Fn(f32) -> bool,
    ) -> Result<(), Error> {
        const BLOCK: usize = 4096;
        for (number, block) in self.data.chunks(BLOCK).enumerate() {
            if block_is_bad(block) {
                let at = block.iter().position(|&v| is_bad(v)).expect("the block was found to hold one");
                let place = self.place(number * BLOCK + at);
                return Err(Error::Logit { meter, value: block[at], place });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_needs_exactly_its_values() {
        let data = [0.0; 24];
        assert!(Planes::new(&data, 2, 3, 4).is_ok());
        for (data, channels, height, width) in
            [(&data[..], 2, 3, 5), (&[], 0, 3, 5), (&data, usize::MAX, 2, 24)]
        {
            let error = Planes::new(data, channels, height, width).expect_err("other sizes");
            assert_eq!(error, Error::Shape { found: data.len(), channels, height, width });
        }
    }

    #[test]
    fn a_bad_logit_is_named_by_its_place() {
        let mut data = vec![0.0; 3 * 50 * 60];
        data[2 * 3000 + 7 * 60 + 9] = f32::NAN;
        let planes = Planes::new(&data, 3, 50, 60).expect("sizes fit");
        let error = planes.expect_numbers("depth").expect_err("a value is not a number");
        let place = Place { channel: 2, row: 7, column: 9 };
        assert!(matches!(error, Error::Logit { place: found, .. } if found == place), "{error}");
        assert!(error.to_string().contains("channel 2, row 7, column 9 is NaN"), "{error}");
    }

    #[test]
    fn infinity_is_a_number_but_not_finite() {
        let data = [f32::INFINITY];
        let planes = Planes::new(&data, 1, 1, 1).expect("sizes fit");
        assert!(planes.expect_numbers("saliency").is_ok());
        let error = planes.expect_finite("depth").expect_err("an infinity");
        assert!(matches!(error, Error::Logit { value: f32::INFINITY, .. }), "{error}");
    }
}
