//! Lattice noise: a fixed function of position and salt, so that a texture is the same from every view and at every size.

use super::vec3::Vec3;

/// 32 well-mixed bits of a lattice point (multiply and xor-shift rounds).
pub(super) fn lattice(x: i32, y: i32, z: i32, salt: u32) -> u32 {
    let mut h = (x as u32).wrapping_mul(0x9E37_79B1)
        ^ (y as u32).wrapping_mul(0x85EB_CA77)
        ^ (z as u32).wrapping_mul(0xC2B2_AE3D)
        ^ salt.wrapping_mul(0x27D4_EB2F);
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    h ^ (h >> 15)
}

/// A uniform number in `0.0..1.0` for a lattice point.
pub(super) fn cell(x: i32, y: i32, z: i32, salt: u32) -> f32 {
    (lattice(x, y, z, salt) >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Value noise in `0.0..1.0`: lattice values, blended smoothly; features are one unit apart.
pub(super) fn value(p: Vec3, salt: u32) -> f32 {
    let (fx, fy, fz) = (p.x.floor(), p.y.floor(), p.z.floor());
    let (x, y, z) = (fx as i32, fy as i32, fz as i32);
    let (u, v, w) = (smooth(p.x - fx), smooth(p.y - fy), smooth(p.z - fz));
    let row = |dy: i32, dz: i32| {
        let (a, b) = (cell(x, y + dy, z + dz, salt), cell(x.wrapping_add(1), y + dy, z + dz, salt));
        a + (b - a) * u
    };
    let face = |dz: i32| {
        let (a, b) = (row(0, dz), row(1, dz));
        a + (b - a) * v
    };
    let (a, b) = (face(0), face(1));
    a + (b - a) * w
}

/// Octaves of value noise, each twice as fine and half as strong, in `0.0..1.0`; octaves finer than `footprint` (a pixel's
/// width in units of `p`) are left at their mean, so that a far surface does not flicker.
pub(super) fn fractal(p: Vec3, octaves: u32, footprint: f32, salt: u32) -> f32 {
    let (mut sum, mut total, mut weight, mut scale) = (0.0, 0.0, 1.0f32, 1.0f32);
    for octave in 0..octaves {
        let keep = (2.0 - 2.0 * footprint * scale).clamp(0.0, 1.0);
        let noise = if keep > 0.0 { value(p * scale, salt.wrapping_add(octave)) } else { 0.5 };
        sum += weight * (0.5 + keep * (noise - 0.5));
        total += weight;
        weight *= 0.5;
        scale *= 2.03;
    }
    sum / total
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
