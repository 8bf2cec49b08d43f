//! Solid bodies in their own coordinates: where rays enter them and what their normal is there.
//!
//! Bodies are centred, so that one at rest on its local `y = -half_extent.y` touches the ground with its centre at that
//! height. Most are intersected in closed form; rings and rounded boxes are not convex or not simple, and their signed
//! distance is followed along the ray instead. Neither way branches from ray to ray, so that many are cast at once.

mod dome;
mod ellipsoid;
mod frustum;
mod limb;
mod march;
mod polyhedron;
mod ring;
mod rounded_box;
#[cfg(test)]
pub(super) mod tests;

pub(super) use self::dome::Dome;
pub(super) use self::ellipsoid::Ellipsoid;
pub(super) use self::frustum::Frustum;
pub(super) use self::limb::Limb;
pub(super) use self::polyhedron::{Plane, Polyhedron};
pub(super) use self::ring::Ring;
pub(super) use self::rounded_box::RoundedBox;

use self::march::March;
use super::lanes::{Codes, LANES, Lane, Points, Rays};
use super::simd::{Kernel, vectorize};
use super::vec3::{Ray, Vec3};

/// A body.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Ellipsoid(Ellipsoid),
    Frustum(Frustum),
    Dome(Dome),
    Ring(Ring),
    RoundedBox(RoundedBox),
    /// A limb along `y` with equal radii.
    Capsule(Limb),
    Polyhedron(Polyhedron),
}

/// Where rays enter a body.
#[derive(Debug, Clone)]
pub(super) struct Entries {
    /// Metres along the rays; infinite where they miss it.
    pub(super) t: Lane,
    /// Face of the body; a smooth piece of surface each.
    pub(super) face: Codes,
}

/// A body's geometry.
trait Solid: Copy {
    /// The outward unit normal at `p` on the surface, on face `face`.
    fn normal(&self, p: Vec3, face: u32) -> Vec3;

    /// Half the size of the axis-aligned box around it, metres.
    fn half_extent(&self) -> Vec3;
}

/// A body that a formula intersects.
trait ClosedForm: Solid {
    /// Where `ray` enters this body, if it does so from outside.
    fn entry(&self, ray: &Ray) -> Entry;
}

/// Where one ray enters a body.
#[derive(Debug, Clone, Copy)]
struct Entry {
    t: f32,
    face: u32,
}

/// Distances below this many metres from a ray's origin are the surface that it left.
const NEAR: f32 = 1e-4;

impl Entries {
    pub(super) const NONE: Self = Self { t: [f32::INFINITY; LANES], face: [0; LANES] };
}

impl Entry {
    const NONE: Self = Self { t: f32::INFINITY, face: 0 };

    /// An entry at `t`, unless it lies behind the ray's origin.
    #[inline(always)]
    fn at(t: f32, face: u32) -> Self {
        Self { t: if t > NEAR { t } else { f32::INFINITY }, face }
    }

    #[inline(always)]
    fn nearer(self, other: Self) -> Self {
        if other.t < self.t { other } else { self }
    }
}

impl Shape {
    /// Where `rays` enter this body from outside.
    pub(super) fn enter(&self, rays: &Rays, entries: &mut Entries) {
        match self {
            Self::Ellipsoid(solid) => vectorize(Enter { solid: *solid, rays, entries }),
            Self::Frustum(solid) => vectorize(Enter { solid: *solid, rays, entries }),
            Self::Dome(solid) => vectorize(Enter { solid: *solid, rays, entries }),
            Self::Ring(field) => vectorize(March { field: *field, rays, entries }),
            Self::RoundedBox(field) => vectorize(March { field: *field, rays, entries }),
            Self::Capsule(limb) => limb.enter(rays, entries),
            Self::Polyhedron(solid) => vectorize(Enter { solid: *solid, rays, entries }),
        }
    }

    /// The outward unit normals at the points `at` of the surface, on the faces `face`.
    pub(super) fn normals(&self, at: &Points, face: &Codes, normals: &mut Points) {
        match self {
            Self::Ellipsoid(solid) => vectorize(Normals { solid: *solid, at, face, normals }),
            Self::Frustum(solid) => vectorize(Normals { solid: *solid, at, face, normals }),
            Self::Dome(solid) => vectorize(Normals { solid: *solid, at, face, normals }),
            Self::Ring(solid) => vectorize(Normals { solid: *solid, at, face, normals }),
            Self::RoundedBox(solid) => vectorize(Normals { solid: *solid, at, face, normals }),
            Self::Capsule(limb) => limb.normals(at, face, normals),
            Self::Polyhedron(solid) => vectorize(Normals { solid: *solid, at, face, normals }),
        }
    }

    /// Half the size of the axis-aligned box around this body.
    pub(super) fn half_extent(&self) -> Vec3 {
        match self {
            Self::Ellipsoid(solid) => solid.half_extent(),
            Self::Frustum(solid) => solid.half_extent(),
            Self::Dome(solid) => solid.half_extent(),
            Self::Ring(solid) => solid.half_extent(),
            Self::RoundedBox(solid) => solid.half_extent(),
            Self::Capsule(limb) => limb.half_extent(),
            Self::Polyhedron(solid) => solid.half_extent(),
        }
    }

    /// Radius of a ball about the centre that holds this body.
    pub(super) fn bounding_radius(&self) -> f32 {
        let half = self.half_extent();
        match self {
            Self::Ellipsoid(_) | Self::Capsule(_) => half.x.max(half.y).max(half.z),
            Self::Ring(_) => half.x,
            _ => half.length(),
        }
    }

    /// Whether its faces meet in creases that a picture shows as lines.
    pub(super) fn has_creases(&self) -> bool {
        matches!(self, Self::Frustum(_) | Self::Dome(_) | Self::Polyhedron(_))
    }

    /// The jump of depth, in metres, by which one piece of this body stands before another; `None` if it is convex.
    pub(super) fn overlap_jump(&self) -> Option<f32> {
        match self {
            Self::Ring(ring) => Some(ring.tube),
            _ => None,
        }
    }
}

impl Limb {
    /// As [`Shape::enter`].
    pub(super) fn enter(&self, rays: &Rays, entries: &mut Entries) {
        vectorize(Enter { solid: *self, rays, entries });
    }

    /// As [`Shape::normals`].
    pub(super) fn normals(&self, at: &Points, face: &Codes, normals: &mut Points) {
        vectorize(Normals { solid: *self, at, face, normals });
    }
}

/// Intersects rays with a body in closed form.
struct Enter<'a, S> {
    solid: S,
    rays: &'a Rays,
    entries: &'a mut Entries,
}

impl<S: ClosedForm> Kernel for Enter<'_, S> {
    #[inline(always)]
    fn run(self) {
        for lane in 0..LANES {
            let entry = self.solid.entry(&self.rays.get(lane));
            (self.entries.t[lane], self.entries.face[lane]) = (entry.t, entry.face);
        }
    }
}

/// Finds the normals of points on a body.
struct Normals<'a, S> {
    solid: S,
    at: &'a Points,
    face: &'a Codes,
    normals: &'a mut Points,
}

impl<S: Solid> Kernel for Normals<'_, S> {
    #[inline(always)]
    fn run(self) {
        for lane in 0..LANES {
            self.normals.set(lane, self.solid.normal(self.at.get(lane), self.face[lane]));
        }
    }
}

/// Where a ray, of any length of direction, enters and leaves a ball; twice nowhere, at infinity, if it misses it.
#[inline(always)]
fn ball(ray: &Ray, centre: Vec3, radius: f32) -> (f32, f32) {
    let from = ray.origin - centre;
    let a = 1.0 / ray.direction.dot(ray.direction);
    let b = from.dot(ray.direction) * a;
    // The squared distance of the line to the centre, from the foot of the perpendicular: b² - ac would cancel.
    let foot = from - ray.direction * b;
    let inside = radius * radius - foot.dot(foot);
    let half = (inside.max(0.0) * a).sqrt();
    if inside > 0.0 { (-b - half, -b + half) } else { (f32::INFINITY, f32::INFINITY) }
}
