//! `finetune` and `eval`: what a run leaves, that it repeats itself, and that it can be killed and resumed.

mod program;

use program::{Program, TINY, timeless};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tadformer::Config;

const TASKS: [&str; 6] = ["depth", "edge", "human_parts", "normals", "sal", "semseg"];

/// Compares every tensor and the metadata of two checkpoints, bit by bit.
#[track_caller]
fn assert_same_checkpoint(program: &Program, a: &str, b: &str) {
    let (a, b) = (program.tensors(a), program.tensors(b));
    assert_eq!(a.metadata(), b.metadata());
    assert_eq!(a.len(), b.len());
    for tensor in &a {
        let other = b.get(tensor.name()).unwrap_or_else(|| panic!("`{}` is missing", tensor.name()));
        assert_eq!(tensor.shape(), other.shape(), "`{}`", tensor.name());
        assert!(tensor.bytes()[..] == other.bytes()[..], "`{}` differs", tensor.name());
    }
}

#[test]
fn a_run_leaves_its_record_checkpoints_and_panels() {
    let program = Program::new();
    let said = program.succeeds(&["finetune", "--config", TINY, "--output", "run"]);
    assert_eq!(
        program.names("run"),
        ["checkpoints", "config.toml", "log.jsonl", "metrics.json", "metrics.md", "panels", "run.lock"]
    );
    assert_eq!(
        program.names("run/checkpoints"),
        ["best.safetensors", "last-1.safetensors", "last.safetensors"]
    );

    let mut asked = Config::parse(&std::fs::read_to_string(TINY).unwrap(), "tiny", &[]).unwrap();
    asked.data.describe().unwrap();
    assert_eq!(Config::parse(&program.text("run/config.toml"), "resolved", &[]).unwrap(), asked);

    let records = timeless(&program.text("run/log.jsonl"));
    let of_kind = |kind: &str| records.iter().filter(|r| r["kind"] == kind).collect::<Vec<_>>();
    let (updates, evaluations) = (of_kind("update"), of_kind("evaluation"));
    assert_eq!((updates.len(), evaluations.len(), records.len()), (8, 3, 11));
    for (i, update) in updates.iter().enumerate() {
        assert_eq!(
            (update["update"].as_u64(), update["epoch"].as_u64()),
            (Some(i as u64), Some(i as u64 / 4))
        );
        let losses = update["losses"].as_object().unwrap();
        assert_eq!(losses.keys().map(String::as_str).collect::<Vec<_>>(), TASKS);
        // JSON has no number that is not finite: such a one would be null.
        assert!(losses.values().chain([&update["total"], &update["grad_norm"]]).all(Value::is_number));
    }
    assert_eq!(program.json("run/metrics.json")["snapshots"].as_array().unwrap().len(), 3);
    assert!(said.out.starts_with(&program.text("run/metrics.md")), "{}", said.out);

    let panels = program.names("run/panels");
    let samples: BTreeSet<_> = panels.iter().map(|name| name.split_once("-val-").unwrap().1).collect();
    assert_eq!((panels.len(), samples.len()), (6, 2), "{panels:?}");
    for panel in panels {
        let (width, height) = program::png_size(&program.read(&format!("run/panels/{panel}")));
        assert!(width > 32 * 6 && height > 32, "{panel} is {width} × {height}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_whatever_loads_the_samples() {
    let program = Program::new();
    let train = |run: &str, set: &str| {
        program.succeeds(&["finetune", "--config", TINY, "--output", run, "--quiet", "--set", set]);
        timeless(&program.text(&format!("{run}/log.jsonl")))
    };
    let log = train("a", "data.workers=0");
    assert_eq!(log.len(), 11);
    assert_eq!(train("b", "data.workers=0"), log);
    assert_eq!(train("c", "data.workers=2"), log);
    for run in ["b", "c"] {
        assert_same_checkpoint(
            &program,
            "a/checkpoints/last.safetensors",
            &format!("{run}/checkpoints/last.safetensors"),
        );
    }
    assert_ne!(train("d", "seed=1"), log);
}

#[test]
fn a_killed_run_resumes_to_the_bits_of_one_that_was_not() {
    let program = Program::new();
    // Epochs are long enough for a kill to fall into the second or third.
    let set = ["--set", "data.synthetic.train_samples=96", "--epochs", "3", "--quiet"];
    let finetune =
        |run: &'static str| [["finetune", "--config", TINY, "--output", run].as_slice(), &set].concat();
    program.succeeds(&finetune("whole"));

    let mut child = Command::new(assert_cmd::cargo::cargo_bin("tadformer-cli"))
        .args(finetune("killed"))
        .current_dir(program.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (last, start) = (program.path("killed/checkpoints/last.safetensors"), Instant::now());
    while !last.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint in two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let state = program.tensors("killed/checkpoints/last.safetensors").metadata()["tadformer.state"].clone();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert!(state["epoch"].as_u64().unwrap() < 3, "the run was over before it was killed: {state}");

    program.succeeds(&["finetune", "--resume", "killed", "--quiet"]);
    for kind in ["last", "best"] {
        let file = |run: &str| format!("{run}/checkpoints/{kind}.safetensors");
        assert_same_checkpoint(&program, &file("whole"), &file("killed"));
    }
    let snapshots = |run: &str| program.json(&format!("{run}/metrics.json"))["snapshots"].clone();
    assert_eq!(snapshots("killed"), snapshots("whole"));
}

#[cfg(unix)]
#[test]
fn a_signal_saves_inside_an_epoch_and_the_run_goes_on_to_the_same_bits() {
    let program = Program::new();
    let set = ["--set", "data.synthetic.train_samples=200", "--epochs", "1", "--quiet"];
    let finetune =
        |run: &'static str| [["finetune", "--config", TINY, "--output", run].as_slice(), &set].concat();
    program.succeeds(&finetune("whole"));

    let mut child = Command::new(assert_cmd::cargo::cargo_bin("tadformer-cli"))
        .args(finetune("stopped"))
        .current_dir(program.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (log, start) = (program.path("stopped/log.jsonl"), Instant::now());
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("\"update\":1,")) {
        assert!(start.elapsed() < Duration::from_secs(120), "no update in two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{said}");
    for part in ["SIGTERM: finishing the update", "tadformer-cli finetune --resume stopped"] {
        assert!(said.contains(part), "{said}");
    }
    let state = program.tensors("stopped/checkpoints/last.safetensors").metadata()["tadformer.state"].clone();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert!(state["epoch"] == 0 && state["batch"].as_u64().unwrap() > 0, "{state}");

    program.succeeds(&["finetune", "--resume", "stopped", "--quiet"]);
    for kind in ["last", "best"] {
        let file = |run: &str| format!("{run}/checkpoints/{kind}.safetensors");
        assert_same_checkpoint(&program, &file("whole"), &file("stopped"));
    }
    let records = |run: &str| timeless(&program.text(&format!("{run}/log.jsonl")));
    assert_eq!(records("stopped"), records("whole"));
}

#[test]
fn a_damaged_checkpoint_is_never_used_and_the_one_before_is() {
    let program = Program::trained();
    let table = program.text("run/metrics.md");
    let flip = |name: &str| {
        let mut bytes = program.read(name);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(program.path(name), bytes).unwrap();
    };
    flip("run/checkpoints/last.safetensors");
    std::fs::write(program.path("run/checkpoints/.unfinished-x"), "half").unwrap();
    let said = program.succeeds(&["finetune", "--resume", "run", "--quiet"]).err;
    assert!(said.contains("last.safetensors`: is damaged") && said.contains("damaged-1-last"), "{said}");
    assert_eq!(
        program.names("run/checkpoints"),
        ["best.safetensors", "damaged-1-last.safetensors", "last-1.safetensors", "last.safetensors"]
    );
    assert_eq!(program.text("run/metrics.md"), table);

    flip("run/checkpoints/best.safetensors");
    program.refuses(&["eval", "--run", "run"], &["best.safetensors", "is damaged", "BLAKE3"]);
}

#[test]
fn a_second_process_is_told_who_trains_in_the_run() {
    let program = Program::new();
    let args = ["finetune", "--config", TINY, "--output", "run", "--epochs", "200", "--quiet"];
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("tadformer-cli"))
        .args(args)
        .current_dir(program.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (last, start) = (program.path("run/checkpoints/last.safetensors"), Instant::now());
    while !last.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint in two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
    let locked = format!("locked by process {}", child.id());
    program.refuses(&["finetune", "--resume", "run"], &["`run`", &locked]);
    child.kill().unwrap();
    child.wait().unwrap();

    // The system lets go of a killed process's lock.
    let state = program.tensors("run/checkpoints/last.safetensors").metadata()["tadformer.state"].clone();
    let epoch = serde_json::from_str::<Value>(&state).unwrap()["epoch"].as_u64().unwrap();
    let epochs = format!("train.epochs={}", epoch + 1);
    let warmup = "train.schedule.warmup_epochs=0";
    program.succeeds(&["finetune", "--resume", "run", "--quiet", "--set", warmup, "--set", &epochs]);
}

#[test]
fn eval_gives_the_scores_of_the_best_snapshot() {
    let program = Program::trained();
    let scores: Value =
        serde_json::from_str(&program.succeeds(&["eval", "--run", "run", "--json"]).out).unwrap();
    let best = program.tensors("run/checkpoints/best.safetensors").metadata()["tadformer.state"].clone();
    let epoch = serde_json::from_str::<Value>(&best).unwrap()["epoch"].clone();
    let snapshots = program.json("run/metrics.json")["snapshots"].clone();
    let snapshot = snapshots.as_array().unwrap().iter().find(|s| s["epoch"] == epoch).unwrap();
    assert_eq!(scores, snapshot["scores"]);

    let table = program.succeeds(&["eval", "--run", "run"]).out;
    for task in TASKS {
        assert!(table.contains(&format!("| {task} | ")), "{table}");
    }
}

#[test]
fn runs_without_a_folder_are_numbered() {
    let program = Program::new();
    for _ in 0..2 {
        program.succeeds(&["finetune", "--config", TINY, "--epochs", "1", "--quiet"]);
    }
    assert_eq!(program.names("runs"), ["tiny-001", "tiny-002"]);
}
