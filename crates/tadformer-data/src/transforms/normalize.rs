//! From levels to what the network sees, and back.

use super::vectors::{Loop, vectorize};
use crate::Raster;

/// Mean of red, green and blue over ImageNet, of `0.0..=1.0`.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];

/// Standard deviation of red, green and blue over ImageNet, of `0.0..=1.0`.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// What a network sees of interpolated levels: clamped to `0.0..=255.0`, rounded to whole ones (halves to even), then
/// normalised as [`normalize`] does. Red, green and blue lie one behind the other.
///
/// Cubic interpolation overshoots at hard edges. The published code casts to 8 bits there, which wraps: a level of 260.7
/// becomes 4, a bright speck on a dark edge and the reverse. Here such a level becomes 255; elsewhere the two differ by at
/// most one level, for the cast cuts fractions off.
pub(super) fn quantise_and_normalize(planes: &mut [f32]) {
    vectorize(Levels { planes });
}

/// Three planes of levels.
struct Levels<'a> {
    planes: &'a mut [f32],
}

impl Loop for Levels<'_> {
    #[inline(always)]
    fn run(self) {
        let size = self.planes.len() / 3;
        for (plane, (mean, std)) in
            self.planes.chunks_exact_mut(size.max(1)).zip(IMAGENET_MEAN.into_iter().zip(IMAGENET_STD))
        {
            for level in plane {
                *level = normalized(quantised(*level), mean, std);
            }
        }
    }
}

#[inline(always)]
fn quantised(level: f32) -> f32 {
    // Adding 2^23 leaves no bits for a fraction: the sum is rounded to a whole number without a call for each element.
    const WHOLE: f32 = 8_388_608.0;
    (level.clamp(0.0, 255.0) + WHOLE) - WHOLE
}

#[inline(always)]
fn normalized(level: f32, mean: f32, std: f32) -> f32 {
    (level / 255.0 - mean) / std
}

/// `(level/255 − mean)/std` of each channel, in place: `0.0..=255.0` RGB to what networks trained on ImageNet expect.
///
/// # Panics
/// If the picture has not three channels.
pub fn normalize(image: &mut Raster) {
    assert_eq!(image.channels, 3, "a picture has three channels");
    for (c, (mean, std)) in IMAGENET_MEAN.into_iter().zip(IMAGENET_STD).enumerate() {
        for level in image.plane_mut(c) {
            *level = normalized(*level, mean, std);
        }
    }
}

/// The inverse of [`normalize`], for drawing.
///
/// # Panics
/// If the picture has not three channels.
pub fn denormalize(image: &mut Raster) {
    assert_eq!(image.channels, 3, "a picture has three channels");
    for (c, (mean, std)) in IMAGENET_MEAN.into_iter().zip(IMAGENET_STD).enumerate() {
        for value in image.plane_mut(c) {
            *value = (*value * std + mean) * 255.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_outside_of_a_byte_are_clamped_and_the_rest_is_rounded() {
        let data = [-49.9, -0.2, 0.0, 0.4, 0.5, 1.5, 127.6, 254.4, 255.0, 260.7, 295.9, 200.49];
        let levels: Vec<f32> = data.into_iter().map(quantised).collect();
        assert_eq!(levels, [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 128.0, 254.0, 255.0, 255.0, 255.0, 200.0]);
    }

    #[test]
    fn denormalising_gives_the_levels_back() {
        let data: Vec<f32> = (0..=255).flat_map(|v| [v as f32; 3]).collect();
        let image = Raster { channels: 3, height: 16, width: 16, data };
        let mut copy = image.clone();
        normalize(&mut copy);
        assert!(copy.data.iter().all(|v| (-2.2..2.7).contains(v)));
        denormalize(&mut copy);
        assert!(copy.data.iter().zip(&image.data).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}
