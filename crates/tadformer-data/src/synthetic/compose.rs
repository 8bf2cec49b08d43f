//! Draws a scene: a place, a camera in it, a light, and things to look at where the camera sees them.

use tadformer_ops::Rng;

use super::camera::Camera;
use super::catalogue::{Catalogue, colour, pick, pick_pattern};
use super::material::Material;
use super::person::Person;
use super::scene::{Body, Light, Object, Scene, Source};
use super::setting::{Place, Setting};
use super::sky::Sky;
use super::vec3::{Basis, Vec3, vec3};

/// Attempts to find room for an object before it is left out.
const ATTEMPTS: usize = 40;

impl Scene {
    /// The scene that the stream gives in a world made of `catalogue`.
    pub(super) fn draw(rng: &mut Rng, catalogue: &Catalogue) -> Self {
        let setting = draw_setting(rng, catalogue);
        let (camera, yaw) = draw_camera(rng, &setting);
        let (light, sky) = draw_light(rng, catalogue, &setting, yaw);
        let setting = Setting { sky, ..setting };
        let mut stage = Stage { camera, yaw, setting, objects: Vec::new() };
        let solids = 1 + rng.below(6);
        let people = if catalogue.person.is_some() { pick(rng, &[0, 1, 1, 1, 2, 2]) } else { 0 };
        stage.place_solid(rng, catalogue, true);
        for _ in 0..people {
            stage.place_person(rng, catalogue);
        }
        for _ in 1..solids {
            stage.place_solid(rng, catalogue, false);
        }
        let Stage { setting, mut objects, .. } = stage;
        // The nearest first: what stands behind is then mostly dismissed by its bounding ball.
        let distance = |object: &Object| (object.bound.0 - camera.position).length() - object.bound.1;
        objects.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        let noise = rng.range(0.8, 2.4) as f32;
        Self { camera, setting, objects, light, noise, salt: rng.next_u64() as u32 }
    }
}

fn draw_setting(rng: &mut Rng, catalogue: &Catalogue) -> Setting {
    let place = pick(rng, &[Place::Room, Place::Room, Place::Court, Place::Field]);
    let mut range = |low: f64, high: f64| rng.range(low, high) as f32;
    let (half_x, half_z, height) = match place {
        Place::Room => (range(2.0, 3.4), range(2.6, 4.2), range(2.4, 3.1)),
        Place::Court => (range(3.5, 6.0), range(4.0, 7.0), range(1.9, 2.7)),
        Place::Field => {
            let reach = range(14.0, 20.0);
            (reach, reach, 0.0)
        }
    };
    let floors = if place == Place::Field { catalogue.grounds } else { catalogue.floors };
    let (pattern, frequency) = pick_pattern(rng, floors);
    let floor_colours = if place == Place::Field {
        pick(
            rng,
            &[
                [vec3(0.12, 0.22, 0.05), vec3(0.28, 0.34, 0.1)],
                [vec3(0.42, 0.34, 0.22), vec3(0.3, 0.24, 0.16)],
                [vec3(0.3, 0.29, 0.27), vec3(0.5, 0.48, 0.45)],
            ],
        )
    } else {
        let body = pick(
            rng,
            &[
                vec3(0.36, 0.2, 0.1),
                vec3(0.5, 0.36, 0.22),
                vec3(0.45, 0.43, 0.4),
                vec3(0.25, 0.3, 0.34),
                vec3(0.3, 0.12, 0.1),
            ],
        );
        [body, body * rng.range(0.3, 0.6) as f32]
    };
    let gloss = if place == Place::Room { rng.range(0.0, 0.25) as f32 } else { 0.0 };
    let floor = Material::draw(rng, pattern, floor_colours, frequency, gloss);
    let (pattern, frequency) = pick_pattern(rng, catalogue.walls);
    let paint = colour(rng, 0.45, 0.55) + Vec3::splat(0.2);
    let paints = [paint, paint.mix(Vec3::splat(0.75), rng.range(0.2, 0.5) as f32)];
    let first = Material::draw(rng, pattern, paints, frequency, 0.0);
    let second = Material { salt: rng.next_u64() as u32, ..first };
    Setting {
        place,
        half_x,
        half_z,
        height,
        floor,
        walls: [first, second],
        skirting: (
            rng.range(0.06, 0.16) as f32,
            pick(rng, &[Vec3::splat(0.7), paint * 0.4, vec3(0.2, 0.1, 0.05)]),
        ),
        ceiling: Vec3::splat(rng.range(0.6, 0.85) as f32),
        sky: Sky {
            zenith: Vec3::ZERO,
            horizon: Vec3::ZERO,
            hills: Vec3::ZERO,
            clouds: 0.0,
            sun: Vec3::ZERO,
            sun_direction: Vec3::UP,
            salt: 0,
        },
    }
}

/// The camera and its yaw.
fn draw_camera(rng: &mut Rng, setting: &Setting) -> (Camera, f32) {
    let mut range = |low: f64, high: f64| rng.range(low, high) as f32;
    let height = range(1.1, 1.7);
    let (x, z) = match setting.place {
        Place::Room | Place::Court => (range(-0.5, 0.5) * setting.half_x, setting.half_z - range(0.2, 0.5)),
        Place::Field => (0.0, 3.0),
    };
    // Yaw 0 looks along -z; to the origin it is the angle under which the origin sees the camera.
    let yaw = x.atan2(z) + range(-0.3, 0.3);
    let pitch = ((height - 0.65) / 3.8).atan() + range(-0.07, 0.07);
    let tangent = (0.5 * range(48.0, 64.0).to_radians()).tan();
    (Camera::new(vec3(x, height, z), [yaw, pitch, range(-0.03, 0.03)], tangent), yaw)
}

fn draw_light(rng: &mut Rng, catalogue: &Catalogue, setting: &Setting, yaw: f32) -> (Light, Sky) {
    let zenith = pick(rng, catalogue.skies);
    let sun = pick(rng, catalogue.suns);
    let lamp = pick(rng, catalogue.lamps);
    let mut range = |low: f64, high: f64| rng.range(low, high) as f32;
    let elevation = range(0.45, 1.1);
    let side = if range(0.0, 1.0) < 0.5 { 1.0 } else { -1.0 };
    // From behind the camera (0) round to the side and a little beyond: a sun in front leaves all in its own shadow.
    let azimuth = yaw + side * range(0.3, 2.0);
    let to_sun = vec3(azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos());
    let horizon = zenith.mix(Vec3::splat(0.85), range(0.6, 0.8));
    let sky = Sky {
        zenith,
        horizon,
        hills: vec3(0.1, 0.15, 0.1).mix(zenith, 0.3) * range(0.6, 1.2),
        clouds: range(0.2, 0.95),
        sun,
        sun_direction: to_sun,
        salt: rng.next_u64() as u32,
    };
    let mut range = |low: f64, high: f64| rng.range(low, high) as f32;
    let light = if setting.place == Place::Room {
        let position = vec3(
            range(-0.7, 0.7) * setting.half_x,
            setting.height - range(0.15, 0.4),
            range(-0.2, 0.8) * setting.half_z,
        );
        let fill = range(0.28, 0.45);
        let bounce = setting.floor.colours[0].mix(Vec3::splat(0.5), 0.5) * (0.8 * fill);
        Light {
            source: Source::Lamp(position),
            colour: lamp * range(1.2, 1.7),
            ambient: [Vec3::splat(fill).times(lamp), bounce],
        }
    } else {
        let fill = range(0.3, 0.5);
        let bounce = setting.floor.colours[0] * (0.6 * fill);
        Light {
            source: Source::Sun(to_sun),
            colour: sun * range(1.0, 1.5),
            ambient: [zenith.mix(Vec3::splat(0.8), 0.4) * fill, bounce],
        }
    };
    (light, sky)
}

/// A scene while things are put into it.
struct Stage {
    camera: Camera,
    yaw: f32,
    setting: Setting,
    objects: Vec<Object>,
}

impl Stage {
    /// Puts a solid where there is room; if there is none, leaves it out unless it `must` be there.
    fn place_solid(&mut self, rng: &mut Rng, catalogue: &Catalogue, must: bool) {
        let (family, class) = pick(rng, catalogue.families);
        let size = rng.range(0.28, 0.62) as f32;
        let shape = family.draw(rng, size);
        let (pattern, frequency) = pick_pattern(rng, catalogue.solids);
        let gloss = pick(rng, &[0.0, 0.1, 0.35, 0.7]);
        let colours = solid_colours(rng);
        let material = Material::draw(rng, pattern, colours, frequency * 0.45 / size, gloss);
        let upright = Basis::yaw(rng.range(0.0, std::f64::consts::TAU) as f32);
        let lies = family.may_lie() && rng.bernoulli(0.4);
        let half = shape.half_extent();
        let (axes, lift) = if lies { (upright.lying(), half.z) } else { (upright, half.y) };
        let footprint = half.x.hypot(if lies { half.y } else { half.z });
        let ground = match self.find_room(rng, footprint) {
            Some(ground) => ground,
            None if must => self.ahead(2.4, 0.0),
            None => return,
        };
        let position = ground + Vec3::UP * lift;
        let small = half.x.min(half.y).min(half.z);
        let bulk = vec![(position, 0.5 * (small + (half.x * half.y * half.z).cbrt()))];
        let bound = (position, shape.bounding_radius());
        self.objects.push(Object {
            body: Body::Solid { shape, material },
            position,
            axes,
            class,
            bound,
            piece_bounds: Vec::new(),
            bulk,
        });
    }

    fn place_person(&mut self, rng: &mut Rng, catalogue: &Catalogue) {
        let Some(class) = catalogue.person else { return };
        let height = rng.range(1.25, 1.9) as f32;
        let person = Person::draw(rng, height);
        let Some(position) = self.find_room(rng, 0.45) else { return };
        // Most people face the camera, more or less.
        let axes = Basis::yaw(self.yaw + rng.normal() as f32);
        let world = |(p, r): (Vec3, f32)| (position + axes.to_world(p), r);
        let bound = world(person.bound());
        let bulk = person.bulk().into_iter().map(world).collect();
        let piece_bounds = person.parts.iter().map(|part| part.limb.bounds().map(world)).collect();
        self.objects.push(Object {
            body: Body::Person(person),
            position,
            axes,
            class,
            bound,
            piece_bounds,
            bulk,
        });
    }

    /// A free circle of ground of radius `footprint` in view.
    fn find_room(&self, rng: &mut Rng, footprint: f32) -> Option<Vec3> {
        let reach = match self.setting.place {
            Place::Room => 6.0,
            Place::Court => 7.0,
            Place::Field => 8.0,
        };
        for _ in 0..ATTEMPTS {
            let distance = rng.range(1.9 + f64::from(footprint), reach) as f32;
            let sideways = rng.range(-0.85, 0.85) as f32 * self.camera.tangent * distance;
            let p = self.ahead(distance, sideways);
            let margin = footprint + 0.08;
            let inside = p.x.abs() < self.setting.half_x - margin && p.z.abs() < self.setting.half_z - margin;
            let free = self.objects.iter().all(|other| {
                let away = vec3(p.x - other.position.x, 0.0, p.z - other.position.z).length();
                away > footprint + other.footprint()
            });
            if inside && free {
                return Some(p);
            }
        }
        None
    }

    /// The point of the ground `distance` metres before the camera and `sideways` metres to its right.
    fn ahead(&self, distance: f32, sideways: f32) -> Vec3 {
        let level = Basis::yaw(self.yaw);
        let camera = self.camera.position;
        vec3(camera.x, 0.0, camera.z) - level.z * distance + level.x * sideways
    }
}

impl Object {
    /// Radius of the circle of ground that it takes, metres.
    fn footprint(&self) -> f32 {
        match &self.body {
            Body::Solid { .. } => self.bound.1,
            Body::Person(_) => 0.45,
        }
    }
}

/// Two colours that differ enough to be told apart.
fn solid_colours(rng: &mut Rng) -> [Vec3; 2] {
    let first = colour(rng, 0.95, 0.85);
    let second = match rng.below(3) {
        0 => Vec3::splat(if first.x + first.y + first.z > 0.9 { 0.04 } else { 0.8 }),
        1 => first * 0.35,
        _ => colour(rng, 0.9, 0.85),
    };
    [first, second]
}
