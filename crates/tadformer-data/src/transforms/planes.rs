//! Three planes, read as rows of pixels and written row by row.

use super::cubic::{LANES, Pixel};
use super::vectors::{Loop, vectorize};
use crate::{IGNORE, Raster};

/// A picture or a map of unit vectors, as the steps on pixels read it.
///
/// A flip is nothing but the order in which a row is read, and the sign of a vector's x. A vector without a label holds
/// [`IGNORE`] and is read as zero, so that interpolation never sees that number.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// Three planes.
    pub(super) raster: &'a Raster,
    /// Whether the planes are the parts of vectors.
    pub(super) vectors: bool,
    /// Whether it is mirrored left and right.
    pub(super) flip: bool,
}

impl Source<'_> {
    /// Row `y` as pixels.
    pub(super) fn row(&self, y: usize, out: &mut [Pixel]) {
        let width = self.raster.width;
        let [x, y, z] = [0, 1, 2].map(|c| &self.raster.plane(c)[y * width..][..width]);
        vectorize(Interleave { x, y, z, vectors: self.vectors.then_some(self.flip), out });
        if self.flip {
            out.reverse();
        }
    }
}

/// Three planes to pixels.
struct Interleave<'a> {
    x: &'a [f32],
    y: &'a [f32],
    z: &'a [f32],
    /// For vectors, whether x changes its sign.
    vectors: Option<bool>,
    out: &'a mut [Pixel],
}

impl Loop for Interleave<'_> {
    #[inline(always)]
    fn run(self) {
        let planes = self.x.iter().zip(self.y).zip(self.z);
        let Some(flip) = self.vectors else {
            for (pixel, ((x, y), z)) in self.out.iter_mut().zip(planes) {
                *pixel = [*x, *y, *z, 0.0];
            }
            return;
        };
        let sign = if flip { -1.0 } else { 1.0 };
        for (pixel, ((x, y), z)) in self.out.iter_mut().zip(planes) {
            let ignored = (*x == IGNORE) | (*y == IGNORE) | (*z == IGNORE);
            let part = |value: f32| if ignored { 0.0 } else { value };
            *pixel = [part(sign * *x), part(*y), part(*z), 0.0];
        }
    }
}

/// Pixels as the rows of three planes, one behind the other in `planes`.
pub(super) fn split(pixels: &[Pixel], planes: &mut [f32]) {
    vectorize(Split { pixels, planes });
}

/// Pixels to three planes.
struct Split<'a> {
    pixels: &'a [Pixel],
    planes: &'a mut [f32],
}

impl Loop for Split<'_> {
    #[inline(always)]
    fn run(self) {
        let width = self.pixels.len();
        let (x, rest) = self.planes.split_at_mut(width);
        let (y, z) = rest.split_at_mut(width);
        // Four pixels of four lanes are turned in registers.
        let (pixels, last) = self.pixels.as_chunks::<LANES>();
        let (x, last_x) = x.as_chunks_mut::<LANES>();
        let (y, last_y) = y.as_chunks_mut::<LANES>();
        let (z, last_z) = z.as_chunks_mut::<LANES>();
        for (((pixels, x), y), z) in pixels.iter().zip(x).zip(y).zip(z) {
            *x = pixels.map(|pixel| pixel[0]);
            *y = pixels.map(|pixel| pixel[1]);
            *z = pixels.map(|pixel| pixel[2]);
        }
        for (((pixel, x), y), z) in last.iter().zip(last_x).zip(last_y).zip(last_z) {
            [*x, *y, *z, _] = *pixel;
        }
    }
}

/// A raster of three planes that is written row by row, into memory that nobody cleared before.
pub(super) struct Writer {
    height: usize,
    width: usize,
    /// Rows that are written, in each plane.
    written: usize,
    /// Room for all planes; its length stays 0 until every row is written.
    data: Vec<f32>,
}

impl Writer {
    /// A raster without rows yet.
    pub(super) fn new(height: usize, width: usize) -> Self {
        Self { height, width, written: 0, data: Vec::with_capacity(3 * height * width) }
    }

    /// Writes the next row of each plane, which lie one behind the other in `row`.
    ///
    /// # Panics
    /// If `row` is not three times as long as a row, or if all rows are written.
    pub(super) fn push(&mut self, row: &[f32]) {
        assert!(row.len() == 3 * self.width && self.written < self.height, "a row of three planes");
        let size = self.height * self.width;
        let room = self.data.spare_capacity_mut();
        for (c, row) in row.chunks_exact(self.width).enumerate() {
            let target = &mut room[c * size + self.written * self.width..][..self.width];
            for (target, value) in target.iter_mut().zip(row) {
                target.write(*value);
            }
        }
        self.written += 1;
    }

    /// The raster.
    ///
    /// # Panics
    /// If a row is missing.
    pub(super) fn finish(mut self) -> Raster {
        assert_eq!(self.written, self.height, "every row is written");
        // SAFETY: `new` asked for room for three planes, and `push` wrote each of their rows.
        unsafe { self.data.set_len(3 * self.height * self.width) };
        Raster { channels: 3, height: self.height, width: self.width, data: self.data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_go_back_to_the_planes_they_came_from() {
        for (height, width) in [(2, 5), (1, 1), (3, 8), (4, 3)] {
            let data = (0..3 * height * width).map(|i| i as f32).collect();
            let raster = Raster { channels: 3, height, width, data };
            for flip in [false, true] {
                let source = Source { raster: &raster, vectors: false, flip };
                let mut writer = Writer::new(height, width);
                for y in 0..height {
                    let mut pixels = vec![[f32::NAN; LANES]; width];
                    let mut planes = vec![f32::NAN; 3 * width];
                    source.row(y, &mut pixels);
                    assert!(pixels.iter().all(|pixel| pixel[3] == 0.0));
                    split(&pixels, &mut planes);
                    writer.push(&planes);
                }
                let mut expected = raster.clone();
                if flip {
                    expected.data.chunks_exact_mut(width).for_each(<[f32]>::reverse);
                }
                assert_eq!(writer.finish(), expected);
            }
        }
    }

    #[test]
    fn vectors_without_a_label_are_read_as_zero_and_a_flip_turns_their_x() {
        let data = vec![0.6, IGNORE, 0.0, 0.8, IGNORE, 0.0, 0.0, IGNORE, 1.0];
        let raster = Raster { channels: 3, height: 1, width: 3, data };
        let mut row = [[f32::NAN; LANES]; 3];
        Source { raster: &raster, vectors: true, flip: false }.row(0, &mut row);
        assert_eq!(row, [[0.6, 0.8, 0.0, 0.0], [0.0; 4], [0.0, 0.0, 1.0, 0.0]]);
        Source { raster: &raster, vectors: true, flip: true }.row(0, &mut row);
        assert_eq!(row, [[0.0, 0.0, 1.0, 0.0], [0.0; 4], [-0.6, 0.8, 0.0, 0.0]]);
    }

    #[test]
    #[should_panic(expected = "every row is written")]
    fn a_raster_with_a_missing_row_is_not_handed_out() {
        let mut writer = Writer::new(2, 1);
        writer.push(&[1.0, 2.0, 3.0]);
        writer.finish();
    }
}
