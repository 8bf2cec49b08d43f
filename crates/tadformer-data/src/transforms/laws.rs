//! Laws that hold for every sample.

use proptest::collection::vec;
use proptest::prelude::*;

use tadformer_ops::Rng;

use super::*;
use crate::{IGNORE, LabelKind, Task};

proptest! {
    #[test]
    fn a_photo_is_seen_as_a_sample_without_labels(
        (width, height) in (1usize..24, 1usize..24),
        (new_width, new_height) in (1usize..24, 1usize..24),
        seed in 0u64..1000,
    ) {
        let mut rng = Rng::named(seed, "photo", 0);
        let rgb: Vec<u8> = (0..3 * width * height).map(|_| (rng.uniform() * 256.0) as u8).collect();
        let photo = Photo { width, height, rgb, tag: 1 };
        let sample = Sample { id: "law".into(), image: photo.to_raster(), labels: Vec::new() };
        let pipeline = Pipeline::evaluation(new_height, new_width);
        let expected = pipeline.apply(sample, &mut Rng::named(0, "augment", 0)).unwrap().image;
        prop_assert_eq!(Pipeline::photo(&photo, [new_height, new_width]).unwrap(), expected);
    }
}

/// A sample of any small size that has all tasks, with ignored pixels.
fn sample() -> impl Strategy<Value = Sample> {
    (1usize..24, 1usize..24).prop_flat_map(|(height, width)| {
        let size = height * width;
        (vec(0u8..=255, 3 * size), vec(any::<u8>(), size), vec(any::<i16>(), 3 * size)).prop_map(
            move |(levels, classes, parts)| Sample {
                id: "law".into(),
                image: Raster {
                    channels: 3,
                    height,
                    width,
                    data: levels.into_iter().map(f32::from).collect(),
                },
                labels: Task::all()
                    .map(|task| (task, label(task, height, width, &classes, &parts)))
                    .collect(),
            },
        )
    })
}

fn label(task: Task, height: usize, width: usize, seeds: &[u8], parts: &[i16]) -> Raster {
    let size = height * width;
    let ignored = |i: usize| seeds[i].is_multiple_of(5);
    let data = match task.label {
        LabelKind::Classes => {
            (0..size).map(|i| if ignored(i) { IGNORE } else { f32::from(seeds[i] % 7) }).collect()
        }
        LabelKind::Binary => (0..size).map(|i| f32::from(seeds[i] % 2)).collect(),
        LabelKind::Metres => {
            (0..size).map(|i| if ignored(i) { IGNORE } else { 0.5 + f32::from(seeds[i]) / 32.0 }).collect()
        }
        LabelKind::UnitVector => {
            let mut data = vec![IGNORE; 3 * size];
            for i in (0..size).filter(|&i| !ignored(i)) {
                let v = [0, 1, 2].map(|c| f32::from(parts[c * size + i]) + 0.5);
                let length = v.iter().map(|x| x * x).sum::<f32>().sqrt();
                for c in 0..3 {
                    data[c * size + i] = v[c] / length;
                }
            }
            data
        }
    };
    Raster { channels: task.label_channels(), height, width, data }
}

fn draw() -> impl Strategy<Value = Draw> {
    (any::<bool>(), -180.0..180.0f64, 0.3..3.0f64).prop_map(|(flip, degrees, scale)| Draw {
        flip,
        degrees,
        scale,
    })
}

/// Human parts that show nobody are ignored as a whole: the one label that a pipeline without steps may change.
fn without_nobody(mut sample: Sample) -> Sample {
    ignore::background_only(&mut sample);
    sample
}

proptest! {
    #[test]
    fn flipping_twice_changes_nothing(sample in sample()) {
        let flip = |sample| resample::resample(sample, &Draw { flip: true, ..Draw::NONE }, None, |_| ());
        prop_assert_eq!(flip(flip(sample.clone())), sample);
    }

    #[test]
    fn turning_by_nothing_at_scale_one_changes_nothing(sample in sample()) {
        // The smallest numbers that take the way through the warp.
        let draw = Draw { flip: false, degrees: 1e-300, scale: 1.0 };
        prop_assert_eq!(resample::resample(sample.clone(), &draw, None, |_| ()), sample);
    }

    /// A flip before a warp or a resize is read on the way: it must be the same as a flip of its own.
    #[test]
    fn a_flip_on_the_way_is_a_flip_before_the_rest(
        sample in sample(), draw in draw(), height in 1usize..30, width in 1usize..30,
    ) {
        let flipped = resample::resample(sample.clone(), &Draw { flip: true, ..Draw::NONE }, None, |_| ());
        let (then, at_once) = (Draw { flip: false, ..draw }, Draw { flip: true, ..draw });
        for size in [None, Some([height, width])] {
            prop_assert_eq!(
                resample::resample(flipped.clone(), &then, size, |_| ()),
                resample::resample(sample.clone(), &at_once, size, |_| ())
            );
        }
    }

    #[test]
    fn a_pipeline_without_steps_only_normalises(sample in sample()) {
        let applied = Pipeline::none().apply_drawn(sample.clone(), &Draw::NONE).unwrap();
        let mut expected = without_nobody(sample);
        normalize(&mut expected.image);
        prop_assert_eq!(applied, expected);
    }

    #[test]
    fn labels_stay_in_their_sets(
        sample in sample(), draw in draw(), height in 1usize..30, width in 1usize..30,
    ) {
        let applied = Pipeline::evaluation(height, width).apply_drawn(sample, &draw).unwrap();
        prop_assert_eq!((applied.image.height, applied.image.width), (height, width));
        prop_assert!(applied.image.data.iter().all(|v| (-2.2..2.7).contains(v)));
        for (task, map) in &applied.labels {
            prop_assert_eq!(map.data.len(), task.label_channels() * height * width);
            for i in 0..height * width {
                match task.label {
                    LabelKind::Classes => {
                        let class = map.data[i];
                        prop_assert!(class == IGNORE || (class.fract() == 0.0 && (0.0..7.0).contains(&class)));
                    }
                    LabelKind::Binary => prop_assert!(map.data[i] == 0.0 || map.data[i] == 1.0),
                    LabelKind::Metres => {
                        let depth = map.data[i];
                        let range = 0.5 / draw.scale as f32 * 0.999..8.5 / draw.scale as f32 * 1.001;
                        prop_assert!(depth == IGNORE || range.contains(&depth), "{depth}");
                    }
                    LabelKind::UnitVector => {
                        let vector = [0, 1, 2].map(|c| map.data[c * height * width + i]);
                        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                        prop_assert!(vector == [IGNORE; 3] || (length - 1.0).abs() < 1e-4, "{vector:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_ignored_everywhere_stays_ignored(draw in draw(), height in 1usize..30, width in 1usize..30) {
        // Classes beyond the border are class 0, so for them only a pipeline without a warp keeps everything ignored.
        let image = Raster::filled(3, 9, 11, 80.0);
        let labels = |kinds: fn(LabelKind) -> bool| {
            let tasks = Task::all().filter(move |task| kinds(task.label));
            tasks.map(|task| (task, Raster::filled(task.label_channels(), 9, 11, IGNORE))).collect()
        };
        let pipeline = Pipeline::evaluation(height, width);
        let all = Sample { id: "none".into(), image: image.clone(), labels: labels(|_| true) };
        let flipped = pipeline.apply_drawn(all, &Draw { flip: draw.flip, ..Draw::NONE }).unwrap();
        let continuous = labels(|kind| matches!(kind, LabelKind::UnitVector | LabelKind::Metres));
        let warped = pipeline.apply_drawn(Sample { id: "none".into(), image, labels: continuous }, &draw).unwrap();
        for (_, map) in flipped.labels.iter().chain(&warped.labels) {
            prop_assert!(map.data.iter().all(|&v| v == IGNORE));
        }
    }
}

#[test]
fn ignored_classes_move_with_their_pixels() {
    let task = Task::from_name("semseg").unwrap();
    let mut map = Raster::filled(1, 4, 6, 1.0);
    map.data[6 + 2] = IGNORE;
    let sample = Sample { id: "one".into(), image: Raster::filled(3, 4, 6, 0.0), labels: vec![(task, map)] };
    let flipped = Pipeline::none().apply_drawn(sample, &Draw { flip: true, ..Draw::NONE }).unwrap();
    let map = flipped.label(task).unwrap();
    let ignored: Vec<usize> = (0..map.data.len()).filter(|&i| map.data[i] == IGNORE).collect();
    assert_eq!(ignored, [6 + 3]);
}

#[test]
fn normals_turn_with_the_picture() {
    // A normal to the right of a picture that is turned a quarter counter-clockwise points up: along -y where y is down.
    let task = Task::from_name("normals").unwrap();
    let mut map = Raster::filled(3, 9, 9, 0.0);
    map.plane_mut(0).fill(1.0);
    let sample = Sample { id: "one".into(), image: Raster::filled(3, 9, 9, 0.0), labels: vec![(task, map)] };
    let turned =
        Pipeline::none().apply_drawn(sample, &Draw { flip: false, degrees: 90.0, scale: 1.0 }).unwrap();
    let map = turned.label(task).unwrap();
    let centre = 4 * 9 + 4;
    for (c, expected) in [0.0, -1.0, 0.0].into_iter().enumerate() {
        assert!((map.plane(c)[centre] - expected).abs() < 1e-5, "component {c}: {}", map.plane(c)[centre]);
    }
}

#[test]
fn shapes_that_a_sample_cannot_have_are_named() {
    let semseg = Task::from_name("semseg").unwrap();
    let picture = || Raster::filled(3, 4, 6, 0.0);
    let cases = [
        (Raster::filled(1, 4, 6, 0.0), vec![], "the picture has shape (1, 4, 6)"),
        (Raster::filled(3, 0, 6, 0.0), vec![], "expected sides of 1 to"),
        (Raster { data: vec![0.0; 5], ..picture() }, vec![], "5 elements"),
        (Raster { width: usize::MAX, ..picture() }, vec![], "expected sides of 1 to"),
        (
            picture(),
            vec![(semseg, Raster::filled(1, 4, 5, 0.0))],
            "the label of `semseg` has shape (1, 4, 5)",
        ),
    ];
    for (image, labels, expected) in cases {
        let sample = Sample { id: "odd".into(), image, labels };
        let message = Pipeline::evaluation(8, 8).apply_drawn(sample, &Draw::NONE).unwrap_err().to_string();
        assert!(message.contains("`odd`") && message.contains(expected), "{message}");
    }
    for size in [[0, 8], [8, MAX_SIDE + 1]] {
        let error = Pipeline { size: Some(size), ..Pipeline::none() }.validate().unwrap_err();
        assert!(error.to_string().contains("`size` has a side of"), "{error}");
    }
}

#[test]
fn the_same_stream_gives_the_same_sample() {
    let task = Task::from_name("depth").unwrap();
    let data = (0..3 * 20 * 30).map(|i| (i * 7 % 256) as f32).collect();
    let image = Raster { channels: 3, height: 20, width: 30, data };
    let labels = vec![(task, Raster::filled(1, 20, 30, 2.0))];
    let sample = Sample { id: "twice".into(), image, labels };
    let pipeline = Pipeline::training(Augmentation::pascal_context(), 16, 16);
    let at = |index| pipeline.apply(sample.clone(), &mut Rng::named(1, "augment", index)).unwrap();
    assert_eq!(at(3), at(3));
    assert_ne!(at(3), at(4));
}
