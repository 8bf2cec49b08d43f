//! Labels against geometry, over many scenes.

use super::catalogue::WALL;
use super::cull::Candidates;
use super::lanes::{LANES, Rays};
use super::scene::{Body, Object, Source};
use super::setting::{Place, Surface};
use super::trace::{Nearest, Target, Tracer};
use super::*;
use crate::{IGNORE, Raster};

fn data(seed: u64, domain: Domain, split: Split, height: usize, width: usize) -> Synthetic {
    let tasks: Vec<Task> = Task::all().filter(|task| spec(domain, *task).is_ok()).collect();
    let config = SyntheticConfig { seed, domain, split, samples: 1000, height, width };
    Synthetic::new(config, &tasks).expect("a valid configuration")
}

fn label<'a>(sample: &'a Sample, task: &str) -> &'a Raster {
    sample.label(Task::from_name(task).expect("a task")).expect("a label")
}

#[test]
fn a_sample_is_a_pure_function_of_seed_split_index_and_size() {
    let train = data(7, Domain::Main, Split::Train, 40, 56);
    let sample = train.load(5).expect("a sample");
    assert_eq!(sample, data(7, Domain::Main, Split::Train, 40, 56).load(5).expect("a sample"));
    for other in [
        data(8, Domain::Main, Split::Train, 40, 56).load(5),
        data(7, Domain::Main, Split::Val, 40, 56).load(5),
        train.load(6),
    ] {
        assert_ne!(sample.image, other.expect("a sample").image);
    }
}

#[test]
fn no_scene_occurs_twice_in_or_across_splits() {
    let mut cameras: Vec<[u32; 3]> = Vec::new();
    for domain in [Domain::Main, Domain::Pretrain] {
        for split in [Split::Train, Split::Val] {
            let data = data(1, domain, split, 8, 8);
            for index in 0..300 {
                let scene = data.scene(index);
                let camera = scene.camera;
                cameras.push([camera.position.y, camera.tangent, camera.axes.z.x].map(f32::to_bits));
            }
        }
    }
    let scenes = cameras.len();
    cameras.sort_unstable();
    cameras.dedup();
    assert_eq!(cameras.len(), scenes);
}

#[test]
fn normals_are_unit_vectors_that_face_the_camera() {
    let data = data(2, Domain::Main, Split::Train, 60, 80);
    for index in 0..20 {
        let sample = data.load(index).expect("a sample");
        let (normals, depth) = (label(&sample, "normals"), label(&sample, "depth"));
        let view = data.scene(index).camera.view(60, 80);
        for i in 0..60 * 80 {
            let n = [0, 1, 2].map(|c| normals.plane(c)[i]);
            if depth.data[i] == IGNORE {
                assert_eq!(n, [IGNORE; 3]);
                continue;
            }
            let length = n.iter().map(|v| v * v).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 1e-4, "length {length}");
            let right = ((i % 80) as f32 + 0.5 - 40.0) * view.pixel;
            let up = (30.0 - ((i / 80) as f32 + 0.5)) * view.pixel;
            let away = n[0] * right + n[1] * up - n[2];
            assert!(away < 0.05, "sample {index}, pixel {i}: {away}");
        }
    }
}

/// How far `p`, in the object's own coordinates, is off the piece's surface, metres.
fn off_surface(object: &Object, piece: u8, p: vec3::Vec3) -> f32 {
    match &object.body {
        Body::Solid { shape, .. } => shape::tests::implicit(shape, p).abs(),
        Body::Person(person) => {
            let [(a, ra), (b, rb)] = person.parts[usize::from(piece)].limb.ends();
            shape::tests::off_limb(p, a, ra, b, rb).abs()
        }
    }
}

#[test]
fn depth_puts_every_pixel_on_the_surface_that_it_shows() {
    for (domain, seed) in [(Domain::Main, 3), (Domain::Pretrain, 4)] {
        let data = data(seed, domain, Split::Val, 48, 48);
        for index in 0..40 {
            let scene = data.scene(index);
            let frame = data.frame(&scene);
            let view = scene.camera.view(48, 48);
            for (i, depth) in frame.depth.iter().enumerate() {
                if !depth.is_finite() {
                    continue;
                }
                let key = frame.key(i);
                let (ray, cosine) = view.ray((i % 48) as f32 + 0.5, (i / 48) as f32 + 0.5);
                let p = ray.at(depth / cosine);
                let off = match Surface::of(key.instance) {
                    Some(Surface::Floor) => p.y,
                    Some(Surface::Ceiling) => p.y - scene.setting.height,
                    Some(wall) => {
                        assert_eq!(wall.class(), WALL);
                        let (x, z) = (p.x.abs() - scene.setting.half_x, p.z.abs() - scene.setting.half_z);
                        x.abs().min(z.abs())
                    }
                    None => {
                        let object = &scene.objects[Object::index(key.instance)];
                        off_surface(object, key.piece, object.axes.to_local(p - object.position))
                    }
                };
                assert!(off.abs() < 2e-3, "sample {index}, pixel {i}: {off} m off, {key:?}");
            }
        }
    }
}

#[test]
fn bundles_of_rays_meet_what_single_rays_meet() {
    let data = data(5, Domain::Main, Split::Train, 50, 70);
    let (mut rays, mut tracer, mut nearest) = (Rays::ZERO, Tracer::new(), Nearest::NONE);
    for index in 0..30 {
        let scene = data.scene(index);
        let frame = data.frame(&scene);
        let view = scene.camera.view(50, 70);
        let all = Candidates::all(&scene.objects);
        // Rays in any order, each far from its neighbours of the picture.
        for first in 0..LANES {
            let pixels: Vec<usize> = (first..50 * 70).step_by(50 * 70 / LANES + 1).collect();
            for (lane, i) in pixels.iter().enumerate() {
                rays.set(lane, view.ray((i % 70) as f32 + 0.5, (i / 70) as f32 + 0.5).0);
            }
            tracer.trace(&scene, &rays, &all, &mut nearest);
            for (lane, i) in pixels.iter().enumerate() {
                let cosine = view.ray((i % 70) as f32 + 0.5, (i / 70) as f32 + 0.5).1;
                let instance = Target::from_code(nearest.target[lane]).instance;
                assert_eq!(
                    (instance, nearest.t[lane] * cosine),
                    (frame.key(*i).instance, frame.depth[*i]),
                    "sample {index}, pixel {i}"
                );
            }
        }
    }
}

#[test]
fn shadows_fall_where_something_stands_before_the_light() {
    let data = data(5, Domain::Main, Split::Train, 48, 48);
    let (mut rays, mut tracer, mut nearest) = (Rays::ZERO, Tracer::new(), Nearest::NONE);
    let mut seen = [0; 2];
    for index in 0..20 {
        let scene = data.scene(index);
        let frame = data.frame(&scene);
        let view = scene.camera.view(48, 48);
        let all = Candidates::all(&scene.objects);
        for i in (0..48 * 48).step_by(7).filter(|i| frame.depth[*i].is_finite()) {
            let (ray, cosine) = view.ray((i % 48) as f32 + 0.5, (i / 48) as f32 + 0.5);
            let n = scene.camera.axes.to_world(vec3::vec3(
                frame.normals[0][i],
                frame.normals[1][i],
                frame.normals[2][i],
            ));
            let t = frame.depth[i] / cosine;
            let p = ray.at(t);
            // Followed from the light instead, so that the surface itself must be the first that is met.
            let (from, far) = match scene.light.source {
                Source::Sun(direction) => (p + direction * 6.0, 6.0),
                Source::Lamp(position) => (position, (position - p).length()),
            };
            let towards = (p - from).unit();
            if n.dot(towards).abs() < 0.1 {
                continue;
            }
            rays.set(0, vec3::Ray { origin: from, direction: towards });
            tracer.trace(&scene, &rays, &all, &mut nearest);
            let object = Surface::of(Target::from_code(nearest.target[0]).instance).is_none();
            let lit = n.dot(towards) < 0.0 && !(object && nearest.t[0] < far - 0.02);
            let shown = frame.keys[i] & 1 == 1;
            seen[usize::from(shown)] += 1;
            if !(object && (nearest.t[0] - far).abs() < 0.05) {
                assert_eq!(lit, shown, "sample {index}, pixel {i}");
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 200), "{seen:?} points in the shade and in the light");
}

#[test]
fn edges_lie_on_every_border_between_instances_and_only_where_something_changes() {
    let data = data(6, Domain::Main, Split::Train, 64, 48);
    for index in 0..30 {
        let scene = data.scene(index);
        let frame = data.frame(&scene);
        let sample = data.load(index).expect("a sample");
        let edge = &label(&sample, "edge").data;
        assert!(edge.iter().all(|v| *v == 0.0 || *v == 1.0));
        let mut changes = vec![false; 64 * 48];
        for y in 0..64 {
            for x in 0..48 {
                let i = y * 48 + x;
                for j in [(x + 1 < 48).then_some(i + 1), (y + 1 < 64).then_some(i + 48)].into_iter().flatten()
                {
                    let (a, b) = (frame.key(i), frame.key(j));
                    if a.instance != b.instance {
                        assert!(
                            edge[i] + edge[j] >= 1.0,
                            "sample {index}: no edge between pixels {i} and {j}"
                        );
                    }
                    if a.instance != b.instance
                        || a.piece != b.piece
                        || (frame.depth[i] - frame.depth[j]).abs() > 0.05
                    {
                        (changes[i], changes[j]) = (true, true);
                    }
                }
            }
        }
        let stray = (0..edge.len()).find(|i| edge[*i] == 1.0 && !changes[*i]);
        assert_eq!(stray, None, "sample {index}: an edge where nothing changes");
        let share = edge.iter().sum::<f32>() / edge.len() as f32;
        assert!((0.005..0.35).contains(&share), "sample {index}: {share} of the pixels are edges");
    }
}

#[test]
fn every_class_and_part_occurs_and_none_beyond() {
    for domain in [Domain::Main, Domain::Pretrain] {
        let data = data(1, domain, Split::Train, 48, 48);
        let counts: Vec<usize> = data.tasks().iter().map(|spec| spec.classes.len()).collect();
        let mut seen: Vec<Vec<usize>> = counts.iter().map(|n| vec![0; *n]).collect();
        for index in 0..200 {
            let sample = data.load(index).expect("a sample");
            for ((_, map), seen) in sample.labels.iter().zip(&mut seen).filter(|(_, seen)| !seen.is_empty()) {
                for value in &map.data {
                    seen[*value as usize] += 1;
                }
            }
            if domain == Domain::Main {
                let (classes, parts) = (label(&sample, "semseg"), label(&sample, "human_parts"));
                let agree = classes.data.iter().zip(&parts.data).all(|(c, p)| (*c == 11.0) == (*p > 0.0));
                assert!(agree, "parts are exactly on people");
            }
        }
        for (spec, seen) in data.tasks().iter().zip(&seen) {
            for (class, count) in spec.classes.iter().zip(seen) {
                assert!(*count > 200, "{domain:?}: `{class}` of {} occurs on {count} pixels", spec.task);
            }
        }
    }
}

#[test]
fn scenes_hold_what_they_promise() {
    let data = data(9, Domain::Main, Split::Train, 8, 8);
    let mut places = Vec::new();
    let mut people_seen = [0; 3];
    for index in 0..300 {
        let scene = data.scene(index);
        let people = scene.objects.iter().filter(|object| matches!(object.body, Body::Person(_))).count();
        let solids = scene.objects.len() - people;
        assert!((1..=6).contains(&solids), "sample {index}: {solids} solids");
        people_seen[people] += 1;
        places.push(scene.setting.place);
        assert!(scene.salient().contains(&true), "sample {index} has nothing salient");
        for object in &scene.objects {
            let lowest = match &object.body {
                Body::Person(person) => {
                    assert!(person.parts.len() <= 32, "a piece is a bit of a word");
                    let ends = person.parts.iter().flat_map(|part| part.limb.ends());
                    ends.map(|(end, radius)| end.y - radius).fold(f32::INFINITY, f32::min) + object.position.y
                }
                Body::Solid { shape, .. } => {
                    let half = shape.half_extent();
                    let upright = object.axes.y.y.abs() > 0.5;
                    object.position.y - if upright { half.y } else { half.z }
                }
            };
            assert!(lowest.abs() < 1e-3, "sample {index}: something is {lowest} m above the ground");
        }
    }
    assert!(people_seen.iter().all(|n| *n > 20), "{people_seen:?} scenes with 0, 1 and 2 people");
    for place in [Place::Room, Place::Court, Place::Field] {
        assert!(places.contains(&place), "{place:?}");
    }
}

#[test]
fn another_size_shows_the_same_view() {
    let (small, large) =
        (data(4, Domain::Main, Split::Val, 60, 84), data(4, Domain::Main, Split::Val, 180, 252));
    for index in 0..12 {
        let (a, b) = (small.load(index).expect("a sample"), large.load(index).expect("a sample"));
        let (mut off, mut agree) = (0.0, 0);
        for y in 0..60 {
            for x in 0..84 {
                for c in 0..3 {
                    let block: f32 =
                        (0..9).map(|k| b.image.plane(c)[(3 * y + k / 3) * 252 + 3 * x + k % 3]).sum();
                    off += (a.image.plane(c)[y * 84 + x] - block / 9.0).abs();
                }
                let middle = label(&b, "semseg").data[(3 * y + 1) * 252 + 3 * x + 1];
                agree += usize::from(label(&a, "semseg").data[y * 84 + x] == middle);
            }
        }
        let off = off / (3.0 * 60.0 * 84.0);
        assert!(off < 6.0, "sample {index}: {off} levels apart");
        // The middle pixel of a block has the very same centre.
        assert!(agree >= 60 * 84 - 2, "sample {index}: {agree} labels agree");
    }
}

#[test]
fn pictures_have_light_and_shade() {
    let data = data(1, Domain::Main, Split::Val, 64, 64);
    for index in 0..40 {
        let image = data.load(index).expect("a sample").image;
        assert!(image.data.iter().all(|v| (0.0..=255.0).contains(v) && v.fract() == 0.0));
        let mean = image.data.iter().sum::<f32>() / image.data.len() as f32;
        let spread = image.data.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / image.data.len() as f32;
        assert!((45.0..215.0).contains(&mean), "sample {index}: mean level {mean}");
        assert!(spread.sqrt() > 10.0, "sample {index}: deviation {}", spread.sqrt());
    }
}

#[test]
fn odd_sizes_work_and_impossible_requests_are_named() {
    for (height, width) in [(1, 1), (1, 40), (33, 7)] {
        let sample = data(1, Domain::Main, Split::Train, height, width).load(0).expect("a sample");
        assert_eq!((sample.image.height, sample.image.width), (height, width));
        assert!(sample.labels.iter().all(|(_, map)| (map.height, map.width) == (height, width)));
    }
    let config = SyntheticConfig {
        seed: 1,
        domain: Domain::Pretrain,
        split: Split::Train,
        samples: 2,
        height: 8,
        width: 8,
    };
    let parts = Task::from_name("human_parts").expect("a task");
    let depth = Task::from_name("depth").expect("a task");
    let refused = |config: SyntheticConfig, tasks: &[Task]| {
        Synthetic::new(config, tasks).map(|_| ()).expect_err("refused").to_string()
    };
    assert!(refused(config.clone(), &[parts]).contains("human_parts"));
    assert!(refused(config.clone(), &[depth, depth]).contains("twice"));
    assert!(refused(config.clone(), &[]).contains("no task"));
    assert!(refused(SyntheticConfig { height: 0, ..config.clone() }, &[depth]).contains("0x8"));
    assert!(refused(SyntheticConfig { width: usize::MAX, ..config.clone() }, &[depth]).contains("at most"));
    let error = Synthetic::new(config, &[depth]).expect("valid").load(2).expect_err("beyond the end");
    assert!(error.to_string().contains("no sample 2"), "{error}");
}

#[test]
fn the_descriptor_tells_what_the_set_labels() {
    let text = include_str!("../../../../datasets/synthetic/dataset.toml");
    let described: toml::Table = text.parse().expect("TOML");
    assert_eq!(described["name"].as_str(), Some("synthetic"));
    let tasks = described["tasks"].as_array().expect("a list of tasks");
    let known = data(1, Domain::Main, Split::Train, 8, 8);
    assert_eq!(tasks.len(), known.tasks().len());
    for (described, spec) in tasks.iter().zip(known.tasks()) {
        assert_eq!(described["task"].as_str(), Some(spec.task.name));
        let list = |key: &str| described.get(key).and_then(|v| v.as_array()).cloned().unwrap_or_default();
        let classes: Vec<String> =
            list("classes").iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
        assert_eq!(classes, spec.classes);
        let channel = |v: &toml::Value| v.as_integer().and_then(|v| u8::try_from(v).ok()).expect("0..=255");
        let palette: Vec<Vec<u8>> = list("palette")
            .iter()
            .map(|c| c.as_array().expect("a colour").iter().map(channel).collect())
            .collect();
        assert_eq!(palette, spec.palette.iter().map(|c| c.to_vec()).collect::<Vec<_>>());
    }
}
