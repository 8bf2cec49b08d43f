//! What the scenes of a domain are made of: shapes, materials and lights as data.

use tadformer_ops::Rng;

use super::Domain;
use super::material::Pattern;
use super::shape::{Dome, Ellipsoid, Frustum, Limb, Plane, Polyhedron, Ring, RoundedBox, Shape};
use super::vec3::{Vec3, vec3};

/// A family of solids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Sphere,
    Ellipsoid,
    Box,
    RoundedBox,
    Cylinder,
    Cone,
    Torus,
    Capsule,
    Pyramid,
    Prism,
    Octahedron,
    HexagonalPrism,
    Frustum,
    Dome,
    Link,
}

/// A semantic class and its colour in pictures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Class {
    pub(super) name: &'static str,
    pub(super) colour: [u8; 3],
}

/// What a domain draws from.
#[derive(Debug)]
pub(super) struct Catalogue {
    /// Each family with its semantic class.
    pub(super) families: &'static [(Family, usize)],
    pub(super) classes: &'static [Class],
    /// The class of people; `None` if the domain has none.
    pub(super) person: Option<usize>,
    /// Patterns of solids, with the periods a metre between which theirs lies.
    pub(super) solids: &'static [(Pattern, [f64; 2])],
    /// Patterns of floors in rooms and courts.
    pub(super) floors: &'static [(Pattern, [f64; 2])],
    /// Patterns of open ground.
    pub(super) grounds: &'static [(Pattern, [f64; 2])],
    pub(super) walls: &'static [(Pattern, [f64; 2])],
    /// Colours of lamps, linear RGB.
    pub(super) lamps: &'static [Vec3],
    /// Colours of the sun.
    pub(super) suns: &'static [Vec3],
    /// Colours of the zenith.
    pub(super) skies: &'static [Vec3],
}

/// The class of sky, hills and ceilings.
pub(super) const BACKGROUND: usize = 0;
/// The class of floors and grounds.
pub(super) const FLOOR: usize = 1;
/// The class of walls.
pub(super) const WALL: usize = 2;

impl Domain {
    pub(super) fn catalogue(self) -> &'static Catalogue {
        match self {
            Self::Main => &MAIN,
            Self::Pretrain => &PRETRAIN,
        }
    }
}

const fn class(name: &'static str, r: u8, g: u8, b: u8) -> Class {
    Class { name, colour: [r, g, b] }
}

static MAIN: Catalogue = Catalogue {
    families: &[
        (Family::Sphere, 3),
        (Family::Ellipsoid, 3),
        (Family::Box, 4),
        (Family::RoundedBox, 4),
        (Family::Cylinder, 5),
        (Family::Cone, 6),
        (Family::Torus, 7),
        (Family::Capsule, 8),
        (Family::Pyramid, 9),
        (Family::Prism, 10),
    ],
    classes: &[
        class("background", 0, 0, 0),
        class("floor", 112, 96, 80),
        class("wall", 168, 176, 184),
        class("ball", 214, 39, 40),
        class("box", 31, 119, 180),
        class("cylinder", 44, 160, 44),
        class("cone", 255, 127, 14),
        class("torus", 148, 103, 189),
        class("capsule", 23, 190, 207),
        class("pyramid", 227, 199, 32),
        class("prism", 140, 86, 75),
        class("person", 247, 129, 191),
    ],
    person: Some(11),
    solids: &[
        (Pattern::Plain, [4.0, 8.0]),
        (Pattern::Stripes, [4.0, 9.0]),
        (Pattern::Checker, [3.0, 7.0]),
        (Pattern::Marble, [3.0, 7.0]),
        (Pattern::Wood, [9.0, 18.0]),
        (Pattern::Speckle, [4.0, 9.0]),
    ],
    floors: &[
        (Pattern::Planks, [2.0, 3.5]),
        (Pattern::Tiles, [1.5, 3.0]),
        (Pattern::Checker, [0.9, 1.6]),
        (Pattern::Marble, [0.8, 2.0]),
        (Pattern::Plain, [4.0, 10.0]),
    ],
    grounds: &[(Pattern::Grass, [0.8, 1.6]), (Pattern::Speckle, [4.0, 7.0]), (Pattern::Plain, [1.0, 3.0])],
    walls: &[
        (Pattern::Plain, [0.5, 2.0]),
        (Pattern::Plain, [0.5, 2.0]),
        (Pattern::Brick, [3.0, 4.5]),
        (Pattern::Bars, [1.5, 4.0]),
    ],
    lamps: &[vec3(1.0, 0.9, 0.76), vec3(1.0, 0.97, 0.92), vec3(0.95, 0.98, 1.0)],
    suns: &[vec3(1.0, 0.95, 0.86), vec3(1.0, 0.84, 0.66), vec3(1.0, 0.98, 0.95)],
    skies: &[vec3(0.16, 0.34, 0.74), vec3(0.24, 0.43, 0.78), vec3(0.42, 0.5, 0.6)],
};

static PRETRAIN: Catalogue = Catalogue {
    families: &[
        (Family::Octahedron, 3),
        (Family::HexagonalPrism, 4),
        (Family::Frustum, 5),
        (Family::Dome, 6),
        (Family::Link, 7),
    ],
    classes: &[
        class("background", 0, 0, 0),
        class("floor", 112, 96, 80),
        class("wall", 168, 176, 184),
        class("octahedron", 188, 60, 140),
        class("hexagonal prism", 60, 170, 150),
        class("frustum", 200, 150, 40),
        class("dome", 80, 90, 200),
        class("link", 120, 190, 60),
    ],
    person: None,
    solids: &[
        (Pattern::Dots, [6.0, 11.0]),
        (Pattern::Zigzag, [4.0, 8.0]),
        (Pattern::Swell, [8.0, 16.0]),
        (Pattern::Grid, [4.0, 8.0]),
        (Pattern::Waves, [4.0, 9.0]),
    ],
    floors: &[(Pattern::Cells, [1.2, 2.6]), (Pattern::Zigzag, [1.0, 2.5]), (Pattern::Dots, [2.0, 4.0])],
    grounds: &[(Pattern::Cells, [1.0, 2.0]), (Pattern::Waves, [0.6, 1.2])],
    walls: &[(Pattern::Swell, [0.4, 1.2]), (Pattern::Grid, [1.0, 2.5]), (Pattern::Waves, [0.8, 1.8])],
    lamps: &[vec3(0.7, 1.0, 0.8), vec3(0.8, 0.75, 1.0), vec3(1.0, 0.72, 0.82)],
    suns: &[vec3(1.0, 0.68, 0.42), vec3(0.78, 0.88, 1.0)],
    skies: &[vec3(0.5, 0.28, 0.34), vec3(0.2, 0.42, 0.4)],
};

impl Family {
    /// Whether a solid of this family may also lie on its side.
    pub(super) fn may_lie(self) -> bool {
        matches!(self, Self::Ellipsoid | Self::Cylinder | Self::Torus | Self::Capsule | Self::Link)
    }

    /// A member of the family about `size` metres in radius; proportions come from the stream.
    pub(super) fn draw(self, rng: &mut Rng, size: f32) -> Shape {
        let mut share = |low: f64, high: f64| size * rng.range(low, high) as f32;
        match self {
            Self::Sphere => Shape::Ellipsoid(Ellipsoid { radii: Vec3::splat(share(0.75, 0.95)) }),
            Self::Ellipsoid => Shape::Ellipsoid(Ellipsoid {
                radii: vec3(share(0.8, 1.1), share(0.45, 0.6), share(0.6, 0.8)),
            }),
            Self::Box => cuboid(vec3(share(0.45, 0.85), share(0.4, 1.2), share(0.45, 0.85))),
            Self::RoundedBox => {
                let radius = share(0.14, 0.24);
                Shape::RoundedBox(RoundedBox {
                    core: vec3(share(0.35, 0.65), share(0.25, 0.8), share(0.35, 0.65)),
                    radius,
                })
            }
            Self::Cylinder => {
                let radius = share(0.4, 0.7);
                Shape::Frustum(Frustum { bottom: radius, top: radius, half: share(0.5, 1.1) })
            }
            Self::Cone => {
                Shape::Frustum(Frustum { bottom: share(0.55, 0.85), top: 0.0, half: share(0.6, 1.1) })
            }
            Self::Torus => {
                Shape::Ring(Ring { ring: share(0.6, 0.8), tube: share(0.16, 0.28), straight: 0.0 })
            }
            Self::Capsule => {
                let (radius, half) = (share(0.3, 0.42), share(0.35, 0.8));
                let end = vec3(0.0, half, 0.0);
                Shape::Capsule(Limb::new(-end, end, radius, radius))
            }
            Self::Pyramid => pyramid(share(0.6, 0.9), share(0.55, 1.0)),
            Self::Prism => gable(share(0.5, 0.85), share(0.4, 0.75), share(0.5, 1.0)),
            Self::Octahedron => octahedron(share(0.9, 1.2)),
            Self::HexagonalPrism => hexagonal_prism(share(0.45, 0.75), share(0.4, 1.1)),
            Self::Frustum => Shape::Frustum(Frustum {
                bottom: share(0.6, 0.85),
                top: share(0.2, 0.45),
                half: share(0.4, 0.9),
            }),
            Self::Dome => Shape::Dome(Dome { radius: share(0.7, 1.0) }),
            Self::Link => Shape::Ring(Ring {
                ring: share(0.35, 0.5),
                tube: share(0.14, 0.22),
                straight: share(0.25, 0.5),
            }),
        }
    }
}

/// A box with half edges `half`.
fn cuboid(half: Vec3) -> Shape {
    let planes = [
        (vec3(1.0, 0.0, 0.0), half.x),
        (vec3(-1.0, 0.0, 0.0), half.x),
        (Vec3::UP, half.y),
        (-Vec3::UP, half.y),
        (vec3(0.0, 0.0, 1.0), half.z),
        (vec3(0.0, 0.0, -1.0), half.z),
    ];
    let planes = planes.map(|(normal, offset)| Plane { normal, offset });
    Shape::Polyhedron(Polyhedron::new(planes, half))
}

/// A square of half edge `base` with four faces to an apex `2 half` above it.
fn pyramid(base: f32, half: f32) -> Shape {
    let apex = vec3(0.0, half, 0.0);
    let side = |x: f32, z: f32| Plane::through(vec3(x * 2.0 * half, base, z * 2.0 * half), apex);
    let floor = Plane { normal: -Vec3::UP, offset: half };
    let planes = [floor, side(1.0, 0.0), side(-1.0, 0.0), side(0.0, 1.0), side(0.0, -1.0)];
    Shape::Polyhedron(Polyhedron::new(planes, vec3(base, half, base)))
}

/// A triangular prism on one of its sides, like a tent: half width `base`, half height `half`, half length `long`.
fn gable(base: f32, half: f32, long: f32) -> Shape {
    let ridge = vec3(0.0, half, 0.0);
    let planes = [
        Plane { normal: -Vec3::UP, offset: half },
        Plane::through(vec3(2.0 * half, base, 0.0), ridge),
        Plane::through(vec3(-2.0 * half, base, 0.0), ridge),
        Plane { normal: vec3(0.0, 0.0, 1.0), offset: long },
        Plane { normal: vec3(0.0, 0.0, -1.0), offset: long },
    ];
    Shape::Polyhedron(Polyhedron::new(planes, vec3(base, half, long)))
}

/// A regular octahedron on one of its faces; its vertices are `radius` from the centre.
fn octahedron(radius: f32) -> Shape {
    let inner = radius / 3f32.sqrt();
    // The faces about the vertical: one up, three leaning outwards below it, and their opposites.
    let level = 8f32.sqrt() / 3.0;
    let leaning = |i: usize| {
        let (s, c) = (std::f32::consts::TAU * i as f32 / 3.0).sin_cos();
        vec3(level * c, 1.0 / 3.0, level * s)
    };
    let normals = [Vec3::UP, leaning(0), leaning(1), leaning(2)];
    let planes = std::array::from_fn::<_, 8, _>(|i| {
        let normal = normals[i / 2];
        Plane { normal: if i % 2 == 0 { normal } else { -normal }, offset: inner }
    });
    Shape::Polyhedron(Polyhedron::new(planes, vec3(radius, inner, radius)))
}

/// A column with six sides, `inner` metres from the axis, and half height `half`.
fn hexagonal_prism(inner: f32, half: f32) -> Shape {
    let planes = std::array::from_fn::<_, 8, _>(|i| match i {
        0 => Plane { normal: Vec3::UP, offset: half },
        1 => Plane { normal: -Vec3::UP, offset: half },
        _ => {
            let (s, c) = (std::f32::consts::TAU * (i - 2) as f32 / 6.0).sin_cos();
            Plane { normal: vec3(c, 0.0, s), offset: inner }
        }
    });
    let corner = inner * 2.0 / 3f32.sqrt();
    Shape::Polyhedron(Polyhedron::new(planes, vec3(corner, half, corner)))
}

/// One of `items`.
pub(super) fn pick<T: Copy>(rng: &mut Rng, items: &[T]) -> T {
    items[rng.below(items.len())]
}

/// One of `patterns` with its frequency.
pub(super) fn pick_pattern(rng: &mut Rng, patterns: &[(Pattern, [f64; 2])]) -> (Pattern, f32) {
    let (pattern, [low, high]) = pick(rng, patterns);
    (pattern, rng.range(low, high) as f32)
}

/// A linear colour of any hue, saturation up to `saturation`, brightest channel up to `value`.
pub(super) fn colour(rng: &mut Rng, saturation: f64, value: f64) -> Vec3 {
    let hue = rng.range(0.0, 6.0) as f32;
    let saturation = rng.range(0.3 * saturation, saturation) as f32;
    let value = rng.range(0.25 * value, value) as f32;
    let channel = |shift: f32| {
        let ramp = ((hue + shift) % 6.0 - 3.0).abs() - 1.0;
        value * (1.0 - saturation * (1.0 - ramp.clamp(0.0, 1.0)))
    };
    vec3(channel(0.0), channel(4.0), channel(2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domains_share_no_shape_material_or_light() {
        let (main, pretrain) = (Domain::Main.catalogue(), Domain::Pretrain.catalogue());
        for (family, _) in pretrain.families {
            assert!(main.families.iter().all(|(other, _)| other != family), "{family:?}");
        }
        let patterns = |c: &Catalogue| -> Vec<Pattern> {
            [c.solids, c.floors, c.grounds, c.walls]
                .iter()
                .flat_map(|list| list.iter().map(|p| p.0))
                .collect()
        };
        for pattern in patterns(pretrain) {
            assert!(!patterns(main).contains(&pattern), "{pattern:?}");
        }
        let lights = |c: &Catalogue| [c.lamps, c.suns, c.skies].concat();
        for light in lights(pretrain) {
            assert!(!lights(main).contains(&light), "{light:?}");
        }
    }

    #[test]
    fn every_class_is_that_of_a_surface_a_family_or_people() {
        for domain in [Domain::Main, Domain::Pretrain] {
            let c = domain.catalogue();
            for i in 0..c.classes.len() {
                let used =
                    i <= WALL || c.person == Some(i) || c.families.iter().any(|(_, class)| *class == i);
                assert!(used, "class {i} of {domain:?}");
            }
        }
    }
}
