//! Half balls.

use super::{ClosedForm, Entry, Solid, ball};
use crate::synthetic::vec3::{Ray, Vec3, vec3};

/// The upper half of a ball of `radius` metres, centred in height.
///
/// Faces: vault 0, floor 1.
#[derive(Debug, Clone, Copy)]
pub(in crate::synthetic) struct Dome {
    pub(in crate::synthetic) radius: f32,
}

impl ClosedForm for Dome {
    #[inline(always)]
    fn entry(&self, ray: &Ray) -> Entry {
        let base = -0.5 * self.radius;
        let (enter, leave) = ball(ray, vec3(0.0, base, 0.0), self.radius);
        let (height, climb) = (ray.origin.y - base, ray.direction.y);
        // The ray is above the floor from here on if it climbs, until here if it falls.
        let level = climb.abs() < 1e-9;
        let t = -height / climb;
        let from_below = !level & (climb > 0.0) & (t > enter);
        let enter = Entry { t: if from_below { t } else { enter }, face: u32::from(from_below) };
        let leave = if !level & (climb < 0.0) & (t < leave) { t } else { leave };
        let inside = (enter.t < leave) & !(level & (height < 0.0));
        Entry::at(if inside { enter.t } else { f32::INFINITY }, enter.face)
    }
}

impl Solid for Dome {
    #[inline(always)]
    fn normal(&self, p: Vec3, face: u32) -> Vec3 {
        let vault = (p + Vec3::UP * (0.5 * self.radius)).unit();
        if face == 0 { vault } else { -Vec3::UP }
    }

    fn half_extent(&self) -> Vec3 {
        vec3(self.radius, 0.5 * self.radius, self.radius)
    }
}
