//! `import`: a training checkpoint of the published code becomes a run.

mod program;

use program::Program;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tadformer::Config;
use tadformer::optim::{Decay, Schedule};
use tadformer_ops::testing::{GoldenFile, named_tensor};
use tadformer_weights::{StateDict, Tensor};

const CHECKPOINT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tadformer-weights/tests/data/reference_checkpoint.pth");

/// A folder with the run `run`, imported.
fn imported() -> Program {
    let program = Program::new();
    let said = program.succeeds(&["import", CHECKPOINT, "--output", "run"]);
    assert!(said.out.contains("after epoch 1"), "{}", said.out);
    assert!(said.err.contains("`nyud`") && said.err.contains("`pascal-context`"), "{}", said.err);
    program
}

/// Compares the logits of `model` for the golden image with the published code's.
#[track_caller]
fn check_outputs(program: &Program, model: &str, extra: &[&str]) {
    let golden =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../tadformer/tests/data/reference_outputs.safetensors");
    let golden = GoldenFile::open(golden);
    golden.compared_elsewhere(&["ms_backbone/"]);
    let image =
        named_tensor("input:reference_checkpoint/eval/image", (2, 3, 64, 64), 0.0, 1.732_050_8).unwrap();
    let mut file = StateDict::new();
    let values = image.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    file.insert(Tensor::from_f32("image", vec![2, 3, 64, 64], &values).unwrap()).unwrap();
    file.write_safetensors(program.path("image.safetensors")).unwrap();
    let args = ["predict", "--run", model, "--input", "image.safetensors", "--output", "maps"];
    program.succeeds(&[args.as_slice(), extra].concat());
    let logits = program.tensors("maps/image.safetensors");
    for task in ["semseg", "normals", "sal", "human_parts"] {
        let found = logits.get(task).unwrap().to_f32();
        let positions = golden.tensor(&format!("checkpoint/idx/{task}")).to_vec1::<i64>().unwrap();
        let expected = golden.tensor(&format!("checkpoint/val/{task}")).to_vec1::<f32>().unwrap();
        let scale =
            golden.meta["stats"][format!("checkpoint/{task}")]["mean_std_absmax"][2].as_f64().unwrap();
        let worst = positions
            .iter()
            .zip(&expected)
            .map(|(&at, expected)| f64::from((found[usize::try_from(at).unwrap()] - expected).abs()) / scale)
            .fold(0.0, f64::max);
        assert!(worst <= 3e-5, "{model}: {task} is off by {worst:e} of its largest");
    }
}

#[test]
fn a_reference_checkpoint_becomes_a_run_with_its_outputs() {
    let program = imported();
    assert_eq!(
        program.names("run"),
        ["backbone.safetensors", "checkpoints", "config.toml", "metrics.json", "metrics.md", "panels"]
    );
    let config = Config::parse(&program.text("run/config.toml"), "imported", &[]).unwrap();
    assert_eq!(config.data.name, "pascal-context");
    assert_eq!(config.data.tasks, ["semseg", "normals", "sal", "human_parts"]);
    assert_eq!((config.data.size, config.data.root.clone()), ([64, 64], None));
    assert_eq!((config.train.epochs, config.train.batch_size), (4, 128));
    // The optimiser began with 3e-4 for updates of 128 images; ours are written for 512.
    assert!((config.train.schedule.base_lr - 3e-4 * 4.0).abs() < 1e-12);
    assert!((config.train.schedule.warmup_lr - 3e-5 * 4.0).abs() < 1e-12);
    check_outputs(&program, "run", &[]);

    // A run goes where its folder goes.
    std::fs::create_dir(program.path("elsewhere")).unwrap();
    std::fs::rename(program.path("run"), program.path("elsewhere/moved")).unwrap();
    check_outputs(&program, "elsewhere/moved", &[]);
}

#[test]
fn an_imported_run_is_exported_to_the_same_outputs() {
    let program = imported();
    for what in ["adapter", "backbone", "full", "merged"] {
        program.succeeds(&["export", "--run", "run", "--what", what, "--output", what]);
    }
    check_outputs(&program, "adapter", &["--weights", "backbone/model.safetensors"]);
    check_outputs(&program, "full", &[]);
    check_outputs(&program, "merged", &[]);
}

#[test]
fn an_imported_run_is_evaluated_resumed_and_finetuned() {
    let program = imported();
    program.copy_of_data("pascal_mini");
    let scores = program.succeeds(&["eval", "--run", "run", "--root", "pascal_mini", "--json"]).out;
    let scores: Value = serde_json::from_str(&scores).unwrap();
    let data = ["--set", "data.root=pascal_mini", "--set", "train.batch_size=2", "--quiet"];
    program.succeeds(
        &[["finetune", "--from", "run", "--epochs", "1", "--output", "new"].as_slice(), &data].concat(),
    );
    assert_eq!(program.json("new/metrics.json")["snapshots"][0]["scores"], scores);

    program.succeeds(&[["finetune", "--resume", "run"].as_slice(), &data].concat());
    let log = program::timeless(&program.text("run/log.jsonl"));
    let updates: Vec<_> = log.iter().filter(|record| record["kind"] == "update").collect();
    // One of four epochs was done; four samples make two updates an epoch.
    assert_eq!(updates.len(), 6);
    assert_eq!(updates[0]["epoch"], 1);
}

#[test]
fn the_optimiser_of_a_checkpoint_is_taken_over_by_name() {
    let program = imported();
    let last = program.tensors("run/checkpoints/last.safetensors");
    let expected =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../tadformer-weights/tests/data/reference_checkpoint.json");
    let expected: Value = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
    let optimizer = &expected["optimizer"];
    let mut compared = 0;
    for (number, state) in optimizer["state"].as_object().unwrap() {
        let name = optimizer["param_index_to_name"][number].as_str().unwrap();
        for moment in ["exp_avg", "exp_avg_sq"] {
            let tensor =
                last.get(&format!("optimizer.{name}.{moment}")).unwrap_or_else(|| panic!("`{name}`"));
            let hash: String =
                Sha256::digest(&tensor.bytes()[..]).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, state[moment][2].as_str().unwrap(), "{moment} of `{name}`");
            compared += 1;
        }
    }
    assert!(compared > 200, "{compared}");
    let state: Value = serde_json::from_str(&last.metadata()["tadformer.state"]).unwrap();
    assert_eq!(
        (&state["epoch"], &state["update"]),
        (&1.into(), &optimizer["state"]["0"]["step"].as_f64().map(|s| s as u64).into())
    );
}

/// Writes `changed.pth`: the checkpoint with one text of its pickled configuration replaced by another as long.
fn change_checkpoint(program: &Program, text: &[u8], other: &[u8]) {
    assert_eq!(text.len(), other.len());
    let mut bytes = std::fs::read(CHECKPOINT).unwrap();
    // The pickle is the archive's first entry, as it is, between a header and the checksum that follows it.
    let short = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let start = 30 + short(26) + short(28);
    assert!(bytes[..start].windows(8).any(|name| name == b"data.pkl"));
    let length = bytes[start..].windows(4).position(|mark| mark == b"PK\x07\x08").unwrap();
    let replace = |bytes: &mut [u8], from: &[u8], to: &[u8]| {
        let places: Vec<usize> =
            (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
        places.iter().for_each(|at| bytes[*at..*at + to.len()].copy_from_slice(to));
        places.len()
    };
    let checksum = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let pickle = &mut bytes[start..start + length];
    let before = checksum(pickle);
    assert_eq!(replace(pickle, text, other), 1);
    let after = checksum(pickle);
    // It stands after the entry and in the archive's directory.
    assert_eq!(replace(&mut bytes, &before, &after), 2);
    std::fs::write(program.path("changed.pth"), bytes).unwrap();
}

#[test]
fn a_linear_schedule_ends_where_the_published_one_does() {
    let program = Program::new();
    change_checkpoint(&program, b"cosine", b"linear");
    program.succeeds(&["import", "changed.pth", "--output", "run"]);
    let config = Config::parse(&program.text("run/config.toml"), "imported", &[]).unwrap();
    assert_eq!(config.train.schedule.decay, Decay::Linear { end_factor: Some(0.01) });
    let schedule = Schedule::new(config.train.schedule.scaled_to(128), config.train.epochs, 39).unwrap();
    // `base_lr / 100` of the optimiser's 3e-4, whatever the smallest rate is.
    let end = schedule.lr_at(schedule.updates());
    assert!((end - 3e-6).abs() < 1e-15, "{end}");
}

#[test]
fn a_configuration_of_ones_own_is_used_instead() {
    let program = imported();
    std::fs::copy(program.path("run/config.toml"), program.path("mine.toml")).unwrap();
    let mine = ["import", CHECKPOINT, "--config", "mine.toml", "--output"];
    let set = ["--set", "train.epochs=9", "--set", "model.weights=none"];
    program.succeeds(&[mine.as_slice(), &["second"], &set].concat());
    assert_eq!(Config::parse(&program.text("second/config.toml"), "second", &[]).unwrap().train.epochs, 9);
    check_outputs(&program, "second", &[]);

    let wrong = [mine.as_slice(), &["third", "--set", "model.adaptation.rank=5"]].concat();
    let said =
        program.refuses(&wrong, &["reference_checkpoint.pth", "of another model", "nothing was loaded"]);
    let site = "backbone.layers.3.blocks.1.mlp.fc2.lora_shared_B";
    assert!(said.err.contains(&format!("`{site}` has shape [128, 4], expected [128, 5]")), "{}", said.err);
    program.refuses(&["import", CHECKPOINT, "--output", "run"], &["`run`", "is there already"]);

    // A number that is none, in a copy of the checkpoint.
    let mut spoilt = StateDict::new();
    for tensor in &StateDict::read(CHECKPOINT).unwrap() {
        let mut values = tensor.to_f32();
        if tensor.name() == site {
            values[4 * 7 + 2] = f32::INFINITY;
        }
        spoilt.insert(Tensor::from_f32(tensor.name(), tensor.shape().to_vec(), &values).unwrap()).unwrap();
    }
    spoilt.write_safetensors(program.path("spoilt.safetensors")).unwrap();
    let args = ["import", "spoilt.safetensors", "--config", "mine.toml", "--output", "third"];
    let found = format!("1 of the 512 numbers of `{site}` are not finite in f32, the first is inf at [7, 2]");
    program.refuses(&args, &["`spoilt.safetensors`", &found]);
    assert!(!program.path("third").exists());
}

#[test]
fn what_is_no_training_checkpoint_is_refused() {
    let program = Program::new();
    let backbone = CHECKPOINT.replace("reference_checkpoint", "swin_backbone_ms");
    program.refuses(&["import", &backbone, "--output", "run"], &["finetune --weights"]);
    // The tensors alone, without what else a training checkpoint holds.
    let mut bare = StateDict::new();
    for tensor in &StateDict::read(CHECKPOINT).unwrap() {
        bare.insert(tensor.clone()).unwrap();
    }
    bare.write_safetensors(program.path("bare.safetensors")).unwrap();
    program
        .refuses(&["import", "bare.safetensors", "--output", "run"], &["no configuration", "--config FILE"]);
    program.refuses(&["import", "missing.pth", "--output", "run"], &["`missing.pth`"]);
    assert_eq!(program.names(""), ["bare.safetensors"]);
}
