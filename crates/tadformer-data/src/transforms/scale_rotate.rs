//! Rotation and scale about the centre, with OpenCV 4's fixed-point arithmetic.
//!
//! `getRotationMatrix2D` about `(w/2, h/2)`, inverted in `f64`; source coordinates are sums of two numbers rounded to
//! 1/1024 pixel, then cut to 1/32 pixel (cubic) or to whole pixels (nearest). What lies outside of the picture is 0. The
//! size does not change.

use std::ops::Range;

use super::cubic::{LANES, Pixel, Taps, interleave, spread, sum, weights};
use super::vectors::{Loop, prefetch, vectorize};
use crate::Raster;

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
    /// What a column adds to the source x and y, in 1/1024 pixel.
    columns: Vec<[i32; 2]>,
}

impl Grid {
    /// The grid of a picture turned by `degrees` (counter-clockwise) and magnified by `scale`.
    pub(super) fn new(height: usize, width: usize, degrees: f64, scale: f64) -> Self {
        let inverse = inverted(rotation_matrix(height, width, degrees, scale));
        let columns = (0..width).map(|x| [fixed(inverse[0][0] * x as f64), fixed(inverse[1][0] * x as f64)]);
        Self { height, width, inverse, columns: columns.collect() }
    }

    /// For row `y`, the source index that the pixel at each of `columns` shows, [`OUTSIDE`] where it shows none.
    pub(super) fn nearest_row(&self, y: usize, columns: &[usize]) -> impl Iterator<Item = u32> {
        let half = 1 << (SUM_BITS - 1);
        let (width, height) = (self.width as i32, self.height as i32);
        let [row_x, row_y] = self.row(y).map(|part| part + half);
        columns.iter().map(move |&x| {
            let [column_x, column_y] = self.columns[x];
            let x = (column_x + row_x) >> SUM_BITS;
            let y = (column_y + row_y) >> SUM_BITS;
            let inside = (0..width).contains(&x) && (0..height).contains(&y);
            if inside { (y * width + x) as u32 } else { OUTSIDE }
        })
    }

    /// What row `y` adds to the source x and y, in 1/1024 pixel.
    fn row(&self, y: usize) -> [i32; 2] {
        let [[_, xy, x0], [_, yy, y0]] = self.inverse;
        [fixed(xy * y as f64 + x0), fixed(yy * y as f64 + y0)]
    }
}

/// The index of a pixel that lies outside of the source.
pub(super) const OUTSIDE: u32 = u32::MAX;

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
}

impl<'a> CubicWarp<'a> {
    /// A warp without a source yet.
    pub(super) fn new(grid: &'a Grid) -> Self {
        let rows: [[f32; 4]; STEPS] = std::array::from_fn(|t| weights(t as f32 / STEPS as f32));
        let weights = Table { rows, columns: rows.map(spread) };
        let size = (grid.width + 2 * MARGIN) * (grid.height + 2 * MARGIN);
        Self { grid, weights, padded: vec![[0.0; LANES]; size] }
    }

    /// Takes the given channels of `source` as what is warped from now on.
    pub(super) fn load(&mut self, source: &Raster, channels: Range<usize>) {
        let stride = self.grid.width + 2 * MARGIN;
        for y in 0..self.grid.height {
            let start = (y + MARGIN) * stride + MARGIN;
            interleave(source, channels.clone(), y, &mut self.padded[start..start + self.grid.width]);
        }
    }

    /// Row `y` of the warped picture.
    pub(super) fn row(&self, y: usize, out: &mut [Pixel]) {
        let half = 1 << (SUM_BITS - CUBIC_BITS - 1);
        vectorize(WarpedRow {
            size: [self.grid.width as i32, self.grid.height as i32],
            padded: &self.padded,
            weights: &self.weights,
            columns: &self.grid.columns,
            row: self.grid.row(y).map(|part| part + half),
            out,
        });
    }
}

/// One row of a warp.
struct WarpedRow<'a> {
    /// Width and height of the source.
    size: [i32; 2],
    padded: &'a [Pixel],
    weights: &'a Table,
    /// What columns and this row add to the source x and y, in 1/1024 pixel.
    columns: &'a [[i32; 2]],
    row: [i32; 2],
    out: &'a mut [Pixel],
}

impl Loop for WarpedRow<'_> {
    #[inline(always)]
    fn run(self) {
        let mask = STEPS as i32 - 1;
        let ([width, height], [row_x, row_y]) = (self.size, self.row);
        let stride = (width as usize + 2 * MARGIN) * LANES;
        let padded = self.padded.as_flattened();
        for (pixel, [column_x, column_y]) in self.out.iter_mut().zip(self.columns) {
            let x = (column_x + row_x) >> (SUM_BITS - CUBIC_BITS);
            let y = (column_y + row_y) >> (SUM_BITS - CUBIC_BITS);
            let (left, top) = (x >> CUBIC_BITS, y >> CUBIC_BITS);
            // Beyond these bounds all taps lie outside; within them the margin holds them.
            if !(-2..=width).contains(&left) || !(-2..=height).contains(&top) {
                *pixel = [0.0; LANES];
                continue;
            }
            let margin = MARGIN as i32 - 1;
            let first = (top + margin) as usize * stride + (left + margin) as usize * LANES;
            let taps = |row: usize| -> &Taps {
                padded[first + row * stride..].first_chunk().expect("the margin holds the outer taps")
            };
            // A turned row crosses many rows of the source, which the processor does not foresee: the tap that the next
            // output row needs anew is asked for a row ahead.
            prefetch(padded, first + 4 * stride + 2 * LANES);
            let (r0, r1, r2, r3) = (taps(0), taps(1), taps(2), taps(3));
            let [w0, w1, w2, w3] = self.weights.rows[(y & mask) as usize];
            let across = &self.weights.columns[(x & mask) as usize];
            let mut mixed = [0.0; 4 * LANES];
            for i in 0..mixed.len() {
                mixed[i] = (r0[i] * w0 + r1[i] * w1 + r2[i] * w2 + r3[i] * w3) * across[i];
            }
            *pixel = sum(&mixed);
        }
    }
}

/// Nearest whole number of 1/1024 pixel, halves to even. Beyond ±2²⁹ (half a million pixels) it is cut off, so that sums
/// of two stay in range; sizes and scales that the pipeline accepts stay far below.
fn fixed(pixels: f64) -> i32 {
    let limit = f64::from(1 << 29);
    (pixels * f64::from(1 << SUM_BITS)).round_ties_even().clamp(-limit, limit) as i32
}

/// Where a source pixel goes: counter-clockwise about the centre, magnified.
fn rotation_matrix(height: usize, width: usize, degrees: f64, scale: f64) -> [[f64; 3]; 2] {
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
    use super::super::cubic::{lane_groups, split};
    use super::*;

    fn warped(source: &Raster, degrees: f64, scale: f64) -> (Raster, Vec<u32>) {
        let (height, width) = (source.height, source.width);
        let grid = Grid::new(height, width, degrees, scale);
        let mut warp = CubicWarp::new(&grid);
        let mut out = Raster::filled(source.channels, height, width, -1.0);
        let mut row = vec![[0.0; LANES]; width];
        for channels in lane_groups(source) {
            warp.load(source, channels.clone());
            for y in 0..height {
                warp.row(y, &mut row);
                split(&row, &mut out, channels.clone(), y);
            }
        }
        let columns: Vec<usize> = (0..width).collect();
        (out, (0..height).flat_map(|y| grid.nearest_row(y, &columns)).collect())
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
            let source = Raster::filled(1, height, width, 7.0);
            let (cubic, nearest) = warped(&source, degrees, scale);
            assert!(cubic.data.iter().all(|v| v.is_finite()));
            assert!(nearest.iter().all(|&i| i == OUTSIDE || (i as usize) < height * width));
        }
    }
}
