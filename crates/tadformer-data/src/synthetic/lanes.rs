//! Numbers, points and rays of many pixels side by side: one array a coordinate, so that loops over them become vectors.

use super::simd::{Kernel, vectorize};
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

impl Points {
    /// The corners of the box around all points.
    pub(super) fn bounds(&self) -> (Vec3, Vec3) {
        let (mut low, mut high) = (Vec3::ZERO, Vec3::ZERO);
        vectorize(Bounds { points: self, low: &mut low, high: &mut high });
        (low, high)
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

/// Finds the least and the largest coordinates.
struct Bounds<'a> {
    points: &'a Points,
    low: &'a mut Vec3,
    high: &'a mut Vec3,
}

impl Kernel for Bounds<'_> {
    #[inline(always)]
    fn run(self) {
        let Points { x, y, z } = self.points;
        *self.low = vec3(least(x), least(y), least(z));
        *self.high = -vec3(least(&x.map(|v| -v)), least(&y.map(|v| -v)), least(&z.map(|v| -v)));
    }
}

/// The least number of a lane.
#[inline(always)]
pub(super) fn least(lane: &Lane) -> f32 {
    // Halved again and again: the compiler must not reorder comparisons of its own accord.
    let mut least = *lane;
    let mut len = LANES / 2;
    while len > 0 {
        let (kept, other) = least.split_at_mut(len);
        for (kept, other) in kept.iter_mut().zip(other) {
            *kept = if *other < *kept { *other } else { *kept };
        }
        len /= 2;
    }
    least[0]
}
