//! What is asked for and cannot be: every message names what and where, and nothing is left behind.

mod program;

use program::{Program, SMALL, TINY};
use std::fs;
use tadformer_weights::{StateDict, Tensor};

/// Tries to train, which must be refused without leaving a run.
#[track_caller]
fn assert_refused(program: &Program, args: &[&str], parts: &[&str]) {
    let args = [["finetune", "--output", "new"].as_slice(), args].concat();
    program.refuses(&args, parts);
    assert!(!program.path("new").exists(), "{args:?} left a folder");
}

#[test]
fn settings_that_cannot_be_are_named_and_no_run_is_left() {
    let program = Program::new();
    let cases: [(&[&str], &[&str]); 21] = [
        (&["--set", "train.batchsize=3"], &["--set train.batchsize=3", "`batch_size`"]),
        (&["--set", "trian.epochs=3"], &["--set trian.epochs=3", "`train`"]),
        (&["--set", "train.epochs=many"], &["--set train.epochs=many", "expected"]),
        (&["--set", "data.size=[32]"], &["--set data.size=[32]", "length 1"]),
        (&["--set", "data.size=[0,32]"], &["data.size[0]", "16 to 8192"]),
        (&["--set", "seed"], &["--set seed", "expected `key=value`"]),
        (&["--set", "model.backbone.num_heads=[3,2,4,8]"], &["model.backbone", "heads"]),
        (
            &["--set", "model.method=tadfromer"],
            &["`--set model.method=tadfromer`", "did you mean `tadformer`?"],
        ),
        (&["--seed", "-1"], &["`--seed -1`", "expected"]),
        (&["--epochs", "-1"], &["`--epochs -1`", "expected"]),
        (&["--set", "seed=-1"], &["`--set seed=-1`", "expected"]),
        (
            &["--set", "train.batch_size=0"],
            &["configuration: `--set train.batch_size=0`: `train.batch_size` is 0"],
        ),
        (&["--data", "cityscape"], &["did you mean `cityscapes`?"]),
        (&["--rank", "0"], &["configuration: `--rank 0`: `model.adaptation.rank`", "is 0"]),
        (&["--rank", "1000"], &["model.adaptation.rank", "is 1000"]),
        (&["--batch-size", "0"], &["train.batch_size", "is 0"]),
        (&["--tasks", "semseg,segsem"], &["`segsem`", "`human_parts`", "did you mean `semseg`?"]),
        (&["--tasks", "sal,sal"], &["`sal` a second time"]),
        (&["--backbone", "swin-huge"], &["`swin-huge`", "`swin-tiny`"]),
        (&["--weights", "nowhere.pth"], &["nowhere.pth"]),
        (&["--data", "imagenet"], &["imagenet"]),
    ];
    for (args, parts) in cases {
        assert_refused(&program, &[["--config", TINY].as_slice(), args].concat(), parts);
    }
    assert_refused(&program, &["--config", "missing.toml"], &["`missing.toml`"]);
    for (text, parts) in [
        ("[train]\nepoch = 3\n", ["mine.toml", "line 2", "`epoch`"]),
        ("[train]\nepochs = \"x\"\n", ["mine.toml", "line 2", "string"]),
        ("[train\n", ["mine.toml", "line 1", "]"]),
    ] {
        fs::write(program.path("mine.toml"), text).unwrap();
        assert_refused(&program, &["--config", "mine.toml"], &parts);
    }
    assert!(!program.path("runs").exists());
}

#[test]
fn a_very_long_line_is_not_echoed_whole() {
    let program = Program::new();
    let long = "x".repeat(100_000);
    fs::write(program.path("long.toml"), format!("[train]\nepochs = \"{long}\"\n")).unwrap();
    let set = format!("train.epochs={long}");
    for args in [["--config", "long.toml"], ["--set", &set], ["--tasks", &long], ["--backbone", &long]] {
        let said = program.refuses(&["finetune", "--output", "new", args[0], args[1]], &[]);
        assert!(said.err.len() < 3000, "{}: {} bytes", args[0], said.err.len());
    }
}

#[cfg(unix)]
#[test]
fn a_folder_whose_name_is_not_utf8_is_refused_by_its_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let program = Program::new();
    program.copy_of_data("pascal_mini");
    let name = OsStr::from_bytes(b"pascal\xff");
    fs::rename(program.path("pascal_mini"), program.path(name)).unwrap();
    let mut command = program.command(&["finetune", "--data", "pascal-context", "--output", "new", "--root"]);
    let said = command.arg(name).output().unwrap();
    let err = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(1), "{err}");
    assert!(err.contains("`--root pascal") && err.contains("not UTF-8") && err.contains("rename"), "{err}");
    assert!(!program.path("new").exists());
    // What writes no configuration takes the folder as it is.
    program.command(&["data", "check", "--data", "pascal-context", "--root"]).arg(name).assert().success();
}

#[test]
fn weights_that_are_no_swin_are_refused_and_no_run_is_left() {
    let program = Program::new();
    let train = |weights: &'static str| ["--config", TINY, "--weights", weights];
    fs::write(program.path("words.pth"), "no weights").unwrap();
    assert_refused(&program, &train("words.pth"), &["`words.pth`"]);

    let mut file = StateDict::new();
    file.insert(Tensor::from_f32("conv1.weight", vec![4, 3, 1, 1], &[0.5; 12]).unwrap()).unwrap();
    file.write_safetensors(program.path("resnet.safetensors")).unwrap();
    assert_refused(&program, &train("resnet.safetensors"), &["resnet.safetensors"]);
    program.truncate("resnet.safetensors", 60);
    assert_refused(&program, &train("resnet.safetensors"), &["resnet.safetensors"]);
}

#[test]
fn data_that_is_not_there_is_named_and_no_run_is_left() {
    let program = Program::new();
    let data =
        |root: &'static str| [["--data", "pascal-context", "--root", root].as_slice(), &SMALL].concat();
    assert_refused(&program, &data("nowhere"), &["pascal-context", "`nowhere`", "JPEGImages"]);
    let without = [["--data", "pascal-context"].as_slice(), &SMALL].concat();
    assert_refused(&program, &without, &["pascal-context", "--root"]);
    program.copy_of_data("pascal_mini");
    let depth = [data("pascal_mini").as_slice(), &["--tasks", "semseg,depth"]].concat();
    assert_refused(&program, &depth, &["`pascal-context`", "`depth`", "semseg"]);
    fs::remove_file(program.path("pascal_mini/sal_distill/2008_000003.png")).unwrap();
    assert_refused(&program, &data("pascal_mini"), &["sal_distill/2008_000003.png", "data check"]);
}

#[test]
fn damaged_files_stop_training_with_their_name() {
    for (name, bytes) in [
        ("JPEGImages/2008_000002.jpg", 900),
        ("semseg/VOC12/2008_000002.png", 200),
        ("human_parts/2008_000002.mat", 300),
        ("sal_distill/2010_000101.png", 60),
        ("normals_distill/2008_000001.png", 600),
    ] {
        let program = Program::new();
        program.copy_of_data("pascal_mini");
        program.truncate(&format!("pascal_mini/{name}"), bytes);
        let args = ["finetune", "--data", "pascal-context", "--root", "pascal_mini", "--epochs", "1"];
        program.refuses(
            &[args.as_slice(), &SMALL].concat(),
            &[name, name.split(['/', '.']).nth_back(1).unwrap()],
        );
        let check = ["data", "check", "--data", "pascal-context", "--root", "pascal_mini"];
        let report = program.command(&check).assert().failure().get_output().stdout.clone();
        assert!(String::from_utf8(report).unwrap().contains(name), "`data check` does not name {name}");
    }
}

#[test]
fn a_class_out_of_range_is_named() {
    let program = Program::new();
    program.copy_of_data("pascal_mini");
    // A grey picture's bytes are class ids; 90 is none.
    tadformer_data::draw::Picture::filled(60, 80, [90; 3])
        .save_png(program.path("pascal_mini/semseg/VOC12/2008_000002.png"))
        .unwrap();
    let args = ["finetune", "--data", "pascal-context", "--root", "pascal_mini", "--epochs", "1"];
    program.refuses(&[args.as_slice(), &SMALL].concat(), &["semseg/VOC12/2008_000002.png"]);
}

#[test]
fn runs_that_are_none_are_refused() {
    let program = Program::trained();
    program.refuses(
        &["finetune", "--config", TINY, "--output", "run"],
        &["`run`", "already holds a run", "--resume"],
    );
    fs::create_dir_all(program.path("bare/checkpoints")).unwrap();
    let commands = |run: &'static str| -> [Vec<&str>; 3] {
        [
            vec!["eval", "--run", run],
            vec!["finetune", "--resume", run],
            vec!["predict", "--run", run, "--output", "maps", "--input", "run/panels"],
        ]
    };
    for command in commands("bare") {
        program.refuses(&command, &["`bare`", "config.toml"]);
    }
    fs::copy(program.path("run/config.toml"), program.path("bare/config.toml")).unwrap();
    for command in commands("bare") {
        program.refuses(&command, &["bare/checkpoints/last.safetensors"]);
    }
    let whole = program.read("run/checkpoints/best.safetensors");
    let mut flipped = whole.clone();
    flipped[40] ^= 0xff;
    let cases = [&whole[..whole.len() / 2], &whole[..5], &whole[..0], &flipped];
    for damaged in cases {
        for kind in ["best", "last"] {
            fs::write(program.path(format!("bare/checkpoints/{kind}.safetensors")), damaged).unwrap();
        }
        for command in commands("bare") {
            program.refuses(&command, &["bare/checkpoints/"]);
        }
    }
    assert!(!program.path("maps").exists());
}

#[test]
fn a_checkpoint_of_another_model_is_refused_with_its_name() {
    let program = Program::trained();
    for change in ["model.adaptation.rank=5", "model.method=full", "data.tasks=[\"semseg\"]"] {
        program.refuses(
            &["eval", "--run", "run", "--set", change],
            &["run/checkpoints/best.safetensors", "of another model"],
        );
    }
}
