//! The published layouts against what the reference's data sets return for them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tadformer_data::dataset;
use tadformer_data::{IGNORE, LabelKind, Raster, Task};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Tensors `<split>/<index>/<task>` of `(h, w)` or `(h, w, 3)`, as channel planes.
fn expected(name: &str) -> BTreeMap<String, Raster> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(data(name)).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| {
            let shape = view.shape();
            let (height, width, channels) = (shape[0], shape[1], shape.get(2).copied().unwrap_or(1));
            let mut raster = Raster::filled(channels, height, width, 0.0);
            for (i, b) in view.data().as_chunks().0.iter().enumerate() {
                raster.data[i % channels * height * width + i / channels] = f32::from_le_bytes(*b);
            }
            (name.to_owned(), raster)
        })
        .collect()
}

/// Compares every sample of `split`: the picture within decoder tolerance, classes exactly, quantities to 1e-6.
fn check(name: &str, root: &str, split: &str, tasks: &[&str], expected: &BTreeMap<String, Raster>) {
    let tasks: Vec<Task> = tasks.iter().map(|name| Task::from_name(name).unwrap()).collect();
    let set = dataset::open(name, &data(root), split, &tasks).unwrap();
    assert_eq!(set.tasks().iter().map(|spec| spec.task).collect::<Vec<_>>(), tasks);
    assert!(!set.is_empty());
    for index in 0..set.len() {
        let sample = set.load(index).unwrap();
        assert_eq!(sample.id, set.id(index));
        check_picture(&sample.image, &expected[&format!("{split}/{index}/image")]);
        for &task in &tasks {
            let key = format!("{split}/{index}/{task}");
            check_label(&key, task, sample.label(task).unwrap(), &expected[&key]);
        }
    }
    assert!(!expected.contains_key(&format!("{split}/{}/image", set.len())), "samples are missing");
}

fn check_picture(found: &Raster, expected: &Raster) {
    assert_eq!((found.height, found.width), (expected.height, expected.width));
    let mut differences: Vec<f32> =
        found.data.iter().zip(&expected.data).map(|(a, b)| (a - b).abs()).collect();
    differences.sort_by(f32::total_cmp);
    let n = differences.len();
    let mean = differences.iter().sum::<f32>() / n as f32;
    assert!(mean <= 0.5, "mean {mean}");
    assert!(differences[n * 999 / 1000] <= 6.0, "99.9 % {}", differences[n * 999 / 1000]);
    assert!(differences[n - 1] <= 24.0, "max {}", differences[n - 1]);
}

fn check_label(key: &str, task: Task, found: &Raster, expected: &Raster) {
    assert_eq!(
        (found.channels, found.height, found.width),
        (expected.channels, expected.height, expected.width)
    );
    let size = found.height * found.width;
    // The reference keeps 0 where there is no vector or no distance, and turns it into 255 in its transforms.
    let unlabelled = |pixel: usize| match task.label {
        LabelKind::UnitVector => (0..3).all(|c| expected.data[c * size + pixel] == 0.0),
        LabelKind::Metres => expected.data[pixel] == 0.0,
        LabelKind::Classes | LabelKind::Binary => false,
    };
    let tolerance = match task.label {
        LabelKind::UnitVector | LabelKind::Metres => 1e-6,
        LabelKind::Classes | LabelKind::Binary => 0.0,
    };
    for (i, (&a, &b)) in found.data.iter().zip(&expected.data).enumerate() {
        let b = if unlabelled(i % size) { IGNORE } else { b };
        assert!((a - b).abs() <= tolerance, "{key}: element {i} is {a}, expected {b}");
    }
}

#[test]
fn pascal_context_gives_the_reference_s_labels_for_all_five_tasks() {
    let expected = expected("pascal_mini_expected.safetensors.gz");
    for split in ["train", "val"] {
        let tasks = ["semseg", "human_parts", "sal", "normals", "edge"];
        check("pascal-context", "pascal_mini", split, &tasks, &expected);
    }
}

#[test]
fn nyud_gives_the_reference_s_labels_for_all_four_tasks() {
    let expected = expected("nyud_mini_expected.safetensors.gz");
    for split in ["train", "val"] {
        check("nyud", "nyud_mini", split, &["semseg", "depth", "normals", "edge"], &expected);
    }
}

#[test]
fn any_subset_of_tasks_in_any_order_gives_the_same_labels() {
    let expected = expected("pascal_mini_expected.safetensors.gz");
    for tasks in [vec!["edge", "semseg"], vec!["normals"], vec!["sal", "normals", "edge"]] {
        check("pascal-context", "pascal_mini", "val", &tasks, &expected);
    }
}
