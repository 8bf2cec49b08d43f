//! The transforms against what OpenCV 4.10 and the published steps make of one sample (`tests/data/transforms`).

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::*;
use crate::{IGNORE, LabelKind, Task};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/transforms/golden.safetensors");

/// What the names in the file start with; every group is read by a test below.
const GROUPS: [&str; 12] = [
    "in",
    "hflip",
    "rot13_sc1.1",
    "rot-7_sc0.85",
    "rot0_sc1.2",
    "resize96x72",
    "resize56x56",
    "normalize",
    "ignore",
    "ignore_no_people",
    "train_pipeline",
    "eval_pipeline",
];

/// The tensors of the file. A test that ends without having asked for all of a group that it began fails.
struct Golden {
    tensors: HashMap<String, Raster>,
    left: RefCell<BTreeSet<String>>,
}

impl Golden {
    /// The tensors whose names start with one of `groups`, and the sample before any step.
    fn read(groups: &[&str]) -> Self {
        let bytes = std::fs::read(FILE).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors: HashMap<String, Raster> =
            file.iter().map(|(name, tensor)| (name.to_owned(), raster(name, &tensor))).collect();
        let of_groups = |name: &&String| groups.contains(&name.split('/').next().unwrap());
        let left: BTreeSet<String> = tensors.keys().filter(of_groups).cloned().collect();
        for group in groups {
            assert!(GROUPS.contains(group), "`{group}`");
        }
        Self { tensors, left: RefCell::new(left) }
    }

    fn find(&self, name: &str) -> Option<&Raster> {
        self.left.borrow_mut().remove(name);
        self.tensors.get(name)
    }

    fn get(&self, name: &str) -> Raster {
        self.find(name).cloned().unwrap_or_else(|| panic!("no tensor `{name}`"))
    }

    /// The sample before any step, zero where normals and depth have no label.
    fn sample(&self) -> Sample {
        let labels = Task::all().map(|task| (task, self.get(&format!("in/{task}")))).collect();
        Sample { id: "golden".into(), image: self.get("in/image"), labels }
    }

    /// Compares the tensors of a group: cubic picture within 1e-3, normals and depth within 1e-5, other labels exactly.
    fn check(&self, group: &str, sample: &Sample) {
        assert_near(&format!("{group}/image"), &sample.image, &self.get(&format!("{group}/image")), 1e-3);
        self.check_labels(group, sample);
    }

    fn check_labels(&self, group: &str, sample: &Sample) {
        for (task, map) in &sample.labels {
            let name = format!("{group}/{task}");
            let tolerance = match task.label {
                LabelKind::UnitVector | LabelKind::Metres => 1e-5,
                LabelKind::Classes | LabelKind::Binary => 0.0,
            };
            assert_near(&name, map, &self.get(&name), tolerance);
        }
    }
}

impl Drop for Golden {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.left.borrow().is_empty(), "compared with nothing: {:?}", self.left.borrow());
        }
    }
}

fn raster(name: &str, tensor: &TensorView<'_>) -> Raster {
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
    Raster { channels, height, width, data }
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
fn every_tensor_is_of_a_group() {
    let golden = Golden::read(&[]);
    for name in golden.tensors.keys() {
        assert!(GROUPS.contains(&name.split('/').next().unwrap()), "`{name}`");
    }
}

#[test]
fn flip_agrees() {
    let golden = Golden::read(&["in", "hflip"]);
    let sample = resampled(golden.sample(), Draw { flip: true, ..Draw::NONE }, None);
    golden.check("hflip", &sample);
}

#[test]
fn rotation_and_scale_agree_with_opencv_4() {
    let turns = [("rot13_sc1.1", 13.0, 1.1), ("rot-7_sc0.85", -7.0, 0.85), ("rot0_sc1.2", 0.0, 1.2)];
    let golden = Golden::read(&turns.map(|(group, ..)| group));
    for (group, degrees, scale) in turns {
        let sample = resampled(golden.sample(), Draw { flip: false, degrees, scale }, None);
        golden.check(group, &sample);
        let (height, width) = (golden.sample().image.height, golden.sample().image.width);
        let matrix = scale_rotate::rotation_matrix(height, width, degrees, scale);
        let expected = golden.get(&format!("{group}/matrix"));
        for (found, expected) in matrix.as_flattened().iter().zip(&expected.data) {
            assert!((found - f64::from(*expected)).abs() <= 1e-5, "{group}: {found}, expected {expected}");
        }
    }
}

#[test]
fn resize_agrees_with_opencv() {
    let golden = Golden::read(&["resize96x72", "resize56x56"]);
    for (group, size) in [("resize96x72", [96, 72]), ("resize56x56", [56, 56])] {
        golden.check(group, &resampled(golden.sample(), Draw::NONE, Some(size)));
    }
}

#[test]
fn normalisation_agrees() {
    let golden = Golden::read(&["normalize"]);
    let mut image = golden.get("in/image");
    normalize::quantise_and_normalize(&mut image.data);
    assert_near("normalize/image", &image, &golden.get("normalize/image"), 1e-5);
}

#[test]
fn maps_without_any_part_of_a_human_are_ignored() {
    let golden = Golden::read(&["ignore_no_people"]);
    let mut sample = golden.sample();
    sample.labels.retain(|(task, _)| task.name == "human_parts");
    for (task, map) in &mut sample.labels {
        if task.name == "human_parts" {
            map.data.fill(0.0);
        }
    }
    ignore::background_only(&mut sample);
    golden.check_labels("ignore_no_people", &sample);
}

#[test]
fn zeros_of_normals_and_depth_are_ignored() {
    let golden = Golden::read(&["ignore"]);
    let mut sample = resample::resample(golden.sample(), &Draw::NONE, None, |_| ());
    ignore::background_only(&mut sample);
    golden.check("ignore", &sample);
}

#[test]
fn whole_pipelines_agree_up_to_the_wrapping_cast() {
    let golden = Golden::read(&["train_pipeline", "eval_pipeline"]);
    let train = Draw { flip: true, degrees: 13.0, scale: 1.1 };
    for (group, draw) in [("train_pipeline", train), ("eval_pipeline", Draw::NONE)] {
        let pipeline = Pipeline::evaluation(56, 56);
        let sample = pipeline.drawn(golden.sample(), &draw, |_| ()).unwrap();
        golden.check_labels(group, &sample);

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
        // Where the published level did not wrap, the two differ by less than one level.
        let published = golden.get(&format!("{group}/image"));
        let mut compared = 0;
        for (i, level) in before.data.iter().enumerate().filter(|(_, level)| (0.0..=255.0).contains(*level)) {
            let one_level = 1.001 / 255.0 / IMAGENET_STD[i / (56 * 56)];
            let difference = (applied.image.data[i] - published.data[i]).abs();
            assert!(difference <= one_level, "`{group}` element {i} ({level}) differs by {difference}");
            compared += 1;
        }
        assert!(compared > 8500, "{compared}");
    }
}

#[test]
fn ignored_pixels_survive_the_way_through_the_pipeline() {
    // The same sample as a data set gives it, with 255 where the file has 0.
    let golden = Golden::read(&[]);
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
