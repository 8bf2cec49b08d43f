//! Every body against a description of it that shares nothing with its intersection.

use tadformer_ops::Rng;

use super::super::Domain;
use super::super::catalogue::Family;
use super::super::vec3::vec3;
use super::*;

/// Zero on the surface of `shape`, about the distance to it near by, in metres.
pub(in super::super) fn implicit(shape: &Shape, p: Vec3) -> f32 {
    let level = p.x.hypot(p.z);
    match shape {
        Shape::Ellipsoid(Ellipsoid { radii }) => {
            let scaled = p.over(*radii).length();
            (scaled - 1.0) * radii.x.min(radii.y).min(radii.z)
        }
        Shape::Frustum(Frustum { bottom, top, half }) => {
            let share = (p.y + half) / (2.0 * half);
            (level - (bottom + (top - bottom) * share)).max(p.y.abs() - half)
        }
        Shape::Dome(Dome { radius }) => {
            let raised = p + Vec3::UP * (0.5 * radius);
            (raised.length() - radius).max(-raised.y)
        }
        Shape::Ring(Ring { ring, tube, straight }) => {
            let x = (p.x.abs() - straight).max(0.0);
            (x.hypot(p.z) - ring).hypot(p.y) - tube
        }
        Shape::RoundedBox(RoundedBox { core, radius }) => {
            let clamp = |v: f32, c: f32| (v.abs() - c).max(0.0);
            vec3(clamp(p.x, core.x), clamp(p.y, core.y), clamp(p.z, core.z)).length() - radius
        }
        Shape::Capsule(limb) => {
            let [(a, ra), (b, rb)] = limb.ends();
            off_limb(p, a, ra, b, rb)
        }
        Shape::Polyhedron(Polyhedron { planes, .. }) => {
            planes.iter().map(|plane| plane.normal.dot(p) - plane.offset).fold(f32::NEG_INFINITY, f32::max)
        }
    }
}

/// Distance of `p` to the union of all balls between two: the least over balls along the axis.
pub(in super::super) fn off_limb(p: Vec3, a: Vec3, ra: f32, b: Vec3, rb: f32) -> f32 {
    let ball = |t: f32| (p - a.mix(b, t)).length() - (ra + (rb - ra) * t);
    // The distance is convex along the axis.
    let (mut low, mut high) = (0.0f32, 1.0f32);
    for _ in 0..60 {
        let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if ball(left) < ball(right) { high = right } else { low = left }
    }
    ball(0.5 * (low + high))
}

/// Where one ray enters `shape`, if it does.
fn enter(shape: &Shape, ray: Ray) -> Option<Entry> {
    let mut rays = Rays::ZERO;
    rays.set(LANES / 2, ray);
    let mut entries = Entries::NONE;
    shape.enter(&rays, &mut entries);
    let entry = Entry { t: entries.t[LANES / 2], face: entries.face[LANES / 2] };
    entry.t.is_finite().then_some(entry)
}

/// The normal of `shape` at `p` on `face`.
fn normal(shape: &Shape, p: Vec3, face: u32) -> Vec3 {
    let mut normals = Points::ZERO;
    shape.normals(&Points::splat(p), &[face; LANES], &mut normals);
    normals.get(0)
}

/// Every family of both domains.
fn families() -> impl Iterator<Item = Family> {
    [Domain::Main, Domain::Pretrain]
        .into_iter()
        .flat_map(|domain| domain.catalogue().families.iter().map(|f| f.0))
}

fn direction(rng: &mut Rng) -> Vec3 {
    vec3(rng.normal() as f32, rng.normal() as f32, rng.normal() as f32).unit()
}

/// Calls `check` with bodies of every family and rays from around them.
fn for_many_rays(mut check: impl FnMut(Family, &Shape, Ray)) {
    let mut rng = Rng::named(1, "rays", 0);
    for family in families() {
        for _ in 0..12 {
            let shape = family.draw(&mut rng, 0.5);
            for _ in 0..300 {
                let origin = direction(&mut rng) * 3.0;
                let target = direction(&mut rng) * (0.5 * rng.uniform() as f32);
                check(family, &shape, Ray { origin, direction: (target - origin).unit() });
            }
        }
    }
}

#[test]
fn rays_end_on_the_surface_and_pass_nothing_before() {
    let mut hits = 0;
    for_many_rays(|family, shape, ray| {
        let end = enter(shape, ray).map(|contact| contact.t);
        if let Some(t) = end {
            hits += 1;
            let off = implicit(shape, ray.at(t));
            assert!(off.abs() < 1e-3, "{family:?}: {off} m off the surface");
        }
        let mut t = 1.5;
        while t < end.unwrap_or(4.5) - 0.01 {
            let depth = implicit(shape, ray.at(t));
            assert!(depth > -2e-3, "{family:?}: {depth} m inside at {t} of {end:?}");
            t += 0.01;
        }
    });
    assert!(hits > 20_000, "only {hits} rays hit");
}

#[test]
fn normals_are_gradients_of_the_surface() {
    for_many_rays(|family, shape, ray| {
        let Some(contact) = enter(shape, ray) else { return };
        let p = ray.at(contact.t);
        let normal = normal(shape, p, contact.face);
        assert!((normal.length() - 1.0).abs() < 1e-4, "{family:?}");
        let h = 2e-3;
        let slope = |axis: Vec3| (implicit(shape, p + axis * h) - implicit(shape, p - axis * h)) / (2.0 * h);
        let gradient = vec3(slope(vec3(1.0, 0.0, 0.0)), slope(Vec3::UP), slope(vec3(0.0, 0.0, 1.0)));
        // At a crease the difference straddles two faces: the two halves of it disagree.
        let creased = [vec3(h, 0.0, 0.0), vec3(0.0, h, 0.0), vec3(0.0, 0.0, h)].into_iter().any(|step| {
            let here = implicit(shape, p);
            let bend = implicit(shape, p + step) + implicit(shape, p - step) - 2.0 * here;
            shape.has_creases() && bend.abs() > 0.05 * h
        });
        if !creased && ray.direction.dot(normal) < -0.2 {
            let cosine = gradient.unit().dot(normal);
            assert!(cosine > 0.99, "{family:?}: {normal:?} against {gradient:?}");
        }
    });
}

#[test]
fn bodies_stay_inside_their_box_and_ball_and_touch_the_ground() {
    let mut lowest: Vec<(Family, f32)> = Vec::new();
    for_many_rays(|family, shape, ray| {
        let half = shape.half_extent();
        if let Some(contact) = enter(shape, ray) {
            let p = ray.at(contact.t);
            let over = p.abs() - half;
            assert!(over.x.max(over.y).max(over.z) < 1e-3, "{family:?}: {p:?} outside {half:?}");
            assert!(p.length() < shape.bounding_radius() + 1e-3, "{family:?}");
        }
        let below = Ray { origin: vec3(ray.origin.x * 0.1, -3.0, ray.origin.z * 0.1), direction: Vec3::UP };
        if let Some(contact) = enter(shape, below) {
            lowest.push((family, below.at(contact.t).y + half.y));
        }
    });
    for family in families() {
        let gap =
            lowest.iter().filter(|(f, _)| *f == family).map(|(_, gap)| *gap).fold(f32::INFINITY, f32::min);
        assert!(gap > -1e-3 && gap < 0.02, "{family:?} hovers {gap} m over its box's floor");
    }
}

#[test]
fn limbs_of_unlike_radii_are_closed() {
    let mut rng = Rng::named(2, "limbs", 0);
    for _ in 0..3000 {
        let (a, b) = (direction(&mut rng) * 0.3, direction(&mut rng) * 0.3);
        let (ra, rb) = (rng.range(0.02, 0.1) as f32, rng.range(0.02, 0.1) as f32);
        if (a - b).length() < (ra - rb).abs() + 0.01 {
            continue;
        }
        let limb = Limb::new(a, b, ra, rb);
        let origin = direction(&mut rng) * 2.0;
        let target = a.mix(b, rng.uniform() as f32);
        let ray = Ray { origin, direction: (target - origin).unit() };
        let contact = enter(&Shape::Capsule(limb), ray).expect("a ray to the axis meets the limb");
        let p = ray.at(contact.t);
        let off = off_limb(p, a, ra, b, rb);
        assert!(off.abs() < 5e-4, "{off} m off");
        assert!(Solid::normal(&limb, p, contact.face).dot(ray.direction) < 1e-3);
        let (centre, radius) = limb.bound();
        assert!((p - centre).length() < radius + 1e-4);
        assert!(limb.bounds().iter().any(|(centre, radius)| (p - *centre).length() < radius + 1e-4));
    }
}

/// Packets of rays towards the middle of things.
fn packets() -> impl Iterator<Item = Rays> {
    let mut rng = Rng::named(4, "packets", 0);
    (0..40).map(move |_| {
        let mut rays = Rays::ZERO;
        for lane in 0..LANES {
            let origin = direction(&mut rng) * 3.0;
            let target = direction(&mut rng) * (0.5 * rng.uniform() as f32);
            rays.set(lane, Ray { origin, direction: (target - origin).unit() });
        }
        rays
    })
}

fn assert_same(wide: &Entries, plain: &Entries) {
    assert_eq!((wide.t.map(f32::to_bits), wide.face), (plain.t.map(f32::to_bits), plain.face));
}

fn enters_alike(solid: impl ClosedForm) {
    let (mut wide, mut plain) = (Entries::NONE, Entries::NONE);
    for rays in packets() {
        vectorize(Enter { solid, rays: &rays, entries: &mut wide });
        Enter { solid, rays: &rays, entries: &mut plain }.run();
        assert_same(&wide, &plain);
    }
}

fn marches_alike(field: impl march::Field) {
    let (mut wide, mut plain) = (Entries::NONE, Entries::NONE);
    for rays in packets() {
        vectorize(March { field, rays: &rays, entries: &mut wide });
        March { field, rays: &rays, entries: &mut plain }.run();
        assert_same(&wide, &plain);
    }
}

#[test]
fn wide_vectors_compute_the_same_bits_as_the_baseline() {
    let mut rng = Rng::named(5, "levels", 0);
    for family in families() {
        match family.draw(&mut rng, 0.5) {
            Shape::Ellipsoid(solid) => enters_alike(solid),
            Shape::Frustum(solid) => enters_alike(solid),
            Shape::Dome(solid) => enters_alike(solid),
            Shape::Ring(field) => marches_alike(field),
            Shape::RoundedBox(field) => marches_alike(field),
            Shape::Capsule(solid) => enters_alike(solid),
            Shape::Polyhedron(solid) => enters_alike(solid),
        }
    }
}
