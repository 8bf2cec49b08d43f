//! BSDS500 in miniature: two people's outlines of a picture of 2 × 3.

mod tree;

use tadformer_data::{annotators, check, dataset};
use tree::{Tree, jpeg, mat, mat_element, mat_matrix, refusal, tasks};

const HEIGHT: u32 = 2;
const WIDTH: u32 = 3;

/// `groundTruth` with a cell for each of the drawings, which stand rows first.
fn truth(drawings: &[[u8; 6]], field: &str) -> Vec<u8> {
    let cells = drawings.iter().map(|drawn| {
        let columns: Vec<u8> = (0..6).map(|i| drawn[i % 2 * 3 + i / 2]).collect();
        let matrix = mat_matrix(9, [HEIGHT, WIDTH], "", &mat_element(2, &columns));
        let mut name = field.as_bytes().to_vec();
        name.resize(32, 0);
        let fields = [mat_element(5, &32u32.to_le_bytes()), mat_element(1, &name), matrix];
        mat_matrix(2, [1, 1], "", &fields.concat())
    });
    mat(&mat_matrix(1, [1, drawings.len() as u32], "groundTruth", &cells.collect::<Vec<_>>().concat()))
}

fn set(truth: Vec<u8>) -> Tree {
    let tree = Tree::new();
    tree.write("images/train/2092.jpg", jpeg(WIDTH, HEIGHT))
        .write("images/train/Thumbs.db", "what a file manager left")
        .write("groundTruth/train/2092.mat", truth);
    tree
}

#[test]
fn every_annotator_s_outlines_are_read() {
    let (one, two) = ([1, 0, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0]);
    let tree = set(truth(&[one, two], "Boundaries"));
    let set = dataset::open("bsds500", tree.root(), "train", &tasks(&["edge"])).unwrap();
    let sample = set.load(0).unwrap();
    assert_eq!(sample.id, "2092");
    let label = &sample.labels[0].1;
    // To whoever does not ask who drew it, it is an edge if anybody did.
    assert_eq!(
        label.data.iter().map(|&v| v > 0.5).collect::<Vec<_>>(),
        [true, true, false, true, false, false]
    );
    let apart = annotators::apart(label);
    assert_eq!((apart.channels, apart.height, apart.width), (2, 2, 3));
    assert_eq!(apart.plane(0), one.map(f32::from));
    assert_eq!(apart.plane(1), two.map(f32::from));

    let descriptor = dataset::descriptor("bsds500", tree.root()).unwrap();
    let report = check::check(&descriptor, tree.root(), &["train"], &[], 20, |_, _, _| {}).unwrap();
    assert_eq!(report.problem_count(), 0, "{report}");
    assert!(
        report.to_string().contains("1 files beside the pictures were passed over: `images/train/Thumbs.db`"),
        "{report}"
    );
    let classes = &report.splits[0].tasks[0].classes;
    assert_eq!((classes[0].pixels, classes[1].pixels), (3, 3));
}

#[test]
fn files_that_are_laid_out_otherwise_are_refused_by_what_they_lack() {
    let load = |truth| {
        let tree = set(truth);
        let set = dataset::open("bsds500", tree.root(), "train", &tasks(&["edge"])).unwrap();
        refusal(set.load(0))
    };
    let error = load(truth(&[[0; 6]], "Segmentation"));
    assert!(error.contains("cell 1") && error.contains("`Boundaries`"), "{error}");
    let error = load(mat(&mat_matrix(9, [1, 1], "groundTruth", &mat_element(2, &[7]))));
    assert!(error.contains("numeric") && error.contains("cell array"), "{error}");
    let error = load(truth(&[[0; 6]; 17], "Boundaries"));
    assert!(error.contains("17 annotators"), "{error}");
    let error = load(truth(&[], "Boundaries"));
    assert!(error.contains("0 annotators"), "{error}");
}
