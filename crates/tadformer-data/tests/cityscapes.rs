//! A miniature in Cityscapes' layout.

mod tree;

use png::{BitDepth, ColorType};
use tadformer_data::{IGNORE, dataset};
use tiff::encoder::{TiffEncoder, colortype};
use tree::{Tree, grey, png, refusal, tasks};

const WIDTH: u32 = 6;
const HEIGHT: u32 = 4;
const PIXELS: usize = (WIDTH * HEIGHT) as usize;

/// Two cities in `train`, one in `val`.
const SAMPLES: [(&str, &str); 4] = [
    ("train", "bochum/bochum_000000_000313"),
    ("train", "aachen/aachen_000001_000019"),
    ("train", "aachen/aachen_000000_000019"),
    ("val", "lindau/lindau_000000_000019"),
];

fn miniature() -> Tree {
    let tree = Tree::new();
    for (n, (split, id)) in SAMPLES.into_iter().enumerate() {
        let rgb = vec![10 * n as u8 + 5; 3 * PIXELS];
        let picture = png(WIDTH, HEIGHT, ColorType::Rgb, BitDepth::Eight, &rgb);
        tree.write(&format!("leftImg8bit/{split}/{id}_leftImg8bit.png"), picture);
        tree.write(&format!("gtFine/{split}/{id}_gtFine_labelIds.png"), grey(WIDTH, HEIGHT, &label_ids()));
        tree.write(&format!("disparity/{split}/{id}_disparity.png"), disparity());
        tree.write(&format!("gtFinePanopticParts/{split}/{id}_gtFinePanopticParts.tif"), parts());
    }
    tree
}

/// Road, car, bicycle, a sign's pole group (no class), then person.
fn label_ids() -> Vec<u8> {
    let mut ids = vec![24; PIXELS];
    ids[..5].copy_from_slice(&[7, 26, 33, 18, 0]);
    ids
}

/// Nothing, a disparity of 0, of 1 px and of 100 px, then 10 px.
fn disparity() -> Vec<u8> {
    let mut values = [2561u16; PIXELS];
    values[..4].copy_from_slice(&[0, 1, 257, 25_601]);
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
    png(WIDTH, HEIGHT, ColorType::Grayscale, BitDepth::Sixteen, &bytes)
}

/// Road; a car's wheel; a person's torso, head, arm, leg; a person without parts; a rider of no instance.
fn parts() -> Vec<u8> {
    let mut ids = vec![7i32; PIXELS];
    ids[1..8].copy_from_slice(&[2_600_102, 2_400_001, 2_401_202, 2_500_003, 2_499_904, 24_003, 25]);
    let mut bytes = std::io::Cursor::new(Vec::new());
    TiffEncoder::new(&mut bytes).unwrap().write_image::<colortype::GrayI32>(WIDTH, HEIGHT, &ids).unwrap();
    bytes.into_inner()
}

#[test]
fn samples_are_found_city_by_city_in_alphabetical_order() {
    let tree = miniature();
    let set = dataset::open("cityscapes", tree.root(), "train", &tasks(&["semseg"])).unwrap();
    let ids: Vec<_> = (0..set.len()).map(|i| set.id(i)).collect();
    assert_eq!(ids, [SAMPLES[2].1, SAMPLES[1].1, SAMPLES[0].1]);
    assert_eq!(dataset::open("cityscapes", tree.root(), "val", &tasks(&["semseg"])).unwrap().len(), 1);
    assert!(set.load(0).unwrap().image.data.iter().all(|&v| v == 25.0));
}

#[test]
fn label_ids_become_the_nineteen_classes() {
    let tree = miniature();
    let set = dataset::open("cityscapes", tree.root(), "val", &tasks(&["semseg"])).unwrap();
    let map = set.load(0).unwrap().labels.remove(0).1;
    assert_eq!(map.data[..6], [0.0, 13.0, 18.0, IGNORE, IGNORE, 11.0]);
    let classes = &set.tasks()[0].classes;
    assert_eq!((classes.len(), classes[13].as_str(), classes[18].as_str()), (19, "car", "bicycle"));
}

#[test]
fn train_ids_are_read_where_there_are_no_label_ids() {
    let tree = miniature();
    let (split, id) = SAMPLES[3];
    std::fs::remove_file(tree.path(&format!("gtFine/{split}/{id}_gtFine_labelIds.png"))).unwrap();
    let error = refusal(dataset::open("cityscapes", tree.root(), "val", &tasks(&["semseg"])));
    assert!(error.contains("labelIds.png` or `") && error.contains("labelTrainIds.png"), "{error}");
    let mut ids = vec![18; PIXELS];
    ids[..2].copy_from_slice(&[0, 255]);
    tree.write(&format!("gtFine/{split}/{id}_gtFine_labelTrainIds.png"), grey(WIDTH, HEIGHT, &ids));
    let set = dataset::open("cityscapes", tree.root(), "val", &tasks(&["semseg"])).unwrap();
    assert_eq!(set.load(0).unwrap().labels[0].1.data[..3], [0.0, IGNORE, 18.0]);
}

#[test]
fn disparity_becomes_depth_and_what_was_not_measured_is_ignored() {
    let tree = miniature();
    let depth = |tree: &Tree| {
        let set = dataset::open("cityscapes", tree.root(), "val", &tasks(&["depth"])).unwrap();
        set.load(0).unwrap().labels.remove(0).1.data
    };
    let found = depth(&tree);
    // 0.209313 m · 2262.52 px = 473.575 m px: beyond 255 m at 1 px, 4.73575 m at 100 px, 47.3575 m at 10 px.
    assert_eq!(found[..3], [IGNORE; 3]);
    assert!((found[3] - 4.735_75).abs() < 1e-4 && (found[4] - 47.357_5).abs() < 1e-3, "{found:?}");
    // The recording's own camera has the last word.
    let (split, id) = SAMPLES[3];
    let camera = format!("camera/{split}/{id}_camera.json");
    tree.write(
        &camera,
        r#"{"extrinsic": {"baseline": 0.2, "yaw": 0}, "intrinsic": {"fx": 1000.0, "fy": 1}}"#,
    );
    let found = depth(&tree);
    assert_eq!(found[2], 200.0);
    assert!((found[3] - 2.0).abs() < 1e-6);
    tree.write(&camera, r#"{"extrinsic": {"baseline": 0.0}, "intrinsic": {"fx": 1000.0}}"#);
    let set = dataset::open("cityscapes", tree.root(), "val", &tasks(&["depth"])).unwrap();
    assert!(refusal(set.load(0)).contains("_camera.json"));
}

#[test]
fn parts_of_people_come_from_panoptic_parts() {
    let tree = miniature();
    let set = dataset::open("cityscapes", tree.root(), "val", &tasks(&["human_parts", "semseg"])).unwrap();
    let sample = set.load(0).unwrap();
    assert_eq!(sample.labels[0].1.data[..9], [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, IGNORE, IGNORE, 0.0]);
    assert_eq!(set.tasks()[0].classes, ["background", "torso", "head", "arms", "legs"]);
}

#[test]
fn a_split_without_pictures_or_without_a_folder_is_an_error() {
    let tree = miniature();
    std::fs::remove_dir_all(tree.path("leftImg8bit/val/lindau")).unwrap();
    assert!(
        refusal(dataset::open("cityscapes", tree.root(), "val", &tasks(&["semseg"]))).contains("no samples")
    );
    std::fs::remove_dir_all(tree.path("leftImg8bit/val")).unwrap();
    assert!(
        refusal(dataset::open("cityscapes", tree.root(), "val", &tasks(&["semseg"])))
            .contains("leftImg8bit/val")
    );
}
