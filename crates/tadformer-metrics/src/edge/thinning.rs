//! Thins edge predictions: only what is largest across the edge stays.
//!
//! Canny (TPAMI 1986), in the form that goes with structured edges (Dollár and Zitnick, TPAMI 2015): the
//! direction across the edge is that of the strongest curvature of a smoothed map, and a pixel stays if no
//! probability one step to either side, between pixels by bilinear interpolation, is clearly larger.

use crate::planes::Planes;

/// Radius of the triangle filter before the second derivatives, pixels.
const RADIUS: usize = 4;

/// A neighbour suppresses if it is larger by this factor, so that rounding does not tear plateaus.
const CLEARLY: f32 = 1.01;

/// Sets the level of every pixel that is not on a ridge to 0.
pub(super) fn suppress(logits: Planes<'_>, levels: &mut [u8]) {
    let map = |values| Map { values, width: logits.width(), height: logits.height() };
    let probabilities = map(logits.data().iter().map(|&x| 1.0 / (1.0 + (-x).exp())).collect());
    let smooth = map(triangle(&probabilities));
    for (pixel, level) in levels.iter_mut().enumerate().filter(|(_, level)| **level > 0) {
        let (x, y) = (pixel % logits.width(), pixel / logits.width());
        let (dx, dy) = smooth.across(x as isize, y as isize);
        let bound = CLEARLY * probabilities.values[pixel];
        let (x, y) = (x as f32, y as f32);
        if probabilities.between(x + dx, y + dy) > bound || probabilities.between(x - dx, y - dy) > bound {
            *level = 0;
        }
    }
}

/// A map continued beyond its border by the nearest pixel.
struct Map {
    values: Vec<f32>,
    width: usize,
    height: usize,
}

impl Map {
    fn at(&self, x: isize, y: isize) -> f32 {
        let x = x.clamp(0, self.width as isize - 1) as usize;
        let y = y.clamp(0, self.height as isize - 1) as usize;
        self.values[y * self.width + x]
    }

    /// The value at a place between pixels.
    fn between(&self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let (right_share, low_share) = (x - left, y - top);
        let (left, top) = (left as isize, top as isize);
        let row = |y| {
            let start = self.at(left, y);
            start + right_share * (self.at(left + 1, y) - start)
        };
        let upper = row(top);
        upper + low_share * (row(top + 1) - upper)
    }

    /// The direction of length 1 in which the map is most curved: across a ridge, and across its slopes.
    ///
    /// It is the eigenvector of the larger eigenvalue, by magnitude, of the matrix of second derivatives. With `2φ` the
    /// angle of `(∂xx − ∂yy, 2 ∂xy)`, the larger one by value belongs to `(cos φ, sin φ)`, the other to the
    /// perpendicular; the sign of their sum says which magnitude is larger.
    fn across(&self, x: isize, y: isize) -> (f32, f32) {
        let twice = 2.0 * self.at(x, y);
        let xx = self.at(x - 1, y) - twice + self.at(x + 1, y);
        let yy = self.at(x, y - 1) - twice + self.at(x, y + 1);
        let falling = self.at(x + 1, y - 1) + self.at(x - 1, y + 1);
        let xy = (self.at(x - 1, y - 1) + self.at(x + 1, y + 1) - falling) / 4.0;
        let (sin, cos) = (0.5 * (2.0 * xy).atan2(xx - yy)).sin_cos();
        if xx + yy > 0.0 { (cos, sin) } else { (-sin, cos) }
    }
}

/// The map after a triangle filter along rows, then along columns.
fn triangle(map: &Map) -> Vec<f32> {
    let weight = |k: usize| (RADIUS + 1 - k) as f32 / ((RADIUS + 1) * (RADIUS + 1)) as f32;
    let mut rows = Vec::with_capacity(map.values.len());
    for row in map.values.chunks_exact(map.width) {
        for x in 0..map.width {
            let mut sum = weight(0) * row[x];
            for k in 1..=RADIUS {
                sum += weight(k) * (row[x.saturating_sub(k)] + row[(x + k).min(map.width - 1)]);
            }
            rows.push(sum);
        }
    }
    let row = |y: usize| &rows[y * map.width..][..map.width];
    let mut smooth = vec![0.0; map.values.len()];
    for (y, out) in smooth.chunks_exact_mut(map.width).enumerate() {
        for (out, value) in out.iter_mut().zip(row(y)) {
            *out = weight(0) * value;
        }
        for k in 1..=RADIUS {
            let (above, below) = (row(y.saturating_sub(k)), row((y + k).min(map.height - 1)));
            for (out, (above, below)) in out.iter_mut().zip(above.iter().zip(below)) {
                *out += weight(k) * (above + below);
            }
        }
    }
    smooth
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 31;

    /// Which pixels stay of a map of logits `f(x, y)`, all of them predicted.
    fn kept(f: impl Fn(f32, f32) -> f32) -> Vec<(usize, usize)> {
        let place = |i: usize| (i % SIDE, i / SIDE);
        let logits: Vec<f32> = (0..SIDE * SIDE).map(|i| f(place(i).0 as f32, place(i).1 as f32)).collect();
        let mut levels = vec![1; SIDE * SIDE];
        suppress(Planes::new(&logits, 1, SIDE, SIDE).expect("sizes fit"), &mut levels);
        (0..SIDE * SIDE).filter(|&i| levels[i] > 0).map(place).collect()
    }

    #[test]
    fn a_soft_line_is_thinned_to_its_ridge() {
        let upright = kept(|x, _| 2.0 - (x - 15.0).powi(2) / 4.0);
        assert_eq!(upright, (0..SIDE).map(|y| (15, y)).collect::<Vec<_>>());
        let level = kept(|_, y| 2.0 - (y - 12.0).powi(2) / 4.0);
        assert_eq!(level, (0..SIDE).map(|x| (x, 12)).collect::<Vec<_>>());
    }

    #[test]
    fn a_slanted_line_keeps_its_ridge_and_little_else() {
        let distance = |x: f32, y: f32| (x - y).abs() / 2f32.sqrt();
        let slanted = kept(|x, y| 2.0 - distance(x, y).powi(2) / 8.0);
        assert!((0..SIDE).all(|i| slanted.contains(&(i, i))), "{slanted:?}");
        assert!(slanted.iter().all(|&(x, y)| x.abs_diff(y) <= 1), "{slanted:?}");
    }

    #[test]
    fn a_plateau_stays() {
        assert_eq!(kept(|_, _| 1.5).len(), SIDE * SIDE);
    }

    #[test]
    fn a_map_of_one_pixel_stays() {
        let mut levels = [7];
        suppress(Planes::new(&[0.0], 1, 1, 1).expect("sizes fit"), &mut levels);
        assert_eq!(levels, [7]);
    }
}
