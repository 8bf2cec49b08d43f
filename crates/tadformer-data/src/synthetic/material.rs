//! Procedural materials: a pattern in space, two colours and a gloss.

use std::marker::PhantomData;

use tadformer_ops::Rng;

use super::lanes::{LANES, Lane, Points};
use super::patch::Patch;
use super::pattern::{
    Bars, Brick, Cells, Checker, Dots, Grass, Grid, Layout, Marble, Plain, Planks, Speckle, Stripes, Swell,
    Tiles, Waves, Wood, Zigzag,
};
use super::simd::{Kernel, vectorize};
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

/// How a texture lies on a surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// On a plane: the third coordinate is zero.
    Plane,
    /// All through a body.
    Solid,
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

    /// Sets `patch.albedo` at the points `patch.texture`.
    pub(super) fn paint(&self, space: Space, patch: &mut Patch) {
        match self.pattern {
            Pattern::Plain => self.lay::<Plain>(space, patch),
            Pattern::Stripes => self.lay::<Stripes>(space, patch),
            Pattern::Bars => self.lay::<Bars>(space, patch),
            Pattern::Checker => self.lay::<Checker>(space, patch),
            Pattern::Marble => self.lay::<Marble>(space, patch),
            Pattern::Wood => self.lay::<Wood>(space, patch),
            Pattern::Speckle => self.lay::<Speckle>(space, patch),
            Pattern::Brick => self.lay::<Brick>(space, patch),
            Pattern::Planks => self.lay::<Planks>(space, patch),
            Pattern::Tiles => self.lay::<Tiles>(space, patch),
            Pattern::Grass => self.lay::<Grass>(space, patch),
            Pattern::Dots => self.lay::<Dots>(space, patch),
            Pattern::Zigzag => self.lay::<Zigzag>(space, patch),
            Pattern::Cells => self.lay::<Cells>(space, patch),
            Pattern::Swell => self.lay::<Swell>(space, patch),
            Pattern::Grid => self.lay::<Grid>(space, patch),
            Pattern::Waves => self.lay::<Waves>(space, patch),
        }
    }

    fn lay<L: Layout>(&self, space: Space, patch: &mut Patch) {
        let Patch { texture, footprint, albedo, .. } = patch;
        let (material, len, layout) = (*self, patch.len, PhantomData::<L>);
        match space {
            Space::Plane => vectorize(Lay::<L, true> { material, texture, footprint, len, albedo, layout }),
            Space::Solid => vectorize(Lay::<L, false> { material, texture, footprint, len, albedo, layout }),
        }
    }
}

/// Lays out a pattern over the first `len` points of a texture.
struct Lay<'a, L, const FLAT: bool> {
    material: Material,
    texture: &'a Points,
    footprint: &'a Lane,
    len: usize,
    albedo: &'a mut Points,
    layout: PhantomData<L>,
}

/// Points that a pattern is laid over at once.
const STRIP: usize = 16;

impl<L: Layout, const FLAT: bool> Kernel for Lay<'_, L, FLAT> {
    #[inline(always)]
    fn run(self) {
        let Self { material, texture, footprint, albedo, .. } = self;
        // Up to a whole strip, for which there are vectors alone.
        let len = self.len.next_multiple_of(STRIP).min(LANES);
        #[expect(
            clippy::needless_range_loop,
            reason = "of this index the compiler knows that it is in bounds"
        )]
        for i in 0..len {
            let q = texture.get(i) * material.frequency + material.phase;
            albedo.set(i, L::albedo::<FLAT>(&material, q, footprint[i] * material.frequency));
        }
    }
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
        let mut patch = Patch::EMPTY;
        (patch.len, patch.footprint) = (LANES, [footprint; LANES]);
        let mut values = Vec::new();
        for row in 0..63 {
            for i in 0..LANES {
                patch.texture.set(i, vec3(0.013 * i as f32, 0.017 * row as f32, 0.3));
            }
            material.paint(Space::Solid, &mut patch);
            values.extend(patch.albedo.y);
        }
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

    #[test]
    fn wide_vectors_compute_the_same_bits_as_the_baseline() {
        let mut rng = Rng::named(4, "material", 0);
        let mut texture = Points::ZERO;
        for i in 0..LANES {
            texture.set(i, vec3(0.037 * i as f32, 0.3, 0.011 * i as f32));
        }
        let material =
            Material::draw(&mut rng, Pattern::Marble, [Vec3::splat(0.2), Vec3::splat(0.7)], 4.0, 0.0);
        let (mut wide, mut plain) = (Points::ZERO, Points::ZERO);
        let lay = |albedo| Lay::<Marble, false> {
            material,
            texture: &texture,
            footprint: &[0.01; LANES],
            len: LANES,
            albedo,
            layout: PhantomData,
        };
        vectorize(lay(&mut wide));
        lay(&mut plain).run();
        assert_eq!(wide.x.map(f32::to_bits), plain.x.map(f32::to_bits));
    }
}
