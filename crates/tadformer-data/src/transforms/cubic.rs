//! Cubic convolution as OpenCV has it: a = −0.75, four taps a direction.
//!
//! Rows are worked on as pixels of four lanes, one lane a channel, so that the four taps of a row are one run of numbers
//! that whole vectors multiply. Only products and sums are used, in one fixed order: every machine gets the same bits.

use crate::Raster;

/// One pixel: a lane a channel, unused lanes 0.
pub(super) type Pixel = [f32; LANES];

/// Channels that are worked on at once.
pub(super) const LANES: usize = 4;

/// Weights of the taps at −1, 0, 1 and 2 for a position that lies `t` in `0.0..1.0` after tap 0; their sum is 1.
pub(super) fn weights(t: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let before = t + 1.0;
    let after = 1.0 - t;
    let w0 = ((A * before - 5.0 * A) * before + 8.0 * A) * before - 4.0 * A;
    let w1 = ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let w2 = ((A + 2.0) * after - (A + 3.0)) * after * after + 1.0;
    [w0, w1, w2, 1.0 - w0 - w1 - w2]
}

/// Four pixels in a row, as numbers: what one row gives to an output pixel.
pub(super) type Taps = [f32; 4 * LANES];

/// Each weight as often as a pixel has lanes, to be multiplied with [`Taps`].
pub(super) fn spread(weights: [f32; 4]) -> Taps {
    std::array::from_fn(|i| weights[i / LANES])
}

/// The sum of four pixels that were multiplied with their weights.
#[inline(always)]
pub(super) fn sum(taps: &Taps) -> Pixel {
    std::array::from_fn(|lane| {
        (taps[lane] + taps[lane + 2 * LANES]) + (taps[lane + LANES] + taps[lane + 3 * LANES])
    })
}

/// The channels `first..first + LANES` that `raster` has, as ranges of work.
pub(super) fn lane_groups(raster: &Raster) -> impl Iterator<Item = std::ops::Range<usize>> {
    let channels = raster.channels;
    (0..channels).step_by(LANES).map(move |first| first..channels.min(first + LANES))
}

/// Row `y` of the given channels as pixels.
pub(super) fn interleave(raster: &Raster, group: std::ops::Range<usize>, y: usize, out: &mut [Pixel]) {
    let row = y * raster.width..(y + 1) * raster.width;
    let rows = |c: usize| &raster.plane(c)[row.clone()];
    if group.len() == 3 {
        let (r, g, b) = (rows(group.start), rows(group.start + 1), rows(group.start + 2));
        for (((pixel, r), g), b) in out.iter_mut().zip(r).zip(g).zip(b) {
            *pixel = [*r, *g, *b, 0.0];
        }
    } else {
        for (lane, c) in group.enumerate() {
            for (pixel, value) in out.iter_mut().zip(rows(c)) {
                pixel[lane] = *value;
            }
        }
    }
}

/// Writes pixels as row `y` of the given channels.
pub(super) fn split(pixels: &[Pixel], raster: &mut Raster, group: std::ops::Range<usize>, y: usize) {
    let width = raster.width;
    for (lane, c) in group.enumerate() {
        let row = &mut raster.plane_mut(c)[y * width..(y + 1) * width];
        for (value, pixel) in row.iter_mut().zip(pixels) {
            *value = pixel[lane];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_a_whole_position_takes_its_own_tap() {
        assert_eq!(weights(0.0), [0.0, 1.0, 0.0, 0.0]);
        for i in 0..32 {
            let sum: f32 = weights(i as f32 / 32.0).iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{i}/32: {sum}");
        }
        // The published values of the kernel half way between two taps: a/8 and 1/2 − a/8.
        let half = weights(0.5);
        for (found, expected) in half.iter().zip([-0.09375, 0.59375, 0.59375, -0.09375]) {
            assert!((found - expected).abs() < 1e-6, "{half:?}");
        }
    }

    #[test]
    fn pixels_go_back_to_the_planes_they_came_from() {
        for channels in [1, 3, 4, 6] {
            let (height, width) = (2, 5);
            let data = (0..channels * height * width).map(|i| i as f32).collect();
            let raster = Raster { channels, height, width, data };
            let mut copy = Raster::filled(channels, height, width, -1.0);
            for group in lane_groups(&raster) {
                for y in 0..height {
                    let mut pixels = vec![[0.0; LANES]; width];
                    interleave(&raster, group.clone(), y, &mut pixels);
                    split(&pixels, &mut copy, group.clone(), y);
                }
            }
            assert_eq!(copy, raster);
        }
    }
}
