//! `check` finds everything that is wrong in one pass.

mod tree;

use std::fs;

use tadformer_data::check::{Report, check};
use tadformer_data::dataset;
use tree::{DEPTH, SEMSEG, Tree, grey, jpeg, npy};

fn report(name: &str, tree: &Tree, listed: usize) -> Report {
    let descriptor = dataset::descriptor(name, tree.root()).unwrap();
    check(&descriptor, tree.root(), &[], &[], listed, |_, _, _| {}).unwrap()
}

#[test]
fn a_sound_set_has_no_problems_and_its_classes_are_counted() {
    let tree = Tree::copy_of("pascal_mini");
    let report = report("pascal-context", &tree, 20);
    assert_eq!(report.problem_count(), 0, "{report}");
    assert_eq!(
        report.splits.iter().map(|s| (s.split.as_str(), s.samples)).collect::<Vec<_>>(),
        [("train", 4), ("val", 2)]
    );
    let train = &report.splits[0];
    assert_eq!(train.distinct_sizes, 4);
    let task = |name: &str| train.tasks.iter().find(|t| t.task == name).unwrap();
    let pixels = 72 * 96 + 60 * 80 + 91 * 75 + 67 * 100;
    for name in ["semseg", "human_parts", "sal", "normals", "edge"] {
        assert_eq!(task(name).labelled_pixels + task(name).ignored_pixels, pixels, "{name}");
    }
    // Persons are in three of the four pictures, and parts in two.
    let person = &task("semseg").classes[15];
    assert_eq!((person.class.as_str(), person.samples), ("person", 3));
    assert_eq!(task("human_parts").classes[1].samples, 2);
    // A picture without people says nothing of their parts, and training leaves it out.
    assert_eq!((task("human_parts").labelled_samples, task("human_parts").read_samples), (2, 4));
    assert!(task("semseg").remarks[0].contains("never labelled: aeroplane"));
    let range = task("normals").range.unwrap();
    assert!(range.min >= -1.0 && range.max <= 1.0);
    // 6523 of the first picture's 6912 pixels are no edge.
    assert!(task("edge").classes[1].pixels > 389);
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let tree = Tree::copy_of("pascal_mini");
    fs::remove_file(tree.path("JPEGImages/2008_000001.jpg")).unwrap();
    fs::remove_file(tree.path("sal_distill/2008_000002.png")).unwrap();
    tree.write("semseg/VOC12/2008_000002.png", grey(80, 60, &[77; 4800]));
    tree.write("normals_distill/2008_000003.png", "no picture");
    tree.write("human_parts/2008_000003.mat", "no matrix");
    tree.write("JPEGImages/2009_000011.jpg", jpeg(10, 10));
    fs::remove_file(tree.path("ImageSets/Context/val.txt")).unwrap();
    let report = report("pascal-context", &tree, 100);
    let text = report.to_string();
    for expected in [
        "missing image: `JPEGImages/2008_000001.jpg`",
        "missing sal: `sal_distill/2008_000002.png`",
        "is 77; expected a class in 0..=20",
        "normals_distill/2008_000003.png",
        "human_parts/2008_000003.mat",
        "the picture has 10 by 10",
        "the mask of object 0 has size [67, 100]",
        "val.txt",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in\n{text}");
    }
    // Two missing files, one class, two unreadable files, five labels of another size; and the list.
    assert_eq!(report.splits.iter().map(|s| s.problems.count).collect::<Vec<_>>(), [10, 1], "{text}");
    // Labels of the sample without a picture are still counted.
    let semseg = &report.splits[0].tasks[0];
    assert_eq!(semseg.labelled_samples, 2, "{text}");
}

#[test]
fn problems_beyond_the_limit_are_counted() {
    let tree = Tree::new();
    let ids: String = (0..300).map(|i| format!("{i}\n")).collect();
    tree.describe(&ids, SEMSEG);
    let report = report("mine", &tree, 20);
    assert_eq!((report.problem_count(), report.splits[0].problems.first.len()), (600, 20));
    assert!(report.to_string().contains("… and 580 more, 600 in all"));
}

#[test]
fn odd_units_are_remarked_on() {
    let tree = Tree::new();
    tree.describe("a\n", DEPTH)
        .write("images/a.jpg", jpeg(2, 1))
        .write("depth/a.npy", npy("(1, 2)", &[0.002, 0.004]));
    let report = report("folder", &tree, 20);
    assert_eq!(report.problem_count(), 0);
    assert!(report.splits[0].tasks[0].remarks[0].contains("scale too small"), "{report}");
}

#[test]
fn a_report_survives_json() {
    let tree = Tree::copy_of("nyud_mini");
    let report = report("nyud", &tree, 20);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    assert_eq!(report.problem_count(), 0, "{report}");
    let depth = report.splits[0].tasks.iter().find(|t| t.task == "depth").unwrap();
    assert_eq!(depth.ignored_pixels, 45);
    assert!((depth.range.unwrap().max - 4.258_275_5).abs() < 1e-6);
}
