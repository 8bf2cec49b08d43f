//! A scene to pixels: light for the picture, and exactly what each pixel's centre shows for the labels.

use std::sync::LazyLock;

use super::camera::View;
use super::cull::{Candidates, Cone, Tube, ball_of};
use super::noise::lattice;
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

impl Pixel {
    const EMPTY: Self = Self {
        instance: 0,
        piece: 0,
        class: 0,
        part: 0,
        lit: false,
        depth: f32::INFINITY,
        normal: Vec3::ZERO,
    };

    /// A number that differs between two pixels that show something else.
    fn key(&self) -> u32 {
        u32::from(self.instance) << 16 | u32::from(self.piece) << 8 | u32::from(self.lit)
    }
}

/// A rendered scene. Rendering the next one into it takes no new memory but the picture's.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) pixels: Vec<Pixel>,
    /// RGB, `(3, h, w)`, whole numbers `0..=255`.
    pub(super) image: Raster,
    /// Of each pixel, what makes it another surface than its neighbour: instance, piece and whether it is lit.
    keys: Vec<u32>,
    /// Whether a pixel differs visibly from a neighbour that shows something else.
    mixed: Vec<bool>,
}

/// Offsets, in pixels, of the rays that join the central one where a pixel shows more than one thing.
const SPREAD: [(f32, f32); 2] = [(-0.2, -0.4), (0.2, 0.4)];

/// Side of the square of pixels whose rays are cast as a bundle.
const TILE: usize = 8;

/// Difference of display values below which a border needs no smoothing.
const VISIBLE: f32 = 0.04;

/// Renders `scene` at `height` by `width` pixels into `frame`.
pub(super) fn render(scene: &Scene, height: usize, width: usize, frame: &mut Frame) {
    let view = scene.camera.view(height, width);
    let size = height * width;
    (frame.height, frame.width) = (height, width);
    frame.pixels.resize(size, Pixel::EMPTY);
    frame.keys.resize(size, 0);
    frame.image = Raster::filled(3, height, width, 0.0);
    let Frame { pixels, image, keys, mixed, .. } = frame;
    let [red, green, blue] =
        image.data.get_disjoint_mut([0..size, size..2 * size, 2 * size..3 * size]).expect("three planes");
    let mut bundle = Bundle::new(scene, view);
    let mut points = Vec::with_capacity(TILE * TILE * SPREAD.len());
    for tile in tiles(height, width) {
        points.clear();
        points.extend(tile.pixels().map(|(x, y)| (x as f32 + 0.5, y as f32 + 0.5)));
        bundle.cast(&tile, &points, view.pixel);
        for ((x, y), shot) in tile.pixels().zip(&bundle.shots) {
            let i = y * width + x;
            let pixel = scene.describe(shot);
            keys[i] = pixel.key();
            pixels[i] = pixel;
            (red[i], green[i], blue[i]) = (shot.colour.x, shot.colour.y, shot.colour.z);
        }
    }
    mark_mixed(width, keys, [&*red, &*green, &*blue], mixed);
    let mut borders = Vec::with_capacity(TILE * TILE);
    for tile in tiles(height, width) {
        borders.clear();
        borders.extend(tile.pixels().map(|(x, y)| y * width + x).filter(|i| mixed[*i]));
        if borders.is_empty() {
            continue;
        }
        points.clear();
        for i in &borders {
            let (x, y) = ((i % width) as f32 + 0.5, (i / width) as f32 + 0.5);
            points.extend(SPREAD.map(|(dx, dy)| (x + dx, y + dy)));
        }
        bundle.cast(&tile, &points, 0.7 * view.pixel);
        for (&i, shots) in borders.iter().zip(bundle.shots.chunks_exact(SPREAD.len())) {
            let first = vec3(red[i], green[i], blue[i]);
            let sum = shots.iter().fold(first, |sum, shot| sum + shot.colour);
            let mean = sum * (1.0 / (1 + SPREAD.len()) as f32);
            (red[i], green[i], blue[i]) = (mean.x, mean.y, mean.z);
        }
    }
    develop(scene, &view, [red, green, blue]);
}

/// Marks the pixels that differ visibly from a neighbour that shows something else.
fn mark_mixed(width: usize, keys: &[u32], planes: [&[f32]; 3], mixed: &mut Vec<bool>) {
    mixed.clear();
    mixed.resize(keys.len(), false);
    let mut compare = |i: usize, j: usize| {
        let step = |plane: &[f32]| (plane[i] - plane[j]).abs();
        if planes.into_iter().any(|plane| step(plane) > VISIBLE) {
            (mixed[i], mixed[j]) = (true, true);
        }
    };
    for (y, row) in keys.chunks_exact(width).enumerate() {
        let start = y * width;
        for (x, pair) in row.windows(2).enumerate() {
            if pair[0] != pair[1] {
                compare(start + x, start + x + 1);
            }
        }
        let below = keys[start + width..].iter().take(width);
        for (x, (here, below)) in row.iter().zip(below).enumerate() {
            if here != below {
                compare(start + x, start + x + width);
            }
        }
    }
}

/// A rectangle of pixels, ends excluded.
struct Tile {
    x: [usize; 2],
    y: [usize; 2],
}

fn tiles(height: usize, width: usize) -> impl Iterator<Item = Tile> {
    (0..height).step_by(TILE).flat_map(move |y| {
        (0..width)
            .step_by(TILE)
            .map(move |x| Tile { x: [x, (x + TILE).min(width)], y: [y, (y + TILE).min(height)] })
    })
}

impl Tile {
    fn pixels(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let [left, right] = self.x;
        (self.y[0]..self.y[1]).flat_map(move |y| (left..right).map(move |x| (x, y)))
    }
}

/// What one ray brought.
struct Shot {
    ray: Ray,
    /// Of the ray's angle with the optical axis.
    cosine: f32,
    hit: Hit,
    lit: bool,
    /// Display values.
    colour: Vec3,
}

/// Rays through one tile, cast together so that each tests few objects.
struct Bundle<'a> {
    scene: &'a Scene,
    view: View,
    visible: Candidates,
    shading: Shading,
    shots: Vec<Shot>,
}

/// Objects that may stand between some points and the light, and objects that may darken them.
#[derive(Default)]
struct Shading {
    casters: Candidates,
    near: Vec<Occluder>,
}

/// A ball that keeps ambient light away.
struct Occluder {
    /// Index of its object.
    owner: usize,
    centre: Vec3,
    /// Of the radius.
    squared: f32,
}

impl<'a> Bundle<'a> {
    fn new(scene: &'a Scene, view: View) -> Self {
        Self { scene, view, visible: Candidates::default(), shading: Shading::default(), shots: Vec::new() }
    }

    /// Casts a ray through each of `points`, which lie in `tile`; textures are averaged over `pixel` metres at one metre.
    fn cast(&mut self, tile: &Tile, points: &[(f32, f32)], pixel: f32) {
        let scene = self.scene;
        let [x, y] = [tile.x, tile.y].map(|side| side.map(|v| v as f32));
        let corner = |x: f32, y: f32| self.view.ray(x, y).0;
        let corners = [corner(x[0], y[0]), corner(x[0], y[1]), corner(x[1], y[0]), corner(x[1], y[1])];
        let cone = Cone::around(corner(0.5 * (x[0] + x[1]), 0.5 * (y[0] + y[1])), &corners);
        self.visible.gather(&scene.objects, |bound| cone.meets(bound));
        self.shots.clear();
        for (x, y) in points {
            let (ray, cosine) = self.view.ray(*x, *y);
            let hit = scene.trace(&ray, &self.visible);
            self.shots.push(Shot { ray, cosine, hit, lit: false, colour: Vec3::ZERO });
        }
        let solid = self.shots.iter().filter(|shot| shot.hit.t.is_finite());
        if let Some(ball) = ball_of(solid.map(|shot| shot.ray.at(shot.hit.t))) {
            self.shading.prepare(scene, ball);
        }
        for shot in &mut self.shots {
            let (light, lit) = scene.shade(&shot.ray, &shot.hit, pixel, &self.shading);
            (shot.colour, shot.lit) = (display(light), lit);
        }
    }
}

impl Shading {
    /// For points in a ball.
    fn prepare(&mut self, scene: &Scene, (centre, radius): (Vec3, f32)) {
        let (axis, length, _) = scene.light.at(centre);
        let tube = Tube { start: centre, axis, length, radius };
        self.casters.gather(&scene.objects, |bound| tube.meets(bound));
        self.near.clear();
        for (owner, object) in scene.objects.iter().enumerate() {
            for (middle, size) in &object.bulk {
                let to = *middle - centre;
                let reach = OCCLUSION_REACH * size + radius;
                if to.dot(to) < reach * reach {
                    self.near.push(Occluder { owner, centre: *middle, squared: size * size });
                }
            }
        }
    }

    /// How much of the sky above `p` the balls near it, but for those of its own `owner`, leave free, `0..=1`.
    fn openness(&self, p: Vec3, n: Vec3, owner: Option<usize>) -> f32 {
        let mut open = 1.0;
        for ball in &self.near {
            let to = ball.centre - p;
            let facing = n.dot(to);
            let squared = to.dot(to).max(ball.squared);
            let near = squared < OCCLUSION_REACH * OCCLUSION_REACH * ball.squared;
            if near && facing > 0.0 && owner != Some(ball.owner) {
                // The share of the hemisphere that a ball takes, less what it takes where it is no longer counted.
                let share = ball.squared / squared - 1.0 / (OCCLUSION_REACH * OCCLUSION_REACH);
                open *= 1.0 - 0.8 * share * facing / squared.sqrt();
            }
        }
        open
    }
}

/// Vignette, noise and rounding of the three planes of display values.
fn develop(scene: &Scene, view: &View, planes: [&mut [f32]; 3]) {
    let (height, width) = (view.height, view.width);
    let reach = 4.0 / ((height * height + width * width) as f32);
    // Row by row in steps of one operation each, which compile to vectors.
    let (mut light, mut bits) = (vec![0.0; width], vec![0; width]);
    let [red, green, blue] = planes.map(|plane| plane.chunks_exact_mut(width));
    for (y, rows) in red.zip(green).zip(blue).enumerate() {
        let ((red, green), blue) = rows;
        let down = y as f32 - 0.5 * height as f32;
        for (x, (light, bits)) in light.iter_mut().zip(&mut bits).enumerate() {
            let across = x as i32 as f32 - 0.5 * width as f32;
            *light = 255.0 - 40.0 * (across * across + down * down) * reach;
            *bits = lattice(x as i32, y as i32, scene.salt);
        }
        for (shift, row) in [(0, red), (10, green), (20, blue)] {
            for ((value, light), bits) in row.iter_mut().zip(&light).zip(&bits) {
                *value = level(*value * light + scene.noise * grain(*bits >> shift));
            }
        }
    }
}

/// Uniform noise of mean 0 and standard deviation 1 from the lowest ten bits.
fn grain(bits: u32) -> f32 {
    ((bits & 1023) as i32 as f32 - 511.5) * (3.464_1 / 1023.0)
}

/// The nearest whole level.
fn level(v: f32) -> f32 {
    // Numbers of this size have no places after the point, so that adding it rounds; unlike a conversion it has vectors.
    const WHOLE: f32 = 8_388_608.0;
    (v.clamp(0.0, 255.0) + WHOLE) - WHOLE
}

/// Ambient light is blocked within this many radii of a ball.
const OCCLUSION_REACH: f32 = 4.0;

impl Scene {
    /// The labels' view of what a ray met.
    fn describe(&self, shot: &Shot) -> Pixel {
        let Shot { hit, cosine, lit, .. } = *shot;
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
    fn shade(&self, ray: &Ray, hit: &Hit, pixel: f32, shading: &Shading) -> (Vec3, bool) {
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
        let lit = incidence > 0.0 && !self.blocked(&shadow, reach, &shading.casters);
        let openness = corners * shading.openness(p, n, owner);
        let [above, below] = self.light.ambient;
        let mut light = albedo.times(below.mix(above, 0.5 + 0.5 * n.y)) * openness;
        if lit {
            let arriving = self.light.colour * strength;
            light = light + albedo.times(arriving) * incidence;
            if gloss > 0.0 {
                let half = (to_light - ray.direction).unit();
                light = light + arriving * (gloss * n.dot(half).max(0.0).powi(48));
            }
        }
        (light, lit)
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
    // By way of `i32`, for which processors have an instruction.
    let look = |v: f32| table[((v.max(0.0).sqrt() * (0.5 * LEVELS as f32)) as i32 as usize).min(LEVELS)];
    vec3(look(light.x), look(light.y), look(light.z))
}
