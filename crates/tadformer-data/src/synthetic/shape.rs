//! Solid bodies in their own coordinates: where a ray enters them and what their normal is there.
//!
//! Bodies are centred, so that one at rest on its local `y = -half_extent.y` touches the ground with its centre at that
//! height. Convex bodies are intersected in closed form; rings and rounded boxes are not convex or not simple, and their
//! signed distance is followed along the ray instead.

use super::vec3::{Ray, Vec3, vec3};

/// A body.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// Semi-axes; a sphere if they are equal.
    Ellipsoid { radii: Vec3 },
    /// Circular section about `y`, radius `bottom` at `-half`, `top` at `half`: cylinder, cone or truncated cone.
    Frustum { bottom: f32, top: f32, half: f32 },
    /// The upper half of a ball, centred in height.
    Dome { radius: f32 },
    /// A tube of radius `tube` about a stadium in the `xz` plane: semicircles of radius `ring`, `straight` metres from the
    /// centre along `x`; a torus if `straight` is zero.
    Ring { ring: f32, tube: f32, straight: f32 },
    /// A box with half edges `core`, grown by `radius`.
    RoundedBox { core: Vec3, radius: f32 },
    /// A ball of radius `bottom` at `-half` and one of radius `top` at `half`, and all between: a capsule along `y`.
    Capsule { limb: Limb },
    /// What lies behind every plane.
    Polyhedron { planes: Vec<Plane>, half_extent: Vec3 },
}

/// A half-space: points with `normal · p <= offset`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plane {
    pub(super) normal: Vec3,
    pub(super) offset: f32,
}

/// Two balls and their convex hull.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limb {
    start: Vec3,
    axis: Vec3,
    length: f32,
    radii: [f32; 2],
    /// Sine and cosine of the angle by which the flank leans inwards along the axis.
    slope: [f32; 2],
}

/// Where a ray enters a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contact {
    /// Metres along the ray.
    pub(super) t: f32,
    /// Which face of the body; a smooth piece of surface each.
    pub(super) face: u8,
}

/// Distances below this many metres from a ray's origin are the surface that it left.
const NEAR: f32 = 1e-4;

impl Shape {
    /// Where `ray` enters this body, if it does so from outside.
    pub(super) fn intersect(&self, ray: &Ray) -> Option<Contact> {
        match self {
            Self::Ellipsoid { radii } => {
                let scaled = Ray { origin: ray.origin.over(*radii), direction: ray.direction.over(*radii) };
                entry(ball_interval(&scaled, Vec3::ZERO, 1.0)?.0, 0)
            }
            Self::Frustum { bottom, top, half } => frustum(ray, *bottom, *top, *half),
            Self::Dome { radius } => dome(ray, *radius),
            Self::Ring { .. } | Self::RoundedBox { .. } => self.march(ray),
            Self::Capsule { limb } => limb.intersect(ray),
            Self::Polyhedron { planes, .. } => polyhedron(ray, planes),
        }
    }

    /// The outward unit normal at `p` on the surface, on face `face`.
    pub(super) fn normal(&self, p: Vec3, face: u8) -> Vec3 {
        match self {
            Self::Ellipsoid { radii } => p.over(*radii).over(*radii).unit(),
            Self::Frustum { bottom, top, half } => match face {
                1 => -Vec3::UP,
                2 => Vec3::UP,
                _ => {
                    let radial = vec3(p.x, 0.0, p.z);
                    (radial * (1.0 / radial.length().max(1e-9)) + Vec3::UP * ((bottom - top) / (2.0 * half)))
                        .unit()
                }
            },
            Self::Dome { radius } => {
                if face == 1 {
                    -Vec3::UP
                } else {
                    (p + Vec3::UP * (0.5 * radius)).unit()
                }
            }
            Self::Ring { ring, straight, .. } => (p - ring_centre(p, *ring, *straight)).unit(),
            Self::RoundedBox { core, radius } => {
                let inside =
                    vec3(p.x.clamp(-core.x, core.x), p.y.clamp(-core.y, core.y), p.z.clamp(-core.z, core.z));
                let out = p - inside;
                if out.length() > 0.5 * radius { out.unit() } else { Vec3::UP }
            }
            Self::Capsule { limb } => limb.normal(p, face),
            Self::Polyhedron { planes, .. } => planes[usize::from(face)].normal,
        }
    }

    /// Half the size of the axis-aligned box around this body.
    pub(super) fn half_extent(&self) -> Vec3 {
        match self {
            Self::Ellipsoid { radii } => *radii,
            Self::Frustum { bottom, top, half } => vec3(bottom.max(*top), *half, bottom.max(*top)),
            Self::Dome { radius } => vec3(*radius, 0.5 * radius, *radius),
            Self::Ring { ring, tube, straight } => vec3(ring + tube + straight, *tube, ring + tube),
            Self::RoundedBox { core, radius } => *core + Vec3::splat(*radius),
            Self::Capsule { limb } => {
                let r = limb.radii[0];
                vec3(r, 0.5 * limb.length + r, r)
            }
            Self::Polyhedron { half_extent, .. } => *half_extent,
        }
    }

    /// Radius of a ball about the centre that holds this body.
    pub(super) fn bounding_radius(&self) -> f32 {
        let half = self.half_extent();
        match self {
            Self::Ellipsoid { .. } | Self::Capsule { .. } => half.x.max(half.y).max(half.z),
            Self::Ring { .. } => half.x,
            _ => half.length(),
        }
    }

    /// Whether its faces meet in creases that a picture shows as lines.
    pub(super) fn has_creases(&self) -> bool {
        matches!(self, Self::Frustum { .. } | Self::Dome { .. } | Self::Polyhedron { .. })
    }

    /// The jump of depth, in metres, by which one piece of this body stands before another; `None` if it is convex.
    pub(super) fn overlap_jump(&self) -> Option<f32> {
        match self {
            Self::Ring { tube, .. } => Some(*tube),
            _ => None,
        }
    }

    /// Follows the signed distance along the ray, at most [`MARCH_STEPS`] times.
    fn march(&self, ray: &Ray) -> Option<Contact> {
        // From the surface of the box around it: a ray that only grazes a flat face would need ever shorter steps to it.
        let (enter, leave) = box_interval(ray, self.half_extent())?;
        let mut t = enter.max(NEAR);
        for _ in 0..MARCH_STEPS {
            let distance = self.distance(ray.at(t));
            if distance < MARCH_HIT {
                return entry(t, 0);
            }
            t += distance;
            if t > leave {
                return None;
            }
        }
        None
    }

    /// Signed distance of the bodies that are marched.
    fn distance(&self, p: Vec3) -> f32 {
        match self {
            Self::Ring { ring, tube, straight } => (p - ring_centre(p, *ring, *straight)).length() - tube,
            Self::RoundedBox { core, radius } => {
                let q = p.abs() - *core;
                let outside = vec3(q.x.max(0.0), q.y.max(0.0), q.z.max(0.0)).length();
                outside + q.x.max(q.y).max(q.z).min(0.0) - radius
            }
            _ => f32::INFINITY,
        }
    }
}

/// More steps than a ray needs that does not graze the surface.
const MARCH_STEPS: usize = 96;

/// Distance in metres that counts as touching: well below a pixel at any size that is drawn.
const MARCH_HIT: f32 = 2e-4;

impl Plane {
    /// The half-space whose border passes through `point`.
    pub(super) fn through(normal: Vec3, point: Vec3) -> Self {
        let normal = normal.unit();
        Self { normal, offset: normal.dot(point) }
    }
}

impl Limb {
    /// The hull of a ball at `a` and one at `b`; the radii must differ by less than the distance.
    pub(super) fn new(a: Vec3, b: Vec3, radius_a: f32, radius_b: f32) -> Self {
        let length = (b - a).length();
        let sine = (radius_a - radius_b) / length;
        Self {
            start: a,
            axis: (b - a) * (1.0 / length),
            length,
            radii: [radius_a, radius_b],
            slope: [sine, (1.0 - sine * sine).max(0.0).sqrt()],
        }
    }

    /// The ends of the axis and the radii there.
    pub(super) fn ends(&self) -> [(Vec3, f32); 2] {
        [(self.start, self.radii[0]), (self.end(), self.radii[1])]
    }

    /// A ball that holds the limb.
    pub(super) fn bound(&self) -> (Vec3, f32) {
        let half = 0.5 * (self.length + self.radii[0] + self.radii[1]);
        (self.start + self.axis * (half - self.radii[0]), half)
    }

    /// Where `ray` enters the limb.
    pub(super) fn intersect(&self, ray: &Ray) -> Option<Contact> {
        let [r0, r1] = self.radii;
        let [s, c] = self.slope;
        // The flank touches the balls in circles at r·s along the axis, with radius r·c; its radius falls by s/c a metre.
        let from = ray.origin - self.start;
        let along = from.dot(self.axis);
        let climb = ray.direction.dot(self.axis);
        let perp_o = from - self.axis * along;
        let perp_d = ray.direction - self.axis * climb;
        let fall = s / c;
        let radius_at_origin = r0 / c - fall * along;
        let qa = perp_d.dot(perp_d) - fall * fall * climb * climb;
        let qb = perp_o.dot(perp_d) + fall * climb * radius_at_origin;
        let qc = perp_o.dot(perp_o) - radius_at_origin * radius_at_origin;
        let discriminant = qb * qb - qa * qc;
        let ball = |face: u8, centre: Vec3, radius: f32| entry(ball_interval(ray, centre, radius)?.0, face);
        if qa < 1e-6 {
            // Along the axis, or steeper than the flank: only the balls face the ray, the nearer first.
            let ends = [ball(0, self.start, r0), ball(1, self.end(), r1)];
            return ends.into_iter().flatten().min_by(|a, b| a.t.total_cmp(&b.t));
        }
        if discriminant <= 0.0 {
            return None;
        }
        // The limb is convex and lies within the flank's cone, so that the ray enters it where it enters the cone or,
        // if that is beyond an end, through the ball at that end.
        let t = (-qb - discriminant.sqrt()) / qa;
        let y = along + climb * t;
        if y < r0 * s {
            ball(0, self.start, r0)
        } else if y > self.length + r1 * s {
            ball(1, self.end(), r1)
        } else {
            entry(t, 2)
        }
    }

    /// The outward unit normal at `p` on face `face` of [`Limb::intersect`].
    pub(super) fn normal(&self, p: Vec3, face: u8) -> Vec3 {
        match face {
            0 => (p - self.start).unit(),
            1 => (p - self.end()).unit(),
            _ => {
                let from = p - self.start;
                let radial = from - self.axis * from.dot(self.axis);
                (radial.unit() * self.slope[1] + self.axis * self.slope[0]).unit()
            }
        }
    }

    fn end(&self) -> Vec3 {
        self.start + self.axis * self.length
    }
}

/// A contact at `t`, unless it lies behind the ray's origin.
fn entry(t: f32, face: u8) -> Option<Contact> {
    (t > NEAR).then_some(Contact { t, face })
}

/// Where a ray, of any length of direction, enters and leaves a ball.
fn ball_interval(ray: &Ray, centre: Vec3, radius: f32) -> Option<(f32, f32)> {
    let from = ray.origin - centre;
    let a = ray.direction.dot(ray.direction);
    let b = from.dot(ray.direction) / a;
    // The squared distance of the line to the centre, from the foot of the perpendicular: b² - ac would cancel.
    let foot = from - ray.direction * b;
    let inside = radius * radius - foot.dot(foot);
    if inside <= 0.0 {
        return None;
    }
    let half = (inside / a).sqrt();
    Some((-b - half, -b + half))
}

/// Where a ray enters and leaves the box with half edges `half`.
fn box_interval(ray: &Ray, half: Vec3) -> Option<(f32, f32)> {
    let (o, d) = (ray.origin, ray.direction);
    let mut interval = (f32::NEG_INFINITY, f32::INFINITY);
    for (start, speed, half) in [(o.x, d.x, half.x), (o.y, d.y, half.y), (o.z, d.z, half.z)] {
        // A speed of zero gives infinities of the right signs, or no number on the very face, which `min` and `max` pass by.
        let (a, b) = ((-half - start) / speed, (half - start) / speed);
        interval = (interval.0.max(a.min(b)), interval.1.min(a.max(b)));
    }
    (interval.0 < interval.1).then_some(interval)
}

/// The point of the ring's centre line that is nearest to `p`.
fn ring_centre(p: Vec3, ring: f32, straight: f32) -> Vec3 {
    let middle = p.x.clamp(-straight, straight);
    let flat = vec3(p.x - middle, 0.0, p.z);
    let length = flat.length().max(1e-9);
    flat * (ring / length) + vec3(middle, 0.0, 0.0)
}

/// Flank 0, bottom 1, top 2.
fn frustum(ray: &Ray, bottom: f32, top: f32, half: f32) -> Option<Contact> {
    let (o, d) = (ray.origin, ray.direction);
    let slope = (top - bottom) / (2.0 * half);
    let radius = 0.5 * (top + bottom) + slope * o.y;
    let a = d.x * d.x + d.z * d.z - slope * slope * d.y * d.y;
    let b = o.x * d.x + o.z * d.z - slope * d.y * radius;
    let c = o.x * o.x + o.z * o.z - radius * radius;
    let mut best: Option<Contact> = None;
    let mut offer = |t: f32, face: u8| {
        if t > NEAR && best.is_none_or(|known| t < known.t) {
            best = Some(Contact { t, face });
        }
    };
    let discriminant = b * b - a * c;
    if discriminant > 0.0 && a.abs() > 1e-9 {
        let root = discriminant.sqrt();
        for t in [(-b - root) / a, (-b + root) / a] {
            if (o.y + d.y * t).abs() <= half {
                offer(t, 0);
            }
        }
    }
    if d.y.abs() > 1e-9 {
        for (face, y, cap) in [(1, -half, bottom), (2, half, top)] {
            let t = (y - o.y) / d.y;
            let (x, z) = (o.x + d.x * t, o.z + d.z * t);
            if x * x + z * z <= cap * cap {
                offer(t, face);
            }
        }
    }
    best
}

/// Vault 0, floor 1.
fn dome(ray: &Ray, radius: f32) -> Option<Contact> {
    let base = -0.5 * radius;
    let (mut enter, mut leave) = ball_interval(ray, vec3(0.0, base, 0.0), radius)?;
    let mut face = 0;
    let (height, climb) = (ray.origin.y - base, ray.direction.y);
    if climb.abs() < 1e-9 {
        if height < 0.0 {
            return None;
        }
    } else {
        let t = -height / climb;
        if climb > 0.0 && t > enter {
            (enter, face) = (t, 1);
        } else if climb < 0.0 {
            leave = leave.min(t);
        }
    }
    if enter < leave { entry(enter, face) } else { None }
}

/// One face a plane.
fn polyhedron(ray: &Ray, planes: &[Plane]) -> Option<Contact> {
    let (mut enter, mut leave, mut face) = (f32::NEG_INFINITY, f32::INFINITY, 0);
    for (i, plane) in planes.iter().enumerate() {
        let height = plane.normal.dot(ray.origin) - plane.offset;
        let climb = plane.normal.dot(ray.direction);
        if climb.abs() < 1e-9 {
            if height > 0.0 {
                return None;
            }
            continue;
        }
        let t = -height / climb;
        if climb > 0.0 {
            leave = leave.min(t);
        } else if t > enter {
            (enter, face) = (t, i as u8);
        }
        if enter >= leave {
            return None;
        }
    }
    entry(enter, face)
}

#[cfg(test)]
pub(super) mod tests;
