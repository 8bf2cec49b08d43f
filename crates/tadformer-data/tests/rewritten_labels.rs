//! Label maps that a lossless optimiser or a converter has rewritten: the same classes, or a problem.
//!
//! The forms are those that oxipng 9.1 gives (`findings/png-optimisers-and-labels.sh`).

mod tree;

use png::{BitDepth, ColorType};
use tadformer_data::check::{Report, check};
use tadformer_data::{IGNORE, dataset};
use tree::{Tree, grey, jpeg, open, palette, png};

const ROOMS: &str = "[[tasks]]\ntask = \"semseg\"\nclasses = [\"floor\", \"wall\", \"chair\"]\n\
                     palette = [[128, 64, 0], [200, 200, 200], [0, 128, 0]]\n[[tasks.sources]]\n\
                     file = \"labels/{id}.png\"\nencoding = { kind = \"class-ids\" }\n";

const FLOOR: [u8; 3] = [128, 64, 0];
const WALL: [u8; 3] = [200, 200, 200];
const CHAIR: [u8; 3] = [0, 128, 0];

/// A set of pictures of 4 × 1 with these labels, and what a check says of it.
fn rooms(descriptor: &str, labels: &[Vec<u8>]) -> (Tree, Report) {
    let tree = Tree::new();
    let ids: Vec<String> = (0..labels.len()).map(|i| format!("r{i}")).collect();
    tree.describe(&ids.join("\n"), descriptor);
    for (id, label) in ids.iter().zip(labels) {
        tree.write(&format!("images/{id}.jpg"), jpeg(4, 1)).write(&format!("labels/{id}.png"), label);
    }
    let described = dataset::descriptor("mine", tree.root()).unwrap();
    let report = check(&described, tree.root(), &[], &[], 20, |_, _, _| {}).unwrap();
    (tree, report)
}

fn labels(tree: &Tree) -> Vec<Vec<f32>> {
    let set = open(tree.root(), &["semseg"]).unwrap();
    (0..set.len()).map(|i| set.load(i).unwrap().labels.remove(0).1.data).collect()
}

#[test]
fn rewritten_grey_masks_keep_their_classes_and_the_check_says_what_it_saw() {
    let rewritten = [
        grey(4, 1, &[0, 1, 2, 255]),
        palette(4, 1, &[[0; 3], [1; 3], [255; 3]], &[0, 1, 2, 2]),
        png(4, 1, ColorType::Grayscale, BitDepth::One, &[0b0101_0000]),
    ];
    let (tree, report) = rooms(ROOMS, &rewritten);
    assert_eq!(
        labels(&tree),
        [vec![0.0, 1.0, 2.0, IGNORE], vec![0.0, 1.0, IGNORE, IGNORE], vec![0.0, IGNORE, 0.0, IGNORE]]
    );
    assert_eq!(report.problem_count(), 0, "{report}");
    let text = report.to_string();
    for part in [
        "1 grey of 8 bits (first `r0`)",
        "1 palette of greys",
        "(first `r1`)",
        "1 grey of 1 bit, whose samples are taken for levels of 8 bits",
        "(first `r2`)",
        "different ways in one set",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn masks_of_a_bit_that_people_write_are_remarked_on_and_can_be_read() {
    let mask = || png(4, 1, ColorType::Grayscale, BitDepth::One, &[0b0101_0000]);
    let (_, report) = rooms(ROOMS, &[mask(), mask()]);
    assert!(report.to_string().contains("`numbers = \"stored\"` takes them as they are"), "{report}");
    let stored = ROOMS.replace("\"class-ids\"", "\"class-ids\", numbers = \"stored\"");
    let (tree, report) = rooms(&stored, &[mask()]);
    assert_eq!(labels(&tree), [[0.0, 1.0, 0.0, 1.0]]);
    assert!(!report.to_string().contains("stored as"), "{report}");
}

#[test]
fn a_palette_that_lost_its_unused_colours_is_a_problem_with_a_way_out() {
    let whole = || palette(4, 1, &[FLOOR, WALL, CHAIR], &[0, 1, 2, 0]);
    let lost = || palette(4, 1, &[FLOOR, CHAIR], &[0, 1, 1, 0]);
    let (tree, report) = rooms(ROOMS, &[whole(), lost()]);
    assert_eq!(report.problem_count(), 1, "{report}");
    let text = report.to_string();
    for part in ["`r1`", "palette index 1", "class 1", "that of class 2", "numbers = \"colours\""] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    assert!(open(tree.root(), &["semseg"]).unwrap().load(1).is_err(), "it does not train either");
    let by_colour = ROOMS.replace("\"class-ids\"", "\"class-ids\", numbers = \"colours\"");
    let (tree, report) = rooms(&by_colour, &[whole(), lost()]);
    assert_eq!(report.problem_count(), 0, "{report}");
    assert_eq!(labels(&tree), [[0.0, 1.0, 2.0, 0.0], [0.0, 2.0, 2.0, 0.0]]);
}

#[test]
fn palettes_of_colours_that_nobody_knows_must_agree_among_themselves() {
    let (red, green, blue) = ([9, 0, 0], [0, 9, 0], [0, 0, 9]);
    let whole = || palette(4, 1, &[red, green, blue], &[0, 1, 2, 0]);
    let (tree, report) = rooms(ROOMS, &[whole(), whole()]);
    assert_eq!(report.problem_count(), 0, "{report}");
    assert_eq!(labels(&tree)[0], [0.0, 1.0, 2.0, 0.0]);
    let (_, report) = rooms(ROOMS, &[whole(), palette(4, 1, &[red, blue], &[0, 1, 1, 0])]);
    assert_eq!(report.problem_count(), 1, "{report}");
    assert!(
        report.to_string().contains("`r1`: palette index 1 has the colour (0, 0, 9), in `r0` (0, 9, 0)"),
        "{report}"
    );
}

#[test]
fn masks_in_palette_colours_and_in_equal_channels_are_read() {
    let colours = [FLOOR, CHAIR, [1, 2, 3], WALL].concat();
    let ignoring = ROOMS.replace("\"class-ids\"", "\"class-ids\", ignore_colours = [[1, 2, 3]]");
    let alpha: Vec<u8> = [0, 1, 2, 255].iter().flat_map(|&v| [v, v, v, 9]).collect();
    let (tree, report) = rooms(
        &ignoring,
        &[
            png(4, 1, ColorType::Rgb, BitDepth::Eight, &colours),
            png(4, 1, ColorType::Rgba, BitDepth::Eight, &alpha),
        ],
    );
    assert_eq!(report.problem_count(), 0, "{report}");
    assert_eq!(labels(&tree), [[0.0, 2.0, IGNORE, 1.0], [0.0, 1.0, 2.0, IGNORE]]);
}

#[test]
fn binary_maps_go_by_what_their_pixels_show() {
    let saliency = "[[tasks]]\ntask = \"sal\"\n[[tasks.sources]]\nfile = \"labels/{id}.png\"\n\
                    encoding = { kind = \"binary\", full = 255.0 }\n";
    let files = [
        grey(4, 1, &[0, 255, 0, 255]),
        png(4, 1, ColorType::Grayscale, BitDepth::One, &[0b0101_0000]),
        palette(4, 1, &[[255; 3], [0; 3]], &[1, 0, 1, 0]),
    ];
    let (tree, report) = rooms(saliency, &files);
    assert_eq!(report.problem_count(), 0, "{report}");
    let set = open(tree.root(), &["sal"]).unwrap();
    for i in 0..files.len() {
        assert_eq!(set.load(i).unwrap().labels[0].1.data, [0.0, 1.0, 0.0, 1.0], "file {i}");
    }
    let (_, report) = rooms(saliency, &[palette(4, 1, &[[0; 3], CHAIR], &[0, 1, 0, 1])]);
    assert!(report.to_string().contains("(0, 128, 0); expected levels of grey"), "{report}");
}
