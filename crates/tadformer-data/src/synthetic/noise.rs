//! Lattice noise: a fixed function of position and salt, so that a texture is the same from every view and at every size.

use super::vec3::Vec3;

const X: u32 = 0x9E37_79B1;
const Y: u32 = 0x85EB_CA77;
const Z: u32 = 0xC2B2_AE3D;

/// 32 bits mixed from the key. One round of xor-shift and multiply is enough: the key is a sum of products already.
fn mix(key: u32) -> u32 {
    let h = (key ^ (key >> 15)).wrapping_mul(0x2C1B_3C6D);
    h ^ (h >> 15)
}

/// The bits as a number in `0.0..1.0`.
fn unit(bits: u32) -> f32 {
    (bits >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
}

/// 32 well-mixed bits of a lattice point.
pub(super) fn lattice(x: i32, y: i32, salt: u32) -> u32 {
    mix((x as u32).wrapping_mul(X) ^ (y as u32).wrapping_mul(Y) ^ salt)
}

/// A uniform number in `0.0..1.0` for a lattice point.
pub(super) fn cell(x: i32, y: i32, salt: u32) -> f32 {
    unit(lattice(x, y, salt))
}

/// Value noise in the plane, in `0.0..1.0`: lattice values, blended smoothly; features are one unit apart.
pub(super) fn value_2d(x: f32, y: f32, salt: u32) -> f32 {
    let (column, row) = (floor(x), floor(y));
    let (u, v) = (smooth(x - column as f32), smooth(y - row as f32));
    let (left, low) = ((column as u32).wrapping_mul(X), (row as u32).wrapping_mul(Y) ^ salt);
    let (right, high) = (left.wrapping_add(X), (row as u32).wrapping_mul(Y).wrapping_add(Y) ^ salt);
    let below = blend(unit(mix(left ^ low)), unit(mix(right ^ low)), u);
    let above = blend(unit(mix(left ^ high)), unit(mix(right ^ high)), u);
    blend(below, above, v)
}

/// Value noise in space; a whole `z` costs half as much.
pub(super) fn value(p: Vec3, salt: u32) -> f32 {
    let layer = floor(p.z);
    let w = smooth(p.z - layer as f32);
    let key = (layer as u32).wrapping_mul(Z);
    let near = value_2d(p.x, p.y, salt ^ key);
    if w == 0.0 { near } else { blend(near, value_2d(p.x, p.y, salt ^ key.wrapping_add(Z)), w) }
}

fn blend(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// The whole number below `v`; a call to the library costs more where the processor's own rounding is not assumed.
pub(super) fn floor(v: f32) -> i32 {
    let towards_zero = v as i32;
    towards_zero - i32::from(v < towards_zero as f32)
}

/// Octaves of value noise, each twice as fine and half as strong, in `0.0..1.0`; octaves finer than `footprint` (a pixel's
/// width in units of `p`) are left at their mean, so that a far surface does not flicker.
pub(super) fn fractal(p: Vec3, octaves: u32, footprint: f32, salt: u32) -> f32 {
    let (mut sum, mut weight, mut scale, mut salt) = (0.0, 1.0f32, 1.0f32, salt);
    for _ in 0..octaves {
        let keep = 2.0 - 2.0 * footprint * scale;
        if keep <= 0.0 {
            break;
        }
        sum += weight * keep.min(1.0) * (value(p * scale, salt) - 0.5);
        weight *= 0.5;
        scale *= 2.0;
        salt = salt.wrapping_add(X);
    }
    // The weights of all octaves sum to 2 - 2^(1 - octaves).
    0.5 + sum / (2.0 - 2.0 / (1u32 << octaves) as f32)
}

/// Hermite blend of `0.0..=1.0`.
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
            let here = value(p, 5);
            assert!((here - value(p + vec3(1e-3, 0.0, 0.0), 5)).abs() < 0.01);
            (low, high) = (low.min(here), high.max(here));
        }
        assert!(low >= 0.0 && high <= 1.0 && high - low > 0.8, "{low}..{high}");
    }
}
