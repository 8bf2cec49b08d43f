//! A rendered frame to the label map of each task.

use super::catalogue::{Catalogue, Class};
use super::render::{Frame, Pixel};
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

fn semseg(_: &Scene, frame: &Frame) -> Raster {
    plane(frame, |pixel| f32::from(pixel.class))
}

fn human_parts(_: &Scene, frame: &Frame) -> Raster {
    plane(frame, |pixel| f32::from(pixel.part))
}

fn saliency(scene: &Scene, frame: &Frame) -> Raster {
    let salient = scene.salient();
    plane(frame, |pixel| {
        let object = usize::from(pixel.instance).checked_sub(usize::from(Surface::COUNT));
        f32::from(u8::from(object.is_some_and(|index| salient[index])))
    })
}

fn depth(_: &Scene, frame: &Frame) -> Raster {
    plane(frame, |pixel| if pixel.depth.is_finite() { pixel.depth } else { IGNORE })
}

fn normals(_: &Scene, frame: &Frame) -> Raster {
    let mut map = Raster::filled(3, frame.height, frame.width, IGNORE);
    for (c, pick) in
        [|p: &Pixel| p.normal.x, |p: &Pixel| p.normal.y, |p: &Pixel| p.normal.z].into_iter().enumerate()
    {
        for (value, pixel) in map.plane_mut(c).iter_mut().zip(&frame.pixels) {
            if pixel.depth.is_finite() {
                *value = pick(pixel);
            }
        }
    }
    map
}

/// 1 on the nearer of two neighbours between which the instance changes, a solid has a crease, or a body that is not
/// convex steps behind itself.
fn edges(scene: &Scene, frame: &Frame) -> Raster {
    let (height, width) = (frame.height, frame.width);
    let rules: Vec<Rule> = scene.objects.iter().map(Rule::of).collect();
    let mut map = Raster::filled(1, height, width, 0.0);
    for y in 0..height {
        for x in 0..width {
            let i = y * width + x;
            for (inside, j) in [(x + 1 < width, i + 1), (y + 1 < height, i + width)] {
                if inside {
                    let (a, b) = (&frame.pixels[i], &frame.pixels[j]);
                    if parted(a, b, &rules) {
                        map.data[if a.depth <= b.depth { i } else { j }] = 1.0;
                    }
                }
            }
        }
    }
    map
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
fn parted(a: &Pixel, b: &Pixel, rules: &[Rule]) -> bool {
    if a.instance != b.instance {
        return true;
    }
    let object = usize::from(a.instance).checked_sub(usize::from(Surface::COUNT));
    object.is_some_and(|index| {
        let rule = &rules[index];
        (rule.creases && a.piece != b.piece) || (a.depth - b.depth).abs() > rule.jump
    })
}

fn plane(frame: &Frame, value: impl Fn(&Pixel) -> f32) -> Raster {
    let data = frame.pixels.iter().map(value).collect();
    Raster { channels: 1, height: frame.height, width: frame.width, data }
}
