//! Capsules with two radii: what people consist of.

use super::{ClosedForm, Entry, Solid, ball};
use crate::synthetic::vec3::{Ray, Vec3};

/// Two balls and their convex hull.
///
/// Faces: start 0, end 1, flank 2.
#[derive(Debug, Clone, Copy)]
pub(in crate::synthetic) struct Limb {
    start: Vec3,
    axis: Vec3,
    length: f32,
    radii: [f32; 2],
    /// Sine and cosine of the angle by which the flank leans inwards along the axis.
    slope: [f32; 2],
}

impl Limb {
    /// The hull of a ball at `a` and one at `b`; the radii must differ by less than the distance.
    pub(in crate::synthetic) fn new(a: Vec3, b: Vec3, radius_a: f32, radius_b: f32) -> Self {
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
    pub(in crate::synthetic) fn ends(&self) -> [(Vec3, f32); 2] {
        [(self.start, self.radii[0]), (self.end(), self.radii[1])]
    }

    /// A ball that holds the limb.
    pub(in crate::synthetic) fn bound(&self) -> (Vec3, f32) {
        let half = 0.5 * (self.length + self.radii[0] + self.radii[1]);
        (self.start + self.axis * (half - self.radii[0]), half)
    }

    /// Balls that together hold the limb: one around each third of it.
    pub(in crate::synthetic) fn bounds(&self) -> [(Vec3, f32); 3] {
        let [(a, ra), (b, rb)] = self.ends();
        let cut = |share: f32| (a.mix(b, share), ra + (rb - ra) * share);
        [0.0, 1.0, 2.0].map(|third| {
            let ((a, ra), (b, rb)) = (cut(third / 3.0), cut((third + 1.0) / 3.0));
            Self::new(a, b, ra, rb).bound()
        })
    }

    #[inline(always)]
    fn end(&self) -> Vec3 {
        self.start + self.axis * self.length
    }
}

impl ClosedForm for Limb {
    #[inline(always)]
    fn entry(&self, ray: &Ray) -> Entry {
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
        let start = Entry::at(ball(ray, self.start, r0).0, 0);
        let end = Entry::at(ball(ray, self.end(), r1).0, 1);
        // The limb is convex and lies within the flank's cone, so that the ray enters it where it enters the cone or,
        // if that is beyond an end, through the ball at that end.
        let t = (-qb - discriminant.max(0.0).sqrt()) / qa;
        let y = along + climb * t;
        let mut through = Entry::at(t, 2);
        if y > self.length + r1 * s {
            through = end;
        }
        if y < r0 * s {
            through = start;
        }
        if discriminant <= 0.0 {
            through = Entry::NONE;
        }
        // Along the axis, or steeper than the flank: only the balls face the ray, the nearer first.
        if qa < 1e-6 { start.nearer(end) } else { through }
    }
}

impl Solid for Limb {
    #[inline(always)]
    fn normal(&self, p: Vec3, face: u32) -> Vec3 {
        let from = p - self.start;
        let along = from.dot(self.axis);
        // The flank's normal is that of a ball about the point of the axis that lies back along the slope.
        let radial = from - self.axis * along;
        let back = radial.length() * (self.slope[0] / self.slope[1]);
        let flank = radial + self.axis * back;
        let out = if face == 0 {
            from
        } else if face == 1 {
            p - self.end()
        } else {
            flank
        };
        out.unit()
    }

    fn half_extent(&self) -> Vec3 {
        let ends = self.ends().map(|(end, radius)| end.abs() + Vec3::splat(radius));
        ends[0].max(ends[1])
    }
}
