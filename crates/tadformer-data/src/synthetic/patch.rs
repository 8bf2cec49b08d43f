//! The rays of a packet that meet the same piece of the scene, gathered so that one texture paints them all.

use super::lanes::{Codes, LANES, Lane, Points, Rays, lanes_of};
use super::simd::{Kernel, vectorize};
use super::trace::Nearest;

/// Points of one surface; lanes from `len` on hold nothing of meaning.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    /// Points in use.
    pub(super) len: usize,
    /// Which ray of the packet each is from.
    lanes: [usize; LANES],
    /// In the world, metres.
    pub(super) p: Points,
    /// Of the rays.
    pub(super) direction: Points,
    /// Metres along the rays.
    pub(super) t: Lane,
    pub(super) face: Codes,
    /// Outward unit normals in the world.
    pub(super) normal: Points,
    /// Width of a pixel on the surface, metres.
    pub(super) footprint: Lane,
    /// The points in the texture's space, metres.
    pub(super) texture: Points,
    /// The share of light returned, linear RGB.
    pub(super) albedo: Points,
    /// How much of the ambient light corners and the ground leave, `0..=1`.
    pub(super) open: Lane,
}

impl Patch {
    pub(super) const EMPTY: Self = Self {
        len: 0,
        lanes: [0; LANES],
        p: Points::ZERO,
        direction: Points::ZERO,
        t: [0.0; LANES],
        face: [0; LANES],
        normal: Points::ZERO,
        footprint: [0.0; LANES],
        texture: Points::ZERO,
        albedo: Points::ZERO,
        open: [1.0; LANES],
    };

    /// Gathers where the rays of `members`, a bit each, end.
    pub(super) fn gather(&mut self, members: u64, rays: &Rays, ends: &Points, nearest: &Nearest) {
        if members == u64::MAX {
            self.len = LANES;
            self.lanes = std::array::from_fn(|lane| lane);
            (self.p, self.direction) = (ends.clone(), rays.direction.clone());
            (self.t, self.face) = (nearest.t, nearest.face);
            return;
        }
        self.len = 0;
        for (i, lane) in lanes_of(members).enumerate() {
            self.lanes[i] = lane;
            self.p.set(i, ends.get(lane));
            self.direction.set(i, rays.direction.get(lane));
            self.t[i] = nearest.t[lane];
            self.face[i] = nearest.face[lane];
            self.len = i + 1;
        }
    }

    /// The ray of the packet that each point is from.
    pub(super) fn lanes(&self) -> &[usize] {
        &self.lanes[..self.len]
    }

    /// Measures `footprint` from `normal`; a pixel is `pixel` metres wide at one metre.
    pub(super) fn measure(&mut self, pixel: f32) {
        let Self { direction, t, normal, footprint, .. } = self;
        vectorize(Measure { direction, t, normal, pixel, footprint });
    }
}

/// Measures how wide a pixel is on a surface.
struct Measure<'a> {
    direction: &'a Points,
    t: &'a Lane,
    normal: &'a Points,
    pixel: f32,
    footprint: &'a mut Lane,
}

impl Kernel for Measure<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { direction, t, normal, pixel, footprint } = self;
        for i in 0..LANES {
            let slant = (-normal.get(i).dot(direction.get(i))).clamp(0.02, 1.0);
            footprint[i] = t[i] * pixel / slant.sqrt();
        }
    }
}
