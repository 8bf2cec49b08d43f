//! Numbers, points and rays of many pixels side by side: one array a coordinate, so that loops over them become vectors.

use super::vec3::{Ray, Vec3, vec3};

/// Rays that are cast together.
pub(super) const LANES: usize = 64;

/// A number for each ray.
pub(super) type Lane = [f32; LANES];

/// A small whole number, a flag or a set of bits for each ray.
pub(super) type Codes = [u32; LANES];

/// A point, a direction or a colour for each ray.
#[derive(Debug, Clone)]
pub(super) struct Points {
    pub(super) x: Lane,
    pub(super) y: Lane,
    pub(super) z: Lane,
}

/// A ray for each lane.
#[derive(Debug, Clone)]
pub(super) struct Rays {
    pub(super) origin: Points,
    /// Unit vectors.
    pub(super) direction: Points,
}

impl Points {
    pub(super) const ZERO: Self = Self { x: [0.0; LANES], y: [0.0; LANES], z: [0.0; LANES] };

    /// `p` in every lane.
    pub(super) fn splat(p: Vec3) -> Self {
        Self { x: [p.x; LANES], y: [p.y; LANES], z: [p.z; LANES] }
    }

    #[inline(always)]
    pub(super) fn get(&self, lane: usize) -> Vec3 {
        vec3(self.x[lane], self.y[lane], self.z[lane])
    }

    #[inline(always)]
    pub(super) fn set(&mut self, lane: usize, p: Vec3) {
        (self.x[lane], self.y[lane], self.z[lane]) = (p.x, p.y, p.z);
    }
}

impl Rays {
    pub(super) const ZERO: Self = Self { origin: Points::ZERO, direction: Points::ZERO };

    #[inline(always)]
    pub(super) fn get(&self, lane: usize) -> Ray {
        Ray { origin: self.origin.get(lane), direction: self.direction.get(lane) }
    }

    #[inline(always)]
    pub(super) fn set(&mut self, lane: usize, ray: Ray) {
        self.origin.set(lane, ray.origin);
        self.direction.set(lane, ray.direction);
    }
}

/// The lanes of a set, a bit each, in order.
pub(super) fn lanes_of(set: u64) -> impl Iterator<Item = usize> {
    let mut left = set;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}
