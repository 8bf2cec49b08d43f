//! `predict`: pictures of any size, folders, tensors, and what cannot be read among them.

mod program;

use program::{Program, png_size};
use std::path::Path;
use tadformer_data::draw::{Picture, activate};
use tadformer_data::format::npy::Npy;
use tadformer_data::synthetic::{Domain, spec};
use tadformer_data::{LabelKind, Raster, Task, TaskSpec, dataset};
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
    let colours = png_size(&program.read(&format!("maps/{stem}_depth_colour.png")));
    assert_eq!(colours, (width, height), "{stem}");
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
    assert_eq!(program.names("maps").len(), 6 * 9 + 1);

    let arrays = [
        "predict",
        "--run",
        "run",
        "--output",
        "arrays",
        "--input",
        "odd.png",
        "batch.safetensors",
        "--raw",
        "npy",
    ];
    program.succeeds(&arrays);
    for (stem, of) in [("odd", "odd-2"), ("batch", "batch")] {
        let tensors = program.tensors(&format!("maps/{of}.safetensors"));
        for task in MAPS {
            let (array, tensor) =
                (program.path(format!("arrays/{stem}_{task}.npy")), tensors.get(task).unwrap());
            let array = Npy::read(&array).unwrap();
            let shape = if stem == "batch" { tensor.shape() } else { &tensor.shape()[1..] };
            assert_eq!(array.shape, shape, "{stem}: {task}");
            assert_eq!(array.to_f32(), tensor.to_f32(), "{stem}: {task}");
        }
    }
    assert_eq!(program.names("arrays").len(), 8 + 6 + 6);
}

/// A descriptor of the maps in the folder `maps` as labels of the pictures in `pictures`.
fn descriptor(specs: &[TaskSpec]) -> String {
    let mut text = String::from(
        "name = \"predicted\"\ntitle = \"Predicted\"\n[image]\nfiles = [\"pictures/{id}.png\"]\n\
         [splits]\nall = { scan = true }\n",
    );
    for spec in specs {
        let encoding = match spec.task.label {
            LabelKind::Classes => "kind = \"class-ids\"",
            LabelKind::Binary => "kind = \"binary\"",
            LabelKind::UnitVector => "kind = \"vectors\"",
            LabelKind::Metres => "kind = \"metres\", scale = 0.001",
        };
        text += &format!("[[tasks]]\ntask = \"{}\"\n", spec.task);
        if spec.task.label == LabelKind::Classes {
            text += &format!("classes = {:?}\npalette = {:?}\n", spec.classes, spec.palette);
        }
        text += &format!(
            "[[tasks.sources]]\nfile = \"maps/{{id}}_{}.png\"\nencoding = {{ {encoding} }}\n",
            spec.task
        );
    }
    text
}

#[test]
fn predicted_maps_are_labels() {
    let program = Program::trained();
    std::fs::create_dir(program.path("pictures")).unwrap();
    picture(&program.path("pictures/a.png"), 45, 70);
    program.succeeds(&["predict", "--run", "run", "--output", "maps", "--raw", "--input", "pictures"]);
    let specs: Vec<TaskSpec> = Task::all().map(|task| spec(Domain::Main, task).unwrap()).collect();
    std::fs::write(program.path("dataset.toml"), descriptor(&specs)).unwrap();
    let tasks: Vec<Task> = Task::all().collect();
    let sample = dataset::open("folder", &program.path(""), "all", &tasks).unwrap().load(0).unwrap();
    let logits = program.tensors("maps/a.safetensors");
    for task in tasks {
        let tensor = logits.get(task.name).unwrap();
        let channels = tensor.shape()[1];
        let expected =
            activate(task, &Raster { channels, height: 70, width: 45, data: tensor.to_f32() }).unwrap();
        let label = sample.label(task).unwrap();
        assert_eq!((label.channels, label.height, label.width), (expected.channels, 70, 45), "{task}");
        for (i, (found, expected)) in label.data.iter().zip(&expected.data).enumerate() {
            let fits = match task.label {
                LabelKind::Classes => found == expected,
                LabelKind::Binary => *found == f32::from(u8::from((expected * 255.0).round() > 127.5)),
                LabelKind::UnitVector => (found - expected).abs() < 1.01 / 255.0,
                // Nothing is nearer than half a millimetre, and 255 stands for no label.
                LabelKind::Metres => {
                    (found - expected).abs() < 5.1e-4 || *expected < 5.1e-4 && *found == 255.0
                }
            };
            assert!(fits, "{task}, number {i}: {found}, expected {expected}");
        }
    }
}

/// The most memory that the program had in use while it predicted `input`, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory(program: &Program, input: &str) -> u64 {
    let args = ["predict", "--run", "run", "--output", "maps", "--input", input];
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("tadformer-cli"));
    command.current_dir(program.path("")).args(args).stdout(std::process::Stdio::null());
    #[expect(clippy::zombie_processes, reason = "it is waited for below, by the call that tells its memory")]
    let child = command.spawn().unwrap();
    // SAFETY: plain numbers, all of which may be zero.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: the child is waited for once, and both places are valid for writing.
    let waited = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage) };
    assert_eq!((waited, status), (child.id() as i32, 0), "{input}");
    usage.ru_maxrss as u64 * 1024
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_a_large_picture_is_that_of_the_picture_alone() {
    let program = Program::trained();
    Picture::filled(8, 8, [9; 3]).save_png(program.path("small.png")).unwrap();
    let (height, width) = (1500, 2000);
    Picture::filled(height, width, [90, 120, 200]).save_png(program.path("large.png")).unwrap();
    let (small, large) = (peak_memory(&program, "small.png"), peak_memory(&program, "large.png"));
    // The picture itself, twice while it is decoded; strips and panel are of bounded size. Whole maps of the six tasks
    // would be 34 numbers a pixel, 400 MB.
    let bound = 6 * (height * width) as u64 + (130 << 20);
    assert!(large < small + bound, "{} MB beside {} MB", large >> 20, small >> 20);
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
        .refuses(&args, &["cut short", "expected JPEG, PNG, WebP", "has no tensor `image`, only `picture`"]);
    let lines: Vec<&str> = said.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 9, "{}", said.err);
    for (line, input) in lines.iter().zip(inputs) {
        assert!(line.contains(&format!("`{input}`")), "{input}: {line}");
    }
    for line in &lines[6..] {
        assert!(line.contains("expected (b, 3, h, w)"), "{line}");
    }
    assert!(said.out.contains("1 of 10 inputs"), "{}", said.out);
    assert_eq!(program.names("maps").len(), 8);
    assert_eq!(png_size(&program.read("maps/good_semseg.png")), (30, 20));
}

#[test]
fn a_tensor_with_numbers_that_are_not_finite_gives_no_logits() {
    let program = Program::trained();
    let mut values = vec![0.5; 3 * 32 * 32];
    (values[1024 + 35], values[2048]) = (f32::NAN, f32::INFINITY);
    let mut file = StateDict::new();
    file.insert(Tensor::from_f32("image", vec![1, 3, 32, 32], &values).unwrap()).unwrap();
    file.write_safetensors(program.path("bad.safetensors")).unwrap();
    let args = ["predict", "--run", "run", "--output", "maps", "--input", "bad.safetensors"];
    let found = "2 of the 3072 numbers of `image` are not finite in f32, the first is NaN at [0, 1, 1, 3]";
    program.refuses(&args, &["`bad.safetensors`", found]);
    assert_eq!(program.names("maps"), [""; 0]);
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
