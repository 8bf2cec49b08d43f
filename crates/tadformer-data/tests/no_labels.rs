//! Labels that say less than they seem to: what `check` and `look` tell of them, and which keys mend them.

mod tree;

use png::{BitDepth, ColorType};
use tadformer_data::check::{Look, Report, TaskReport, check, look};
use tadformer_data::{IGNORE, Task, dataset};
use tree::{DEPTH, NORMALS, SEMSEG, Tree, grey, grey16, jpeg, npy, npy_of, open, png, refusal, tasks};

/// Two samples of 4 × 2 pixels whose labels are the given files.
fn set(task: &str, path: &str, labels: [Vec<u8>; 2]) -> Tree {
    let tree = Tree::new();
    tree.describe("a\nb\n", task);
    for (id, label) in ["a", "b"].into_iter().zip(labels) {
        tree.write(&format!("images/{id}.jpg"), jpeg(4, 2)).write(&path.replace("{id}", id), label);
    }
    tree
}

fn report(tree: &Tree) -> Report {
    let descriptor = dataset::descriptor("folder", tree.root()).unwrap();
    check(&descriptor, tree.root(), &[], &[], 20, |_, _, _| {}).unwrap()
}

/// The only task of the only split.
fn task(report: &Report) -> &TaskReport {
    &report.splits[0].tasks[0]
}

fn seen(tree: &Tree) -> Look {
    let descriptor = dataset::descriptor("folder", tree.root()).unwrap();
    look(&descriptor, tree.root(), "train", &descriptor.task_list()).unwrap()
}

/// The first label map.
fn label(tree: &Tree, task: &str) -> Vec<f32> {
    open(tree.root(), &[task]).unwrap().load(0).unwrap().labels.remove(0).1.data
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

const DEPTH_PNG: &str = "[[tasks]]\ntask = \"depth\"\n[[tasks.sources]]\nfile = \"depth/{id}.png\"\n\
                         encoding = { kind = \"metres\" }\n";
const NORMALS_PNG: &str = "[[tasks]]\ntask = \"normals\"\n[[tasks.sources]]\nfile = \"normals/{id}.png\"\n\
                           encoding = { kind = \"vectors\" }\n";
const SAL_PNG: &str = "[[tasks]]\ntask = \"sal\"\n[[tasks.sources]]\nfile = \"sal/{id}.png\"\n\
                       encoding = { kind = \"binary\" }\n";

fn with(task: &str, kind: &str, keys: &str) -> String {
    task.replace(&format!("kind = \"{kind}\""), &format!("kind = \"{kind}\", {keys}"))
}

#[test]
fn millimetres_read_as_metres_are_a_problem_that_names_numbers_and_scale() {
    let depth = || grey16(4, 2, &[2000, 2500, 3000, 0, 4000, 3500, 0, 2001]);
    let tree = set(DEPTH_PNG, "depth/{id}.png", [depth(), depth()]);
    let found = report(&tree);
    assert_eq!(found.problem_count(), 1, "{found}");
    let parts =
        ["75.000 % of the pixels are 255 m away or more", "25.000 % of the pixels are 0", "2000 to 4000"];
    assert_has(&found.splits[0].problems.first[0], &parts);
    assert_has(&found.splits[0].problems.first[0], &["`scale = 0.001`", "(2 to 4 m)"]);
    let stored = task(&found).stored.unwrap();
    assert_eq!((stored.min, stored.max), (2000.0, 4000.0));

    let [(task, why)] = &seen(&tree).unlabelled[..] else { panic!("one task has nothing") };
    assert_eq!(task.name, "depth");
    assert_has(why, &["in 2 of 2 samples", "split `train`", "`scale = 0.001`"]);

    tree.describe("a\nb\n", &with(DEPTH_PNG, "metres", "scale = 0.001"));
    assert_eq!(report(&tree).problem_count(), 0);
    assert_eq!(seen(&tree), Look::default());
}

#[test]
fn negative_distances_are_named_as_such() {
    let depth = || npy("(2, 4)", &[-4.0, -1.0, -2.0, -2.0, -2.0, -2.0, -2.0, -3.0]);
    let tree = set(DEPTH, "depth/{id}.npy", [depth(), depth()]);
    assert_has(
        &report(&tree).to_string(),
        &["1 problem", "are negative", "-4 to -1", "distances are positive"],
    );
}

#[test]
fn a_mask_of_0_and_255_tells_the_keys_that_make_255_a_class() {
    let two = SEMSEG.replace("[\"a\", \"b\", \"c\"]", "[\"ground\", \"crack\"]").replace(", [2, 2, 2]]", "]");
    let mask = || grey(4, 2, &[0, 0, 0, 0, 0, 0, 255, 0]);
    let tree = set(&two, "labels/{id}.png", [mask(), mask()]);
    let found = report(&tree);
    assert_eq!(found.problem_count(), 1, "{found}");
    assert_has(
        &found.to_string(),
        &["12.500 % of the pixels hold 255", "never labelled: crack", "`ids = [0, 255]`", "`ignore = []`"],
    );
    let [(_, why)] = &seen(&tree).empty_classes[..] else { panic!("a class is empty") };
    assert_has(why, &["no pixel of crack in 2 of 2 samples", "`ids = [0, 255]`"]);

    for keys in ["ids = [0, 255], ignore = []", "ids = [0, 255]"] {
        tree.describe("a\nb\n", &with(&two, "class-ids", keys));
        assert_eq!(report(&tree).to_string().lines().last(), Some("no problems"));
        assert_eq!(label(&tree, "semseg"), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }
    // Said once, 255 is what it is said to be.
    tree.describe("a\nb\n", &with(&two, "class-ids", "ignore = [255]"));
    let found = report(&tree);
    assert_eq!(found.problem_count(), 0, "{found}");
    assert!(!found.to_string().contains("ids = "), "{found}");
}

#[test]
fn the_class_that_255_may_be_is_found_among_several() {
    let mask = || grey(4, 2, &[0, 0, 0, 1, 0, 0, 255, 0]);
    let tree = set(SEMSEG, "labels/{id}.png", [mask(), mask()]);
    let found = report(&tree);
    assert_eq!(found.problem_count(), 0, "{found}");
    assert_has(&found.to_string(), &["`ids = [0, 1, 255]`", "no problems, but see the notes"]);
}

#[test]
fn a_map_without_any_label_is_a_problem() {
    let tree = set(SEMSEG, "labels/{id}.png", [grey(4, 2, &[255; 8]), grey(4, 2, &[255; 8])]);
    assert_has(&report(&tree).to_string(), &["1 problem", "100.000 % of the pixels hold 255"]);
    assert_eq!(seen(&tree).unlabelled.len(), 1);
}

#[test]
fn one_labelled_pixel_among_many_samples_is_found() {
    let tree = Tree::new();
    let ids: String = (0..300).map(|i| format!("{i}\n")).collect();
    tree.describe(&ids, &SEMSEG.replace("palette", "optional = true\npalette"));
    for i in 0..300 {
        tree.write(&format!("images/{i}.jpg"), jpeg(4, 2));
    }
    assert_has(&seen(&tree).unlabelled[0].1, &["300 of 300 samples", "no sample has a label"]);
    assert_has(&report(&tree).to_string(), &["1 problem", "no sample has a label for it"]);
    tree.write("labels/299.png", grey(4, 2, &[255, 255, 255, 255, 255, 255, 255, 2]));
    let found = seen(&tree);
    assert_eq!(found.unlabelled, []);
    assert_has(&found.empty_classes[0].1, &["no pixel of a, b"]);
}

#[test]
fn parts_of_people_in_pictures_without_people_are_nothing_to_learn_from() {
    let parts = SEMSEG.replace("semseg", "human_parts");
    let tree = set(&parts, "labels/{id}.png", [grey(4, 2, &[0; 8]), grey(4, 2, &[0; 8])]);
    assert_has(&report(&tree).to_string(), &["1 problem", "background alone"]);
    assert_eq!(seen(&tree).unlabelled.len(), 1);
}

#[test]
fn small_numbers_under_a_large_threshold_tell_the_key_for_them() {
    let sal = || grey(4, 2, &[0, 1, 1, 0, 0, 0, 0, 0]);
    let tree = set(SAL_PNG, "sal/{id}.png", [sal(), sal()]);
    let found = report(&tree);
    assert_eq!(found.problem_count(), 1, "{found}");
    assert_has(&found.to_string(), &["never labelled: 1", "0 to 1", "`full = 1`"]);
    tree.describe("a\nb\n", &with(SAL_PNG, "binary", "full = 1"));
    assert_eq!(report(&tree).problem_count(), 0);
    tree.describe("a\nb\n", &with(SAL_PNG, "binary", "full = 1, ignore = [1]"));
    assert_eq!(label(&tree, "sal"), [0.0, IGNORE, IGNORE, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn distances_listed_or_out_of_bounds_have_no_label() {
    let depth = || grey16(4, 2, &[500, 1000, 2000, 65535, 9000, 3000, 0, 700]);
    let tree = set(
        &with(DEPTH_PNG, "metres", "scale = 0.001, ignore = [65535, 700], min = 0.6, max = 8"),
        "depth/{id}.png",
        [depth(), depth()],
    );
    let i = IGNORE;
    assert_eq!(label(&tree, "depth"), [i, 1.0, 2.0, i, i, 3.0, i, i]);
    let found = report(&tree);
    let why =
        |why: &str| task(&found).unlabelled.iter().find(|entry| entry.why == why).map(|entry| entry.pixels);
    for reason in ["hold 65535", "hold 700", "are nearer than 0.6 m", "are farther than 8 m", "are 0"] {
        assert_eq!(why(reason), Some(2), "{reason} in {found}");
    }
    // What is not looked at does not widen the range.
    assert_eq!(task(&found).stored.unwrap().max, 9000.0);
    for keys in ["min = 0.0", "max = 300", "min = 3, max = 2", "ignore = [nan]"] {
        tree.describe("a\n", &with(DEPTH_PNG, "metres", keys));
        assert_has(&refusal(open(tree.root(), &["depth"])), &[keys.split(' ').next().unwrap()]);
    }
}

#[test]
fn a_largest_number_that_stands_apart_is_remarked_on() {
    let depth = |far| grey16(4, 2, &[500, 1000, 2000, far, 1500, 3000, 0, far]);
    let text = with(DEPTH_PNG, "metres", "scale = 0.001");
    let tree = set(&text, "depth/{id}.png", [depth(65535), depth(65535)]);
    let found = report(&tree);
    assert_has(&found.to_string(), &["note: 25.000 % of the pixels hold 65535", "`ignore = [65535]`"]);
    tree.describe("a\nb\n", &with(DEPTH_PNG, "metres", "scale = 0.001, ignore = [65535]"));
    assert_eq!(task(&report(&tree)).remarks, [""; 0]);
    let tree = set(&text, "depth/{id}.png", [depth(3100), depth(2900)]);
    assert_eq!(task(&report(&tree)).remarks, [""; 0]);
}

/// Normals as 8-bit RGB; `None` is a pixel of middle grey.
fn rgb(normals: &[Option<[f64; 3]>]) -> Vec<u8> {
    let byte = |v: f64| (127.5 * (v + 1.0)).round() as u8;
    normals.iter().flat_map(|n| n.map_or([128; 3], |n| n.map(byte))).collect()
}

#[test]
fn vectors_of_another_length_are_no_labels_and_are_counted() {
    let (up, none) = (Some([0.0, 0.6, 0.8]), None);
    let data = rgb(&[up, none, none, up, none, none, none, up]);
    let normals = || png(4, 2, ColorType::Rgb, BitDepth::Eight, &data);
    let tree = set(NORMALS_PNG, "normals/{id}.png", [normals(), normals()]);
    let map = label(&tree, "normals");
    let labelled: Vec<bool> = map[..8].iter().map(|&v| v != IGNORE).collect();
    assert_eq!(labelled, [true, false, false, true, false, false, false, true]);
    assert!((map[8] - 0.6).abs() < 0.005 && (map[16] - 0.8).abs() < 0.005, "{map:?}");
    let found = report(&tree);
    assert_eq!((found.problem_count(), task(&found).labelled_pixels), (0, 6), "{found}");
    assert_has(
        &found.to_string(),
        &["37.5 % of their pixels", "62.500 % of the pixels are vectors shorter than 0.5"],
    );
    // Black, white and primary colours are as long as no direction.
    let colours = [[0u8; 3], [255; 3], [0, 0, 128], [255, 0, 0]].concat();
    let wrong = || png(4, 2, ColorType::Rgb, BitDepth::Eight, &colours.repeat(2));
    let tree = set(NORMALS_PNG, "normals/{id}.png", [wrong(), wrong()]);
    assert_has(
        &report(&tree).to_string(),
        &["1 problem", "100.000 % of the pixels are vectors longer than 1.25"],
    );
}

#[test]
fn vectors_may_be_ignored_and_bounded_by_keys() {
    let data = [0.0, 0.6, 0.8, 0.0, 0.0, 1.0, 9.0, 9.0, 9.0, 0.0, 0.0, 0.9].repeat(2);
    let file = || npy("(2, 4, 3)", &data);
    let tree = set(
        &with(NORMALS, "vectors", "ignore = [9, [0, 0, 1]], min = 0.95"),
        "normals/{id}.npy",
        [file(), file()],
    );
    assert_eq!(label(&tree, "normals")[..4], [0.0, IGNORE, IGNORE, IGNORE]);
    assert_has(&report(&tree).to_string(), &["hold (9, 9, 9)", "hold (0, 0, 1)", "shorter than 0.95"]);
    for keys in ["min = 0.0", "min = 1.5", "max = 0.5", "range = [1, 1]", "ignore = [inf]"] {
        tree.describe("a\n", &with(NORMALS, "vectors", keys));
        assert_has(&refusal(open(tree.root(), &["normals"])), &[keys.split(' ').next().unwrap()]);
    }
}

#[test]
fn other_conventions_of_arrays_are_named_with_the_key_that_reads_them() {
    let normals = [[0.0f32, 0.6, 0.8], [0.6, 0.0, -0.8], [-0.6, 0.8, 0.0], [0.0, 0.0, 1.0]].repeat(2);
    for (half, middle, range) in [(0.5f32, 0.5, "[0, 1]"), (127.5, 127.5, "[0, 255]")] {
        let stored: Vec<f32> = normals.iter().flatten().map(|v| half * v + middle).collect();
        let file = || npy("(2, 4, 3)", &stored);
        let tree = set(NORMALS, "normals/{id}.npy", [file(), file()]);
        let error = refusal(open(tree.root(), &["normals"]).unwrap().load(0));
        assert_has(&error, &["normals/a.npy", "(n + 1) / 2", &format!("`range = {range}`")]);
        assert_eq!(report(&tree).problem_count(), 2);
        tree.describe("a\nb\n", &with(NORMALS, "vectors", &format!("range = {range}")));
        let map = label(&tree, "normals");
        for (i, normal) in normals.iter().enumerate() {
            for c in 0..3 {
                assert!((map[8 * c + i] - normal[c]).abs() < 1e-5, "{range}: {map:?}");
            }
        }
    }
}

#[test]
fn pictures_that_cannot_hold_vectors_are_refused_by_what_they_are() {
    let error = |label: Vec<u8>| {
        let tree = set(NORMALS_PNG, "normals/{id}.png", [label.clone(), label]);
        refusal(open(tree.root(), &["normals"]).unwrap().load(0))
    };
    for (label, what) in [
        (grey(4, 2, &[128; 8]), "a grey PNG"),
        (png(4, 2, ColorType::GrayscaleAlpha, BitDepth::Eight, &[128; 16]), "a grey PNG"),
        (png(4, 2, ColorType::Indexed, BitDepth::Eight, &[3; 8]), "a palette"),
        (jpeg(4, 2), "a JPEG"),
    ] {
        assert_has(&error(label), &["normals/a.png", what, "RGB PNG or a `.npy`"]);
    }
}

#[test]
fn class_numbers_may_be_negative() {
    let ids = [-1i32, 0, 2, -1, 1, 1, 0, -1];
    let file = || npy_of("<i4", "(2, 4)", &ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>());
    let text = SEMSEG.replace("labels/{id}.png", "labels/{id}.npy");
    let tree = set(&text, "labels/{id}.npy", [file(), file()]);
    assert_has(&refusal(open(tree.root(), &["semseg"]).unwrap().load(0)), &["(x 0, y 0) is -1", "0..=2"]);
    let i = IGNORE;
    tree.describe("a\nb\n", &with(&text, "class-ids", "ignore = [-1]"));
    assert_eq!(label(&tree, "semseg"), [i, 0.0, 2.0, i, 1.0, 1.0, 0.0, i]);
    tree.describe("a\nb\n", &with(&text, "class-ids", "ids = [-1, 0, 1], ignore = [2]"));
    assert_eq!(label(&tree, "semseg"), [0.0, 1.0, i, 0.0, 2.0, 2.0, 1.0, 0.0]);
    tree.describe("a\n", &with(&text, "class-ids", "ignore = [-70000]"));
    assert_has(&refusal(open(tree.root(), &["semseg"])), &["-70000"]);
}

#[test]
fn a_task_that_may_lack_labels_lacks_them_in_a_split_for_scores() {
    let tree = Tree::new();
    tree.describe("a\n", &SEMSEG.replace("palette", "optional = true\npalette"));
    let text = std::fs::read_to_string(tree.path("dataset.toml")).unwrap();
    tree.write("dataset.toml", text.replace("[splits]", "[splits]\nval = { list = \"val.txt\" }"));
    tree.write("val.txt", "b\n").write("labels/a.png", grey(4, 2, &[0, 1, 2, 0, 0, 0, 0, 0]));
    tree.write("images/a.jpg", jpeg(4, 2)).write("images/b.jpg", jpeg(4, 2));
    let found = report(&tree);
    assert_eq!(found.problem_count(), 0, "{found}");
    assert_has(&found.to_string(), &["note: no sample has a label for it", "see the notes"]);
    let descriptor = dataset::descriptor("folder", tree.root()).unwrap();
    let semseg: [Task; 1] = tasks(&["semseg"]).try_into().unwrap();
    assert_eq!(look(&descriptor, tree.root(), "val", &semseg).unwrap().unlabelled.len(), 1);
}
