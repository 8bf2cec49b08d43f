//! What rays meet first, and whether anything stands in their way.

use super::cull::Candidates;
use super::lanes::{Codes, LANES, Lane, Rays};
use super::scene::{Body, Object, Scene};
use super::shape::Entries;
use super::simd::{Kernel, vectorize};
use super::vec3::{Basis, Ray, Vec3};

/// What each ray meets first.
#[derive(Debug, Clone)]
pub(super) struct Nearest {
    /// Metres along the rays; infinite for the sky.
    pub(super) t: Lane,
    /// What it is: see [`Target`].
    pub(super) target: Codes,
    /// Face of a solid or of a person's capsule.
    pub(super) face: Codes,
}

/// A surface of the surroundings, a solid, or a capsule of a person, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Which surface of the surroundings, or which object.
    pub(super) instance: u16,
    /// Which capsule of a person, 0 for everything else.
    pub(super) limb: u8,
}

impl Target {
    pub(super) fn from_code(code: u32) -> Self {
        Self { instance: (code >> 8) as u16, limb: code as u8 }
    }

    pub(super) fn code(self) -> u32 {
        u32::from(self.instance) << 8 | u32::from(self.limb)
    }
}

/// Room for what tracing computes on its way.
#[derive(Debug)]
pub(super) struct Tracer {
    /// The rays in the coordinates of an object.
    local: Rays,
    entries: Entries,
}

impl Nearest {
    pub(super) const NONE: Self = Self { t: [f32::INFINITY; LANES], target: [0; LANES], face: [0; LANES] };
}

impl Tracer {
    pub(super) fn new() -> Self {
        Self { local: Rays::ZERO, entries: Entries::NONE }
    }

    /// What `rays` meet first of `candidates` and the surroundings.
    pub(super) fn trace(
        &mut self,
        scene: &Scene,
        rays: &Rays,
        candidates: &Candidates,
        nearest: &mut Nearest,
    ) {
        scene.setting.meet(rays, &mut nearest.t, &mut nearest.target);
        for surface in &mut nearest.target {
            *surface = Target { instance: *surface as u16, limb: 0 }.code();
        }
        nearest.face = [0; LANES];
        for (index, pieces) in candidates.iter() {
            self.enter(&scene.objects[index], pieces, rays, |limb, entries| {
                let target = Target { instance: Object::instance(index), limb };
                vectorize(Offer { entries, target: target.code(), nearest });
            });
        }
    }

    /// Sets those of `blocked` on whose rays one of `candidates` lies nearer than `reach` metres.
    pub(super) fn block(
        &mut self,
        scene: &Scene,
        rays: &Rays,
        reach: &Lane,
        candidates: &Candidates,
        blocked: &mut Codes,
    ) {
        for (index, pieces) in candidates.iter() {
            self.enter(&scene.objects[index], pieces, rays, |_, entries| {
                for lane in 0..LANES {
                    blocked[lane] |= u32::from(entries.t[lane] < reach[lane]);
                }
            });
        }
    }

    /// Where `rays` enter a solid or each of `pieces` (a bit each) of a person.
    fn enter(&mut self, object: &Object, pieces: u32, rays: &Rays, mut found: impl FnMut(u8, &Entries)) {
        let Self { local, entries } = self;
        vectorize(ToLocal { position: object.position, axes: object.axes, rays, local });
        match &object.body {
            Body::Solid { shape, .. } => {
                shape.enter(local, entries);
                found(0, entries);
            }
            Body::Person(person) => {
                let parts = person.parts.iter().enumerate().filter(|(limb, _)| pieces >> limb & 1 == 1);
                for (limb, part) in parts {
                    part.limb.enter(local, entries);
                    found(limb as u8, entries);
                }
            }
        }
    }
}

/// Turns rays into an object's own coordinates.
struct ToLocal<'a> {
    position: Vec3,
    axes: Basis,
    rays: &'a Rays,
    local: &'a mut Rays,
}

impl Kernel for ToLocal<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { position, axes, rays, local } = self;
        for lane in 0..LANES {
            let Ray { origin, direction } = rays.get(lane);
            let origin = axes.to_local(origin - position);
            local.set(lane, Ray { origin, direction: axes.to_local(direction) });
        }
    }
}

/// Keeps entries that are nearer than what is known.
struct Offer<'a> {
    entries: &'a Entries,
    target: u32,
    nearest: &'a mut Nearest,
}

impl Kernel for Offer<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { entries, target, nearest } = self;
        for lane in 0..LANES {
            let nearer = entries.t[lane] < nearest.t[lane];
            nearest.t[lane] = if nearer { entries.t[lane] } else { nearest.t[lane] };
            nearest.face[lane] = if nearer { entries.face[lane] } else { nearest.face[lane] };
            nearest.target[lane] = if nearer { target } else { nearest.target[lane] };
        }
    }
}
