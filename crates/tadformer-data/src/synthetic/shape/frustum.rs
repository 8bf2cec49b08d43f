//! Cylinders, cones and truncated cones.

use super::{ClosedForm, Entry, Solid};
use crate::synthetic::vec3::{Ray, Vec3, vec3};

/// Circular section about `y`, radius `bottom` at `-half`, `top` at `half`, metres.
///
/// Faces: flank 0, bottom 1, top 2.
#[derive(Debug, Clone, Copy)]
pub(in crate::synthetic) struct Frustum {
    pub(in crate::synthetic) bottom: f32,
    pub(in crate::synthetic) top: f32,
    pub(in crate::synthetic) half: f32,
}

impl ClosedForm for Frustum {
    #[inline(always)]
    fn entry(&self, ray: &Ray) -> Entry {
        let Self { bottom, top, half } = *self;
        let (o, d) = (ray.origin, ray.direction);
        let slope = (top - bottom) / (2.0 * half);
        let radius = 0.5 * (top + bottom) + slope * o.y;
        let a = d.x * d.x + d.z * d.z - slope * slope * d.y * d.y;
        let b = o.x * d.x + o.z * d.z - slope * d.y * radius;
        let c = o.x * o.x + o.z * o.z - radius * radius;
        let discriminant = b * b - a * c;
        let crosses = (discriminant > 0.0) & (a.abs() > 1e-9);
        let root = discriminant.max(0.0).sqrt();
        let flank = |t: f32| {
            let between = (o.y + d.y * t).abs() <= half;
            Entry::at(if crosses & between { t } else { f32::INFINITY }, 0)
        };
        let cap = |face: u32, y: f32, radius: f32| {
            // A level ray gives an infinite `t` or no number, and fails the comparison.
            let t = (y - o.y) / d.y;
            let (x, z) = (o.x + d.x * t, o.z + d.z * t);
            Entry::at(if x * x + z * z <= radius * radius { t } else { f32::INFINITY }, face)
        };
        let inverse = 1.0 / a;
        let near = flank((-b - root) * inverse).nearer(flank((-b + root) * inverse));
        near.nearer(cap(1, -half, bottom)).nearer(cap(2, half, top))
    }
}

impl Solid for Frustum {
    #[inline(always)]
    fn normal(&self, p: Vec3, face: u32) -> Vec3 {
        let slope = (self.bottom - self.top) / (2.0 * self.half);
        let radial = 1.0 / (p.x * p.x + p.z * p.z).sqrt().max(1e-9);
        let flank = vec3(p.x * radial, slope, p.z * radial).unit();
        let cap = vec3(0.0, if face == 1 { -1.0 } else { 1.0 }, 0.0);
        if face == 0 { flank } else { cap }
    }

    fn half_extent(&self) -> Vec3 {
        let radius = self.bottom.max(self.top);
        vec3(radius, self.half, radius)
    }
}
