//! Sky with clouds and a sun, and hills along the horizon.

use super::lanes::{LANES, Points};
use super::noise::fractal;
use super::simd::{Kernel, vectorize};
use super::vec3::{Vec3, vec3};

/// What is seen where there is nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sky {
    pub(super) zenith: Vec3,
    pub(super) horizon: Vec3,
    pub(super) hills: Vec3,
    /// Share of the sky under clouds, `0..=1`.
    pub(super) clouds: f32,
    pub(super) sun: Vec3,
    pub(super) sun_direction: Vec3,
    pub(super) salt: u32,
}

/// No hill is higher than this sine of an angle above the horizon.
const RIDGE: f32 = 0.11;

impl Sky {
    /// The light from `directions`; `footprint` is a pixel's width in radians.
    pub(super) fn light(&self, directions: &Points, footprint: f32, light: &mut Points) {
        vectorize(Light { sky: *self, directions, footprint, light });
    }

    #[inline(always)]
    fn light_from(&self, d: Vec3, footprint: f32) -> Vec3 {
        let climb = d.y.max(0.0).sqrt();
        // A turn around the horizon without a seam: noise on the circle that the direction draws.
        let round = 3.0 / (d.x * d.x + d.z * d.z).sqrt().max(1e-6);
        let hills = fractal::<3, true>(vec3(d.x * round, d.z * round, 0.0), 3.0 * footprint, self.salt);
        let ridge = if d.y < RIDGE { RIDGE * (hills - 0.2) } else { 0.0 };
        let hidden = ((ridge - d.y) / footprint.max(1e-5) + 0.5).clamp(0.0, 1.0);
        let haze = (0.75 - 4.0 * (d.y + 0.05)).clamp(0.25, 0.8);
        let hills = self.hills.mix(self.horizon, haze * 0.6);
        let spread = 1.6 / (d.y.max(0.0) + 0.18);
        let cover = fractal::<3, true>(vec3(d.x * spread, d.z * spread, 0.0), 0.02, self.salt ^ 0x55);
        let cloud = ((cover - 1.0 + 0.75 * self.clouds) * 5.0).clamp(0.0, 0.9);
        let sky = self.horizon.mix(self.zenith, climb).mix(vec3(0.92, 0.93, 0.95), cloud);
        let glare = d.dot(self.sun_direction).max(0.0);
        // To the 24th power.
        let glare = glare * glare * glare;
        let glare = glare * glare;
        let glare = glare * glare;
        (sky + self.sun * (0.25 * glare * glare)).mix(hills, hidden)
    }
}

/// The light of the sky from many directions.
struct Light<'a> {
    sky: Sky,
    directions: &'a Points,
    footprint: f32,
    light: &'a mut Points,
}

impl Kernel for Light<'_> {
    #[inline(always)]
    fn run(self) {
        for lane in 0..LANES {
            self.light.set(lane, self.sky.light_from(self.directions.get(lane), self.footprint));
        }
    }
}
