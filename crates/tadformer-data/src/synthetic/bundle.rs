//! Rays through neighbouring pixels, cast together: each stage is a loop over all of them.

use super::camera::View;
use super::cull::{Candidates, Cone};
use super::develop::display;
use super::frame::{Key, mark_lit};
use super::lanes::{Codes, LANES, Lane, Points, Rays, lanes_of};
use super::material::Space;
use super::patch::Patch;
use super::scene::{Body, Object, Scene};
use super::setting::Surface;
use super::shade::{Shader, Surfaces};
use super::simd::{Kernel, vectorize};
use super::trace::{Nearest, Target, Tracer};
use super::vec3::{Basis, Vec3};

/// A packet of rays on its way from the camera to light.
pub(super) struct Bundle<'a> {
    scene: &'a Scene,
    view: View,
    visible: Candidates,
    tracer: Tracer,
    patch: Patch,
    shader: Shader,
    rays: Rays,
    /// Of the rays' angles with the optical axis.
    cosine: Lane,
    nearest: Nearest,
    surfaces: Surfaces,
    keys: Codes,
    light: Points,
}

impl<'a> Bundle<'a> {
    pub(super) fn new(scene: &'a Scene, view: View) -> Self {
        Self {
            scene,
            view,
            visible: Candidates::default(),
            tracer: Tracer::new(),
            patch: Patch::EMPTY,
            shader: Shader::new(),
            rays: Rays::ZERO,
            cosine: [0.0; LANES],
            nearest: Nearest::NONE,
            surfaces: Surfaces::NOTHING,
            keys: [0; LANES],
            light: Points::ZERO,
        }
    }

    /// Casts a ray through each of the points `(x, y)` of the picture, which should be close together; textures are
    /// averaged over `pixel` metres at one metre.
    pub(super) fn cast(&mut self, x: &Lane, y: &Lane, pixel: f32) {
        vectorize(Aim { view: self.view, x, y, rays: &mut self.rays, cosine: &mut self.cosine });
        let cone = Cone::around(&self.rays);
        self.visible.gather(&self.scene.objects, |bound| cone.meets(bound));
        self.tracer.trace(self.scene, &self.rays, &self.visible, &mut self.nearest);
        self.surfaces.place(&self.rays, &self.nearest.t);
        let (mut left, mut sky) = (u64::MAX, 0);
        while left != 0 {
            let code = self.nearest.target[left.trailing_zeros() as usize];
            let members = equal(&self.nearest.target, code);
            left &= !members;
            let target = Target::from_code(code);
            match Surface::of(target.instance) {
                Some(Surface::Sky) => sky = members,
                Some(surface) => self.paint_surface(surface, members, pixel),
                None => self.paint_object(target, members, pixel),
            }
        }
        if sky != u64::MAX {
            self.shader.shade(self.scene, &self.rays, &self.surfaces, &mut self.tracer, &mut self.light);
            mark_lit(&mut self.keys, &self.shader.lit);
        }
        self.paint_sky(sky, pixel);
        display(&mut self.light);
    }

    /// Of each ray, what it shows.
    pub(super) fn keys(&self) -> &Codes {
        &self.keys
    }

    /// Of each ray, display values `0..=1`.
    pub(super) fn colours(&self) -> &Points {
        &self.light
    }

    /// Of each ray, metres along the optical axis to where it ends, and the unit normal there in camera space.
    pub(super) fn geometry(&self) -> (Lane, Points) {
        let (mut depth, mut seen) = ([0.0; LANES], Points::ZERO);
        let (t, cosine, normal) = (&self.nearest.t, &self.cosine, &self.surfaces.normal);
        let axes = self.view.camera.axes;
        vectorize(ToCamera { t, cosine, normal, axes, depth: &mut depth, seen: &mut seen });
        (depth, seen)
    }
}

impl Bundle<'_> {
    /// Paints the rays `members`, which meet a surface of the surroundings.
    fn paint_surface(&mut self, surface: Surface, members: u64, pixel: f32) {
        let setting = &self.scene.setting;
        let patch = &mut self.patch;
        patch.gather(members, &self.rays, &self.surfaces.p, &self.nearest);
        patch.normal = Points::splat(surface.normal());
        patch.measure(pixel);
        setting.paint(surface, patch);
        let gloss = if surface == Surface::Floor { setting.floor.gloss } else { 0.0 };
        self.surfaces.scatter(patch, surface as u16, gloss);
        let key = Key { instance: surface as u16, piece: 0 }.code();
        for &lane in patch.lanes() {
            self.keys[lane] = key;
        }
    }

    /// Paints the rays `members`, which meet a solid or a capsule of a person.
    fn paint_object(&mut self, target: Target, members: u64, pixel: f32) {
        let object = &self.scene.objects[Object::index(target.instance)];
        let patch = &mut self.patch;
        patch.gather(members, &self.rays, &self.surfaces.p, &self.nearest);
        let Patch { p, texture, face, normal, open, .. } = patch;
        vectorize(ToLocal { position: object.position, axes: object.axes, p, local: texture });
        let material = match &object.body {
            Body::Solid { shape, material } => {
                shape.normals(texture, face, normal);
                material
            }
            Body::Person(person) => {
                let part = &person.parts[usize::from(target.limb)];
                part.limb.normals(texture, face, normal);
                &person.materials[part.material]
            }
        };
        vectorize(ToWorld { axes: object.axes, normal });
        for (open, height) in open.iter_mut().zip(&p.y) {
            // Near the ground the sky is half hidden.
            *open = 0.75 + 0.25 * (height * 2.5).min(1.0);
        }
        patch.measure(pixel);
        material.paint(Space::Solid, patch);
        self.surfaces.scatter(patch, target.instance, material.gloss);
        let solid = matches!(object.body, Body::Solid { .. });
        for (&lane, face) in patch.lanes().iter().zip(&patch.face) {
            let piece = if solid { *face as u8 } else { target.limb };
            self.keys[lane] = Key { instance: target.instance, piece }.code();
        }
    }

    /// Paints the rays `members`, which meet nothing.
    fn paint_sky(&mut self, members: u64, pixel: f32) {
        if members == 0 {
            return;
        }
        let mut light = Points::ZERO;
        self.scene.setting.sky.light(&self.rays.direction, pixel, &mut light);
        for lane in lanes_of(members) {
            self.light.set(lane, light.get(lane));
            self.surfaces.normal.set(lane, Vec3::ZERO);
            self.keys[lane] = Key { instance: Surface::Sky as u16, piece: 0 }.code();
        }
    }
}

/// The lanes that hold `code`, a bit each.
fn equal(codes: &Codes, code: u32) -> u64 {
    let bits = codes.iter().enumerate().map(|(lane, other)| u64::from(*other == code) << lane);
    bits.fold(0, |set, bit| set | bit)
}

/// Rays from the camera through points of the picture.
struct Aim<'a> {
    view: View,
    x: &'a Lane,
    y: &'a Lane,
    rays: &'a mut Rays,
    cosine: &'a mut Lane,
}

impl Kernel for Aim<'_> {
    #[inline(always)]
    fn run(self) {
        for lane in 0..LANES {
            let (ray, cosine) = self.view.ray(self.x[lane], self.y[lane]);
            self.rays.set(lane, ray);
            self.cosine[lane] = cosine;
        }
    }
}

/// Points of the world in an object's own coordinates.
struct ToLocal<'a> {
    position: Vec3,
    axes: Basis,
    p: &'a Points,
    local: &'a mut Points,
}

impl Kernel for ToLocal<'_> {
    #[inline(always)]
    fn run(self) {
        for lane in 0..LANES {
            self.local.set(lane, self.axes.to_local(self.p.get(lane) - self.position));
        }
    }
}

/// An object's normals as the world sees them.
struct ToWorld<'a> {
    axes: Basis,
    normal: &'a mut Points,
}

impl Kernel for ToWorld<'_> {
    #[inline(always)]
    fn run(self) {
        for lane in 0..LANES {
            self.normal.set(lane, self.axes.to_world(self.normal.get(lane)));
        }
    }
}

/// Surfaces as the camera sees them.
struct ToCamera<'a> {
    t: &'a Lane,
    cosine: &'a Lane,
    normal: &'a Points,
    axes: Basis,
    depth: &'a mut Lane,
    seen: &'a mut Points,
}

impl Kernel for ToCamera<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { t, cosine, normal, axes, depth, seen } = self;
        for lane in 0..LANES {
            depth[lane] = t[lane] * cosine[lane];
            seen.set(lane, axes.to_local(normal.get(lane)));
        }
    }
}
