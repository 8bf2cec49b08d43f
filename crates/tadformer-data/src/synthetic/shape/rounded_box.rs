//! Boxes with round edges.

use super::Solid;
use super::march::Field;
use crate::synthetic::vec3::{Vec3, vec3};

/// A box with half edges `core`, grown by `radius`, metres.
#[derive(Debug, Clone, Copy)]
pub(in crate::synthetic) struct RoundedBox {
    pub(in crate::synthetic) core: Vec3,
    pub(in crate::synthetic) radius: f32,
}

impl Field for RoundedBox {
    #[inline(always)]
    fn distance(&self, p: Vec3) -> f32 {
        let q = p.abs() - self.core;
        let outside = q.max(Vec3::ZERO).length();
        outside + q.x.max(q.y).max(q.z).min(0.0) - self.radius
    }
}

impl Solid for RoundedBox {
    #[inline(always)]
    fn normal(&self, p: Vec3, _: u32) -> Vec3 {
        let core = self.core;
        let inside = vec3(p.x.clamp(-core.x, core.x), p.y.clamp(-core.y, core.y), p.z.clamp(-core.z, core.z));
        let out = p - inside;
        // Inside the core there is no surface to have a normal.
        if out.length() > 0.5 * self.radius { out.unit() } else { Vec3::UP }
    }

    fn half_extent(&self) -> Vec3 {
        self.core + Vec3::splat(self.radius)
    }
}
