//! People: about twenty capsules on a skeleton, in one of a few postures, each capsule one of six parts.

use tadformer_ops::Rng;

use super::catalogue::{colour, pick};
use super::material::{Material, Pattern};
use super::shape::Limb;
use super::vec3::{Vec3, vec3};

/// Part classes in the order of PASCAL-Person-Part; 0 is everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Head = 1,
    /// With the neck.
    Torso = 2,
    UpperArm = 3,
    /// With the hand.
    LowerArm = 4,
    UpperLeg = 5,
    /// With the foot.
    LowerLeg = 6,
}

/// A capsule of a person.
#[derive(Debug, Clone)]
pub(super) struct BodyPart {
    pub(super) limb: Limb,
    /// A ball that holds it: centre and radius.
    pub(super) bound: (Vec3, f32),
    pub(super) part: Part,
    /// Index into [`Person::materials`].
    pub(super) material: usize,
}

/// Somebody, with the origin between the feet.
#[derive(Debug, Clone)]
pub(super) struct Person {
    /// Metres.
    pub(super) height: f32,
    /// In the person's own coordinates: `y` up, `z` forwards.
    pub(super) parts: Vec<BodyPart>,
    pub(super) materials: Vec<Material>,
}

const SKIN: usize = 0;
const SHIRT: usize = 1;
const TROUSERS: usize = 2;
const SHOES: usize = 3;
const HAIR: usize = 4;
const EYES: usize = 5;

/// Directions of the two segments of an arm or a leg.
#[derive(Debug, Clone, Copy)]
struct Bend {
    /// Sideways angle from straight down, radians, outwards positive; of the upper and the lower segment.
    out: [f32; 2],
    /// Forward angle from straight down, radians; of the upper and the lower segment.
    forward: [f32; 2],
}

/// Arms and legs, left (the person's own, `+x`) first.
struct Posture {
    arms: [Bend; 2],
    legs: [Bend; 2],
}

impl Person {
    /// Somebody of `height` metres, dressed and posed by the stream.
    pub(super) fn draw(rng: &mut Rng, height: f32) -> Self {
        let materials = wardrobe(rng);
        let posture = Posture::draw(rng);
        let short_sleeves = rng.bernoulli(0.5);
        let shorts = rng.bernoulli(0.25);
        let long_hair = rng.bernoulli(0.4);
        let mut body = Body { unit: height, parts: Vec::with_capacity(24) };
        body.torso();
        body.head(long_hair);
        for (side, bend) in [1.0, -1.0].into_iter().zip(posture.arms) {
            body.arm(side, bend, if short_sleeves { SKIN } else { SHIRT });
        }
        for (side, bend) in [1.0, -1.0].into_iter().zip(posture.legs) {
            body.leg(side, bend, if shorts { SKIN } else { TROUSERS });
        }
        Self { height, parts: body.stood_on_the_ground(), materials }
    }

    /// A ball that holds all of the person.
    pub(super) fn bound(&self) -> (Vec3, f32) {
        let centre = vec3(0.0, 0.5 * self.height, 0.0);
        let reach = |part: &BodyPart| (part.bound.0 - centre).length() + part.bound.1;
        (centre, self.parts.iter().map(reach).fold(0.0, f32::max))
    }

    /// The trunk's axis for shading: where it blocks the sky most, as balls of a centre and a radius.
    pub(super) fn bulk(&self) -> [(Vec3, f32); 3] {
        let h = self.height;
        [
            (vec3(0.0, 0.06 * h, 0.0), 0.09 * h),
            (vec3(0.0, 0.5 * h, 0.0), 0.12 * h),
            (vec3(0.0, 0.75 * h, 0.0), 0.12 * h),
        ]
    }
}

impl Posture {
    fn draw(rng: &mut Rng) -> Self {
        let mut jitter = |low: f64, high: f64| rng.range(low, high) as f32;
        let hanging = |jitter: &mut dyn FnMut(f64, f64) -> f32| {
            let (out, forward) = (jitter(0.1, 0.35), jitter(-0.25, 0.25));
            Bend { out: [out, out - 0.1], forward: [forward, forward + jitter(0.1, 0.7)] }
        };
        let mut arms = [hanging(&mut jitter), hanging(&mut jitter)];
        let spread = jitter(0.03, 0.2);
        let straight = Bend { out: [spread, spread * 0.6], forward: [0.02, -0.03] };
        let mut legs = [straight; 2];
        let side = usize::from(jitter(0.0, 1.0) < 0.5);
        match (jitter(0.0, 1.0) * 6.0) as usize {
            // Standing.
            0 => {}
            // Walking: the leg behind bends its knee, the arms swing against the legs.
            1 => {
                let stride = jitter(0.3, 0.6);
                legs[side] = Bend { out: [0.03, 0.03], forward: [stride, stride - 0.15] };
                legs[1 - side] =
                    Bend { out: [0.03, 0.03], forward: [-stride * 0.8, -stride * 0.8 - jitter(0.2, 0.7)] };
                arms[side].forward = [-0.7 * stride, -0.7 * stride + 0.35];
                arms[1 - side].forward = [0.8 * stride, 0.8 * stride + 0.6];
            }
            // Waving.
            2 => {
                let raised = jitter(1.5, 2.4);
                arms[side] = Bend { out: [raised, raised + jitter(0.2, 0.9)], forward: [0.2, 0.3] };
            }
            // Both arms out or up.
            3 => {
                let raised = jitter(1.1, 2.7);
                for arm in &mut arms {
                    *arm = Bend { out: [raised, raised + jitter(-0.1, 0.4)], forward: [0.1, 0.15] };
                }
            }
            // Hands on the hips.
            4 => {
                for arm in &mut arms {
                    *arm = Bend { out: [jitter(0.65, 0.85), jitter(-0.75, -0.55)], forward: [-0.15, 0.25] };
                }
            }
            // Reaching forwards with one arm, a leg raised a little.
            _ => {
                let reach = jitter(0.8, 1.6);
                arms[side] = Bend { out: [0.15, 0.05], forward: [reach, reach + jitter(0.0, 0.4)] };
                let lifted = jitter(0.2, 0.9);
                legs[1 - side] = Bend { out: [0.06, 0.04], forward: [lifted, lifted - jitter(0.5, 1.2)] };
            }
        }
        Self { arms, legs }
    }
}

/// The capsules so far; lengths are shares of the body height, heights are above the hip joints.
struct Body {
    unit: f32,
    parts: Vec<BodyPart>,
}

impl Body {
    fn add(&mut self, part: Part, material: usize, a: Vec3, b: Vec3, radii: [f32; 2]) {
        let limb = Limb::new(a * self.unit, b * self.unit, radii[0] * self.unit, radii[1] * self.unit);
        self.parts.push(BodyPart { bound: limb.bound(), limb, part, material });
    }

    fn torso(&mut self) {
        let (torso, shirt) = (Part::Torso, SHIRT);
        for side in [-1.0, 1.0] {
            let (hip, chest) = (vec3(side * 0.032, 0.06, 0.0), vec3(side * 0.05, 0.235, -0.004));
            self.add(torso, shirt, hip, chest, [0.06, 0.064]);
        }
        self.add(torso, shirt, vec3(-0.088, 0.268, -0.006), vec3(0.088, 0.268, -0.006), [0.037, 0.0371]);
        self.add(torso, TROUSERS, vec3(-0.042, 0.01, 0.0), vec3(0.042, 0.01, 0.0), [0.061, 0.0611]);
        self.add(torso, SKIN, vec3(0.0, 0.27, -0.004), vec3(0.0, 0.35, 0.004), [0.034, 0.028]);
    }

    fn head(&mut self, long_hair: bool) {
        let head = Part::Head;
        self.add(head, SKIN, vec3(0.0, 0.365, 0.014), vec3(0.0, 0.408, 0.0), [0.036, 0.055]);
        self.add(head, SKIN, vec3(0.0, 0.392, 0.05), vec3(0.0, 0.38, 0.06), [0.006, 0.0085]);
        self.add(head, HAIR, vec3(0.0, 0.416, -0.012), vec3(0.0, 0.424, -0.006), [0.0575, 0.0545]);
        if long_hair {
            self.add(head, HAIR, vec3(0.0, 0.41, -0.02), vec3(0.0, 0.31, -0.038), [0.054, 0.034]);
        }
        for side in [-1.0, 1.0] {
            self.add(
                head,
                SKIN,
                vec3(side * 0.052, 0.395, -0.004),
                vec3(side * 0.052, 0.38, 0.0),
                [0.012, 0.008],
            );
            self.add(
                head,
                EYES,
                vec3(side * 0.02, 0.4, 0.0475),
                vec3(side * 0.021, 0.4, 0.0475),
                [0.0075, 0.0075],
            );
        }
    }

    fn arm(&mut self, side: f32, bend: Bend, lower: usize) {
        let shoulder = vec3(side * 0.112, 0.268, -0.006);
        let elbow = shoulder + bend.segment(0, side) * 0.165;
        let forearm = bend.segment(1, side);
        let wrist = elbow + forearm * 0.14;
        self.add(Part::UpperArm, SHIRT, shoulder, elbow, [0.034, 0.026]);
        self.add(Part::LowerArm, lower, elbow, wrist, [0.025, 0.018]);
        self.add(Part::LowerArm, SKIN, wrist + forearm * 0.008, wrist + forearm * 0.052, [0.021, 0.017]);
    }

    fn leg(&mut self, side: f32, bend: Bend, lower: usize) {
        let hip = vec3(side * 0.045, 0.0, 0.0);
        let knee = hip + bend.segment(0, side) * 0.245;
        let shin = bend.segment(1, side);
        let ankle = knee + shin * 0.225;
        // The foot is square to the shin, seen from the side.
        let toe = vec3(shin.x * 0.3 + side * 0.15, -shin.z, -shin.y).unit();
        self.add(Part::UpperLeg, TROUSERS, hip, knee, [0.056, 0.039]);
        self.add(Part::LowerLeg, lower, knee, ankle, [0.038, 0.025]);
        self.add(
            Part::LowerLeg,
            SHOES,
            ankle + shin * 0.012 - toe * 0.014,
            ankle + shin * 0.022 + toe * 0.078,
            [0.027, 0.019],
        );
    }

    /// The capsules, raised until the lowest touches the ground.
    fn stood_on_the_ground(self) -> Vec<BodyPart> {
        let lowest = self
            .parts
            .iter()
            .flat_map(|body| body.limb.ends())
            .map(|(end, radius)| end.y - radius)
            .fold(f32::INFINITY, f32::min);
        let lift = vec3(0.0, -lowest, 0.0);
        let raised = |body: BodyPart| {
            let [(a, ra), (b, rb)] = body.limb.ends();
            let limb = Limb::new(a + lift, b + lift, ra, rb);
            BodyPart { bound: limb.bound(), limb, ..body }
        };
        self.parts.into_iter().map(raised).collect()
    }
}

impl Bend {
    /// Unit direction of the upper (0) or lower (1) segment on `side`.
    fn segment(&self, i: usize, side: f32) -> Vec3 {
        let (out_sin, out_cos) = self.out[i].sin_cos();
        let (forward_sin, forward_cos) = self.forward[i].sin_cos();
        vec3(side * out_sin, -out_cos * forward_cos, out_cos.abs() * forward_sin).unit()
    }
}

/// Skin, shirt, trousers, shoes, hair and eyes.
fn wardrobe(rng: &mut Rng) -> Vec<Material> {
    let skin = pick(
        rng,
        &[
            vec3(0.74, 0.47, 0.34),
            vec3(0.62, 0.36, 0.24),
            vec3(0.44, 0.24, 0.14),
            vec3(0.24, 0.12, 0.07),
            vec3(0.8, 0.55, 0.42),
        ],
    );
    let hair = pick(
        rng,
        &[
            vec3(0.02, 0.015, 0.012),
            vec3(0.08, 0.04, 0.02),
            vec3(0.25, 0.13, 0.05),
            vec3(0.5, 0.33, 0.12),
            vec3(0.3, 0.3, 0.3),
        ],
    );
    let shirt_pattern = pick(rng, &[Pattern::Plain, Pattern::Plain, Pattern::Stripes, Pattern::Checker]);
    let shirt = [colour(rng, 0.75, 0.75), colour(rng, 0.5, 0.6)];
    let trousers = pick(
        rng,
        &[
            vec3(0.03, 0.05, 0.13),
            vec3(0.04, 0.04, 0.045),
            vec3(0.2, 0.14, 0.08),
            vec3(0.12, 0.18, 0.3),
            vec3(0.1, 0.12, 0.06),
        ],
    );
    let shoes = pick(rng, &[vec3(0.03, 0.025, 0.02), vec3(0.6, 0.6, 0.6), vec3(0.35, 0.05, 0.04)]);
    let mut plain = |first: Vec3, gloss: f32| Material::draw(rng, Pattern::Plain, [first; 2], 6.0, gloss);
    let skin = plain(skin, 0.12);
    let trousers = plain(trousers, 0.02);
    let shoes = plain(shoes, 0.25);
    let hair = plain(hair, 0.2);
    let eyes = plain(vec3(0.01, 0.01, 0.012), 0.6);
    let shirt = Material::draw(rng, shirt_pattern, shirt, 9.0, 0.03);
    vec![skin, shirt, trousers, shoes, hair, eyes]
}
