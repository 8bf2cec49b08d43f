//! Lattice noise: a fixed function of position and salt, so that a texture is the same from every view and at every size.

use super::vec3::Vec3;

const X: u32 = 0x9E37_79B1;
const Y: u32 = 0x85EB_CA77;
const Z: u32 = 0xC2B2_AE3D;

/// 32 bits mixed from the key. One round of xor-shift and multiply is enough: the key is a sum of products already.
#[inline(always)]
fn mix(key: u32) -> u32 {
    let h = (key ^ (key >> 15)).wrapping_mul(0x2C1B_3C6D);
    h ^ (h >> 15)
}

/// The bits as a number in `0.0..1.0`.
#[inline(always)]
fn unit(bits: u32) -> f32 {
    (bits >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
}

/// 32 well-mixed bits of a lattice point.
#[inline(always)]
pub(super) fn lattice(x: u32, y: u32, salt: u32) -> u32 {
    mix(x.wrapping_mul(X) ^ y.wrapping_mul(Y) ^ salt)
}

/// A uniform number in `0.0..1.0` for a lattice point.
#[inline(always)]
pub(super) fn cell(x: u32, y: u32, salt: u32) -> f32 {
    unit(lattice(x, y, salt))
}

/// The whole number below `v` as a number and, from its low bits, as the coordinate of a lattice point.
///
/// Numbers beyond ±2²¹ are no texture's coordinates; their lattice points are arbitrary, but always the same.
#[inline(always)]
pub(super) fn floor(v: f32) -> (f32, u32) {
    // Numbers of this size have no places after the point, so that adding it rounds and leaves a whole number in the low
    // bits; unlike a conversion it has vectors on every processor.
    const WHOLE: f32 = 12_582_912.0;
    let nearest = (v + WHOLE) - WHOLE;
    let below = if nearest > v { nearest - 1.0 } else { nearest };
    (below, (below + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()))
}

/// Value noise in the plane, in `0.0..1.0`: lattice values, blended smoothly; features are one unit apart.
#[inline(always)]
pub(super) fn value_2d(x: f32, y: f32, salt: u32) -> f32 {
    let ((column, left), (row, low)) = (floor(x), floor(y));
    let (u, v) = (smooth(x - column), smooth(y - row));
    plane(u, v, left.wrapping_mul(X), low.wrapping_mul(Y), salt)
}

/// Value noise in space.
#[inline(always)]
fn value_3d(p: Vec3, salt: u32) -> f32 {
    let ((column, left), (row, low), (layer, near)) = (floor(p.x), floor(p.y), floor(p.z));
    let (u, v, w) = (smooth(p.x - column), smooth(p.y - row), smooth(p.z - layer));
    let (left, low, near) = (left.wrapping_mul(X), low.wrapping_mul(Y), near.wrapping_mul(Z));
    blend(plane(u, v, left, low, salt ^ near), plane(u, v, left, low, salt ^ near.wrapping_add(Z)), w)
}

/// Value noise in space, or if `FLAT` in the plane of the whole number `p.z`, which costs half as much.
#[inline(always)]
pub(super) fn value<const FLAT: bool>(p: Vec3, salt: u32) -> f32 {
    if FLAT { value_2d(p.x, p.y, salt ^ floor(p.z).1.wrapping_mul(Z)) } else { value_3d(p, salt) }
}

/// Four lattice values of a layer, blended by `u` and `v`; `left` and `low` are the keys of the column and the row.
#[inline(always)]
fn plane(u: f32, v: f32, left: u32, low: u32, salt: u32) -> f32 {
    let (right, high) = (left.wrapping_add(X), low.wrapping_add(Y) ^ salt);
    let low = low ^ salt;
    let below = blend(unit(mix(left ^ low)), unit(mix(right ^ low)), u);
    let above = blend(unit(mix(left ^ high)), unit(mix(right ^ high)), u);
    blend(below, above, v)
}

#[inline(always)]
fn blend(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// Up to three `OCTAVES` of value noise, each twice as fine and half as strong, in `0.0..1.0`; octaves finer than
/// `footprint` (a pixel's width in units of `p`) are left at their mean, so that a far surface does not flicker.
#[inline(always)]
pub(super) fn fractal<const OCTAVES: u32, const FLAT: bool>(p: Vec3, footprint: f32, salt: u32) -> f32 {
    const { assert!(OCTAVES >= 1 && OCTAVES <= 3) };
    // Written out, because a loop within one over lanes would keep that from becoming vectors.
    let mut sum = octave::<FLAT>(0, p, footprint, salt);
    if OCTAVES >= 2 {
        sum += octave::<FLAT>(1, p, footprint, salt);
    }
    if OCTAVES >= 3 {
        sum += octave::<FLAT>(2, p, footprint, salt);
    }
    // The weights of all octaves sum to 2 - 2^(1 - octaves).
    0.5 + sum / (2.0 - 2.0 / (1u32 << OCTAVES) as f32)
}

/// Octave `index` of [`fractal`], of mean 0.
#[inline(always)]
fn octave<const FLAT: bool>(index: u32, p: Vec3, footprint: f32, salt: u32) -> f32 {
    let scale = (1u32 << index) as f32;
    let keep = (2.0 - 2.0 * footprint * scale).clamp(0.0, 1.0);
    keep / scale * (value::<FLAT>(p * scale, salt.wrapping_add(index.wrapping_mul(X))) - 0.5)
}

/// Hermite blend of `0.0..=1.0`.
#[inline(always)]
fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::super::vec3::vec3;
    use super::*;

    #[test]
    fn noise_is_continuous_bounded_and_not_flat() {
        let (mut low, mut high) = (1.0f32, 0.0f32);
        for i in 0..2000 {
            let p = vec3(i as f32 * 0.037 - 30.0, i as f32 * 0.011, 0.3);
            let here = value::<false>(p, 5);
            assert!((here - value::<false>(p + vec3(1e-3, 0.0, 0.0), 5)).abs() < 0.01);
            (low, high) = (low.min(here), high.max(here));
        }
        assert!(low >= 0.0 && high <= 1.0 && high - low > 0.8, "{low}..{high}");
    }

    #[test]
    fn floors_are_those_of_the_library_as_numbers_and_as_bits() {
        for i in -4000..4000 {
            let v = i as f32 * 0.125;
            assert_eq!(floor(v), (v.floor(), v.floor() as i32 as u32));
        }
    }

    #[test]
    fn flat_noise_is_noise_in_space_on_a_whole_layer() {
        for i in 0..500 {
            let p = vec3(i as f32 * 0.37 - 60.0, i as f32 * 0.11, 3.0);
            assert_eq!(value::<true>(p, 9), value::<false>(p, 9));
        }
    }
}
