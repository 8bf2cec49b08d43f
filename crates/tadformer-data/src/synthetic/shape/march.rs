//! Bodies without a closed form: their signed distance is followed along the ray.

use super::{Entries, NEAR, Solid};
use crate::synthetic::lanes::{LANES, Lane, Rays};
use crate::synthetic::simd::Kernel;
use crate::synthetic::vec3::{Ray, Vec3};

/// A body by its signed distance.
pub(super) trait Field: Solid {
    /// Metres from `p` to the surface, negative inside.
    fn distance(&self, p: Vec3) -> f32;
}

/// More steps than a ray needs that does not graze the surface.
const STEPS: usize = 96;

/// Distance in metres that counts as touching: well below a pixel at any size that is drawn.
const TOUCH: f32 = 2e-4;

/// Rays that step together until the last has arrived; those of neighbouring pixels arrive about together.
const COMPANY: usize = 16;

/// Follows all rays.
pub(super) struct March<'a, F> {
    pub(super) field: F,
    pub(super) rays: &'a Rays,
    pub(super) entries: &'a mut Entries,
}

impl<F: Field> Kernel for March<'_, F> {
    #[inline(always)]
    fn run(self) {
        let Self { field, rays, entries } = self;
        // From the surface of the box around it: a ray that only grazes a flat face would need ever shorter steps to it.
        let (mut t, mut leave): (Lane, Lane) = ([0.0; LANES], [0.0; LANES]);
        let half = field.half_extent();
        for lane in 0..LANES {
            (t[lane], leave[lane]) = box_interval(&rays.get(lane), half);
        }
        let mut touched = [0; LANES];
        for first in (0..LANES).step_by(COMPANY) {
            for _ in 0..STEPS {
                let mut going = 0;
                for lane in first..first + COMPANY {
                    let distance = field.distance(rays.get(lane).at(t[lane]));
                    let inside = t[lane] < leave[lane];
                    let touches = inside & (distance < TOUCH);
                    let goes = inside & !touches;
                    touched[lane] |= u32::from(touches);
                    leave[lane] = if touches { f32::NEG_INFINITY } else { leave[lane] };
                    t[lane] = if goes { t[lane] + distance } else { t[lane] };
                    going |= u32::from(goes);
                }
                if going == 0 {
                    break;
                }
            }
        }
        for lane in 0..LANES {
            let hit = (touched[lane] != 0) & (t[lane] > NEAR);
            entries.t[lane] = if hit { t[lane] } else { f32::INFINITY };
            entries.face[lane] = 0;
        }
    }
}

/// Where a ray enters the box with half edges `half`, at its origin if that is inside, and where it leaves it; it leaves
/// before it enters if it misses the box.
#[inline(always)]
fn box_interval(ray: &Ray, half: Vec3) -> (f32, f32) {
    // A speed of zero gives infinities of the right signs, or no number on the very face, which `min` and `max` pass by.
    let inverse = Vec3::splat(1.0).over(ray.direction);
    let (a, b) = ((-half - ray.origin).times(inverse), (half - ray.origin).times(inverse));
    let (low, high) = (a.min(b), a.max(b));
    (low.x.max(low.y).max(low.z).max(NEAR), high.x.min(high.y).min(high.z))
}
