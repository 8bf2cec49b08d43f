//! The example of `datasets/README.md`, as it stands there.

mod tree;

use std::fs;
use std::path::Path;

use png::{BitDepth, ColorType};
use tadformer_data::{IGNORE, check, dataset};
use tree::{Tree, grey, jpeg, png, tasks};

/// The text between the marks of the page's first TOML block.
fn example() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/README.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_example_of_the_guide_is_a_data_set() {
    let tree = Tree::new();
    tree.write("dataset.toml", example()).write("train.txt", "kitchen/0001\nhall/0001\n");
    tree.write("val.txt", "kitchen/0001\n");
    for id in ["kitchen/0001", "hall/0001"] {
        tree.write(&format!("photos/{id}.jpg"), jpeg(3, 1));
        tree.write(&format!("masks/{id}.png"), grey(3, 1, &[0, 2, 255]));
    }
    let millimetres = [0x05, 0xdc, 0, 0, 0x0b, 0xb8];
    let depth = png(3, 1, ColorType::Grayscale, BitDepth::Sixteen, &millimetres);
    tree.write("depth/kitchen/0001.png", depth);

    for name in ["folder", "rooms"] {
        let set = dataset::open(name, tree.root(), "train", &tasks(&["depth", "semseg"])).unwrap();
        let sample = set.load(0).unwrap();
        assert_eq!(sample.id, "kitchen/0001");
        assert_eq!(sample.labels[0].1.data, [1.5, IGNORE, 3.0]);
        assert_eq!(sample.labels[1].1.data, [0.0, 2.0, IGNORE]);
        assert_eq!(set.load(1).unwrap().labels[0].1.data, [IGNORE; 3]);
        assert_eq!(set.tasks()[1].classes, ["floor", "wall", "chair"]);
    }
    let descriptor = dataset::descriptor("folder", tree.root()).unwrap();
    let report = check::check(&descriptor, tree.root(), &[], &[], 20, |_, _, _| {}).unwrap();
    assert_eq!(report.problem_count(), 0, "{report}");
    let train = report.splits.iter().find(|split| split.split == "train").unwrap();
    assert_eq!(train.tasks[1].labelled_samples, 1);
}
