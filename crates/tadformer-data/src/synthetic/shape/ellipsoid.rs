//! Ellipsoids and spheres.

use super::{ClosedForm, Entry, Solid, ball};
use crate::synthetic::vec3::{Ray, Vec3};

/// Semi-axes, metres; a sphere if they are equal.
#[derive(Debug, Clone, Copy)]
pub(in crate::synthetic) struct Ellipsoid {
    pub(in crate::synthetic) radii: Vec3,
}

impl ClosedForm for Ellipsoid {
    #[inline(always)]
    fn entry(&self, ray: &Ray) -> Entry {
        let inverse = Vec3::splat(1.0).over(self.radii);
        let scaled = Ray { origin: ray.origin.times(inverse), direction: ray.direction.times(inverse) };
        Entry::at(ball(&scaled, Vec3::ZERO, 1.0).0, 0)
    }
}

impl Solid for Ellipsoid {
    #[inline(always)]
    fn normal(&self, p: Vec3, _: u32) -> Vec3 {
        p.over(self.radii.times(self.radii)).unit()
    }

    fn half_extent(&self) -> Vec3 {
        self.radii
    }
}
