//! The patterns of materials, each a colour for every point of the texture's space.
//!
//! `q` counts periods, and a pixel is `width` periods wide: what is finer than a pixel fades to its mean. None of these
//! branches from point to point.

use super::material::Material;
use super::noise::{cell, floor, fractal, value, value_2d};
use super::stripe::{centre, fade, line, ramp, sine, stripe};
use super::vec3::{Vec3, vec3};

/// How the two colours of a material are laid out.
pub(super) trait Layout {
    /// The share of light returned at `q`; `q.z` is a whole number if `FLAT`.
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3;
}

/// The first colour, slightly mottled.
pub(super) struct Plain;

impl Layout for Plain {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, _] = material.colours;
        first * (0.94 + 0.12 * fractal::<1, FLAT>(q * 3.0, width * 3.0, material.salt))
    }
}

/// Stripes, nearly level.
pub(super) struct Stripes;

impl Layout for Stripes {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        first.mix(second, stripe(q.y + 0.15 * q.x, 0.5, width))
    }
}

/// Upright stripes.
pub(super) struct Bars;

impl Layout for Bars {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        first.mix(second, stripe(q.x, 0.5, width))
    }
}

/// Cubes in alternation.
pub(super) struct Checker;

impl Layout for Checker {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let sign = |v: f32| 2.0 * stripe(v, 0.5, width) - 1.0;
        first.mix(second, 0.5 + 0.5 * sign(q.x) * sign(q.y) * sign(q.z))
    }
}

/// Veins through clouds.
pub(super) struct Marble;

impl Layout for Marble {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let cloud = fractal::<3, FLAT>(q, width, material.salt);
        let vein = 1.0 - (2.0 * cloud - 1.0).abs() * 3.0;
        first.mix(second, vein.clamp(0.0, 1.0) * 0.8)
    }
}

/// Rings about an axis, as in sawn timber.
pub(super) struct Wood;

impl Layout for Wood {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let bend = fractal::<2, FLAT>(vec3(q.x, 0.25 * q.y, q.z), width, material.salt);
        let radius = (q.x * q.x + q.z * q.z).sqrt() + 1.2 * bend;
        let ring = radius - floor(radius).0;
        let fibre = value::<FLAT>(vec3(q.x * 6.0, q.y * 0.7, q.z * 6.0), material.salt ^ 1) - 0.5;
        first.mix(second, (ring * ring + 0.25 * fibre * fade(6.0 * width)).clamp(0.0, 1.0))
    }
}

/// Chips of the second colour in the first.
pub(super) struct Speckle;

impl Layout for Speckle {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let chips = value::<FLAT>(q * 4.0, material.salt) * fade(4.0 * width);
        first.mix(second, ((chips - 0.66) * 8.0).clamp(0.0, 1.0))
    }
}

/// Courses of bricks in mortar.
pub(super) struct Brick;

impl Layout for Brick {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        courses(material, q, width, 0.4, 0.055)
    }
}

/// Boards with joints.
pub(super) struct Planks;

impl Layout for Planks {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        courses(material, vec3(0.25 * q.y, q.x, 0.0), width, 0.12, 0.012)
    }
}

/// Square tiles with joints.
pub(super) struct Tiles;

impl Layout for Tiles {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let joint = line(q.x, 0.03, width).max(line(q.y, 0.03, width));
        let tint = 0.9 + 0.2 * cell(floor(q.x).1, floor(q.y).1, material.salt);
        (first * tint).mix(second, joint)
    }
}

/// Blades and patches.
pub(super) struct Grass;

impl Layout for Grass {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        // Half a whole number is none.
        let patches = fractal::<2, false>(q * 0.5, 0.5 * width, material.salt);
        let blades = value_2d(q.x * 9.0, q.y * 9.0, material.salt ^ 7);
        let blades = 0.5 + fade(9.0 * width) * (blades - 0.5);
        first.mix(second, patches) * (0.65 + 0.7 * blades)
    }
}

/// Round dots on a square grid.
pub(super) struct Dots;

impl Layout for Dots {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let centred = vec3(centre(q.x), centre(q.y), centre(q.z));
        let depth = 0.34 - centred.length();
        first.mix(second, ramp(depth, width) * fade(width) + 0.16 * (1.0 - fade(width)))
    }
}

/// Parallel zigzags.
pub(super) struct Zigzag;

impl Layout for Zigzag {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let zig = centre(q.x).abs();
        first.mix(second, stripe(q.y + 1.2 * zig, 0.5, 1.5 * width))
    }
}

/// Irregular stones with joints.
pub(super) struct Cells;

impl Layout for Cells {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let (tint, gap) = stone(q, material.salt);
        (first * (0.75 + 0.5 * tint)).mix(second, ramp(0.06 - gap, width) * fade(width))
    }
}

/// A slow swell from one colour to the other and back.
pub(super) struct Swell;

impl Layout for Swell {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, _: f32) -> Vec3 {
        let [first, second] = material.colours;
        let wave = sine(0.8 * q.x + 0.6 * q.y + 0.5 * q.z);
        first.mix(second, 0.5 + 0.5 * wave)
    }
}

/// Thin lines in two directions.
pub(super) struct Grid;

impl Layout for Grid {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let lines = line(q.x + q.z, 0.12, width).max(line(q.y - q.z, 0.12, width));
        first.mix(second, lines)
    }
}

/// Wavy stripes.
pub(super) struct Waves;

impl Layout for Waves {
    #[inline(always)]
    fn albedo<const FLAT: bool>(material: &Material, q: Vec3, width: f32) -> Vec3 {
        let [first, second] = material.colours;
        let wave = 0.35 * sine(2.0 * q.x + q.z);
        first.mix(second, stripe(q.y + wave, 0.5, width))
    }
}

/// Rows along `x`, each shifted by half against the last, with joints of the second colour; every piece has its tint.
#[inline(always)]
fn courses(material: &Material, q: Vec3, width: f32, contrast: f32, joint: f32) -> Vec3 {
    let rise = q.y * 3.0;
    let (row, y) = floor(rise);
    let run = q.x + 0.5 * row;
    let tint = cell(floor(run).1, y, material.salt);
    let grain = value_2d(q.x * 4.0, q.y * 40.0, material.salt ^ 3) - 0.5;
    let body = material.colours[0] * (1.0 + contrast * (tint - 0.5) + 0.25 * grain * fade(40.0 * width));
    let gap = line(run, joint, width).max(line(rise, 3.0 * joint, 3.0 * width));
    body.mix(material.colours[1], gap)
}

/// The tint of the stone at `q` in the plane, and how much nearer it is than the next one.
#[inline(always)]
fn stone(q: Vec3, salt: u32) -> (f32, f32) {
    let (mut nearest, mut next, mut tint) = (f32::INFINITY, f32::INFINITY, 0.0);
    let ((column, x), (row, y)) = (floor(q.x), floor(q.y));
    for dy in [-1.0, 0.0, 1.0] {
        for dx in [-1.0, 0.0, 1.0] {
            let (x, y) = (x.wrapping_add_signed(dx as i32), y.wrapping_add_signed(dy as i32));
            let px = column + dx + 0.15 + 0.7 * cell(x, y, salt ^ 1) - q.x;
            let py = row + dy + 0.15 + 0.7 * cell(x, y, salt ^ 2) - q.y;
            let distance = (px * px + py * py).sqrt();
            let closest = distance < nearest;
            let second = if distance < next { distance } else { next };
            next = if closest { nearest } else { second };
            tint = if closest { cell(x, y, salt ^ 3) } else { tint };
            nearest = if closest { distance } else { nearest };
        }
    }
    (tint, next - nearest)
}
