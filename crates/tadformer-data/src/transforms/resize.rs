//! Resize, with OpenCV's meaning.
//!
//! Cubic: half-pixel centres, so output pixel `i` of `o` looks at `(i + ½)·n/o − ½`; a = −0.75; the edge is replicated; no
//! antialiasing. Nearest: output pixel `i` takes `⌊i·n/o⌋`.

use super::cubic::{self, LANES, Pair, Pixel, fold, pair, spread, weights};
use super::planes::split;
use super::vectors::{Loop, vectorize};

/// A resize by cubic convolution, row by row.
///
/// A source row is asked for once, when the first output row needs it, and stays for the three that may follow: no copy of
/// the picture is made on the way.
pub(super) struct CubicResize {
    /// Source size.
    height: usize,
    width: usize,
    rows: Vec<Taps>,
    columns: Vec<(usize, cubic::Taps)>,
    /// A source row with [`MARGIN`] replicated pixels on either side.
    padded: Vec<Pixel>,
    /// Such a row at the new width, and its pairs.
    stretched: Vec<Pixel>,
    pairs: Vec<Pair>,
    /// Source rows at the new width, one plane behind the other; row `y` is kept at `y % 4`.
    across: [Vec<f32>; 4],
}

/// The input at or before an output's centre, and the weights of the four about it.
type Taps = (isize, [f32; 4]);

/// Taps lie up to two pixels outside: one before the pixel at −1, two after the last.
const MARGIN: usize = 2;

impl CubicResize {
    /// A resize of `(height, width)` from `from` to `to`, neither empty.
    pub(super) fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        let columns = taps(from.1, to.1).into_iter();
        // The first tap's place in a row with its margin.
        let column = |(before, weights): Taps| ((before + MARGIN as isize - 1) as usize, spread(weights));
        Self {
            height: from.0,
            width: from.1,
            rows: taps(from.0, to.0),
            columns: columns.map(column).collect(),
            padded: vec![[0.0; LANES]; from.1 + 2 * MARGIN],
            pairs: vec![[0.0; 2 * LANES]; to.1],
            stretched: vec![[0.0; LANES]; to.1],
            across: std::array::from_fn(|_| vec![0.0; 3 * to.1]),
        }
    }

    /// Resizes the picture whose row `y` is written by `source(y, row)`; hands each output row, one plane behind the other,
    /// to `emit`.
    pub(super) fn run(
        &mut self,
        mut source: impl FnMut(usize, &mut [Pixel]),
        mut emit: impl FnMut(&mut [f32]),
    ) {
        let mut held = [None; 4];
        let mut out = vec![0.0; 3 * self.columns.len()];
        for y in 0..self.rows.len() {
            let (before, weights) = self.rows[y];
            let last = self.height as isize - 1;
            let needed = [-1, 0, 1, 2].map(|offset| (before + offset).clamp(0, last) as usize);
            for row in needed {
                if held[row % 4] != Some(row) {
                    source(row, &mut self.padded[MARGIN..MARGIN + self.width]);
                    self.fill_margins();
                    let (pairs, out) = (&mut self.pairs, &mut self.stretched);
                    vectorize(Stretch { padded: &self.padded, columns: &self.columns, pairs, out });
                    split(&self.stretched, &mut self.across[row % 4]);
                    held[row % 4] = Some(row);
                }
            }
            let rows = needed.map(|row| self.across[row % 4].as_slice());
            vectorize(Mix { rows, weights, out: &mut out });
            emit(&mut out);
        }
    }

    fn fill_margins(&mut self) {
        let end = MARGIN + self.width;
        let (first, last) = (self.padded[MARGIN], self.padded[end - 1]);
        self.padded[..MARGIN].fill(first);
        self.padded[end..].fill(last);
    }
}

/// One row at its new width.
struct Stretch<'a> {
    padded: &'a [Pixel],
    columns: &'a [(usize, cubic::Taps)],
    pairs: &'a mut [Pair],
    out: &'a mut [Pixel],
}

impl Loop for Stretch<'_> {
    #[inline(always)]
    fn run(self) {
        let padded = self.padded.as_flattened();
        for ((pixel, kept), (start, weights)) in self.out.iter_mut().zip(self.pairs).zip(self.columns) {
            let taps: &cubic::Taps =
                padded[start * LANES..].first_chunk().expect("the margin holds the outer taps");
            *kept = pair(|i| taps[i] * weights[i]);
            *pixel = fold(kept);
        }
    }
}

/// The weighted sum of four rows.
struct Mix<'a> {
    rows: [&'a [f32]; 4],
    weights: [f32; 4],
    out: &'a mut [f32],
}

impl Loop for Mix<'_> {
    #[inline(always)]
    fn run(self) {
        let ([r0, r1, r2, r3], [w0, w1, w2, w3]) = (self.rows, self.weights);
        for ((((out, p0), p1), p2), p3) in self.out.iter_mut().zip(r0).zip(r1).zip(r2).zip(r3) {
            *out = p0 * w0 + p1 * w1 + p2 * w2 + p3 * w3;
        }
    }
}

/// The taps of each of `to` outputs over `from` inputs.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let step = 1.0 / (to as f64 / from as f64);
    let tap = |i: usize| {
        let centre = ((i as f64 + 0.5) * step - 0.5) as f32;
        // For very long rows the rounding to f32 could reach the next pixel.
        let before = centre.floor().clamp(-1.0, (from - 1) as f32);
        (before as isize, weights((centre - before).clamp(0.0, 1.0)))
    };
    (0..to).map(tap).collect()
}

/// The input that each of `to` outputs takes of `from`: `⌊i·from/to⌋`, with OpenCV's rounding of the quotient.
pub(super) fn nearest(from: usize, to: usize) -> Vec<usize> {
    let step = 1.0 / (to as f64 / from as f64);
    (0..to).map(|i| ((i as f64 * step).floor() as usize).min(from - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::planes::{Source, Writer};
    use super::*;
    use crate::Raster;

    fn cubic(raster: &Raster, height: usize, width: usize) -> Raster {
        let source = Source { raster, vectors: false, flip: false };
        let mut out = Writer::new(height, width);
        let mut resize = CubicResize::new((raster.height, raster.width), (height, width));
        resize.run(|y, row| source.row(y, row), |row| out.push(row));
        out.finish()
    }

    #[test]
    fn a_flat_picture_stays_flat_at_every_size() {
        for (height, width) in [(1, 1), (7, 3), (448, 5), (33, 640)] {
            for (new_height, new_width) in [(1, 1), (2, 500), (61, 60)] {
                let flat = cubic(&Raster::filled(3, height, width, 200.0), new_height, new_width);
                assert_eq!(flat.data.len(), 3 * new_height * new_width);
                assert!(flat.data.iter().all(|v| (v - 200.0).abs() < 1e-3));
            }
        }
    }

    #[test]
    fn nearest_takes_the_pixel_at_the_floor_of_the_quotient() {
        for (from, to) in [(60, 56), (80, 56), (60, 96), (500, 448), (1, 5), (4, 1), (375, 448)] {
            let expected: Vec<usize> = (0..to).map(|i| i * from / to).collect();
            assert_eq!(nearest(from, to), expected, "{from} to {to}");
        }
    }

    #[test]
    fn cubic_agrees_with_its_formula_pixel_by_pixel() {
        let (height, width, new_height, new_width) = (5, 9, 8, 4);
        let data: Vec<f32> = (0..3 * height * width).map(|i| ((i * 73) % 251) as f32).collect();
        let source = Raster { channels: 3, height, width, data };
        let found = cubic(&source, new_height, new_width);
        let at = |c: usize, y: i64, x: i64| {
            let (y, x) = (y.clamp(0, height as i64 - 1), x.clamp(0, width as i64 - 1));
            f64::from(source.plane(c)[y as usize * width + x as usize])
        };
        let kernel = |t: f64| match t.abs() {
            t if t <= 1.0 => 1.25 * t.powi(3) - 2.25 * t.powi(2) + 1.0,
            t if t < 2.0 => -0.75 * (t.powi(3) - 5.0 * t.powi(2) + 8.0 * t - 4.0),
            _ => 0.0,
        };
        for c in 0..3 {
            for oy in 0..new_height {
                for ox in 0..new_width {
                    let cy = (oy as f64 + 0.5) * height as f64 / new_height as f64 - 0.5;
                    let cx = (ox as f64 + 0.5) * width as f64 / new_width as f64 - 0.5;
                    let mut sum = 0.0;
                    for y in -3..height as i64 + 3 {
                        for x in -3..width as i64 + 3 {
                            sum += kernel(y as f64 - cy) * kernel(x as f64 - cx) * at(c, y, x);
                        }
                    }
                    let value = f64::from(found.plane(c)[oy * new_width + ox]);
                    assert!((value - sum).abs() < 1e-3, "({c}, {oy}, {ox}): {value}, expected {sum}");
                }
            }
        }
    }
}
