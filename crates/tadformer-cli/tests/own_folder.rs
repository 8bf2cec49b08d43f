//! A folder of one's own: a model needs it for training alone, and what it does not label decides nothing.

mod program;

use program::{Program, SMALL};
use serde_json::Value;
use std::fs;

const TRAIN: [&str; 4] = ["2008_000001", "2008_000002", "2008_000003", "2009_000011"];
/// A rate at which a few updates are seen.
const RATE: &str = "train.schedule.base_lr=8";
const VAL: [&str; 2] = ["2010_000101", "2010_000102"];

/// A label map of 4 × 4 as NumPy writes it.
fn npy(descr: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (4, 4), }}");
    let header = format!("{header:<117}\n");
    let length = u16::try_from(header.len()).unwrap();
    [b"\x93NUMPY\x01\x00".as_slice(), &length.to_le_bytes(), header.as_bytes(), values].concat()
}

fn descriptor(classes: &str, palette: &str) -> String {
    format!(
        r#"
        name = "mine"
        title = "Mine"
        [image]
        files = ["JPEGImages/{{id}}.jpg"]
        [splits]
        train = {{ list = "ImageSets/Context/train.txt" }}
        val = {{ list = "ImageSets/Context/val.txt" }}
        [[tasks]]
        task = "semseg"
        classes = [{classes}]
        palette = [{palette}]
        resize = true
        [[tasks.sources]]
        file = "classes/{{id}}.npy"
        encoding = {{ kind = "class-ids" }}
        [[tasks]]
        task = "depth"
        optional = true
        resize = true
        [[tasks.sources]]
        file = "depth/{{id}}.npy"
        encoding = {{ kind = "metres" }}
    "#
    )
}

/// The folder `mine`: two classes everywhere, depth for the pictures `with_depth` alone.
fn with_folder(with_depth: &[&str]) -> Program {
    let program = Program::new();
    program.copy_of_data("pascal_mini");
    fs::rename(program.path("pascal_mini"), program.path("mine")).unwrap();
    for folder in ["classes", "depth"] {
        fs::create_dir(program.path("mine").join(folder)).unwrap();
    }
    let classes: Vec<u8> = (0..16).map(|i| u8::from(i % 4 > 1)).collect();
    let metres: Vec<u8> = (0..16u8).flat_map(|i| (1.0 + f32::from(i) / 4.0).to_le_bytes()).collect();
    for id in TRAIN.iter().chain(&VAL) {
        fs::write(program.path(format!("mine/classes/{id}.npy")), npy("|u1", &classes)).unwrap();
    }
    for id in with_depth {
        fs::write(program.path(format!("mine/depth/{id}.npy")), npy("<f4", &metres)).unwrap();
    }
    write_descriptor(&program, "mine", r#""road", "sky""#, "[0, 0, 0], [9, 9, 9]");
    program
}

fn write_descriptor(program: &Program, folder: &str, classes: &str, palette: &str) {
    fs::write(program.path(folder).join("dataset.toml"), descriptor(classes, palette)).unwrap();
}

fn finetune(program: &Program, args: &[&str]) -> program::Said {
    let data = ["finetune", "--data", "folder", "--root", "mine", "--set", "train.eval_every=1"];
    program.succeeds(&[data.as_slice(), &SMALL, args].concat())
}

/// Checks that checkpoint, table, card, log and `eval` speak of one best evaluation, and gives its epoch.
#[track_caller]
fn assert_one_best(program: &Program, run: &str) -> u64 {
    let metrics = program.json(&format!("{run}/metrics.json"));
    let epoch = metrics["best"].as_u64().unwrap();
    let best = program.tensors(&format!("{run}/checkpoints/best.safetensors"));
    let state: Value = serde_json::from_str(&best.metadata()["tadformer.state"]).unwrap();
    assert_eq!((&state["epoch"], &state["best"][1]), (&epoch.into(), &epoch.into()));
    let table = program.text(&format!("{run}/metrics.md"));
    assert!(table.contains(&format!("Best after epoch {epoch}, ")), "{table}");
    let log = program::timeless(&program.text(&format!("{run}/log.jsonl")));
    let last = log.iter().rfind(|record| record["kind"] == "evaluation").unwrap();
    assert_eq!(last["best"], epoch);
    let scores = program.succeeds(&["eval", "--run", run, "--json"]).out;
    let snapshots = metrics["snapshots"].as_array().unwrap();
    let snapshot = snapshots.iter().find(|snapshot| snapshot["epoch"] == epoch).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&scores).unwrap(), snapshot["scores"]);
    let card = format!("{run}-card-{}", snapshots.len());
    program.succeeds(&["export", "--run", run, "--what", "full", "--output", &card]);
    assert!(program.text(&format!("{card}/README.md")).contains(&table), "the card has another table");
    epoch
}

#[test]
fn a_task_that_cannot_be_scored_does_not_choose_the_best() {
    let program = with_folder(&TRAIN);
    finetune(&program, &["--epochs", "6", "--output", "run", "--set", RATE]);
    assert!(assert_one_best(&program, "run") > 0, "{}", program.text("run/metrics.md"));
    let metrics = program.json("run/metrics.json");
    for snapshot in metrics["snapshots"].as_array().unwrap() {
        assert_eq!(snapshot["left_out"], serde_json::json!(["depth"]));
        assert!(snapshot["gain"].is_number(), "{snapshot}");
    }
    let table = program.text("run/metrics.md");
    assert!(table.contains("Not counted for the best: `depth`, without a score."), "{table}");

    // A run that goes on decides with what it was.
    program.succeeds(&["finetune", "--resume", "run", "--quiet", "--set", "train.epochs=7"]);
    assert_one_best(&program, "run");
    let snapshots = program.json("run/metrics.json")["snapshots"].clone();
    assert_eq!(snapshots.as_array().unwrap()[..7], metrics["snapshots"].as_array().unwrap()[..]);
}

#[test]
fn a_best_file_older_than_the_last_is_made_good_on_resuming() {
    let program = with_folder(&[TRAIN.as_slice(), &VAL].concat());
    finetune(&program, &["--epochs", "1", "--output", "run", "--quiet", "--set", RATE]);
    assert_eq!(assert_one_best(&program, "run"), 1, "{}", program.text("run/metrics.md"));
    let best = program.read("run/checkpoints/best.safetensors");
    // As a stop between the two files of a checkpoint leaves it.
    fs::remove_file(program.path("run/checkpoints/best.safetensors")).unwrap();
    program.succeeds(&["finetune", "--resume", "run", "--quiet"]);
    assert!(program.read("run/checkpoints/best.safetensors") == best, "the best is another");
}

#[test]
fn a_trained_model_is_used_without_its_folder() {
    let program = with_folder(&[TRAIN.as_slice(), &VAL].concat());
    finetune(&program, &["--epochs", "1", "--output", "run", "--quiet"]);
    let config = program.text("run/config.toml");
    assert!(config.contains(r#"classes = ["road", "sky"]"#), "{config}");
    fs::rename(program.path("mine"), program.path("moved")).unwrap();

    let picture = "moved/JPEGImages/2010_000101.jpg";
    let predict = |model: &str, output: &str| {
        program.succeeds(&["predict", "--run", model, "--input", picture, "--output", output, "--raw"]);
        program.tensors(&format!("{output}/2010_000101.safetensors"))
    };
    let maps = predict("run", "maps");
    assert_eq!(maps.get("semseg").unwrap().shape()[1], 2);
    program.succeeds(&["params", "--run", "run", "--json"]);
    for what in ["full", "adapter", "merged", "backbone"] {
        program.succeeds(&["export", "--run", "run", "--what", what, "--output", what]);
    }
    for what in ["full", "adapter"] {
        let again = predict(what, &format!("maps-{what}"));
        assert_eq!(again.get("semseg").unwrap().to_f32(), maps.get("semseg").unwrap().to_f32(), "{what}");
    }
    predict("merged", "maps-merged");
    program.succeeds(&["params", "--run", "adapter"]);
    assert_eq!(
        program.json("adapter/adapter_config.json")["tadformer"]["config"]["data"]["root"],
        Value::Null
    );

    program.refuses(&["eval", "--run", "run"], &["`mine"]);
    let scores = program.succeeds(&["eval", "--run", "run", "--root", "moved", "--json"]).out;
    assert_eq!(program.succeeds(&["eval", "--run", "full", "--root", "moved", "--json"]).out, scores);

    // Colours may be others. Classes may not, and the model goes on without them.
    write_descriptor(&program, "moved", r#""road", "sky""#, "[0, 0, 0], [7, 8, 9]");
    program.succeeds(&["eval", "--run", "run", "--root", "moved"]);
    write_descriptor(&program, "moved", r#""road", "car", "sky""#, "[0, 0, 0], [9, 9, 9], [5, 5, 5]");
    let said =
        ["`moved`", "`semseg` has 2 outputs here and 3 in the data", "class 1 of `semseg` is `sky` here"];
    program.refuses(&["eval", "--run", "run", "--root", "moved"], &said);
    program.refuses(
        &["finetune", "--resume", "run", "--set", "data.root=moved", "--set", "train.epochs=2"],
        &said,
    );
    assert_eq!(
        predict("run", "maps-again").get("semseg").unwrap().to_f32(),
        maps.get("semseg").unwrap().to_f32()
    );

    // A run of an earlier version has no record of its labels, and asks for the folder.
    let (before, labels) = config.split_once("[[data.labels]]").unwrap();
    let (_, after) = labels.split_once("[train]").unwrap();
    fs::write(program.path("run/config.toml"), format!("{before}[train]{after}")).unwrap();
    let args = ["predict", "--run", "run", "--input", picture, "--output", "maps-earlier"];
    program.refuses(&args, &["`mine", "--set data.root=FOLDER"]);
    write_descriptor(&program, "moved", r#""road", "sky""#, "[0, 0, 0], [7, 8, 9]");
    program.succeeds(&[args.as_slice(), &["--set", "data.root=moved"]].concat());
}

#[test]
fn training_begins_with_a_model_of_other_tasks_and_classes() {
    let program = with_folder(&[TRAIN.as_slice(), &VAL].concat());
    finetune(&program, &["--epochs", "1", "--output", "run", "--quiet"]);
    write_descriptor(&program, "mine", r#""road", "car", "sky""#, "[0, 0, 0], [9, 9, 9], [5, 5, 5]");
    let from = ["finetune", "--from", "run", "--tasks", "semseg", "--output", "new"];
    let strict = [from.as_slice(), &["--strict"]].concat();
    program
        .refuses(&strict, &["`--strict`", "decoder of `semseg` (2: 2 of 3, `road`, `sky`)", "left behind"]);
    assert!(!program.path("new").exists());
    let said = program.succeeds(&from).err;
    for part in [
        "taken over, ",
        "backbone's lora_A (",
        "backbone's prompts (1: 1 of 1, `semseg`)",
        "decoder of `depth` (",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(said.lines().count() < 20, "{said}");
    assert_one_best(&program, "new");

    // The whole model fits itself.
    write_descriptor(&program, "mine", r#""road", "sky""#, "[0, 0, 0], [9, 9, 9]");
    program.succeeds(&["finetune", "--from", "run", "--strict", "--output", "same", "--quiet"]);
    program.refuses(
        &["finetune", "--from", "run", "--seed", "5", "--output", "other"],
        &["drawn from seed 0", "`--seed 0`"],
    );
    program.refuses(&["finetune", "--strict", "--output", "other"], &["--from"]);
}
