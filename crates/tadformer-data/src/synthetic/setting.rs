//! Where a scene takes place: a room, a walled court, or open ground under the sky.

use super::catalogue::{BACKGROUND, FLOOR, WALL};
use super::material::Material;
use super::noise::fractal;
use super::vec3::{Ray, Vec3, vec3};

/// What kind of place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Floor, four walls and a ceiling.
    Room,
    /// Floor and four walls under the sky, walls higher than the camera.
    Court,
    /// Ground out to [`Setting::half_z`] metres from the origin, hills and sky beyond.
    Field,
}

/// The surroundings.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) place: Place,
    /// Walls stand at `x = ±half_x` and `z = ±half_z`, metres.
    pub(super) half_x: f32,
    pub(super) half_z: f32,
    /// Of the walls, metres.
    pub(super) height: f32,
    pub(super) floor: Material,
    /// The walls at `x = ±half_x`, then those at `z = ±half_z`.
    pub(super) walls: [Material; 2],
    /// Height in metres and colour of the skirting board or plinth.
    pub(super) skirting: (f32, Vec3),
    pub(super) ceiling: Vec3,
    pub(super) sky: Sky,
}

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

/// A surface of the surroundings, as a ray meets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backdrop {
    /// Metres along the ray; infinite for the sky.
    pub(super) t: f32,
    pub(super) surface: Surface,
    pub(super) normal: Vec3,
}

/// Surfaces of the surroundings; each is an instance of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    Sky = 0,
    Floor = 1,
    WallWest = 2,
    WallEast = 3,
    WallNorth = 4,
    WallSouth = 5,
    Ceiling = 6,
}

impl Surface {
    pub(super) const COUNT: u16 = 7;

    pub(super) fn class(self) -> usize {
        match self {
            Self::Sky | Self::Ceiling => BACKGROUND,
            Self::Floor => FLOOR,
            _ => WALL,
        }
    }
}

const NOTHING: Backdrop = Backdrop { t: f32::INFINITY, surface: Surface::Sky, normal: vec3(0.0, 0.0, 0.0) };

impl Setting {
    /// What of the surroundings `ray`, from inside them, meets.
    pub(super) fn meet(&self, ray: &Ray) -> Backdrop {
        let (o, d) = (ray.origin, ray.direction);
        let mut best = NOTHING;
        if d.y < -1e-6 {
            best = Backdrop { t: -o.y / d.y, surface: Surface::Floor, normal: Vec3::UP };
        }
        if self.place == Place::Field {
            let p = ray.at(best.t);
            return if best.t.is_finite() && p.x * p.x + p.z * p.z < self.half_z * self.half_z {
                best
            } else {
                NOTHING
            };
        }
        if self.place == Place::Room && d.y > 1e-6 {
            best = Backdrop { t: (self.height - o.y) / d.y, surface: Surface::Ceiling, normal: -Vec3::UP };
        }
        let sides = [
            (d.x, o.x, self.half_x, vec3(1.0, 0.0, 0.0), [Surface::WallWest, Surface::WallEast]),
            (d.z, o.z, self.half_z, vec3(0.0, 0.0, 1.0), [Surface::WallNorth, Surface::WallSouth]),
        ];
        for (speed, start, half, axis, [low, high]) in sides {
            if speed.abs() < 1e-6 {
                continue;
            }
            let t = (half * speed.signum() - start) / speed;
            let inside = self.place == Place::Room || o.y + d.y * t < self.height;
            if t < best.t && inside {
                let surface = if speed > 0.0 { high } else { low };
                best = Backdrop { t, surface, normal: -(axis * speed.signum()) };
            }
        }
        best
    }

    /// The share of light that `surface` returns at `p`.
    pub(super) fn albedo(&self, surface: Surface, p: Vec3, footprint: f32) -> Vec3 {
        match surface {
            Surface::Sky => Vec3::ZERO,
            Surface::Ceiling => self.ceiling,
            Surface::Floor => self.floor.albedo(vec3(p.x, p.z, 0.0), footprint),
            Surface::WallWest | Surface::WallEast => self.wall(0, p.z, p.y, footprint),
            Surface::WallNorth | Surface::WallSouth => self.wall(1, p.x, p.y, footprint),
        }
    }

    /// How far the corners of the surroundings darken the point `p` on `surface`, `0..=1`.
    pub(super) fn openness(&self, surface: Surface, p: Vec3) -> f32 {
        if self.place == Place::Field {
            return 1.0;
        }
        let east = self.half_x - p.x.abs();
        let north = self.half_z - p.z.abs();
        let corner = |d: f32| 1.0 - 0.4 / (1.0 + 12.0 * d * d);
        match surface {
            Surface::Sky => 1.0,
            Surface::Floor => corner(east) * corner(north),
            Surface::Ceiling => corner(east) * corner(north),
            Surface::WallWest | Surface::WallEast => corner(north) * corner(p.y),
            Surface::WallNorth | Surface::WallSouth => corner(east) * corner(p.y),
        }
    }

    fn wall(&self, pair: usize, along: f32, height: f32, footprint: f32) -> Vec3 {
        let (skirting, colour) = self.skirting;
        let body = self.walls[pair].albedo(vec3(along, height, 0.0), footprint);
        let cover = ((skirting - height) / footprint.max(1e-4) + 0.5).clamp(0.0, 1.0);
        body.mix(colour, cover)
    }
}

/// No hill is higher than this sine of an angle above the horizon.
const RIDGE: f32 = 0.11;

impl Sky {
    /// The light from `direction`; `footprint` is a pixel's width in radians.
    pub(super) fn light(&self, direction: Vec3, footprint: f32) -> Vec3 {
        let d = direction;
        let climb = d.y.max(0.0).sqrt();
        // A turn around the horizon without a seam: noise on the circle that the direction draws.
        let ridge = if d.y < RIDGE {
            let round = 3.0 / (d.x * d.x + d.z * d.z).sqrt().max(1e-6);
            RIDGE * (fractal(vec3(d.x * round, d.z * round, 0.0), 3, 3.0 * footprint, self.salt) - 0.2)
        } else {
            0.0
        };
        let hidden = ((ridge - d.y) / footprint.max(1e-5) + 0.5).clamp(0.0, 1.0);
        let haze = (0.75 - 4.0 * (d.y + 0.05)).clamp(0.25, 0.8);
        let hills = self.hills.mix(self.horizon, haze * 0.6);
        if hidden >= 1.0 {
            return hills;
        }
        let spread = 1.6 / (d.y.max(0.0) + 0.18);
        let cover = fractal(vec3(d.x * spread, d.z * spread, 0.0), 3, 0.02, self.salt ^ 0x55);
        let cloud = ((cover - 1.0 + 0.75 * self.clouds) * 5.0).clamp(0.0, 0.9);
        let sky = self.horizon.mix(self.zenith, climb).mix(vec3(0.92, 0.93, 0.95), cloud);
        let glare = d.dot(self.sun_direction).max(0.0);
        (sky + self.sun * (0.25 * glare.powi(24))).mix(hills, hidden)
    }
}
