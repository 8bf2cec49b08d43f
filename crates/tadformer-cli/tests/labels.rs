//! Labels that teach nothing: refused or warned of before training starts, and never a number where there is no score.

mod program;

use program::{Program, TINY};
use serde_json::Value;
use std::fs;
use tadformer_data::draw::Picture;

const SIDE: usize = 32;

/// A `.npy` of one number a pixel.
fn npy(number: impl Fn(usize) -> f32) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({SIDE}, {SIDE}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend((0..SIDE * SIDE).flat_map(|pixel| number(pixel).to_le_bytes()));
    bytes
}

/// A folder `set` of four samples to learn from and two to be measured on: masks of 0 and 255 and distances of 2000 to
/// 4000, which the samples to be measured on lack.
fn program(semseg: &str, depth: &str) -> Program {
    let program = Program::new();
    for folder in ["photos", "masks", "depth"] {
        fs::create_dir_all(program.path("set").join(folder)).unwrap();
    }
    let write = |name: String, bytes: Vec<u8>| fs::write(program.path("set").join(name), bytes).unwrap();
    for id in 0..6 {
        let photo = program.path("set").join(format!("photos/{id}.png"));
        Picture::filled(SIDE, SIDE, [40 * id, 90, 120]).save_png(photo).unwrap();
        write(format!("masks/{id}.npy"), npy(|pixel| if pixel % 8 == 0 { 255.0 } else { 0.0 }));
        if id < 4 {
            write(format!("depth/{id}.npy"), npy(|pixel| 2000.0 + (pixel % 2001) as f32));
        }
    }
    write("train.txt".into(), b"0\n1\n2\n3\n".to_vec());
    write("val.txt".into(), b"4\n5\n".to_vec());
    let text = format!(
        "name = \"mine\"\ntitle = \"mine\"\n[image]\nfiles = [\"photos/{{id}}.png\"]\n[splits]\n\
         train = {{ list = \"train.txt\" }}\nval = {{ list = \"val.txt\" }}\n\
         [[tasks]]\ntask = \"semseg\"\nclasses = [\"ground\", \"crack\"]\npalette = [[0, 0, 0], [255, 0, 0]]\n\
         [[tasks.sources]]\nfile = \"masks/{{id}}.npy\"\nencoding = {{ kind = \"class-ids\"{semseg} }}\n\
         [[tasks]]\ntask = \"depth\"\noptional = true\n[[tasks.sources]]\nfile = \"depth/{{id}}.npy\"\n\
         encoding = {{ kind = \"metres\"{depth} }}\n"
    );
    write("dataset.toml".into(), text.into_bytes());
    program
}

const FINETUNE: [&str; 12] = [
    "finetune", "--config", TINY, "--data", "folder", "--root", "set", "--output", "run", "--epochs", "1",
    "--tasks",
];

#[test]
fn a_task_without_labels_is_refused_before_anything_is_made() {
    let program = program(", ids = [0, 255]", "");
    let args = [FINETUNE.as_slice(), &["semseg,depth"]].concat();
    let said = program.refuses(
        &args,
        &[
            "task `depth` has nothing to learn from",
            "in 4 of 4 samples",
            "split `train`",
            "2000 to",
            "`scale = 0.001`",
        ],
    );
    assert!(!said.err.contains("`semseg`"), "{}", said.err);
    assert!(!program.path("run").exists());
    let check = ["data", "check", "--data", "folder", "--root", "set"];
    let report = program.command(&check).assert().code(1).get_output().stdout.clone();
    let report = String::from_utf8(report).unwrap();
    assert!(report.contains("problem: depth: ") && report.contains("`scale = 0.001`"), "{report}");
    // The other task can be learnt.
    program.succeeds(&[FINETUNE.as_slice(), &["semseg"]].concat());
}

#[test]
fn an_empty_class_is_warned_of_and_what_has_no_score_is_shown_as_such() {
    let program = program("", ", scale = 0.001");
    let said = program.succeeds(&[FINETUNE.as_slice(), &["semseg,depth"]].concat());
    for part in [
        "warning: `semseg`: no pixel of crack in 4 of 4 samples",
        "12.500 % of the pixels hold 255",
        "`ids = [0, 255]` and `ignore = []`",
        "warning: `depth` cannot be scored: looked at in 2 of 2 samples of split `val`",
    ] {
        assert!(said.err.contains(part), "`{part}` is not in {}", said.err);
    }
    assert!(said.out.contains("| depth | rmse (m) ↓ | – | – | – | – | – |"), "{}", said.out);
    let table = program.succeeds(&["eval", "--run", "run"]).out;
    assert!(table.contains("| depth | rmse | – (nothing labelled) |"), "{table}");
    for text in [&said.out, &said.err, &table, &program.text("run/metrics.md")] {
        assert!(!text.contains("NaN"), "{text}");
    }
    let scores: Value =
        serde_json::from_str(&program.succeeds(&["eval", "--run", "run", "--json"]).out).unwrap();
    assert_eq!(scores["depth"]["rmse"]["value"], Value::Null);
}
