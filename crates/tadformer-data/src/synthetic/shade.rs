//! Light on what rays meet: one source with shadows, and ambient light that bodies near by keep away.

use super::cull::{Candidates, Tube, ball_of};
use super::lanes::{Codes, LANES, Lane, Points, Rays};
use super::patch::Patch;
use super::scene::{Light, Object, Scene, Source};
use super::simd::{Kernel, vectorize};
use super::trace::Tracer;
use super::vec3::{Ray, Vec3};

/// What the rays of a packet meet, as the light sees it.
#[derive(Debug)]
pub(super) struct Surfaces {
    /// Where the rays end, in the world; anywhere among them for those that do not.
    pub(super) p: Points,
    /// Metres along the rays; 0 for those that do not.
    t: Lane,
    pub(super) normal: Points,
    albedo: Points,
    gloss: Lane,
    open: Lane,
    instance: Codes,
}

impl Surfaces {
    pub(super) const NOTHING: Self = Self {
        p: Points::ZERO,
        t: [0.0; LANES],
        normal: Points::ZERO,
        albedo: Points::ZERO,
        gloss: [0.0; LANES],
        open: [0.0; LANES],
        instance: [0; LANES],
    };

    /// Sets where `rays` end, `t` metres away or never.
    pub(super) fn place(&mut self, rays: &Rays, t: &Lane) {
        // Whoever bounds the points is not to be led astray by those at infinity.
        let ends = (0..LANES).find(|lane| t[*lane] < f32::INFINITY);
        let somewhere = ends.map_or(Vec3::ZERO, |lane| rays.get(lane).at(t[lane]));
        vectorize(Place { rays, t, somewhere, p: &mut self.p, reached: &mut self.t });
    }

    /// Takes over what is painted on `instance`.
    pub(super) fn scatter(&mut self, patch: &Patch, instance: u16, gloss: f32) {
        if patch.len == LANES {
            (self.normal, self.albedo) = (patch.normal.clone(), patch.albedo.clone());
            (self.open, self.gloss) = (patch.open, [gloss; LANES]);
            self.instance = [u32::from(instance); LANES];
            return;
        }
        for (i, &lane) in patch.lanes().iter().enumerate() {
            self.normal.set(lane, patch.normal.get(i));
            self.albedo.set(lane, patch.albedo.get(i));
            self.open[lane] = patch.open[i];
            self.gloss[lane] = gloss;
            self.instance[lane] = u32::from(instance);
        }
    }
}

/// Objects that may stand between some points and the light, objects that may darken them, and what the light does there.
#[derive(Debug)]
pub(super) struct Shader {
    casters: Candidates,
    near: Vec<Occluder>,
    /// 1 where the light that casts shadows arrives.
    pub(super) lit: Codes,
    /// From the surfaces to the light.
    shadow: Rays,
    /// Metres to the light.
    reach: Lane,
    /// Of the light.
    strength: Lane,
    /// Cosine of the light's angle with the normal.
    incidence: Lane,
    open: Lane,
    blocked: Codes,
}

/// A ball that keeps ambient light away.
#[derive(Debug, Clone, Copy)]
struct Occluder {
    /// The object that it belongs to.
    instance: u16,
    centre: Vec3,
    /// Of the radius.
    squared: f32,
}

/// Ambient light is blocked within this many radii of a ball.
const OCCLUSION_REACH: f32 = 4.0;

impl Shader {
    pub(super) fn new() -> Self {
        Self {
            casters: Candidates::default(),
            near: Vec::new(),
            lit: [0; LANES],
            shadow: Rays::ZERO,
            reach: [0.0; LANES],
            strength: [0.0; LANES],
            incidence: [0.0; LANES],
            open: [0.0; LANES],
            blocked: [0; LANES],
        }
    }

    /// The light that comes back along `rays` from `surfaces`.
    pub(super) fn shade(
        &mut self,
        scene: &Scene,
        rays: &Rays,
        surfaces: &Surfaces,
        tracer: &mut Tracer,
        light: &mut Points,
    ) {
        self.gather(scene, ball_of(&surfaces.p));
        let Self { shadow, reach, strength, incidence, open, blocked, lit, .. } = self;
        vectorize(Aim { light: scene.light, surfaces, shadow, reach, strength, incidence });
        *blocked = [0; LANES];
        tracer.block(scene, shadow, reach, &self.casters, blocked);
        for lane in 0..LANES {
            lit[lane] = u32::from(incidence[lane] > 0.0) & !blocked[lane];
        }
        *open = surfaces.open;
        for ball in &self.near {
            vectorize(Occlude { ball: *ball, surfaces, open });
        }
        vectorize(Reflect { light: scene.light, rays, surfaces, shader: self, out: light });
    }

    /// Finds what matters to the points in a ball.
    fn gather(&mut self, scene: &Scene, (centre, radius): (Vec3, f32)) {
        let (axis, length, _) = scene.light.at(centre);
        let tube = Tube { start: centre, axis, length, radius };
        self.casters.gather(&scene.objects, |bound| tube.meets(bound));
        self.near.clear();
        for (index, object) in scene.objects.iter().enumerate() {
            for (middle, size) in &object.bulk {
                let to = *middle - centre;
                let reach = OCCLUSION_REACH * size + radius;
                if to.dot(to) < reach * reach {
                    let instance = Object::instance(index);
                    self.near.push(Occluder { instance, centre: *middle, squared: size * size });
                }
            }
        }
    }
}

impl Light {
    /// Direction from `p` to the light, its distance, and its strength there.
    #[inline(always)]
    fn at(&self, p: Vec3) -> (Vec3, f32, f32) {
        match self.source {
            Source::Sun(direction) => (direction, 100.0, 1.0),
            Source::Lamp(position) => {
                let to = position - p;
                let distance = to.length();
                // Full at 2 m; bounded close by, where a real lamp has a size.
                (to * (1.0 / distance.max(1e-3)), distance, 1.4 / (0.4 + 0.25 * distance * distance))
            }
        }
    }
}

/// Where rays end: `somewhere` if nowhere.
struct Place<'a> {
    rays: &'a Rays,
    t: &'a Lane,
    somewhere: Vec3,
    p: &'a mut Points,
    reached: &'a mut Lane,
}

impl Kernel for Place<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { rays, t, somewhere, p, reached } = self;
        for lane in 0..LANES {
            let (end, ends) = (rays.get(lane).at(t[lane]), t[lane] < f32::INFINITY);
            reached[lane] = if ends { t[lane] } else { 0.0 };
            p.x[lane] = if ends { end.x } else { somewhere.x };
            p.y[lane] = if ends { end.y } else { somewhere.y };
            p.z[lane] = if ends { end.z } else { somewhere.z };
        }
    }
}

/// Rays from surfaces to the light.
struct Aim<'a> {
    light: Light,
    surfaces: &'a Surfaces,
    shadow: &'a mut Rays,
    reach: &'a mut Lane,
    strength: &'a mut Lane,
    incidence: &'a mut Lane,
}

impl Kernel for Aim<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { light, surfaces, shadow, reach, strength, incidence } = self;
        for lane in 0..LANES {
            let (p, n) = (surfaces.p.get(lane), surfaces.normal.get(lane));
            let (direction, distance, power) = light.at(p);
            // Clear of the surface by more than single precision may lose.
            let origin = p + n * (2e-3 + 1e-4 * surfaces.t[lane]);
            shadow.set(lane, Ray { origin, direction });
            (reach[lane], strength[lane], incidence[lane]) = (distance, power, n.dot(direction));
        }
    }
}

/// A ball darkens what is near, but not the object that it belongs to.
struct Occlude<'a> {
    ball: Occluder,
    surfaces: &'a Surfaces,
    open: &'a mut Lane,
}

impl Kernel for Occlude<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { ball, surfaces, open } = self;
        for (lane, open) in open.iter_mut().enumerate() {
            let to = ball.centre - surfaces.p.get(lane);
            let facing = surfaces.normal.get(lane).dot(to);
            let squared = to.dot(to).max(ball.squared);
            let near = squared < OCCLUSION_REACH * OCCLUSION_REACH * ball.squared;
            let other = surfaces.instance[lane] != u32::from(ball.instance);
            // The share of the hemisphere that a ball takes, less what it takes where it is no longer counted.
            let share = ball.squared / squared - 1.0 / (OCCLUSION_REACH * OCCLUSION_REACH);
            let left = 1.0 - 0.8 * share * facing / squared.sqrt();
            *open *= if near & (facing > 0.0) & other { left } else { 1.0 };
        }
    }
}

/// Light that surfaces send back along rays.
struct Reflect<'a> {
    light: Light,
    rays: &'a Rays,
    surfaces: &'a Surfaces,
    shader: &'a Shader,
    out: &'a mut Points,
}

impl Kernel for Reflect<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { light, rays, surfaces, shader, out } = self;
        let [above, below] = light.ambient;
        for lane in 0..LANES {
            let (n, albedo) = (surfaces.normal.get(lane), surfaces.albedo.get(lane));
            let ambient = albedo.times(below.mix(above, 0.5 + 0.5 * n.y)) * shader.open[lane];
            let arriving = light.colour * (shader.strength[lane] * shader.lit[lane] as f32);
            let half = (shader.shadow.direction.get(lane) - rays.direction.get(lane)).unit();
            let gleam = surfaces.gloss[lane] * power_48(n.dot(half).max(0.0));
            out.set(lane, ambient + albedo.times(arriving) * shader.incidence[lane] + arriving * gleam);
        }
    }
}

#[inline(always)]
fn power_48(v: f32) -> f32 {
    let v3 = v * v * v;
    let v6 = v3 * v3;
    let v12 = v6 * v6;
    let v24 = v12 * v12;
    v24 * v24
}
