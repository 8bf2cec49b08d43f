//! Procedural materials: a pattern in space, two colours and a gloss.

use tadformer_ops::Rng;

use super::noise::{cell, floor, fractal, value, value_2d};
use super::vec3::{Vec3, vec3};

/// How the two colours of a material are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// The first colour, slightly mottled.
    Plain,
    /// Stripes, nearly level.
    Stripes,
    /// Upright stripes.
    Bars,
    /// Cubes in alternation.
    Checker,
    /// Veins through clouds.
    Marble,
    /// Rings about an axis, as in sawn timber.
    Wood,
    /// Chips of the second colour in the first.
    Speckle,
    /// Courses of bricks in mortar.
    Brick,
    /// Boards with joints.
    Planks,
    /// Square tiles with joints.
    Tiles,
    /// Blades and patches.
    Grass,
    /// Round dots on a square grid.
    Dots,
    /// Parallel zigzags.
    Zigzag,
    /// Irregular stones with joints.
    Cells,
    /// A slow swell from one colour to the other and back.
    Swell,
    /// Thin lines in two directions.
    Grid,
    /// Wavy stripes.
    Waves,
}

/// The surface of something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Material {
    pub(super) pattern: Pattern,
    /// Linear RGB, `0..=1`.
    pub(super) colours: [Vec3; 2],
    /// Periods a metre.
    pub(super) frequency: f32,
    /// Strength of the highlight, `0..=1`.
    pub(super) gloss: f32,
    /// Where in the pattern the origin lies.
    pub(super) phase: Vec3,
    pub(super) salt: u32,
}

impl Material {
    /// A material of `pattern` in `colours`, with phase and salt drawn from the stream.
    pub(super) fn draw(
        rng: &mut Rng,
        pattern: Pattern,
        colours: [Vec3; 2],
        frequency: f32,
        gloss: f32,
    ) -> Self {
        let mut phase = || rng.uniform() as f32 * 8.0 + 0.37;
        // A whole third coordinate keeps noise on floors and walls in the plane, where it costs half.
        let phase = vec3(phase(), phase(), 3.0);
        Self { pattern, colours, frequency, gloss, phase, salt: rng.next_u64() as u32 }
    }

    /// The share of light returned at `p` (metres, in the texture's space), averaged over a pixel `footprint` metres wide.
    pub(super) fn albedo(&self, p: Vec3, footprint: f32) -> Vec3 {
        let q = p * self.frequency + self.phase;
        let width = footprint * self.frequency;
        let [first, second] = self.colours;
        match self.pattern {
            Pattern::Plain => first * (0.94 + 0.12 * fractal(q * 3.0, 1, width * 3.0, self.salt)),
            Pattern::Stripes => first.mix(second, stripe(q.y + 0.15 * q.x, 0.5, width)),
            Pattern::Bars => first.mix(second, stripe(q.x, 0.5, width)),
            Pattern::Checker => {
                let sign = |v: f32| 2.0 * stripe(v, 0.5, width) - 1.0;
                first.mix(second, 0.5 + 0.5 * sign(q.x) * sign(q.y) * sign(q.z))
            }
            Pattern::Marble => {
                let cloud = fractal(q, 3, width, self.salt);
                let vein = 1.0 - (2.0 * cloud - 1.0).abs() * 3.0;
                first.mix(second, vein.clamp(0.0, 1.0) * 0.8)
            }
            Pattern::Wood => {
                let bend = fractal(vec3(q.x, 0.25 * q.y, q.z), 2, width, self.salt);
                let radius = (q.x * q.x + q.z * q.z).sqrt() + 1.2 * bend;
                let ring = radius - floor(radius) as f32;
                let fibre = value(vec3(q.x * 6.0, q.y * 0.7, q.z * 6.0), self.salt ^ 1) - 0.5;
                first.mix(second, (ring * ring + 0.25 * fibre * fade(6.0 * width)).clamp(0.0, 1.0))
            }
            Pattern::Speckle => {
                let chips = value(q * 4.0, self.salt) * fade(4.0 * width);
                first.mix(second, ((chips - 0.66) * 8.0).clamp(0.0, 1.0))
            }
            Pattern::Brick => self.courses(q, width, 0.4, 0.055),
            Pattern::Planks => self.courses(vec3(0.25 * q.y, q.x, 0.0), width, 0.12, 0.012),
            Pattern::Tiles => {
                let joint = line(q.x, 0.03, width).max(line(q.y, 0.03, width));
                let tint = 0.9 + 0.2 * cell(floor(q.x), floor(q.y), self.salt);
                (first * tint).mix(second, joint)
            }
            Pattern::Grass => {
                let patches = fractal(q * 0.5, 2, 0.5 * width, self.salt);
                let blades = value_2d(q.x * 9.0, q.y * 9.0, self.salt ^ 7);
                let blades = 0.5 + fade(9.0 * width) * (blades - 0.5);
                first.mix(second, patches) * (0.65 + 0.7 * blades)
            }
            Pattern::Dots => {
                let centred = vec3(centre(q.x), centre(q.y), centre(q.z));
                let depth = 0.34 - centred.length();
                first.mix(second, ramp(depth, width) * fade(width) + 0.16 * (1.0 - fade(width)))
            }
            Pattern::Zigzag => {
                let zig = (centre(q.x)).abs();
                first.mix(second, stripe(q.y + 1.2 * zig, 0.5, 1.5 * width))
            }
            Pattern::Cells => {
                let (tint, gap) = cells(q, self.salt);
                (first * (0.75 + 0.5 * tint)).mix(second, ramp(0.06 - gap, width) * fade(width))
            }
            Pattern::Swell => {
                let wave = (0.8 * q.x + 0.6 * q.y + 0.5 * q.z).sin();
                first.mix(second, 0.5 + 0.5 * wave)
            }
            Pattern::Grid => {
                let lines = line(q.x + q.z, 0.12, width).max(line(q.y - q.z, 0.12, width));
                first.mix(second, lines)
            }
            Pattern::Waves => {
                let wave = 0.35 * (2.0 * q.x + q.z).sin();
                first.mix(second, stripe(q.y + wave, 0.5, width))
            }
        }
    }

    /// Rows along `x`, each shifted by half against the last, with joints of the second colour; every piece has its tint.
    fn courses(&self, q: Vec3, width: f32, contrast: f32, joint: f32) -> Vec3 {
        let (rise, run) = (q.y * 3.0, q.x + 0.5 * floor(q.y * 3.0) as f32);
        let tint = cell(floor(run), floor(rise), self.salt);
        let grain = value_2d(q.x * 4.0, q.y * 40.0, self.salt ^ 3) - 0.5;
        let body = self.colours[0] * (1.0 + contrast * (tint - 0.5) + 0.25 * grain * fade(40.0 * width));
        let gap = line(run, joint, width).max(line(rise, 3.0 * joint, 3.0 * width));
        body.mix(self.colours[1], gap)
    }
}

/// How much of a pattern is left when a pixel is `width` periods wide: all below a half, none from one on.
fn fade(width: f32) -> f32 {
    (2.0 - 2.0 * width).clamp(0.0, 1.0)
}

/// Signed distance to the middle of the unit cell, `-0.5..0.5`.
fn centre(v: f32) -> f32 {
    v - floor(v) as f32 - 0.5
}

/// 1 where `v` is positive, blended over `width`.
fn ramp(v: f32, width: f32) -> f32 {
    (v / width.max(1e-4) + 0.5).clamp(0.0, 1.0)
}

/// 1 on a share `duty` of every unit, 0 elsewhere.
fn stripe(v: f32, duty: f32, width: f32) -> f32 {
    let sharp = ramp(0.5 * duty - centre(v).abs(), width);
    duty + fade(width) * (sharp - duty)
}

/// 1 on a line of `thickness` at every integer.
fn line(v: f32, thickness: f32, width: f32) -> f32 {
    stripe(v + 0.5, thickness, width)
}

/// The tint of the stone at `q` in the plane, and how much nearer it is than the next one.
fn cells(q: Vec3, salt: u32) -> (f32, f32) {
    let (mut nearest, mut next, mut tint) = (f32::INFINITY, f32::INFINITY, 0.0);
    for dy in -1..=1 {
        for dx in -1..=1 {
            let (x, y) = (floor(q.x) + dx, floor(q.y) + dy);
            let px = x as f32 + 0.15 + 0.7 * cell(x, y, salt ^ 1) - q.x;
            let py = y as f32 + 0.15 + 0.7 * cell(x, y, salt ^ 2) - q.y;
            let distance = (px * px + py * py).sqrt();
            if distance < nearest {
                (next, nearest, tint) = (nearest, distance, cell(x, y, salt ^ 3));
            } else if distance < next {
                next = distance;
            }
        }
    }
    (tint, next - nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: [Pattern; 17] = [
        Pattern::Plain,
        Pattern::Stripes,
        Pattern::Bars,
        Pattern::Checker,
        Pattern::Marble,
        Pattern::Wood,
        Pattern::Speckle,
        Pattern::Brick,
        Pattern::Planks,
        Pattern::Tiles,
        Pattern::Grass,
        Pattern::Dots,
        Pattern::Zigzag,
        Pattern::Cells,
        Pattern::Swell,
        Pattern::Grid,
        Pattern::Waves,
    ];

    fn spread(material: &Material, footprint: f32) -> f32 {
        let values: Vec<f32> = (0..4000)
            .map(|i| {
                material.albedo(vec3(0.013 * (i % 63) as f32, 0.017 * (i / 63) as f32, 0.3), footprint).y
            })
            .collect();
        assert!(values.iter().all(|v| (0.0..=1.2).contains(v)), "{:?}", material.pattern);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt()
    }

    #[test]
    fn every_pattern_varies_near_by_and_calms_down_far_away() {
        let mut rng = Rng::named(3, "material", 0);
        for pattern in PATTERNS {
            let colours = [Vec3::splat(0.2), Vec3::splat(0.7)];
            let material = Material::draw(&mut rng, pattern, colours, 4.0, 0.0);
            let (near, far) = (spread(&material, 1e-4), spread(&material, 10.0));
            assert!(near > 0.003, "{pattern:?} is flat: {near}");
            let drift = matches!(pattern, Pattern::Swell | Pattern::Wood | Pattern::Cells | Pattern::Tiles);
            assert!(drift || far < 0.6 * near, "{pattern:?}: {near} near, {far} far");
        }
    }
}
