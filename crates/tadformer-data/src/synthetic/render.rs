//! A scene to pixels: light for the picture, and exactly what each pixel's centre shows for the labels.

use std::sync::LazyLock;

use super::camera::View;
use super::noise::cell;
use super::scene::{Body, Hit, Object, Scene, Source, Target};
use super::setting::Surface;
use super::vec3::{Ray, Vec3, vec3};
use crate::Raster;

/// What a pixel's centre shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pixel {
    /// Which surface of the surroundings, or which object.
    pub(super) instance: u16,
    /// Which face of a solid or capsule of a person.
    pub(super) piece: u8,
    pub(super) class: u8,
    /// Which part of a person, 0 for everything else.
    pub(super) part: u8,
    /// Whether the light that casts shadows arrives.
    lit: bool,
    /// Metres along the optical axis; infinite for the sky.
    pub(super) depth: f32,
    /// Unit normal in camera space; zero for the sky.
    pub(super) normal: Vec3,
}

/// A rendered scene.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) pixels: Vec<Pixel>,
    /// RGB, `(3, h, w)`, whole numbers `0..=255`.
    pub(super) image: Raster,
}

/// Offsets of the rays that replace one where a pixel shows more than one thing, in pixels (a rotated grid).
const SPREAD: [(f32, f32); 4] = [(-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125)];

/// Renders `scene` at `height` by `width` pixels.
pub(super) fn render(scene: &Scene, height: usize, width: usize) -> Frame {
    let view = scene.camera.view(height, width);
    let mut pixels = Vec::with_capacity(height * width);
    let mut colours = Vec::with_capacity(height * width);
    for y in 0..height {
        for x in 0..width {
            let (ray, cosine) = view.ray(x as f32 + 0.5, y as f32 + 0.5);
            let hit = scene.trace(&ray);
            let (light, lit) = scene.shade(&ray, &hit, view.pixel);
            pixels.push(scene.describe(&hit, cosine, lit));
            colours.push(display(light));
        }
    }
    smooth_borders(scene, &view, &pixels, &mut colours);
    let image = develop(scene, &view, &colours);
    Frame { height, width, pixels, image }
}

/// Replaces the colour of pixels that border on something else by the mean of several rays.
fn smooth_borders(scene: &Scene, view: &View, pixels: &[Pixel], colours: &mut [Vec3]) {
    let (height, width) = (view.height, view.width);
    let differ = |a: &Pixel, b: &Pixel| (a.instance, a.piece, a.lit) != (b.instance, b.piece, b.lit);
    for y in 0..height {
        for x in 0..width {
            let i = y * width + x;
            let here = &pixels[i];
            let border = (x > 0 && differ(here, &pixels[i - 1]))
                || (x + 1 < width && differ(here, &pixels[i + 1]))
                || (y > 0 && differ(here, &pixels[i - width]))
                || (y + 1 < height && differ(here, &pixels[i + width]));
            if border {
                let mut sum = Vec3::ZERO;
                for (dx, dy) in SPREAD {
                    let (ray, _) = view.ray(x as f32 + 0.5 + dx, y as f32 + 0.5 + dy);
                    let hit = scene.trace(&ray);
                    sum = sum + display(scene.shade(&ray, &hit, 0.7 * view.pixel).0);
                }
                colours[i] = sum * (1.0 / SPREAD.len() as f32);
            }
        }
    }
}

/// Vignette, noise and rounding.
fn develop(scene: &Scene, view: &View, colours: &[Vec3]) -> Raster {
    let (height, width) = (view.height, view.width);
    let mut image = Raster::filled(3, height, width, 0.0);
    let size = height * width;
    let reach = 4.0 / ((height * height + width * width) as f32);
    for (i, colour) in colours.iter().enumerate() {
        let (x, y) = ((i % width) as f32 - 0.5 * width as f32, (i / width) as f32 - 0.5 * height as f32);
        let vignette = 1.0 - 0.16 * (x * x + y * y) * reach;
        for (c, level) in [colour.x, colour.y, colour.z].into_iter().enumerate() {
            let level = 255.0 * level * vignette + scene.noise * grain(i, c, scene.salt);
            image.data[c * size + i] = level.clamp(0.0, 255.0).round();
        }
    }
    image
}

/// Noise of mean 0 and standard deviation 1: the sum of two uniform numbers.
fn grain(pixel: usize, channel: usize, salt: u32) -> f32 {
    let sum = cell(pixel as i32, channel as i32, 0, salt) + cell(pixel as i32, channel as i32, 1, salt);
    (sum - 1.0) * 6f32.sqrt()
}

impl Scene {
    /// The labels' view of a hit.
    fn describe(&self, hit: &Hit, cosine: f32, lit: bool) -> Pixel {
        let normal = self.camera.axes.to_local(hit.normal);
        let depth = hit.t * cosine;
        match hit.target {
            Target::Backdrop(surface) => {
                let class = surface.class() as u8;
                Pixel { instance: surface as u16, piece: 0, class, part: 0, lit, depth, normal }
            }
            Target::Object { index, piece, .. } => {
                let object = &self.objects[index];
                let part = match &object.body {
                    Body::Solid { .. } => 0,
                    Body::Person(person) => person.parts[usize::from(piece)].part as u8,
                };
                let class = object.class as u8;
                Pixel { instance: Object::instance(index), piece, class, part, lit, depth, normal }
            }
        }
    }

    /// The light that comes back along `ray` from `hit`, and whether it is lit; `pixel` is a pixel's width at one metre.
    fn shade(&self, ray: &Ray, hit: &Hit, pixel: f32) -> (Vec3, bool) {
        if hit.target == Target::Backdrop(Surface::Sky) {
            return (self.setting.sky.light(ray.direction, pixel), false);
        }
        let p = ray.at(hit.t);
        let n = hit.normal;
        let slant = (-n.dot(ray.direction)).clamp(0.02, 1.0);
        let footprint = hit.t * pixel / slant.sqrt();
        let (albedo, gloss, owner, corners) = match hit.target {
            Target::Backdrop(surface) => {
                let gloss = if surface == Surface::Floor { self.setting.floor.gloss } else { 0.0 };
                (self.setting.albedo(surface, p, footprint), gloss, None, self.setting.openness(surface, p))
            }
            Target::Object { index, piece, local } => {
                let material = match &self.objects[index].body {
                    Body::Solid { material, .. } => material,
                    Body::Person(person) => &person.materials[person.parts[usize::from(piece)].material],
                };
                // Near the ground the sky is half hidden.
                let ground = 0.75 + 0.25 * (p.y * 2.5).min(1.0);
                (material.albedo(local, footprint), material.gloss, Some(index), ground)
            }
        };
        let (to_light, reach, strength) = self.light.at(p);
        let incidence = n.dot(to_light);
        let shadow = Ray { origin: p + n * (2e-3 + 1e-4 * hit.t), direction: to_light };
        let lit = incidence > 0.0 && !self.blocked(&shadow, reach);
        let openness = corners * self.openness(p, n, owner);
        let [above, below] = self.light.ambient;
        let mut light = albedo.times(below.mix(above, 0.5 + 0.5 * n.y)) * openness;
        if lit {
            let half = (to_light - ray.direction).unit();
            let sharp = n.dot(half).max(0.0).powi(48);
            let arriving = self.light.colour * strength;
            light = light + albedo.times(arriving) * incidence + arriving * (gloss * sharp);
        }
        (light, lit)
    }

    /// How much of the sky above `p` the objects other than `owner` leave free, `0..=1`.
    fn openness(&self, p: Vec3, n: Vec3, owner: Option<usize>) -> f32 {
        let mut open = 1.0;
        for (index, object) in self.objects.iter().enumerate() {
            if owner == Some(index) {
                continue;
            }
            let to_object = object.bound.0 - p;
            let near = object.bound.1 * 3.0;
            if to_object.dot(to_object) > near * near {
                continue;
            }
            for (centre, radius) in &object.bulk {
                let to = *centre - p;
                let squared = to.dot(to).max(radius * radius);
                let facing = n.dot(to) / squared.sqrt();
                open *= 1.0 - 0.75 * facing.max(0.0) * (radius * radius / squared);
            }
        }
        open
    }
}

impl super::scene::Light {
    /// Direction from `p` to the light, its distance, and its strength there.
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

/// Entries of the table of [`display`].
const LEVELS: usize = 2048;

/// Display value for the square root of light, `0.0..=2.0`.
static DISPLAY: LazyLock<Vec<f32>> = LazyLock::new(|| {
    (0..=LEVELS)
        .map(|i| {
            let light = (2.0 * i as f32 / LEVELS as f32).powi(2);
            // A shoulder that reaches white at four times the light of a white wall, then the usual gamma.
            let toned = light * (1.0 + light / 9.0) / (1.0 + 0.45 * light);
            toned.min(1.0).powf(1.0 / 2.2)
        })
        .collect()
});

/// Linear light to display values, `0..=1`.
fn display(light: Vec3) -> Vec3 {
    let table = &*DISPLAY;
    let look = |v: f32| table[((v.max(0.0).sqrt() * (0.5 * LEVELS as f32)) as usize).min(LEVELS)];
    vec3(look(light.x), look(light.y), look(light.z))
}
