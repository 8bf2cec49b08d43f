//! Tori and links of a chain.

use super::Solid;
use super::march::Field;
use crate::synthetic::vec3::{Vec3, vec3};

/// A tube of radius `tube` about a stadium in the `xz` plane: semicircles of radius `ring`, `straight` metres from the
/// centre along `x`; a torus if `straight` is zero.
#[derive(Debug, Clone, Copy)]
pub(in crate::synthetic) struct Ring {
    pub(in crate::synthetic) ring: f32,
    pub(in crate::synthetic) tube: f32,
    pub(in crate::synthetic) straight: f32,
}

impl Ring {
    /// The point of the centre line that is nearest to `p`.
    #[inline(always)]
    fn centre(&self, p: Vec3) -> Vec3 {
        let middle = p.x.clamp(-self.straight, self.straight);
        let flat = vec3(p.x - middle, 0.0, p.z);
        let length = (flat.x * flat.x + flat.z * flat.z).sqrt().max(1e-9);
        flat * (self.ring / length) + vec3(middle, 0.0, 0.0)
    }
}

impl Field for Ring {
    #[inline(always)]
    fn distance(&self, p: Vec3) -> f32 {
        (p - self.centre(p)).length() - self.tube
    }
}

impl Solid for Ring {
    #[inline(always)]
    fn normal(&self, p: Vec3, _: u32) -> Vec3 {
        (p - self.centre(p)).unit()
    }

    fn half_extent(&self) -> Vec3 {
        let Self { ring, tube, straight } = *self;
        vec3(ring + tube + straight, tube, ring + tube)
    }
}
