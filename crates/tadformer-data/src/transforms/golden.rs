//! The transforms against what OpenCV 4.10 and the published steps make of one sample (`tests/data/transforms`).

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::*;
use crate::{IGNORE, LabelKind, Task};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/transforms/golden.safetensors");

struct Golden(Vec<u8>);

impl Golden {
    fn read() -> Self {
        Self(std::fs::read(Path::new(FILE)).unwrap())
    }

    fn find(&self, name: &str) -> Option<Raster> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).ok()?;
        let &[channels, height, width] = tensor.shape() else {
            panic!("`{name}` has shape {:?}", tensor.shape())
        };
        let data = match tensor.dtype() {
            Dtype::U8 => tensor.data().iter().copied().map(f32::from).collect(),
            Dtype::F32 => {
                tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            other => panic!("`{name}` is {other:?}"),
        };
        Some(Raster { channels, height, width, data })
    }

    fn get(&self, name: &str) -> Raster {
        self.find(name).unwrap_or_else(|| panic!("no tensor `{name}`"))
    }

    /// The sample before any step, zero where normals and depth have no label.
    fn sample(&self) -> Sample {
        let labels = Task::all().map(|task| (task, self.get(&format!("in/{task}")))).collect();
        Sample { id: "golden".into(), image: self.get("in/image"), labels }
    }

    /// Compares what the file has of a group of tensors: cubic picture within 1e-3, normals and depth within 1e-5, other labels exactly.
    fn check(&self, group: &str, sample: &Sample, compared: usize) {
        let mut found = 0;
        if let Some(expected) = self.find(&format!("{group}/image")) {
            assert_near(&format!("{group}/image"), &sample.image, &expected, 1e-3);
            found += 1;
        }
        for (task, map) in &sample.labels {
            let name = format!("{group}/{task}");
            let Some(expected) = self.find(&name) else { continue };
            let tolerance = match task.label {
                LabelKind::UnitVector | LabelKind::Metres => 1e-5,
                LabelKind::Classes | LabelKind::Binary => 0.0,
            };
            assert_near(&name, map, &expected, tolerance);
            found += 1;
        }
        assert_eq!(found, compared, "tensors of `{group}` in the file");
    }
}

/// The sample with zeros where normals and depth have no label, as single steps of the reference leave it.
fn zero_where_unlabelled(mut sample: Sample) -> Sample {
    for (task, map) in &mut sample.labels {
        if matches!(task.label, LabelKind::UnitVector | LabelKind::Metres) {
            map.data.iter_mut().filter(|v| **v == IGNORE).for_each(|v| *v = 0.0);
        }
    }
    sample
}

/// All steps up to the levels, which stay as they were interpolated.
fn resampled(sample: Sample, draw: Draw, size: Option<[usize; 2]>) -> Sample {
    zero_where_unlabelled(resample::resample(sample, &draw, size, |_| ()))
}

fn assert_near(name: &str, found: &Raster, expected: &Raster, tolerance: f32) {
    assert_eq!(
        (found.channels, found.height, found.width),
        (expected.channels, expected.height, expected.width),
        "shape of `{name}`"
    );
    let differences = found.data.iter().zip(&expected.data).map(|(a, b)| (a - b).abs());
    let (worst, difference) =
        differences.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("a map has pixels");
    assert!(
        difference <= tolerance,
        "`{name}` element {worst}: {}, expected {} within {tolerance}",
        found.data[worst],
        expected.data[worst]
    );
}

/// The published code's way to 8 bits: towards zero, then modulo 256.
fn cast_to_byte(level: f32) -> f32 {
    (level as i32).rem_euclid(256) as f32
}

fn share_that_differs(found: impl Iterator<Item = f32>, expected: impl Iterator<Item = f32>) -> f64 {
    let differences: Vec<f32> = found.zip(expected).map(|(a, b)| (a - b).abs()).collect();
    assert!(!differences.is_empty());
    assert!(differences.iter().all(|&d| d <= 1.0), "more than a level");
    differences.iter().filter(|&&d| d != 0.0).count() as f64 / differences.len() as f64
}

#[test]
fn flip_agrees() {
    let golden = Golden::read();
    let sample = resampled(golden.sample(), Draw { flip: true, ..Draw::NONE }, None);
    golden.check("hflip", &sample, 2);
}

#[test]
fn rotation_and_scale_agree_with_opencv_4() {
    let golden = Golden::read();
    for (group, degrees, scale, compared) in
        [("rot13_sc1.1", 13.0, 1.1, 7), ("rot-7_sc0.85", -7.0, 0.85, 4), ("rot0_sc1.2", 0.0, 1.2, 3)]
    {
        let sample = resampled(golden.sample(), Draw { flip: false, degrees, scale }, None);
        golden.check(group, &sample, compared);
    }
}

#[test]
fn resize_agrees_with_opencv() {
    let golden = Golden::read();
    let sample = resampled(golden.sample(), Draw::NONE, Some([96, 72]));
    golden.check("resize96x72", &sample, 7);
}

#[test]
fn normalisation_agrees() {
    let golden = Golden::read();
    let mut image = golden.get("in/image");
    normalize::quantise_and_normalize(&mut image.data);
    assert_near("normalize/image", &image, &golden.get("normalize/image"), 1e-5);
}

#[test]
fn maps_without_any_part_of_a_human_are_ignored() {
    let golden = Golden::read();
    let mut sample = golden.sample();
    for (task, map) in &mut sample.labels {
        if task.name == "human_parts" {
            map.data.fill(0.0);
        }
    }
    ignore::background_only(&mut sample);
    golden.check("ignore_no_people", &sample, 1);
}

#[test]
fn whole_pipelines_agree_up_to_the_wrapping_cast() {
    let golden = Golden::read();
    let train = Draw { flip: true, degrees: 13.0, scale: 1.1 };
    for (group, draw) in [("train_pipeline", train), ("eval_pipeline", Draw::NONE)] {
        let pipeline = Pipeline::evaluation(56, 56);
        let sample = pipeline.drawn(golden.sample(), &draw, |_| ()).unwrap();
        for (task, map) in &sample.labels {
            let tolerance = match task.label {
                LabelKind::UnitVector | LabelKind::Metres => 1e-5,
                LabelKind::Classes | LabelKind::Binary => 0.0,
            };
            let name = format!("{group}/{task}");
            assert_near(&name, map, &golden.get(&name), tolerance);
        }

        // The levels, before they become whole numbers. The published cast cuts them off in f64, where a flat area of 253
        // may hold 252.9999999; cut off within the tolerance of 1e-3 to either side, ours give the published bytes.
        let before = golden.get(&format!("{group}/image_before_uint8"));
        assert_near(&format!("{group}/image_before_uint8"), &sample.image, &before, 1e-3);
        let after = golden.get(&format!("{group}/image_after_totensor"));
        for (i, (level, byte)) in sample.image.data.iter().zip(&after.data).enumerate() {
            let cast = [level - 1e-3, level + 1e-3].map(cast_to_byte);
            assert!(cast.contains(byte), "`{group}` element {i}: {level} became {byte}");
        }

        // What the pipeline hands out: clamped and rounded instead.
        let applied = pipeline.apply_drawn(golden.sample(), &draw).unwrap();
        let mut levels = applied.image.clone();
        denormalize(&mut levels);
        let rounded = before.data.iter().map(|level| level.clamp(0.0, 255.0).round_ties_even());
        let share = share_that_differs(levels.data.iter().map(|level| level.round()), rounded);
        assert!(share <= 1e-3, "`{group}`: {share} of the rounded levels differ");
        if group == "train_pipeline" {
            // Where the published level did not wrap, the two differ by less than one level.
            let published = golden.get("train_pipeline/image");
            let mut compared = 0;
            for (i, level) in
                before.data.iter().enumerate().filter(|(_, level)| (0.0..=255.0).contains(*level))
            {
                let one_level = 1.001 / 255.0 / IMAGENET_STD[i / (56 * 56)];
                let difference = (applied.image.data[i] - published.data[i]).abs();
                assert!(difference <= one_level, "element {i} ({level}) differs by {difference}");
                compared += 1;
            }
            assert!(compared > 8500, "{compared}");
        }
    }
}

#[test]
fn ignored_pixels_survive_the_way_through_the_pipeline() {
    // The same sample as a data set gives it, with 255 where the file has 0.
    let golden = Golden::read();
    let mut sample = golden.sample();
    for (task, map) in &mut sample.labels {
        let size = map.height * map.width;
        for i in 0..size {
            let all_zero = (0..map.channels).all(|c| map.data[c * size + i] == 0.0);
            if all_zero && matches!(task.label, LabelKind::UnitVector | LabelKind::Metres) {
                (0..map.channels).for_each(|c| map.data[c * size + i] = IGNORE);
            }
        }
    }
    let ignored = |s: &Sample, name: &str| {
        let map = s.label(Task::from_name(name).unwrap()).unwrap();
        map.data.iter().filter(|&&v| v == IGNORE).count()
    };
    assert_eq!(ignored(&sample, "depth"), 60);
    assert_eq!(ignored(&sample, "semseg"), 165);
    let draw = Draw { flip: true, degrees: 13.0, scale: 1.1 };
    let from_zeros = Pipeline::evaluation(56, 56).apply_drawn(golden.sample(), &draw).unwrap();
    let from_ignored = Pipeline::evaluation(56, 56).apply_drawn(sample, &draw).unwrap();
    assert_eq!(from_ignored, from_zeros);
    assert!(ignored(&from_ignored, "depth") > 0 && ignored(&from_ignored, "normals") > 0);
}
