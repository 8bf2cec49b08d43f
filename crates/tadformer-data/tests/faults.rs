//! Data sets that are not as they should be: each fault is named, and none is a panic.

mod tree;

use std::fs;

use png::{BitDepth, ColorType};
use tadformer_data::{IGNORE, Task, dataset};
use tree::{DEPTH, NORMALS, SEMSEG, Tree, grey, jpeg, npy, npy_of, open, png, refusal, tasks};

#[test]
fn an_unknown_name_split_or_task_is_answered_with_what_exists() {
    let root = tree::data("pascal_mini");
    let semseg = tasks(&["semseg"]);
    let error = refusal(dataset::open("pascal", &root, "train", &semseg));
    assert!(
        error.contains("pascal-context") && error.contains("nyud") && error.contains("cityscapes"),
        "{error}"
    );
    let error = refusal(dataset::open("pascal-context", &root, "test", &semseg));
    assert!(error.contains("train, val"), "{error}");
    let error = refusal(dataset::open("pascal-context", &root, "train", &tasks(&["depth"])));
    assert!(error.contains("human_parts, sal, normals, edge"), "{error}");
    let error = refusal(dataset::open("pascal-context", &root, "train", &[]));
    assert!(error.contains("no tasks"), "{error}");
    let error = refusal(dataset::open("pascal-context", &root, "train", &tasks(&["sal", "sal"])));
    assert!(error.contains("twice"), "{error}");
}

#[test]
fn a_missing_root_says_how_to_get_the_data() {
    let tree = Tree::new();
    let error = refusal(dataset::open("pascal-context", &tree.path("nowhere"), "train", &tasks(&["semseg"])));
    assert!(error.contains("PASCAL_MT.tgz") && error.contains("JPEGImages/{id}.jpg"), "{error}");
    tree.write("file", "x");
    let error = refusal(dataset::open("nyud", &tree.path("file"), "train", &tasks(&["semseg"])));
    assert!(error.contains("no folder"), "{error}");
    assert!(refusal(open(tree.root(), &["semseg"])).contains("dataset.toml"));
}

#[test]
fn an_empty_split_is_an_error_before_training_starts() {
    for ids in ["", "\n \r\n", "\u{feff}\n"] {
        let tree = Tree::new();
        tree.describe(ids, SEMSEG);
        assert!(refusal(open(tree.root(), &["semseg"])).contains("no samples"), "{ids:?}");
    }
    let tree = Tree::new();
    tree.describe("", SEMSEG);
    fs::remove_file(tree.path("train.txt")).unwrap();
    let error = refusal(open(tree.root(), &["semseg"]));
    assert!(error.contains("train.txt"), "{error}");
}

#[test]
fn every_missing_file_is_listed_up_to_twenty_and_counted() {
    let tree = Tree::new();
    let ids: String = (0..40).map(|i| format!("{i:03}\n")).collect();
    tree.describe(&ids, SEMSEG);
    for i in 10..40 {
        tree.write(&format!("images/{i:03}.jpg"), jpeg(4, 4));
    }
    let error = refusal(open(tree.root(), &["semseg"]));
    assert!(error.contains("lacks 50 files") && error.contains("… 50 in all"), "{error}");
    assert!(error.contains("images/009.jpg") && error.contains("labels/009.png"), "{error}");
    assert!(!error.contains("labels/010.png"), "{error}");
}

#[test]
fn a_name_in_the_wrong_case_is_pointed_out() {
    let tree = Tree::new();
    tree.describe("a\n", SEMSEG)
        .write("images/a.JPG", jpeg(4, 4))
        .write("labels/a.png", grey(4, 4, &[0; 16]));
    let error = refusal(open(tree.root(), &["semseg"]));
    assert!(error.contains("there is `a.JPG`"), "{error}");
}

#[test]
fn lists_with_marks_returns_blanks_and_odd_names_are_read() {
    let tree = Tree::new();
    let long = "x".repeat(251);
    let ids = ["a", "with space", "k=v", "été", &long];
    for id in ids {
        tree.write(&format!("images/{id}.jpg"), jpeg(3, 2))
            .write(&format!("labels/{id}.png"), grey(3, 2, &[1; 6]));
    }
    tree.describe(&format!("\u{feff}{}\r\n", ids.join("  \r\n\r\n")), SEMSEG);
    let set = open(tree.root(), &["semseg"]).unwrap();
    assert_eq!((0..set.len()).map(|i| set.id(i)).collect::<Vec<_>>(), ids);
    for index in 0..set.len() {
        assert_eq!(set.load(index).unwrap().label(set.tasks()[0].task).unwrap().data, [1.0; 6]);
    }
}

#[test]
fn names_longer_than_a_file_system_allows_are_missing_not_fatal() {
    let tree = Tree::new();
    tree.describe(&"x".repeat(255), SEMSEG);
    assert!(refusal(open(tree.root(), &["semseg"])).contains("lacks 2 files"));
    tree.describe(&"x".repeat(300), SEMSEG);
    assert!(refusal(open(tree.root(), &["semseg"])).contains("at most 255"));
}

#[cfg(unix)]
#[test]
fn a_root_that_is_not_utf_8_works() {
    use std::os::unix::ffi::OsStrExt;
    let tree = Tree::new();
    let root = tree.root().join(std::ffi::OsStr::from_bytes(b"caf\xe9 = x"));
    tree::copy(&tree::data("nyud_mini"), &root);
    let set = dataset::open("nyud", &root, "train", &tasks(&["semseg", "depth"])).unwrap();
    set.load(0).unwrap();
    fs::remove_file(root.join("depth/0001.npy")).unwrap();
    assert!(refusal(dataset::open("nyud", &root, "train", &tasks(&["depth"]))).contains("depth/0001.npy"));
}

#[test]
fn ids_that_lead_out_of_the_folder_are_refused() {
    for id in ["../secret", "/etc/passwd", "a/../../b", "a\0b", "..\\b"] {
        let tree = Tree::new();
        tree.describe(&format!("ok\n{id}\n"), SEMSEG);
        let error = refusal(open(tree.root(), &["semseg"]));
        assert!(error.contains("line 2"), "{id:?}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused_unless_allowed() {
    use std::os::unix::fs::symlink;
    let outside = Tree::new();
    outside.write("a.jpg", jpeg(4, 4)).write("labels/a.png", grey(4, 4, &[0; 16]));
    let tree = Tree::new();
    tree.describe("a\n", SEMSEG).write("images/other.jpg", jpeg(4, 4));
    symlink(outside.path("a.jpg"), tree.path("images/a.jpg")).unwrap();
    // A folder that its owner put elsewhere is fine.
    symlink(outside.path("labels"), tree.path("labels")).unwrap();
    let error = refusal(open(tree.root(), &["semseg"]).unwrap().load(0));
    assert!(error.contains("images/a.jpg") && error.contains("follow_links = true"), "{error}");

    let text = fs::read_to_string(tree.path("dataset.toml")).unwrap();
    tree.write("dataset.toml", format!("follow_links = true\n{text}"));
    open(tree.root(), &["semseg"]).unwrap().load(0).unwrap();
}

#[test]
fn unreadable_files_are_named_with_what_they_are() {
    let good = || {
        let tree = Tree::new();
        tree.describe("a\n", SEMSEG)
            .write("images/a.jpg", jpeg(4, 4))
            .write("labels/a.png", grey(4, 4, &[0; 16]));
        tree
    };
    assert!(open(good().root(), &["semseg"]).unwrap().load(0).is_ok());
    let whole = grey(4, 4, &[0; 16]);
    for (file, bytes, expected) in [
        ("images/a.jpg", &b""[..], "empty"),
        ("images/a.jpg", &jpeg(4, 4)[..200], "cut short"),
        ("images/a.jpg", b"GIF89a..", "GIF"),
        ("labels/a.png", b"", "empty"),
        ("labels/a.png", &whole[..whole.len() / 2], "label PNG"),
        ("labels/a.png", &jpeg(4, 4), "a JPEG; expected a PNG"),
    ] {
        let tree = good();
        tree.write(file, bytes);
        let error = refusal(open(tree.root(), &["semseg"]).unwrap().load(0));
        assert!(error.contains(file) && error.contains(expected), "{error}");
    }
    let tree = good();
    fs::remove_file(tree.path("labels/a.png")).unwrap();
    fs::create_dir(tree.path("labels/a.png")).unwrap();
    let error = refusal(open(tree.root(), &["semseg"]).unwrap().load(0));
    assert!(error.contains("no regular file"), "{error}");
}

/// The error of a label in `labels/a.png` beside a picture of 3 × 2.
fn label_refusal(label: Vec<u8>) -> String {
    let tree = Tree::new();
    tree.describe("a\n", SEMSEG).write("images/a.jpg", jpeg(3, 2)).write("labels/a.png", label);
    refusal(open(tree.root(), &["semseg"]).unwrap().load(0))
}

#[test]
fn class_numbers_out_of_range_are_named_by_file_pixel_and_value() {
    let error = label_refusal(grey(3, 2, &[0, 1, 2, 255, 7, 0]));
    assert!(
        error.contains("labels/a.png") && error.contains("(x 1, y 1) is 7") && error.contains("0..=2"),
        "{error}"
    );
    let wide = png(3, 2, ColorType::Grayscale, BitDepth::Sixteen, &[0, 0, 0, 1, 9, 9, 0, 0, 0, 0, 0, 0]);
    assert!(label_refusal(wide).contains("(x 2, y 0) is 2313"));
    for (value, text) in [(0.5, "0.5"), (-1.0, "-1"), (f32::NAN, "NaN"), (1e30, "1000000")] {
        let error = label_refusal(npy("(2, 3)", &[0.0, 0.0, 0.0, value, 0.0, 0.0]));
        assert!(error.contains("(x 0, y 1)") && error.contains(text), "{error}");
    }
}

#[test]
fn colours_that_no_class_has_are_refused() {
    let mut pixels = [1; 18];
    pixels[4] = 200;
    let error = label_refusal(png(3, 2, ColorType::Rgb, BitDepth::Eight, &pixels));
    for part in ["labels/a.png", "x 1, y 0", "(1, 200, 1)", "ignore_colours"] {
        assert!(error.contains(part), "{error}");
    }
    let error = label_refusal(png(3, 2, ColorType::Grayscale, BitDepth::Two, &[0b0001_0000, 0]));
    assert!(error.contains("(x 1, y 0) is 85") && error.contains("`numbers` is \"stored\""), "{error}");
}

#[test]
fn a_label_of_another_size_is_refused_or_resized_on_request() {
    let error = label_refusal(grey(2, 2, &[0; 4]));
    assert!(
        error.contains("2 rows by 2 columns") && error.contains("has 2 by 3") && error.contains("resize"),
        "{error}"
    );
    let tree = Tree::new();
    tree.describe("a\n", &SEMSEG.replace("palette", "resize = true\npalette"));
    tree.write("images/a.jpg", jpeg(4, 2)).write("labels/a.png", grey(2, 1, &[1, 2]));
    let sample = open(tree.root(), &["semseg"]).unwrap().load(0).unwrap();
    assert_eq!(sample.labels[0].1.data, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn pictures_of_any_shape_are_read() {
    for (width, height) in [(1, 1), (1, 4000), (10_000, 8), (33, 31)] {
        let tree = Tree::new();
        tree.describe("a\n", SEMSEG).write("images/a.jpg", jpeg(width, height));
        tree.write("labels/a.png", grey(width, height, &vec![2; (width * height) as usize]));
        let sample = open(tree.root(), &["semseg"]).unwrap().load(0).unwrap();
        assert_eq!((sample.image.width, sample.image.height), (width as usize, height as usize));
        assert!(sample.labels[0].1.data.iter().all(|&v| v == 2.0));
    }
}

#[test]
fn an_all_ignored_label_is_read_as_such() {
    let tree = Tree::new();
    tree.describe("a\n", SEMSEG)
        .write("images/a.jpg", jpeg(3, 2))
        .write("labels/a.png", grey(3, 2, &[255; 6]));
    let sample = open(tree.root(), &["semseg"]).unwrap().load(0).unwrap();
    assert_eq!(sample.labels[0].1.data, [IGNORE; 6]);
}

#[test]
fn an_optional_label_that_is_missing_is_all_ignored() {
    let tree = Tree::new();
    tree.describe("a\nb\n", &SEMSEG.replace("palette", "optional = true\npalette"));
    tree.write("images/a.jpg", jpeg(3, 2))
        .write("images/b.jpg", jpeg(3, 2))
        .write("labels/b.png", grey(3, 2, &[1; 6]));
    let set = open(tree.root(), &["semseg"]).unwrap();
    assert_eq!(set.load(0).unwrap().labels[0].1.data, [IGNORE; 6]);
    assert_eq!(set.load(1).unwrap().labels[0].1.data, [1.0; 6]);
}

#[test]
fn distances_that_are_none_are_ignored_and_the_rest_is_kept() {
    let tree = Tree::new();
    tree.describe("a\n", DEPTH).write("images/a.jpg", jpeg(4, 2));
    let values = [1.5, 0.0, f32::NAN, f32::INFINITY, -2.0, 1e9, 254.0, 0.25];
    tree.write("depth/a.npy", npy("(2, 4)", &values));
    let expected = [1.5, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE, 254.0, 0.25];
    let depth = |root| open(root, &["depth"]).unwrap().load(0).unwrap().labels.remove(0).1.data;
    assert_eq!(depth(tree.root()), expected);
    // Half precision, with infinity and NaN of its own.
    let half: Vec<u8> = [0x3e00u16, 0, 0x7e00, 0x7c00, 0xc000, 0x7bff, 0x5bf0, 0x3400]
        .iter()
        .flat_map(|bits| bits.to_be_bytes())
        .collect();
    tree.write("depth/a.npy", npy_of(">f2", "(2, 4)", &half));
    assert_eq!(depth(tree.root()), expected);
    // A trailing axis of one is common.
    tree.write("depth/a.npy", npy("(2, 4, 1)", &values));
    assert_eq!(depth(tree.root()), expected);
}

#[test]
fn vectors_of_nothing_are_ignored_and_lengths_are_checked() {
    let tree = Tree::new();
    tree.describe("a\n", NORMALS).write("images/a.jpg", jpeg(2, 2));
    let values = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, f32::NAN, 0.0, 1.0, 0.6, 0.0, -0.8];
    tree.write("normals/a.npy", npy("(2, 2, 3)", &values));
    let sample = open(tree.root(), &["normals"]).unwrap().load(0).unwrap();
    let i = IGNORE;
    assert_eq!(sample.labels[0].1.data, [0.0, i, i, 0.6, 0.0, i, i, 0.0, 1.0, i, i, -0.8]);
    // No direction is that long.
    tree.write("normals/a.npy", npy("(2, 2, 3)", &[128.0; 12]));
    let sample = open(tree.root(), &["normals"]).unwrap().load(0).unwrap();
    assert_eq!(sample.labels[0].1.data, [i; 12]);
    tree.write("normals/a.npy", npy("(3, 2, 2)", &[0.5; 12]));
    assert!(refusal(open(tree.root(), &["normals"]).unwrap().load(0)).contains("(height, width, 3)"));
}

#[test]
fn arrays_of_objects_are_refused_in_a_data_set_too() {
    let tree = Tree::new();
    tree.describe("a\n", DEPTH)
        .write("images/a.jpg", jpeg(1, 1))
        .write("depth/a.npy", npy_of("|O", "(1,)", b"\x80"));
    assert!(refusal(open(tree.root(), &["depth"]).unwrap().load(0)).contains("never accepted"));
}

#[test]
fn a_mat_file_of_another_picture_or_with_an_unknown_variable_is_named() {
    let tree = Tree::copy_of("pascal_mini");
    let parts = |tree: &Tree| {
        let set = dataset::open("pascal-context", tree.root(), "train", &tasks(&["human_parts"])).unwrap();
        refusal(set.load(0))
    };
    fs::copy(tree.path("human_parts/2008_000003.mat"), tree.path("human_parts/2008_000001.mat")).unwrap();
    let error = parts(&tree);
    assert!(error.contains("2008_000001.mat") && error.contains("[91, 75]"), "{error}");
    fs::copy(tree.path("pascal-context/trainval/2008_000001.mat"), tree.path("human_parts/2008_000001.mat"))
        .unwrap();
    let error = parts(&tree);
    assert!(error.contains("`anno`") && error.contains("`LabelMap`"), "{error}");
    tree.write(
        "human_parts/2008_000001.mat",
        &fs::read(tree.path("human_parts/2008_000002.mat")).unwrap()[..5000],
    );
    assert!(parts(&tree).contains("MATLAB 5"));
}

#[test]
fn a_copy_of_a_descriptor_in_the_root_takes_the_place_of_the_built_in_one() {
    let tree = Tree::copy_of("nyud_mini");
    let depth = |tree: &Tree| {
        let set = dataset::open("nyud", tree.root(), "train", &tasks(&["depth"])).unwrap();
        set.load(0).unwrap().labels.remove(0).1
    };
    let metres = depth(&tree);
    let mut own = dataset::list().iter().find(|known| known.name == "nyud").unwrap().clone();
    own.tasks.iter_mut().find(|t| t.task == "depth").unwrap().sources[0].encoding =
        tadformer_data::Encoding::Metres(tadformer_data::MetresEncoding {
            scale: 0.002,
            ..Default::default()
        });
    tree.write("dataset.toml", toml::to_string(&own).unwrap());
    for (a, b) in depth(&tree).data.iter().zip(&metres.data) {
        assert!(*b == IGNORE || (a - 2.0 * b).abs() < 1e-5);
    }
    // Another set's descriptor does not.
    tree.write("dataset.toml", toml::to_string(&own).unwrap().replace("\"nyud\"", "\"other\""));
    assert_eq!(depth(&tree), metres);
}

#[test]
fn nothing_is_ever_written_into_the_data_set() {
    fn listing(folder: &std::path::Path, found: &mut Vec<(std::path::PathBuf, u64, std::time::SystemTime)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::metadata(&path).unwrap();
            found.push((path.clone(), meta.len(), meta.modified().unwrap()));
            if meta.is_dir() {
                listing(&path, found);
            }
        }
        found.sort();
    }
    let tree = Tree::copy_of("pascal_mini");
    let all: Vec<Task> = tasks(&["semseg", "human_parts", "sal", "normals", "edge"]);
    let mut before = Vec::new();
    listing(tree.root(), &mut before);
    let set = dataset::open("pascal-context", tree.root(), "train", &all).unwrap();
    for index in 0..set.len() {
        set.load(index).unwrap();
    }
    let descriptor = dataset::descriptor("pascal-context", tree.root()).unwrap();
    tadformer_data::check::check(&descriptor, tree.root(), &[], &[], 20, |_, _, _| {}).unwrap();
    let mut after = Vec::new();
    listing(tree.root(), &mut after);
    assert_eq!(before, after);
}
