//! `predict`: pictures of any size, folders, tensors, and what cannot be read among them.

mod program;

use program::{Program, png_size};
use std::path::Path;
use tadformer_data::draw::Picture;
use tadformer_weights::{StateDict, Tensor};

/// Outputs of every task.
const OUTPUTS: [(&str, usize); 4] = [("human_parts", 7), ("normals", 3), ("sal", 1), ("depth", 1)];
const MAPS: [&str; 6] = ["depth", "edge", "human_parts", "normals", "sal", "semseg"];

/// A picture with some structure.
fn picture(path: &Path, width: usize, height: usize) {
    let mut picture = Picture::filled(height, width, [90, 120, 200]);
    for y in 0..height {
        for x in 0..width {
            picture.set(y, x, [(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x + y) % 256) as u8]);
        }
    }
    picture.save_png(path).unwrap();
}

/// A file with one tensor of this name and shape.
fn tensor(path: &Path, name: &str, shape: &[usize]) {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 17) as f32 / 8.0 - 1.0).collect();
    let mut file = StateDict::new();
    file.insert(Tensor::from_f32(name, shape.to_vec(), &values).unwrap()).unwrap();
    file.write_safetensors(path).unwrap();
}

/// Checks the maps of a picture and its logits.
#[track_caller]
fn assert_maps(program: &Program, stem: &str, width: u32, height: u32) {
    for task in MAPS {
        let size = png_size(&program.read(&format!("maps/{stem}_{task}.png")));
        assert_eq!(size, (width, height), "{stem}: {task}");
    }
    let panel = png_size(&program.read(&format!("maps/{stem}_panel.png")));
    assert!(panel.0 > width && panel.1 > height, "{stem}: the panel is {panel:?}");
    assert_logits(program, stem, 1, width as usize, height as usize);
}

#[track_caller]
fn assert_logits(program: &Program, stem: &str, batch: usize, width: usize, height: usize) {
    let logits = program.tensors(&format!("maps/{stem}.safetensors"));
    assert_eq!(logits.len(), MAPS.len(), "{stem}");
    for (task, outputs) in OUTPUTS {
        let tensor = logits.get(task).unwrap();
        assert_eq!(tensor.shape(), [batch, outputs, height, width], "{stem}: {task}");
        assert!(tensor.to_f32().iter().all(|x| x.is_finite()), "{stem}: {task}");
    }
}

#[test]
fn maps_have_the_size_of_their_picture() {
    let program = Program::trained();
    program.copy_of_data("pascal_mini");
    std::fs::create_dir(program.path("folder")).unwrap();
    let sizes = [("odd", 50, 37), ("point", 1, 1), ("high", 5, 300), ("wide", 300, 5)];
    for (stem, width, height) in sizes {
        picture(&program.path(format!("folder/{stem}.png")), width as usize, height as usize);
    }
    std::fs::write(program.path("folder/notes.txt"), "not a picture").unwrap();
    tensor(&program.path("batch.safetensors"), "image", &[2, 3, 40, 56]);
    picture(&program.path("odd.png"), 20, 10);

    let jpeg = "pascal_mini/JPEGImages/2008_000003.jpg";
    let said = program.succeeds(&[
        "predict",
        "--run",
        "run",
        "--output",
        "maps",
        "--raw",
        "--input",
        "folder",
        jpeg,
        "batch.safetensors",
        "odd.png",
    ]);
    assert!(said.out.contains("7 of 7 inputs"), "{}", said.out);
    for (stem, width, height) in sizes {
        assert_maps(&program, stem, width, height);
    }
    assert_maps(&program, "2008_000003", 75, 91);
    // A second input of the same name does not overwrite the first.
    assert_maps(&program, "odd-2", 20, 10);
    assert_logits(&program, "batch", 2, 56, 40);
    assert_eq!(program.names("maps").len(), 6 * 8 + 1);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_done() {
    let program = Program::trained();
    program.copy_of_data("pascal_mini");
    program.truncate("pascal_mini/JPEGImages/2008_000001.jpg", 700);
    picture(&program.path("cut.png"), 64, 64);
    program.truncate("cut.png", 100);
    picture(&program.path("good.png"), 30, 20);
    std::fs::write(program.path("words.png"), "no picture").unwrap();
    std::fs::write(program.path("empty.jpg"), "").unwrap();
    tensor(&program.path("other.safetensors"), "picture", &[1, 3, 8, 8]);
    tensor(&program.path("flat.safetensors"), "image", &[3, 8, 8]);
    tensor(&program.path("grey.safetensors"), "image", &[1, 1, 8, 8]);
    tensor(&program.path("none.safetensors"), "image", &[1, 3, 0, 8]);
    let inputs = [
        "pascal_mini/JPEGImages/2008_000001.jpg",
        "cut.png",
        "words.png",
        "empty.jpg",
        "missing.jpg",
        "other.safetensors",
        "flat.safetensors",
        "grey.safetensors",
        "none.safetensors",
        "good.png",
    ];
    let args = [["predict", "--run", "run", "--output", "maps", "--input"].as_slice(), &inputs].concat();
    let said = program
        .refuses(&args, &["cut short", "expected JPEG or PNG", "has no tensor `image`, only `picture`"]);
    let lines: Vec<&str> = said.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 9, "{}", said.err);
    for (line, input) in lines.iter().zip(inputs) {
        assert!(line.contains(&format!("`{input}`")), "{input}: {line}");
    }
    for line in &lines[6..] {
        assert!(line.contains("expected (b, 3, h, w)"), "{line}");
    }
    assert!(said.out.contains("1 of 10 inputs"), "{}", said.out);
    assert_eq!(program.names("maps").len(), 7);
    assert_eq!(png_size(&program.read("maps/good_semseg.png")), (30, 20));
}

#[test]
fn a_folder_without_pictures_is_refused() {
    let program = Program::trained();
    std::fs::create_dir(program.path("empty")).unwrap();
    program.refuses(
        &["predict", "--run", "run", "--output", "maps", "--input", "empty"],
        &["no picture in `empty`", ".png"],
    );
}
