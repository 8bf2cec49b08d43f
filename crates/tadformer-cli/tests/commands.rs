//! `params`, `data`, the help of every command, and a published data set from its folder to maps.

mod program;

use program::{Program, SMALL};
use serde_json::Value;

#[test]
fn params_gives_the_published_totals() {
    let program = Program::new();
    for (rank, trainable) in [("16", 3_557_502), ("32", 4_776_126), ("64", 7_379_262)] {
        let args = [
            "params",
            "--backbone",
            "swin-tiny",
            "--tasks",
            "semseg,normals,sal,human_parts",
            "--rank",
            rank,
        ];
        let said = program.succeeds(&[args.as_slice(), &["--json"]].concat());
        let count: Value = serde_json::from_str(&said.out).unwrap();
        let keys: Vec<_> = count.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["groups", "total", "trainable"]);
        assert_eq!(count["trainable"], trainable, "rank {rank}");
        let groups: i64 = count["groups"].as_object().unwrap().values().map(|n| n.as_i64().unwrap()).sum();
        assert_eq!(groups, trainable, "rank {rank}: the groups together");
        assert!(count["total"].as_i64().unwrap() > trainable);
        let table = program.succeeds(&args).out;
        let digits: String = table.lines().filter(|line| line.contains("**trainable**")).collect();
        let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(digits, trainable.to_string(), "{table}");
    }
}

#[test]
fn every_command_explains_itself() {
    let program = Program::new();
    let overview = program.succeeds(&["--help"]).out;
    for command in ["finetune", "eval", "predict", "import", "export", "params"] {
        assert!(overview.contains(command), "{overview}");
        let help = program.succeeds(&[command, "--help"]).out;
        let (_, examples) = help.split_once("Examples:").unwrap_or_else(|| panic!("{command}: {help}"));
        assert!(examples.contains(&format!("tadformer-cli {command}")), "{examples}");
    }
    for command in ["list", "check", "show"] {
        assert!(program.succeeds(&["data", command, "--help"]).out.contains("Usage:"));
    }
    program.refuses(&["finetune", "--epoch", "3"], &["--epoch"]);
    program.refuses(&["train"], &["train"]);
}

#[test]
fn a_published_data_set_is_listed_checked_and_shown() {
    let program = Program::new();
    program.copy_of_data("pascal_mini");
    let list = program.succeeds(&["data", "list"]).out;
    for name in ["pascal-context", "nyud", "cityscapes", "bsds500"] {
        assert!(list.contains(&format!("{name}: ")), "{list}");
    }
    let root = ["--data", "pascal-context", "--root", "pascal_mini"];
    let check = program.succeeds(&[["data", "check"].as_slice(), &root].concat()).out;
    assert!(check.contains("train: 4 samples") && check.contains("val: 2 samples"), "{check}");
    // So few pictures do not show every class: a note, no problem.
    assert!(check.contains("note: never labelled: aeroplane"), "{check}");
    assert!(check.trim_end().ends_with("no problems, but see the notes above"), "{check}");
    let json = program.succeeds(&[["data", "check", "--json"].as_slice(), &root].concat()).out;
    assert!(serde_json::from_str::<Value>(&json).unwrap().is_object());

    program.succeeds(&[["data", "show", "--output", "shown", "--samples", "2"].as_slice(), &root].concat());
    let names = program.names("shown");
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        let (width, height) = program::png_size(&program.read(&format!("shown/{name}")));
        assert!(width > 75 && height > 60, "{name} is {width} × {height}");
    }
}

#[test]
fn a_published_data_set_is_learned_scored_and_predicted() {
    let program = Program::new();
    program.copy_of_data("pascal_mini");
    let args =
        ["finetune", "--data", "pascal-context", "--root", "pascal_mini", "--epochs", "1", "--output", "run"];
    program.succeeds(&[args.as_slice(), &SMALL].concat());
    assert_eq!(program::timeless(&program.text("run/log.jsonl")).len(), 4);

    // The folder has moved since.
    std::fs::rename(program.path("pascal_mini"), program.path("moved")).unwrap();
    program.refuses(&["eval", "--run", "run"], &["`pascal_mini`"]);
    let scores = program.succeeds(&["eval", "--run", "run", "--root", "moved", "--json"]).out;
    let scores: Value = serde_json::from_str(&scores).unwrap();
    let tasks: Vec<_> = scores.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(tasks, ["human_parts", "normals", "sal", "semseg"]);
    let records = program::timeless(&program.text("run/log.jsonl"));
    assert!(records.iter().any(|record| record["scores"] == scores), "{scores}");

    program.succeeds(&[
        "predict",
        "--run",
        "run",
        "--input",
        "moved/JPEGImages",
        "--output",
        "maps",
        "--raw",
    ]);
    assert_eq!(program.names("maps").len(), 6 * 6, "four maps, a panel and logits for each of six pictures");
    assert_eq!(
        program.tensors("maps/2010_000102.safetensors").get("semseg").unwrap().shape(),
        [1, 21, 70, 90]
    );
    let count = program.succeeds(&["params", "--run", "run", "--json"]).out;
    assert!(serde_json::from_str::<Value>(&count).unwrap()["trainable"].is_number());
}

#[test]
fn an_own_folder_is_shown_with_every_task_it_describes() {
    let program = Program::new();
    program.copy_of_data("pascal_mini");
    let descriptor = r#"
        name = "mine"
        title = "Mine"
        [image]
        files = ["JPEGImages/{id}.jpg"]
        [splits]
        train = { list = "ImageSets/Context/train.txt" }
        val = { list = "ImageSets/Context/val.txt" }
        [[tasks]]
        task = "sal"
        [[tasks.sources]]
        file = "sal_distill/{id}.png"
        encoding = { kind = "binary", threshold = 0.5 }
    "#;
    std::fs::write(program.path("pascal_mini/dataset.toml"), descriptor).unwrap();
    let show = ["data", "show", "--data", "folder", "--root", "pascal_mini", "--samples", "1", "--output"];
    program.succeeds(&[show.as_slice(), &["shown"]].concat());
    let [name, _] = program.names("shown").try_into().unwrap();
    program.succeeds(&[show.as_slice(), &["named", "--tasks", "sal"]].concat());
    assert_eq!(program.read(&format!("named/{name}")), program.read(&format!("shown/{name}")));
    program.refuses(&[show.as_slice(), &["other", "--tasks", "semseg"]].concat(), &["semseg"]);
}
