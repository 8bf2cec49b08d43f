//! Which objects a bundle of rays can meet at all: most of a picture's rays then test one or two bodies.

use super::lanes::{LANES, Points, Rays, least};
use super::scene::Object;
use super::simd::{Kernel, vectorize};
use super::vec3::Vec3;

/// Objects that may be met, each with a bit set for every piece that may be.
#[derive(Debug, Default)]
pub(super) struct Candidates(Vec<(usize, u32)>);

impl Candidates {
    /// Every object and all of its pieces.
    #[cfg(test)]
    pub(super) fn all(objects: &[Object]) -> Self {
        Self((0..objects.len()).map(|index| (index, u32::MAX)).collect())
    }

    /// Index and pieces of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u32)> {
        self.0.iter().copied()
    }

    /// Keeps the objects and pieces in one of whose bounding balls `meets` finds something.
    pub(super) fn gather(&mut self, objects: &[Object], meets: impl Fn((Vec3, f32)) -> bool) {
        self.0.clear();
        for (index, object) in objects.iter().enumerate() {
            if !meets(object.bound) {
                continue;
            }
            let mut pieces = if object.piece_bounds.is_empty() { u32::MAX } else { 0 };
            for (piece, bounds) in object.piece_bounds.iter().enumerate() {
                pieces |= u32::from(bounds.iter().any(|bound| meets(*bound))) << piece;
            }
            if pieces != 0 {
                self.0.push((index, pieces));
            }
        }
    }
}

/// All rays from one point within an angle of an axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cone {
    apex: Vec3,
    axis: Vec3,
    sine: f32,
    cosine: f32,
}

impl Cone {
    /// The cone about the middle of the first and the last of `rays`, which start in one point, that holds them all.
    pub(super) fn around(rays: &Rays) -> Self {
        let axis = (rays.direction.get(0) + rays.direction.get(LANES - 1)).unit();
        let mut cosine = 0.0;
        vectorize(LeastCosine { axis, directions: &rays.direction, cosine: &mut cosine });
        let cosine = cosine.min(1.0);
        // Widened by what single precision may lose.
        let sine = (1.0 - cosine * cosine).max(0.0).sqrt() + 1e-3;
        Self { apex: rays.origin.get(0), axis, sine, cosine }
    }

    /// Whether a ball may reach into the cone.
    pub(super) fn meets(&self, (centre, radius): (Vec3, f32)) -> bool {
        let to = centre - self.apex;
        let along = to.dot(self.axis);
        let beside = (to.dot(to) - along * along).max(0.0).sqrt();
        // The distance to the flank, and less than the distance to the apex behind it.
        beside * self.cosine - along * self.sine < radius
    }
}

/// Finds the cosine of the widest angle between directions and an axis.
struct LeastCosine<'a> {
    axis: Vec3,
    directions: &'a Points,
    cosine: &'a mut f32,
}

impl Kernel for LeastCosine<'_> {
    #[inline(always)]
    fn run(self) {
        let mut cosines = [0.0; LANES];
        for (lane, cosine) in cosines.iter_mut().enumerate() {
            *cosine = self.directions.get(lane).dot(self.axis);
        }
        *self.cosine = least(&cosines);
    }
}

/// All points within `radius` of a segment: what lies between a ball of points and a light.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tube {
    pub(super) start: Vec3,
    /// Unit direction.
    pub(super) axis: Vec3,
    pub(super) length: f32,
    pub(super) radius: f32,
}

impl Tube {
    /// Whether a ball may reach into the tube.
    pub(super) fn meets(&self, (centre, radius): (Vec3, f32)) -> bool {
        let to = centre - self.start;
        let along = to.dot(self.axis).clamp(0.0, self.length);
        let off = to - self.axis * along;
        let reach = self.radius + radius;
        off.dot(off) < reach * reach
    }
}

/// A ball that holds `points`: centre and radius, metres.
pub(super) fn ball_of(points: &Points) -> (Vec3, f32) {
    let (low, high) = points.bounds();
    (low.mix(high, 0.5), 0.5 * (high - low).length() + 1e-3)
}

#[cfg(test)]
mod tests {
    use super::super::vec3::{Ray, vec3};
    use super::*;

    #[test]
    fn a_cone_meets_what_one_of_its_rays_meets() {
        let ray = |x: f32, y: f32| Ray { origin: Vec3::ZERO, direction: vec3(x, y, 1.0).unit() };
        let mut rays = Rays::ZERO;
        for lane in 0..LANES {
            rays.set(lane, ray(0.025 * (lane % 8) as f32, 0.025 * (lane / 8) as f32));
        }
        let cone = Cone::around(&rays);
        let meets_ball = |lane: usize, centre: Vec3, radius: f32| {
            let along = centre.dot(rays.direction.get(lane));
            along > -radius && centre.dot(centre) - along * along < radius * radius
        };
        let mut missed = 0;
        for i in 0..4000 {
            let centre =
                vec3((i % 20) as f32 * 0.2 - 2.0, (i / 20 % 20) as f32 * 0.2 - 2.0, (i / 400) as f32 - 2.0);
            let met = (0..LANES).any(|lane| meets_ball(lane, centre, 0.15));
            assert!(!met || cone.meets((centre, 0.15)), "{centre:?}");
            missed += usize::from(!cone.meets((centre, 0.15)));
        }
        assert!(missed > 3000, "only {missed} of 4000 are culled");
    }

    #[test]
    fn a_tube_meets_balls_beside_its_segment_only() {
        let tube = Tube { start: Vec3::ZERO, axis: Vec3::UP, length: 3.0, radius: 0.5 };
        assert!(tube.meets((vec3(0.9, 1.0, 0.0), 0.5)));
        assert!(!tube.meets((vec3(1.1, 1.0, 0.0), 0.5)));
        assert!(!tube.meets((vec3(0.0, 4.1, 0.0), 0.5)));
        assert!(tube.meets((vec3(0.0, -0.9, 0.0), 0.5)));
    }
}
