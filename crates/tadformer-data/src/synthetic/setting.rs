//! Where a scene takes place: a room, a walled court, or open ground under the sky.

use super::catalogue::{BACKGROUND, FLOOR, WALL};
use super::lanes::{Codes, LANES, Lane, Points, Rays};
use super::material::{Material, Space};
use super::patch::Patch;
use super::simd::{Kernel, vectorize};
use super::sky::Sky;
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

    const ALL: [Self; Self::COUNT as usize] = [
        Self::Sky,
        Self::Floor,
        Self::WallWest,
        Self::WallEast,
        Self::WallNorth,
        Self::WallSouth,
        Self::Ceiling,
    ];

    /// The surface that is instance `instance`, unless that is an object.
    pub(super) fn of(instance: u16) -> Option<Self> {
        Self::ALL.get(usize::from(instance)).copied()
    }

    pub(super) fn class(self) -> usize {
        match self {
            Self::Sky | Self::Ceiling => BACKGROUND,
            Self::Floor => FLOOR,
            _ => WALL,
        }
    }

    /// The unit vector into the place; zero for the sky.
    pub(super) fn normal(self) -> Vec3 {
        match self {
            Self::Sky => Vec3::ZERO,
            Self::Floor => Vec3::UP,
            Self::Ceiling => -Vec3::UP,
            Self::WallWest => vec3(1.0, 0.0, 0.0),
            Self::WallEast => vec3(-1.0, 0.0, 0.0),
            Self::WallNorth => vec3(0.0, 0.0, 1.0),
            Self::WallSouth => vec3(0.0, 0.0, -1.0),
        }
    }
}

impl Setting {
    /// What of the surroundings `rays`, from inside them, meet: metres along each and the [`Surface`].
    pub(super) fn meet(&self, rays: &Rays, t: &mut Lane, surface: &mut Codes) {
        let Self { half_x, half_z, height, .. } = *self;
        match self.place {
            Place::Field => vectorize(Ground { reach: half_z, rays, t, surface }),
            Place::Court => vectorize(Walls { ceiling: false, half_x, half_z, height, rays, t, surface }),
            Place::Room => vectorize(Walls { ceiling: true, half_x, half_z, height, rays, t, surface }),
        }
    }

    /// The share of light that `surface` returns at `patch.p`, and how far the corners of the surroundings darken it.
    pub(super) fn paint(&self, surface: Surface, patch: &mut Patch) {
        match surface {
            Surface::Sky => {}
            Surface::Ceiling => patch.albedo = Points::splat(self.ceiling),
            Surface::Floor => {
                let Patch { p, .. } = patch;
                patch.texture = Points { x: p.x, y: p.z, z: [0.0; LANES] };
                self.floor.paint(Space::Plane, patch);
            }
            Surface::WallWest | Surface::WallEast => self.paint_wall(0, patch.p.z, patch),
            Surface::WallNorth | Surface::WallSouth => self.paint_wall(1, patch.p.x, patch),
        }
        if self.place == Place::Field {
            patch.open = [1.0; LANES];
            return;
        }
        let (east, north) =
            (Plane { at: self.half_x, of: &patch.p.x }, Plane { at: self.half_z, of: &patch.p.z });
        let ground = Plane { at: 0.0, of: &patch.p.y };
        let sides = match surface {
            Surface::Sky | Surface::Floor | Surface::Ceiling => [east, north],
            Surface::WallWest | Surface::WallEast => [north, ground],
            Surface::WallNorth | Surface::WallSouth => [east, ground],
        };
        vectorize(Corner { sides, open: &mut patch.open });
    }

    fn paint_wall(&self, pair: usize, along: Lane, patch: &mut Patch) {
        patch.texture = Points { x: along, y: patch.p.y, z: [0.0; LANES] };
        self.walls[pair].paint(Space::Plane, patch);
        let (skirting, colour) = self.skirting;
        let Patch { p, footprint, albedo, .. } = patch;
        vectorize(Skirt { height: skirting, colour, at: &p.y, footprint, albedo });
    }
}

/// Planes at `±at` of a coordinate.
#[derive(Clone, Copy)]
struct Plane<'a> {
    at: f32,
    of: &'a Lane,
}

/// Darkens what is near the corner that two planes make with a surface.
struct Corner<'a> {
    sides: [Plane<'a>; 2],
    open: &'a mut Lane,
}

impl Kernel for Corner<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { sides: [one, other], open } = self;
        for (lane, open) in open.iter_mut().enumerate() {
            let (one, other) = (one.at - one.of[lane].abs(), other.at - other.of[lane].abs());
            // The product of two such factors, over one denominator.
            let (one, other) = (12.0 * one * one, 12.0 * other * other);
            *open = (0.6 + one) * (0.6 + other) / ((1.0 + one) * (1.0 + other));
        }
    }
}

/// Paints the skirting board along the foot of a wall.
struct Skirt<'a> {
    height: f32,
    colour: Vec3,
    /// Metres above the ground.
    at: &'a Lane,
    footprint: &'a Lane,
    albedo: &'a mut Points,
}

impl Kernel for Skirt<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { height, colour, at, footprint, albedo } = self;
        for lane in 0..LANES {
            let cover = ((height - at[lane]) / footprint[lane].max(1e-4) + 0.5).clamp(0.0, 1.0);
            albedo.set(lane, albedo.get(lane).mix(colour, cover));
        }
    }
}

/// Speeds below this towards a plane do not meet it.
const LEVEL: f32 = 1e-6;

/// Rays against open ground that ends `reach` metres from the origin.
struct Ground<'a> {
    reach: f32,
    rays: &'a Rays,
    t: &'a mut Lane,
    surface: &'a mut Codes,
}

impl Kernel for Ground<'_> {
    #[inline(always)]
    fn run(self) {
        for lane in 0..LANES {
            let ray = self.rays.get(lane);
            let down = -ray.origin.y / ray.direction.y;
            let p = ray.at(down);
            let meets = (ray.direction.y < -LEVEL) & (p.x * p.x + p.z * p.z < self.reach * self.reach);
            self.t[lane] = if meets { down } else { f32::INFINITY };
            self.surface[lane] = if meets { Surface::Floor as u32 } else { Surface::Sky as u32 };
        }
    }
}

/// Rays against floor, four walls and perhaps a ceiling.
struct Walls<'a> {
    ceiling: bool,
    half_x: f32,
    half_z: f32,
    height: f32,
    rays: &'a Rays,
    t: &'a mut Lane,
    surface: &'a mut Codes,
}

impl Kernel for Walls<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { ceiling, half_x, half_z, height, .. } = self;
        // Under the sky, rays above the walls go on; in a room the ceiling is nearer.
        let (top, above, lid) = if ceiling {
            (f32::INFINITY, Surface::Ceiling, height)
        } else {
            (height, Surface::Sky, f32::INFINITY)
        };
        for lane in 0..LANES {
            let Ray { origin: o, direction: d } = self.rays.get(lane);
            let falls = d.y < 0.0;
            let t = (if falls { 0.0 } else { lid } - o.y) / d.y;
            let mut t = if d.y.abs() > LEVEL { t } else { f32::INFINITY };
            let mut surface = if falls { Surface::Floor as u32 } else { above as u32 };
            let side = (if d.x > 0.0 { half_x } else { -half_x } - o.x) / d.x;
            if (d.x.abs() > LEVEL) & (side < t) & (o.y + d.y * side < top) {
                t = side;
                surface = if d.x > 0.0 { Surface::WallEast as u32 } else { Surface::WallWest as u32 };
            }
            let side = (if d.z > 0.0 { half_z } else { -half_z } - o.z) / d.z;
            if (d.z.abs() > LEVEL) & (side < t) & (o.y + d.y * side < top) {
                t = side;
                surface = if d.z > 0.0 { Surface::WallSouth as u32 } else { Surface::WallNorth as u32 };
            }
            self.t[lane] = t;
            self.surface[lane] = surface;
        }
    }
}
