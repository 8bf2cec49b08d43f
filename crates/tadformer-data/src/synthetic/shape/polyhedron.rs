//! Convex bodies with flat faces.

use super::{ClosedForm, Entry, Solid};
use crate::synthetic::vec3::{Ray, Vec3};

/// What lies behind every plane; each plane is a face.
#[derive(Debug, Clone, Copy)]
pub(in crate::synthetic) struct Polyhedron {
    /// Planes that the body does without hold all of space: a fixed number of them is a loop without branches.
    pub(in crate::synthetic) planes: [Plane; FACES],
    half_extent: Vec3,
}

/// More faces no body has.
const FACES: usize = 8;

/// A half-space: points with `normal · p <= offset`.
#[derive(Debug, Clone, Copy)]
pub(in crate::synthetic) struct Plane {
    pub(in crate::synthetic) normal: Vec3,
    pub(in crate::synthetic) offset: f32,
}

impl Plane {
    /// Nothing is outside.
    const EVERYWHERE: Self = Self { normal: Vec3::ZERO, offset: 1e3 };

    /// The half-space whose border passes through `point`.
    pub(in crate::synthetic) fn through(normal: Vec3, point: Vec3) -> Self {
        let normal = normal.unit();
        Self { normal, offset: normal.dot(point) }
    }
}

impl Polyhedron {
    /// The body behind `planes`, at most eight, in a box with half edges `half_extent` metres.
    pub(in crate::synthetic) fn new<const N: usize>(planes: [Plane; N], half_extent: Vec3) -> Self {
        const { assert!(N <= FACES) };
        let mut all = [Plane::EVERYWHERE; FACES];
        all[..N].copy_from_slice(&planes);
        Self { planes: all, half_extent }
    }
}

impl ClosedForm for Polyhedron {
    #[inline(always)]
    fn entry(&self, ray: &Ray) -> Entry {
        let (mut enter, mut leave) = (Entry { t: f32::NEG_INFINITY, face: 0 }, f32::INFINITY);
        for (face, plane) in self.planes.iter().enumerate() {
            let height = plane.normal.dot(ray.origin) - plane.offset;
            let climb = plane.normal.dot(ray.direction);
            let level = climb.abs() < 1e-9;
            // A ray along the plane is in front of it for ever or never.
            let t = if level {
                if height > 0.0 { f32::INFINITY } else { f32::NEG_INFINITY }
            } else {
                -height / climb
            };
            let falls = level | (climb < 0.0);
            if falls & (t > enter.t) {
                enter = Entry { t, face: face as u32 };
            }
            if !falls & (t < leave) {
                leave = t;
            }
        }
        Entry::at(if enter.t < leave { enter.t } else { f32::INFINITY }, enter.face)
    }
}

impl Solid for Polyhedron {
    #[inline(always)]
    fn normal(&self, _: Vec3, face: u32) -> Vec3 {
        let mut normal = Vec3::UP;
        for (i, plane) in self.planes.iter().enumerate() {
            if i as u32 == face {
                normal = plane.normal;
            }
        }
        normal
    }

    fn half_extent(&self) -> Vec3 {
        self.half_extent
    }
}
