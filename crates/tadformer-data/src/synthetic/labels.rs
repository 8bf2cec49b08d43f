//! A rendered frame to the label map of each task.

use super::catalogue::{Catalogue, Class};
use super::frame::{Frame, Key};
use super::scene::{Body, Object, Scene};
use super::setting::Surface;
use crate::draw::voc_palette;
use crate::{IGNORE, Raster};

/// How the synthetic set labels one task.
pub(super) struct Labeller {
    /// Name of the task.
    pub(super) task: &'static str,
    /// Whether there is nothing to label in a world without people.
    pub(super) needs_people: bool,
    /// Names and colours of the classes; none for tasks without.
    pub(super) classes: fn(&Catalogue) -> Vec<Class>,
    /// The label map of a frame.
    pub(super) label: fn(&Scene, &Frame) -> Raster,
}

/// Every task that the set labels.
pub(super) static LABELLERS: [Labeller; 6] = [
    Labeller { task: "semseg", needs_people: false, classes: semantic_classes, label: semseg },
    Labeller { task: "human_parts", needs_people: true, classes: part_classes, label: human_parts },
    Labeller { task: "sal", needs_people: false, classes: no_classes, label: saliency },
    Labeller { task: "normals", needs_people: false, classes: no_classes, label: normals },
    Labeller { task: "edge", needs_people: false, classes: no_classes, label: edges },
    Labeller { task: "depth", needs_people: false, classes: no_classes, label: depth },
];

/// Names of the parts, in the order of `Part`, after PASCAL-Person-Part.
const PARTS: [&str; 7] = ["background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg"];

fn no_classes(_: &Catalogue) -> Vec<Class> {
    Vec::new()
}

fn semantic_classes(catalogue: &Catalogue) -> Vec<Class> {
    catalogue.classes.to_vec()
}

fn part_classes(_: &Catalogue) -> Vec<Class> {
    PARTS.into_iter().zip(voc_palette(PARTS.len())).map(|(name, colour)| Class { name, colour }).collect()
}

fn semseg(scene: &Scene, frame: &Frame) -> Raster {
    let class = |instance| match Surface::of(instance) {
        Some(surface) => surface.class(),
        None => scene.objects[Object::index(instance)].class,
    };
    let classes = by_instance(scene, |instance| class(instance) as f32);
    plane(frame, frame.keys.iter().map(|code| classes[usize::from(Key::from_code(*code).instance)]))
}

fn human_parts(scene: &Scene, frame: &Frame) -> Raster {
    let people = by_instance(scene, |instance| match Surface::of(instance) {
        Some(_) => None,
        None => match &scene.objects[Object::index(instance)].body {
            Body::Solid { .. } => None,
            Body::Person(person) => Some(person),
        },
    });
    let part = |code: &u32| {
        let key = Key::from_code(*code);
        people[usize::from(key.instance)]
            .map_or(0.0, |person| person.parts[usize::from(key.piece)].part as u8 as f32)
    };
    plane(frame, frame.keys.iter().map(part))
}

fn saliency(scene: &Scene, frame: &Frame) -> Raster {
    let salient = scene.salient();
    let salient = by_instance(scene, |instance| match Surface::of(instance) {
        Some(_) => 0.0,
        None => f32::from(u8::from(salient[Object::index(instance)])),
    });
    plane(frame, frame.keys.iter().map(|code| salient[usize::from(Key::from_code(*code).instance)]))
}

fn depth(_: &Scene, frame: &Frame) -> Raster {
    plane(frame, frame.depth.iter().map(|depth| if depth.is_finite() { *depth } else { IGNORE }))
}

fn normals(_: &Scene, frame: &Frame) -> Raster {
    let mut data = Vec::with_capacity(3 * frame.size());
    for plane in &frame.normals {
        let seen = plane.iter().zip(&frame.depth);
        data.extend(seen.map(|(normal, depth)| if depth.is_finite() { *normal } else { IGNORE }));
    }
    Raster { channels: 3, height: frame.height, width: frame.width, data }
}

/// 1 on the nearer of two neighbours between which the instance changes, a solid has a crease, or a body that is not
/// convex steps behind itself.
fn edges(scene: &Scene, frame: &Frame) -> Raster {
    let (height, width) = (frame.height, frame.width);
    let rules: Vec<Rule> = scene.objects.iter().map(Rule::of).collect();
    let mut map = Raster::filled(1, height, width, 0.0);
    let mut compare = |i: usize, j: usize| {
        if parted(frame, i, j, &rules) {
            map.data[if frame.depth[i] <= frame.depth[j] { i } else { j }] = 1.0;
        }
    };
    // Neighbours to the right, then those below.
    for y in 0..height {
        pairs(&frame.keys[y * width..(y + 1) * width], 1, |x| compare(y * width + x, y * width + x + 1));
    }
    pairs(&frame.keys, width, |i| compare(i, i + width));
    map
}

/// Calls `found` with every pixel that an edge may part from the one `step` further on.
fn pairs(keys: &[u32], step: usize, mut found: impl FnMut(usize)) {
    // Most pixels and their neighbours show the same surface of the surroundings.
    const STRIDE: usize = 16;
    let first = Key { instance: Surface::COUNT, piece: 0 }.code();
    let (here, there) = (&keys[..keys.len() - step], &keys[step..]);
    for (stride, (here, there)) in here.chunks(STRIDE).zip(there.chunks(STRIDE)).enumerate() {
        let instances =
            here.iter().zip(there).map(|(a, b)| u32::from((a ^ b) >> 16 != 0) | u32::from(*a >= first));
        if instances.fold(0, |any, parted| any | parted) != 0 {
            (stride * STRIDE..stride * STRIDE + here.len()).for_each(&mut found);
        }
    }
}

/// Which borders within an object are edges.
struct Rule {
    /// Whether faces meet in creases.
    creases: bool,
    /// Jump of depth, metres, from which one piece stands before another.
    jump: f32,
}

/// A person's limbs are told apart when one is this share of the height before the other.
const LIMB_JUMP: f32 = 0.05;

impl Rule {
    fn of(object: &Object) -> Self {
        match &object.body {
            Body::Solid { shape, .. } => {
                Self { creases: shape.has_creases(), jump: shape.overlap_jump().unwrap_or(f32::INFINITY) }
            }
            Body::Person(person) => Self { creases: false, jump: LIMB_JUMP * person.height },
        }
    }
}

/// Whether an edge runs between two neighbours.
fn parted(frame: &Frame, i: usize, j: usize, rules: &[Rule]) -> bool {
    let (a, b) = (frame.key(i), frame.key(j));
    if a.instance != b.instance {
        return true;
    }
    // Most pixels show the surroundings.
    Surface::of(a.instance).is_none() && {
        let rule = &rules[Object::index(a.instance)];
        (rule.creases && a.piece != b.piece) || (frame.depth[i] - frame.depth[j]).abs() > rule.jump
    }
}

/// `value` of every instance of a scene.
fn by_instance<T>(scene: &Scene, value: impl Fn(u16) -> T) -> Vec<T> {
    (0..Object::instance(scene.objects.len())).map(value).collect()
}

fn plane(frame: &Frame, values: impl Iterator<Item = f32>) -> Raster {
    Raster { channels: 1, height: frame.height, width: frame.width, data: values.collect() }
}
