//! A scene: surroundings, solids and people, a light and a camera, all from one stream of random numbers.

use super::camera::Camera;
use super::material::Material;
use super::person::Person;
use super::setting::{Setting, Surface};
use super::shape::Shape;
use super::vec3::{Basis, Vec3};

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
    /// Balls that together hold a capsule, for each of a person; none for a solid.
    pub(super) piece_bounds: Vec<[(Vec3, f32); 3]>,
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

/// Share of the heaviest object's weight from which others are salient too.
const SALIENT_SHARE: f32 = 0.5;

impl Scene {
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

impl Object {
    /// The name of instance `index` among the scene's instances: the surfaces of the surroundings come first.
    pub(super) fn instance(index: usize) -> u16 {
        Surface::COUNT + index as u16
    }

    /// The index of the object that is instance `instance`.
    pub(super) fn index(instance: u16) -> usize {
        usize::from(instance - Surface::COUNT)
    }
}
