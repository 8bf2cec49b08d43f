//! A scene: surroundings, solids and people, a light and a camera, all from one stream of random numbers.

use super::camera::Camera;
use super::cull::Candidates;
use super::material::Material;
use super::person::Person;
use super::setting::{Setting, Surface};
use super::shape::Shape;
use super::vec3::{Basis, Ray, Vec3};

/// All that a picture shows.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) camera: Camera,
    pub(super) setting: Setting,
    pub(super) objects: Vec<Object>,
    pub(super) light: Light,
    /// Standard deviation of the sensor's noise, in levels of 255.
    pub(super) noise: f32,
    pub(super) salt: u32,
}

/// A solid or somebody.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) body: Body,
    /// Origin of its own coordinates.
    pub(super) position: Vec3,
    pub(super) axes: Basis,
    pub(super) class: usize,
    /// A ball that holds it: centre and radius.
    pub(super) bound: (Vec3, f32),
    /// A ball for each capsule of a person; none for a solid.
    pub(super) piece_bounds: Vec<(Vec3, f32)>,
    /// Balls that darken what is near, for ambient light.
    pub(super) bulk: Vec<(Vec3, f32)>,
}

/// What an object consists of, in its own coordinates.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Solid { shape: Shape, material: Material },
    Person(Person),
}

/// The light that casts shadows, and the light from everywhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Light {
    pub(super) source: Source,
    pub(super) colour: Vec3,
    /// From above and from below.
    pub(super) ambient: [Vec3; 2],
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// Unit vector to the sun.
    Sun(Vec3),
    /// Position of a lamp.
    Lamp(Vec3),
}

/// What a ray meets first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    /// Metres along the ray; infinite for the sky.
    pub(super) t: f32,
    pub(super) target: Target,
    /// Outward unit normal in the world; zero for the sky.
    pub(super) normal: Vec3,
}

/// Which surface was met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    Backdrop(Surface),
    /// Index of the object, face of a solid or capsule of a person, and the point in the object's own coordinates.
    Object {
        index: usize,
        piece: u8,
        local: Vec3,
    },
}

/// Share of the heaviest object's weight from which others are salient too.
const SALIENT_SHARE: f32 = 0.5;

impl Scene {
    /// What `ray` meets first of `candidates` and the surroundings.
    pub(super) fn trace(&self, ray: &Ray, candidates: &Candidates) -> Hit {
        let backdrop = self.setting.meet(ray);
        let mut best =
            Hit { t: backdrop.t, target: Target::Backdrop(backdrop.surface), normal: backdrop.normal };
        for (index, pieces) in candidates.iter() {
            let object = &self.objects[index];
            if ray.meets_ball(object.bound.0, object.bound.1, best.t)
                && let Some(met) = object.intersect(ray, best.t, pieces)
            {
                let local = object.axes.to_local(ray.at(met.t) - object.position);
                let target = Target::Object { index, piece: met.piece, local };
                best = Hit { t: met.t, target, normal: object.axes.to_world(object.normal(local, met)) };
            }
        }
        best
    }

    /// Whether one of `candidates` lies on `ray` nearer than `reach` metres.
    pub(super) fn blocked(&self, ray: &Ray, reach: f32, candidates: &Candidates) -> bool {
        candidates.iter().any(|(index, pieces)| {
            let object = &self.objects[index];
            ray.meets_ball(object.bound.0, object.bound.1, reach)
                && object.intersect(ray, reach, pieces).is_some()
        })
    }

    /// Which objects are salient.
    ///
    /// An object's weight is the solid angle of its bounding ball, times a bell about the optical axis, times 1.5 for
    /// people; the heaviest object and all with at least half its weight are salient. Nothing in this depends on the
    /// size of the picture.
    pub(super) fn salient(&self) -> Vec<bool> {
        let weights: Vec<f32> = self.objects.iter().map(|object| self.weight(object)).collect();
        let heaviest = weights.iter().copied().fold(0.0, f32::max);
        weights.iter().map(|weight| *weight >= SALIENT_SHARE * heaviest).collect()
    }

    fn weight(&self, object: &Object) -> f32 {
        let (centre, radius) = object.bound;
        let seen = self.camera.axes.to_local(centre - self.camera.position);
        let depth = (-seen.z).max(0.1);
        let scale = 1.0 / (depth * self.camera.tangent);
        let off_axis = (seen.x * seen.x + seen.y * seen.y) * scale * scale;
        // A person's bounding ball is far wider than the person.
        let (breadth, interest) = match object.body {
            Body::Solid { .. } => (1.0, 1.0),
            Body::Person(_) => (0.45, 1.5),
        };
        radius * radius * scale * scale * breadth * interest * (-1.5 * off_axis).exp()
    }
}

/// Where a ray enters an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    t: f32,
    /// Face of a solid, capsule of a person.
    piece: u8,
    /// Face of that capsule; of a solid, the same as `piece`.
    face: u8,
}

impl Object {
    /// The name of instance `index` among the scene's instances: the surfaces of the surroundings come first.
    pub(super) fn instance(index: usize) -> u16 {
        Surface::COUNT + index as u16
    }

    /// Where `ray`, in the world, enters one of `pieces` (a bit each) of this object nearer than `reach` metres.
    fn intersect(&self, ray: &Ray, reach: f32, pieces: u32) -> Option<Met> {
        let local = Ray {
            origin: self.axes.to_local(ray.origin - self.position),
            direction: self.axes.to_local(ray.direction),
        };
        match &self.body {
            Body::Solid { shape, .. } => {
                let contact = shape.intersect(&local)?;
                (contact.t < reach).then_some(Met { t: contact.t, piece: contact.face, face: contact.face })
            }
            Body::Person(person) => {
                let mut best: Option<Met> = None;
                let mut reach = reach;
                let mut left = pieces & (u32::MAX >> (32 - person.parts.len()));
                while left != 0 {
                    let piece = left.trailing_zeros();
                    left &= left - 1;
                    let part = &person.parts[piece as usize];
                    if local.meets_ball(part.bound.0, part.bound.1, reach)
                        && let Some(contact) = part.limb.intersect(&local)
                        && contact.t < reach
                    {
                        reach = contact.t;
                        best = Some(Met { t: contact.t, piece: piece as u8, face: contact.face });
                    }
                }
                best
            }
        }
    }

    /// The outward normal at `local`, in the object's own coordinates.
    fn normal(&self, local: Vec3, met: Met) -> Vec3 {
        match &self.body {
            Body::Solid { shape, .. } => shape.normal(local, met.face),
            Body::Person(person) => person.parts[usize::from(met.piece)].limb.normal(local, met.face),
        }
    }
}
