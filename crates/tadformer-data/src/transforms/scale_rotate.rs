//! Rotation and scale about the centre, with OpenCV 4's fixed-point arithmetic.
//!
//! `getRotationMatrix2D` about `(w/2, h/2)`, inverted in `f64`; source coordinates are sums of two numbers rounded to
//! 1/1024 pixel, then cut to 1/32 pixel (cubic) or to whole pixels (nearest). What lies outside of the picture is 0. The
//! size does not change.

use super::cubic::{LANES, Pair, Pixel, Taps, fold, pair, spread, weights};
use super::planes::Source;
use super::vectors::{Loop, prefetch, vectorize};

/// Bits of the fraction of a source coordinate while it is summed up.
const SUM_BITS: i32 = 10;
/// Bits of the fraction that is left for cubic interpolation.
const CUBIC_BITS: i32 = 5;
/// Rows and columns of zeros around the source of a cubic warp: a tap may lie this far outside.
const MARGIN: usize = 3;

/// Which source position each output pixel shows.
pub(super) struct Grid {
    height: usize,
    width: usize,
    /// Rows of the inverse matrix `[[x by x, x by y, x], [y by x, y by y, y]]`.
    inverse: [[f64; 3]; 2],
    columns: Columns,
}

/// What columns add to the source x and y, in 1/1024 pixel.
#[derive(Clone)]
pub(super) struct Columns {
    x: Vec<i32>,
    y: Vec<i32>,
}

/// A row of the grid, source positions without those of the columns.
#[derive(Clone, Copy)]
struct Row<'a> {
    columns: &'a Columns,
    /// What the row adds to the source x and y, in 1/1024 pixel.
    x: i32,
    y: i32,
    /// Width and height of the source.
    width: i32,
    height: i32,
}

impl Grid {
    /// The grid of a picture turned by `degrees` (counter-clockwise) and magnified by `scale`.
    pub(super) fn new(height: usize, width: usize, degrees: f64, scale: f64) -> Self {
        let inverse = inverted(rotation_matrix(height, width, degrees, scale));
        let columns = |part: [f64; 3]| (0..width).map(|x| fixed(part[0] * x as f64)).collect();
        Self { height, width, inverse, columns: Columns { x: columns(inverse[0]), y: columns(inverse[1]) } }
    }

    /// The columns of these numbers.
    pub(super) fn columns_at(&self, columns: &[usize]) -> Columns {
        let at = |part: &[i32]| columns.iter().map(|&x| part[x]).collect();
        Columns { x: at(&self.columns.x), y: at(&self.columns.y) }
    }

    /// For row `y`, the source index that the pixel at each of `columns` shows, [`OUTSIDE`] where it shows none; of a source
    /// that is mirrored if `flip`.
    pub(super) fn nearest_row(&self, y: usize, columns: &Columns, flip: bool, out: &mut [u32]) {
        vectorize(NearestRow { row: self.row(y, columns, 1 << (SUM_BITS - 1)), flip, out });
    }

    /// Row `y` with the given columns; `half` a step is added where positions are cut off, so that they are rounded.
    fn row<'a>(&self, y: usize, columns: &'a Columns, half: i32) -> Row<'a> {
        let [[_, xy, x0], [_, yy, y0]] = self.inverse;
        let (x, y) = (fixed(xy * y as f64 + x0) + half, fixed(yy * y as f64 + y0) + half);
        Row { columns, x, y, width: self.width as i32, height: self.height as i32 }
    }
}

/// The index of a pixel that lies outside of the source.
pub(super) const OUTSIDE: u32 = u32::MAX;

/// The nearest pixels of a row.
struct NearestRow<'a> {
    row: Row<'a>,
    flip: bool,
    out: &'a mut [u32],
}

impl Loop for NearestRow<'_> {
    #[inline(always)]
    fn run(self) {
        let Row { columns, x: row_x, y: row_y, width, height } = self.row;
        // Mirrored, x becomes width − 1 − x.
        let (zero, sign) = if self.flip { (width - 1, -1) } else { (0, 1) };
        for ((index, column_x), column_y) in self.out.iter_mut().zip(&columns.x).zip(&columns.y) {
            let x = (column_x + row_x) >> SUM_BITS;
            let y = (column_y + row_y) >> SUM_BITS;
            let inside = (x >= 0) & (x < width) & (y >= 0) & (y < height);
            let inner = y.wrapping_mul(width).wrapping_add(sign * x + zero) as u32;
            *index = if inside { inner } else { OUTSIDE };
        }
    }
}

/// Weights by the fraction in 1/32 pixel.
struct Table {
    /// Of the four rows.
    rows: [[f32; 4]; STEPS],
    /// Of the four pixels of a row.
    columns: [Taps; STEPS],
}

/// Fractions that are told apart.
const STEPS: usize = 1 << CUBIC_BITS;

/// A warp by cubic convolution, row by row.
pub(super) struct CubicWarp<'a> {
    grid: &'a Grid,
    weights: Table,
    /// The source in a margin of zeros.
    padded: Vec<Pixel>,
    /// A row of the source.
    loaded: Vec<Pixel>,
    /// Where each pixel of the row in work has its taps.
    places: Vec<Place>,
    /// The pairs of that row.
    pairs: Vec<Pair>,
}

/// Where an output pixel's taps lie.
#[derive(Clone, Copy)]
struct Place {
    /// The first tap's pixel in the padded source, [`OUTSIDE`] where all taps lie outside.
    first: u32,
    /// The fractions of y and x in 1/32 pixel, 5 bits each.
    fractions: u32,
}

impl<'a> CubicWarp<'a> {
    /// A warp without a source yet.
    pub(super) fn new(grid: &'a Grid) -> Self {
        let rows: [[f32; 4]; STEPS] = std::array::from_fn(|t| weights(t as f32 / STEPS as f32));
        let weights = Table { rows, columns: rows.map(spread) };
        let size = (grid.width + 2 * MARGIN) * (grid.height + 2 * MARGIN);
        Self {
            grid,
            weights,
            padded: Vec::with_capacity(size),
            loaded: vec![[0.0; LANES]; grid.width],
            places: vec![Place { first: OUTSIDE, fractions: 0 }; grid.width],
            pairs: vec![[0.0; 2 * LANES]; grid.width],
        }
    }

    /// Takes `source` as what is warped from now on.
    pub(super) fn load(&mut self, source: &Source<'_>) {
        let stride = self.grid.width + 2 * MARGIN;
        self.padded.clear();
        self.padded.resize(MARGIN * stride, [0.0; LANES]);
        for y in 0..self.grid.height {
            source.row(y, &mut self.loaded);
            self.padded.extend([[0.0; LANES]; MARGIN]);
            self.padded.extend_from_slice(&self.loaded);
            self.padded.extend([[0.0; LANES]; MARGIN]);
        }
        self.padded.resize(self.padded.len() + MARGIN * stride, [0.0; LANES]);
    }

    /// Row `y` of the warped picture.
    pub(super) fn row(&mut self, y: usize, out: &mut [Pixel]) {
        let row = self.grid.row(y, &self.grid.columns, 1 << (SUM_BITS - CUBIC_BITS - 1));
        vectorize(Placed { row, places: &mut self.places });
        let stride = self.grid.width + 2 * MARGIN;
        vectorize(WarpedRow {
            padded: self.padded.as_flattened(),
            stride: stride * LANES,
            weights: &self.weights,
            places: &self.places,
            pairs: &mut self.pairs,
            out,
        });
    }
}

/// The places of a row.
struct Placed<'a> {
    row: Row<'a>,
    places: &'a mut [Place],
}

impl Loop for Placed<'_> {
    #[inline(always)]
    fn run(self) {
        let Row { columns, x: row_x, y: row_y, width, height } = self.row;
        let mask = STEPS as i32 - 1;
        let margin = MARGIN as i32 - 1;
        let stride = width + 2 * MARGIN as i32;
        for ((place, column_x), column_y) in self.places.iter_mut().zip(&columns.x).zip(&columns.y) {
            let x = (column_x + row_x) >> (SUM_BITS - CUBIC_BITS);
            let y = (column_y + row_y) >> (SUM_BITS - CUBIC_BITS);
            let (left, top) = (x >> CUBIC_BITS, y >> CUBIC_BITS);
            // Beyond these bounds all taps lie outside; within them the margin holds them.
            let inside = (left >= -2) & (left <= width) & (top >= -2) & (top <= height);
            let pixel = (top + margin).wrapping_mul(stride).wrapping_add(left + margin);
            *place = Place {
                first: if inside { pixel as u32 } else { OUTSIDE },
                fractions: ((y & mask) << CUBIC_BITS | (x & mask)) as u32,
            };
        }
    }
}

/// One row of a warp.
struct WarpedRow<'a> {
    padded: &'a [f32],
    /// Numbers of a row of the padded source.
    stride: usize,
    weights: &'a Table,
    places: &'a [Place],
    pairs: &'a mut [Pair],
    out: &'a mut [Pixel],
}

impl Loop for WarpedRow<'_> {
    #[inline(always)]
    fn run(self) {
        // The source from the first to the fourth of the rows on, all of one length: one check holds for all.
        let length = self.padded.len() - 3 * self.stride;
        let from = |row: usize| &self.padded[row * self.stride..][..length];
        let (r0, r1, r2, r3) = (from(0), from(1), from(2), from(3));
        for ((pixel, kept), place) in self.out.iter_mut().zip(self.pairs).zip(self.places) {
            let first = place.first as usize * LANES;
            let (Some(r0), Some(r1), Some(r2), Some(r3)) =
                (taps(r0, first), taps(r1, first), taps(r2, first), taps(r3, first))
            else {
                *pixel = [0.0; LANES];
                continue;
            };
            // A turned row crosses many rows of the source, which the processor does not foresee: the tap that the next
            // output row needs anew is asked for a row ahead.
            prefetch(self.padded, first + 4 * self.stride + 2 * LANES);
            let [w0, w1, w2, w3] = self.weights.rows[(place.fractions >> CUBIC_BITS) as usize % STEPS];
            let across = &self.weights.columns[place.fractions as usize % STEPS];
            *kept = pair(|i| (r0[i] * w0 + r1[i] * w1 + r2[i] * w2 + r3[i] * w3) * across[i]);
            *pixel = fold(kept);
        }
    }
}

/// The four pixels from the number `first` on.
#[inline(always)]
fn taps(row: &[f32], first: usize) -> Option<&Taps> {
    row.get(first..first + 4 * LANES)?.try_into().ok()
}

/// Nearest whole number of 1/1024 pixel, halves to even. Beyond ±2²⁹ (half a million pixels) it is cut off, so that sums
/// of two stay in range; sizes and scales that the pipeline accepts stay far below.
fn fixed(pixels: f64) -> i32 {
    let limit = f64::from(1 << 29);
    (pixels * f64::from(1 << SUM_BITS)).round_ties_even().clamp(-limit, limit) as i32
}

/// Where a source pixel goes: counter-clockwise about the centre, magnified.
pub(super) fn rotation_matrix(height: usize, width: usize, degrees: f64, scale: f64) -> [[f64; 3]; 2] {
    let (cx, cy) = (width as f64 / 2.0, height as f64 / 2.0);
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (a, b) = (cos * scale, sin * scale);
    [[a, b, (1.0 - a) * cx - b * cy], [-b, a, b * cx + (1.0 - a) * cy]]
}

fn inverted([[a, b, x], [c, d, y]]: [[f64; 3]; 2]) -> [[f64; 3]; 2] {
    let inverse_determinant = 1.0 / (a * d - b * c);
    let (a, d) = (d * inverse_determinant, a * inverse_determinant);
    let (b, c) = (-b * inverse_determinant, -c * inverse_determinant);
    [[a, b, -a * x - b * y], [c, d, -c * x - d * y]]
}

#[cfg(test)]
mod tests {
    use super::super::planes::{Writer, split};
    use super::*;
    use crate::Raster;

    fn warped(raster: &Raster, degrees: f64, scale: f64) -> (Raster, Vec<u32>) {
        let (height, width) = (raster.height, raster.width);
        let grid = Grid::new(height, width, degrees, scale);
        let mut warp = CubicWarp::new(&grid);
        let mut out = Writer::new(height, width);
        let (mut row, mut planes) = (vec![[0.0; LANES]; width], vec![0.0; 3 * width]);
        warp.load(&Source { raster, vectors: false, flip: false });
        let mut nearest = vec![0; height * width];
        for (y, nearest) in nearest.chunks_exact_mut(width).enumerate() {
            warp.row(y, &mut row);
            split(&row, &mut planes);
            out.push(&planes);
            grid.nearest_row(y, &grid.columns, false, nearest);
        }
        (out.finish(), nearest)
    }

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        let m = rotation_matrix(60, 80, 13.0, 1.1);
        let i = inverted(m);
        for (x, y) in [(0.0, 0.0), (79.0, 3.0), (12.5, 59.0)] {
            let (u, v) = (m[0][0] * x + m[0][1] * y + m[0][2], m[1][0] * x + m[1][1] * y + m[1][2]);
            let (p, q) = (i[0][0] * u + i[0][1] * v + i[0][2], i[1][0] * u + i[1][1] * v + i[1][2]);
            assert!((p - x).abs() < 1e-9 && (q - y).abs() < 1e-9, "({x}, {y}) became ({p}, {q})");
        }
    }

    #[test]
    fn no_rotation_at_scale_one_shows_every_pixel_itself() {
        for (height, width) in [(1, 1), (2, 7), (31, 17)] {
            let data = (0..3 * height * width).map(|i| (i * 37 % 256) as f32).collect();
            let source = Raster { channels: 3, height, width, data };
            let (cubic, nearest) = warped(&source, 0.0, 1.0);
            assert_eq!(cubic, source);
            assert_eq!(nearest, (0..(height * width) as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn extreme_geometry_stays_in_range() {
        for (height, width, degrees, scale) in
            [(1, 4000, 90.0, 0.01), (9, 5, -179.0, 100.0), (3, 3, 45.0, 1e-9)]
        {
            let source = Raster::filled(3, height, width, 7.0);
            let (cubic, nearest) = warped(&source, degrees, scale);
            assert!(cubic.data.iter().all(|v| v.is_finite()));
            assert!(nearest.iter().all(|&i| i == OUTSIDE || (i as usize) < height * width));
        }
    }
}
