//! `export`: what it writes, that all of it is accepted again, and that the outputs stay the same.

mod program;

use program::{Program, TINY};
use serde_json::Value;
use std::fs;
use tadformer_weights::names::{self, Naming};
use tadformer_weights::{StateDict, Tensor};

/// A trained run with its logits for one picture in `maps/image.safetensors`.
fn trained() -> Program {
    let program = Program::trained();
    let values: Vec<f32> = (0..3 * 40 * 56).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let mut image = StateDict::new();
    image.insert(Tensor::from_f32("image", vec![1, 3, 40, 56], &values).unwrap()).unwrap();
    image.write_safetensors(program.path("image.safetensors")).unwrap();
    predict(&program, "maps", &["--run", "run"]);
    program
}

#[track_caller]
fn predict(program: &Program, output: &str, model: &[&str]) -> StateDict {
    let rest = ["--input", "image.safetensors", "--output", output];
    program.succeeds(&[["predict"].as_slice(), model, &rest].concat());
    program.tensors(&format!("{output}/image.safetensors"))
}

#[track_caller]
fn export(program: &Program, what: &str) {
    program.succeeds(&["export", "--run", "run", "--what", what, "--output", what]);
}

/// Largest difference of the logits from the run's, relative to each task's largest logit.
#[track_caller]
fn difference(program: &Program, found: &StateDict) -> f32 {
    let expected = program.tensors("maps/image.safetensors");
    assert_eq!(found.len(), expected.len());
    let mut worst = 0f32;
    for tensor in &expected {
        let (found, expected) = (found.get(tensor.name()).unwrap().to_f32(), tensor.to_f32());
        assert_eq!(found.len(), expected.len());
        let scale = expected.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
        worst = found.iter().zip(&expected).fold(worst, |worst, (a, b)| worst.max((a - b).abs() / scale));
    }
    worst
}

#[test]
fn an_adapter_and_its_backbone_are_the_run_again() {
    let program = trained();
    export(&program, "adapter");
    export(&program, "backbone");
    assert_eq!(
        program.names("adapter"),
        ["README.md", "adapter_config.json", "adapter_model.safetensors", "metrics.json"]
    );
    assert_eq!(program.names("backbone"), ["README.md", "metrics.json", "model.safetensors"]);

    // On weights that are drawn again, and on those in the file.
    let again = predict(&program, "drawn", &["--run", "adapter"]);
    assert_eq!(difference(&program, &again), 0.0);
    let weights = ["--run", "adapter", "--weights", "backbone/model.safetensors"];
    assert_eq!(difference(&program, &predict(&program, "on-file", &weights)), 0.0);
    let scores = program.succeeds(&["eval", "--run", "run", "--json"]).out;
    let eval = [["eval", "--json"].as_slice(), &weights].concat();
    assert_eq!(program.succeeds(&eval).out, scores);

    // An adapter of an adapter is the same adapter.
    program.succeeds(&["export", "--run", "adapter", "--what", "adapter", "--output", "second"]);
    let file = |folder: &str| program.read(&format!("{folder}/adapter_model.safetensors"));
    assert!(file("adapter") == file("second"), "the tensors differ");
    assert_eq!(program.json("adapter/adapter_config.json"), program.json("second/adapter_config.json"));
    assert_eq!(program.text("adapter/README.md"), program.text("second/README.md"));
}

#[test]
fn the_adapter_folder_has_the_layout_of_peft() {
    let program = trained();
    export(&program, "adapter");
    let config = program.json("adapter/adapter_config.json");
    assert_eq!(config["peft_type"], "TADFORMER");
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(4), Some(16.0)));
    assert_eq!(config["target_modules"], serde_json::json!(["qkv", "proj", "fc1", "fc2"]));
    assert_eq!(config["base_model_name_or_path"], Value::Null);
    assert_eq!(config["inference_mode"], true);

    let trained = program.tensors("run/checkpoints/best.safetensors");
    let adapter = program.tensors("adapter/adapter_model.safetensors");
    assert_eq!(adapter.len(), trained.len());
    let site = "layers.0.blocks.0.attn.qkv";
    for (theirs, ours) in [("lora_A.weight", "lora_shared_A"), ("lora_B.weight", "lora_shared_B")] {
        let theirs = adapter.get(&format!("base_model.model.backbone.{site}.{theirs}")).unwrap();
        assert_eq!(theirs.to_f32(), trained.get(&format!("backbone.{site}.{ours}")).unwrap().to_f32());
    }
    assert!(adapter.iter().all(|tensor| tensor.name().starts_with("base_model.model.")));

    let card = program.text("adapter/README.md");
    assert!(card.starts_with("---\nlibrary_name: tadformer\n"), "{card}");
    assert!(card.contains(&program.text("run/metrics.md")), "the card has no metrics: {card}");
    for name in ["epoch", "optimizer"] {
        assert!(adapter.iter().all(|tensor| !tensor.name().contains(name)), "`{name}` is in the adapter");
    }
}

#[test]
fn a_full_model_gives_the_same_bits_and_a_merged_one_nearly() {
    let program = trained();
    for (what, most) in [("full", 0.0), ("merged", 1e-4)] {
        export(&program, what);
        assert_eq!(program.names(what), ["README.md", "config.toml", "metrics.json", "model.safetensors"]);
        let off = difference(&program, &predict(&program, &format!("by-{what}"), &["--run", what]));
        assert!(off <= most, "{what}: off by {off:e}");
    }
    let (full, merged) =
        (program.tensors("full/model.safetensors"), program.tensors("merged/model.safetensors"));
    let updates = |dict: &StateDict| dict.iter().filter(|t| t.name().ends_with("lora_shared_A")).count();
    // One block a stage: its `qkv` is folded, the three sites of the task streams are not.
    assert_eq!((updates(&full), updates(&merged)), (16, 12));

    // The full model can give its parts; they stand on each other and on nothing else.
    for what in ["adapter", "backbone"] {
        program.succeeds(&["export", "--run", "full", "--what", what, "--output", what]);
    }
    let weights = ["--run", "adapter", "--weights", "backbone/model.safetensors"];
    assert_eq!(difference(&program, &predict(&program, "parts", &weights)), 0.0);

    let finetune = |from| ["finetune", "--from", from, "--output", "new"];
    program.refuses(&finetune("full"), &["Export the `adapter` and the `backbone`"]);
    program.refuses(&finetune("merged"), &["Export the `adapter` and the `backbone`"]);
    let merged = |what| ["export", "--run", "merged", "--what", what, "--output", "new"];
    program.refuses(&merged("adapter"), &["no adapter", "folded"]);
    program.refuses(&merged("backbone"), &["folded"]);
    program.refuses(&merged("merged"), &["`tadformer`"]);
    assert!(!program.path("new").exists());
}

#[test]
fn a_backbone_fits_under_every_published_naming() {
    let program = trained();
    export(&program, "adapter");
    export(&program, "backbone");
    let ours = names::map(&program.tensors("backbone/model.safetensors")).unwrap();
    assert_eq!(ours.naming, Naming::Timm);
    for (name, naming) in
        [("microsoft.safetensors", Naming::Microsoft), ("huggingface.safetensors", Naming::HuggingFace)]
    {
        let file = names::unmap(&ours.tensors, naming).unwrap();
        file.write_safetensors(program.path(name)).unwrap();
        let found = predict(&program, &format!("on-{name}"), &["--run", "adapter", "--weights", name]);
        assert_eq!(difference(&program, &found), 0.0, "{name}");
    }
}

#[test]
fn training_begins_with_an_exported_adapter() {
    let program = trained();
    export(&program, "adapter");
    export(&program, "backbone");
    let from = ["finetune", "--from", "adapter", "--weights", "backbone/model.safetensors", "--epochs", "1"];
    program.succeeds(&[from.as_slice(), &["--output", "further", "--quiet"]].concat());
    let snapshots = |run: &str| program.json(&format!("{run}/metrics.json"))["snapshots"].clone();
    let (before, after) = (snapshots("run"), snapshots("further"));
    let best = program.tensors("run/checkpoints/best.safetensors").metadata()["tadformer.state"].clone();
    let epoch = serde_json::from_str::<Value>(&best).unwrap()["epoch"].clone();
    let exported = before.as_array().unwrap().iter().find(|snapshot| snapshot["epoch"] == epoch).unwrap();
    assert_eq!(after[0]["scores"], exported["scores"], "it begins where the other was");
    program.succeeds(&["eval", "--run", "further", "--json"]);
    program.refuses(
        &["finetune", "--from", "run", "--rank", "3", "--strict", "--output", "new"],
        &["`--strict`", "backbone's lora_A (16: another shape)"],
    );
    assert!(!program.path("new").exists());
}

#[test]
fn other_frozen_weights_are_refused() {
    let program = trained();
    export(&program, "adapter");
    let args = ["predict", "--run", "adapter", "--input", "image.safetensors", "--output", "new"];
    program.refuses(
        &[args.as_slice(), &["--set", "seed=1"]].concat(),
        &["adapter/adapter_model.safetensors", "other frozen weights", "--weights"],
    );
    program.succeeds(&[
        "finetune", "--config", TINY, "--seed", "1", "--epochs", "1", "--output", "other", "--quiet",
    ]);
    program.succeeds(&["export", "--run", "other", "--what", "backbone", "--output", "backbone"]);
    program.refuses(
        &[args.as_slice(), &["--weights", "backbone/model.safetensors"]].concat(),
        &["other frozen weights"],
    );
    assert!(!program.path("new").exists());
}

#[test]
fn what_is_damaged_is_refused_and_nothing_is_left() {
    let program = trained();
    export(&program, "adapter");
    export(&program, "full");
    let whole = program.read("adapter/adapter_model.safetensors");
    let mut lying = whole.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let cases: [(&str, &str, Vec<u8>, &str); 7] = [
        ("adapter", "adapter_model.safetensors", whole[..whole.len() / 2].to_vec(), "cut off"),
        ("adapter", "adapter_model.safetensors", lying.clone(), "header claims"),
        (
            "adapter",
            "adapter_model.safetensors",
            program.read("run/checkpoints/best.safetensors"),
            "no name of an adapter",
        ),
        (
            "adapter",
            "adapter_config.json",
            b"{\"peft_type\": \"LORA\"}".to_vec(),
            "`LORA`, expected `TADFORMER`",
        ),
        ("adapter", "adapter_config.json", b"{".to_vec(), "cannot be understood"),
        ("full", "model.safetensors", program.read("full/model.safetensors")[..1000].to_vec(), "cut off"),
        ("full", "model.safetensors", whole, "`backbone.task_prompts` is missing"),
    ];
    for (folder, name, bytes, reason) in cases {
        let (path, kept) = (format!("{folder}/{name}"), program.read(&format!("{folder}/{name}")));
        fs::write(program.path(&path), bytes).unwrap();
        for args in [
            ["predict", "--run", folder, "--input", "image.safetensors", "--output", "new"].as_slice(),
            &["eval", "--run", folder],
            &["export", "--run", folder, "--what", "full", "--output", "new"],
        ] {
            program.refuses(args, &[&path, reason]);
            assert!(!program.path("new").exists(), "{path}: {args:?} left a folder");
        }
        fs::write(program.path(&path), kept).unwrap();
    }
    let again = ["export", "--run", "run", "--what", "full", "--output", "full"];
    program.refuses(&again, &["`full`", "is there already"]);
    let hidden = program.names("").into_iter().filter(|name| name.starts_with('.')).count();
    assert_eq!(hidden, 0, "unfinished folders were left");
}
