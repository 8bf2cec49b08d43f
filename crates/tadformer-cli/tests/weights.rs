//! `--weights`: a name, a file or `none`; what fits, what does not, what was made to harm, and a Hub that lies.

#[path = "../../tadformer-weights/tests/hub_server/mod.rs"]
mod hub_server;
mod program;
#[path = "../../tadformer-weights/tests/torch_file/mod.rs"]
mod torch_file;

use hub_server::{Fault, Server};
use program::{Program, TINY};
use std::fs;
use tadformer_weights::{Dtype, StateDict, Tensor};
use torch_file::{Entry, Pickle, zip};

/// The backbone of the tiny configuration in `backbone.safetensors`, in an otherwise empty folder.
fn with_backbone() -> Program {
    let program = Program::trained();
    program.succeeds(&["export", "--run", "run", "--what", "backbone", "--output", "exported"]);
    fs::rename(program.path("exported/model.safetensors"), program.path("backbone.safetensors")).unwrap();
    program
}

fn finetune(weights: &str) -> Vec<&str> {
    vec!["finetune", "--config", TINY, "--epochs", "1", "--quiet", "--output", "new", "--weights", weights]
}

/// Writes `change`d tensors of the backbone as `name`.
fn changed(program: &Program, name: &str, change: impl Fn(&Tensor) -> Option<Tensor>) {
    let mut file = StateDict::new();
    for tensor in &program.tensors("backbone.safetensors") {
        if let Some(tensor) = change(tensor) {
            file.insert(tensor).unwrap();
        }
    }
    file.write_safetensors(program.path(name)).unwrap();
}

#[test]
fn weights_that_do_not_fit_are_refused_with_every_difference() {
    let program = with_backbone();
    let refused = |args: &[&str], parts: &[&str]| {
        let said = program.refuses(args, parts);
        assert!(!program.path("new").exists(), "{args:?} left a run");
        said.err
    };
    // Another size.
    let larger = [finetune("backbone.safetensors").as_slice(), &["--backbone", "swin-tiny"]].concat();
    let said = refused(&larger, &["backbone.safetensors", "embed_dim 16", "Nothing was loaded"]);
    assert!(said.lines().count() > 100, "every difference has a line: {said}");
    // Missing, of a wrong type, of a wrong shape: all in one message.
    changed(&program, "wrong.safetensors", |tensor| match tensor.name() {
        "patch_embed.norm.bias" => None,
        name @ "layers.0.blocks.0.norm1.bias" => {
            Some(Tensor::new(name, Dtype::I64, tensor.shape().to_vec(), vec![0; 16 * 8]).unwrap())
        }
        name @ "layers.3.blocks.0.mlp.fc1.bias" => Some(Tensor::from_f32(name, vec![3], &[0.0; 3]).unwrap()),
        _ => Some(tensor.clone()),
    });
    refused(
        &finetune("wrong.safetensors"),
        &[
            "3 tensors differ",
            "`backbone.patch_embed.norm.bias` is missing",
            "`backbone.layers.0.blocks.0.norm1.bias` is i64 [16], expected floats [16]",
            "`backbone.layers.3.blocks.0.mlp.fc1.linear.bias` is f32 [3], expected floats [256]",
        ],
    );
    // Microsoft's numbering of `downsample` in timm's file.
    changed(&program, "swapped.safetensors", |tensor| {
        Some(match tensor.name().strip_prefix("layers.3.downsample.") {
            Some(rest) => tensor.renamed(format!("layers.0.downsample.{rest}")),
            None => tensor.clone(),
        })
    });
    refused(&finetune("swapped.safetensors"), &["swapped.safetensors", "expected 64", "mixed"]);
}

#[test]
fn what_differs_without_harm_is_accepted() {
    let program = with_backbone();
    let trains = |args: &[&str]| {
        let said = program.succeeds(args);
        fs::remove_dir_all(program.path("new")).unwrap();
        said.err
    };
    // Another window: the position bias tables are resized.
    let window = ["--set", "model.backbone.window_size=3"];
    trains(&[finetune("backbone.safetensors").as_slice(), &window].concat());
    // Half precision.
    changed(&program, "half.safetensors", |tensor| {
        let bytes: Vec<u8> =
            tensor.to_f32().iter().flat_map(|x| x.to_bits().to_le_bytes()[2..].to_vec()).collect();
        Some(Tensor::new(tensor.name(), Dtype::BF16, tensor.shape().to_vec(), bytes).unwrap())
    });
    trains(&finetune("half.safetensors"));
    // A classifier of any number of classes is no part of the backbone; what is unknown is named.
    let mut file = program.tensors("backbone.safetensors");
    for name in ["head.fc.bias", "surprise"] {
        file.insert(Tensor::from_f32(name, vec![7], &[0.0; 7]).unwrap()).unwrap();
    }
    file.write_safetensors(program.path("more.safetensors")).unwrap();
    let said = trains(&finetune("more.safetensors"));
    assert!(said.contains("left out of the weight file: `surprise`\n"), "{said}");
    assert_eq!(trains(&finetune("backbone.safetensors")), "");
}

/// Every limit by itself is the matter of `tadformer-weights/tests/hostile_files.rs`.
#[test]
fn files_that_are_no_plain_weights_are_refused_and_nothing_is_left() {
    let program = Program::new();
    let checkpoint = |pickle: Pickle| {
        zip(&[Entry::stored("x/data.pkl", &pickle.end()), Entry::stored("x/data/0", &[0; 4])])
    };
    let tensor = || Pickle::new(2).dict().text("w").global("torch._utils", "_rebuild_tensor_v2").mark();
    let code = Pickle::new(2).dict().text("w").global("os", "name_of_nothing").text("an argument");
    let code = checkpoint(code.tuple1().reduce().set_item());
    let outside = tensor().storage("FloatStorage", "0", 1).int(0).ints(&[2]).ints(&[1]).none().none().tuple();
    let empty = Pickle::new(2).dict().end();
    let entry = Entry::stored("x/data.pkl", &empty);
    let lie = Entry { size: entry.size + 1, ..entry.clone() };
    let mut header = 3u64.to_le_bytes().to_vec();
    header.extend(b"{}");
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("code.pth", code, "it asks to call `os.name_of_nothing`"),
        ("short.pth", checkpoint(tensor().tuple().reduce().set_item()), "has 0 arguments"),
        ("outside.pth", checkpoint(outside.reduce().set_item()), "does not lie in its storage"),
        ("twice.pth", zip(&[entry.clone(), entry]), "two entries named"),
        ("lie.pth", zip(&[lie]), "is stored in 4 bytes and declares 5"),
        ("header.safetensors", header, "its header claims"),
        ("page.safetensors", b"<html>Please sign in</html>".to_vec(), "HTML"),
    ];
    let names: Vec<&str> = cases.iter().map(|(name, ..)| *name).collect();
    for (name, bytes, reason) in &cases {
        fs::write(program.path(name), bytes).unwrap();
        program.refuses(&finetune(name), &[name, reason]);
        program.refuses(&["import", name, "--output", "new"], &[name, reason]);
    }
    let mut left = program.names("");
    left.retain(|name| !names.contains(&name.as_str()));
    assert!(left.is_empty(), "{left:?}");
}

/// A tensor of the backbone with one number changed to `value`.
fn spoilt(tensor: &Tensor, value: f32) -> Tensor {
    let mut values = tensor.to_f32();
    let at = values.len() - 1;
    values[at] = value;
    Tensor::from_f32(tensor.name(), tensor.shape().to_vec(), &values).unwrap()
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_name_and_no_run_is_made() {
    let program = with_backbone();
    let name = "layers.1.blocks.0.mlp.fc1.bias";
    for (value, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        changed(&program, "bad.safetensors", |tensor| {
            Some(if tensor.name() == name { spoilt(tensor, value) } else { tensor.clone() })
        });
        let first =
            format!("1 of the 64 numbers of `{name}` are not finite in f32, the first is {shown} at [63]");
        program.refuses(&finetune("bad.safetensors"), &["bad.safetensors", &first]);
        assert!(!program.path("new").exists(), "a run was made");
    }
    // A run's own checkpoint, and an adapter.
    program.succeeds(&["export", "--run", "run", "--what", "adapter", "--output", "adapter"]);
    for (file, model) in
        [("run/checkpoints/best.safetensors", "run"), ("adapter/adapter_model.safetensors", "adapter")]
    {
        let read = program.tensors(file);
        let mut spoilt_file = StateDict::new();
        spoilt_file.metadata_mut().extend(read.metadata().clone());
        let victim = read.iter().find(|tensor| tensor.name().contains("fc1.lora_")).unwrap();
        for tensor in &read {
            let is_victim = tensor.name() == victim.name();
            spoilt_file.insert(if is_victim { spoilt(tensor, f32::NAN) } else { tensor.clone() }).unwrap();
        }
        spoilt_file.write_safetensors(program.path(file)).unwrap();
        // A checkpoint that was changed is refused for that, before its numbers are looked at.
        let named = match model {
            "run" => "is damaged: its contents have the BLAKE3 checksum".to_owned(),
            _ => format!("numbers of `{}` are not finite", victim.name()),
        };
        let args = ["predict", "--run", model, "--input", file, "--output", "maps"];
        let weights: &[&str] = if model == "adapter" { &["--weights", "backbone.safetensors"] } else { &[] };
        program.refuses(&[&args, weights].concat(), &[file, &named]);
        assert!(!program.path("maps").exists(), "{model}: maps were written");
    }
}

#[test]
fn without_a_network_a_name_that_is_not_cached_is_refused() {
    let program = Program::new();
    program.refuses(
        &finetune("swin-tiny"),
        &["`swin-tiny`", "not in the cache", "HF_HUB_OFFLINE", "--weights FILE"],
    );
    assert!(!program.path("new").exists());
}

#[test]
fn a_name_is_downloaded_once_and_then_found_in_the_cache() {
    let program = with_backbone();
    let server = Server::start(program.read("backbone.safetensors"), &[]);
    let online = |args: &[&str]| {
        let mut command = program.command(args);
        command.env("HF_ENDPOINT", server.address()).env("HF_HUB_OFFLINE", "0").assert().success();
    };
    online(&finetune("swin-tiny"));
    assert!(program.text("new/config.toml").contains("weights = \"swin-tiny\""));
    let transfers = || server.requests().iter().filter(|request| request.method == "GET").count();
    assert_eq!(transfers(), 1);
    let path = "/timm/swin_tiny_patch4_window7_224.ms_in1k/resolve/";
    assert!(
        server.requests().iter().all(|request| request.path.starts_with(path)),
        "{:?}",
        server.requests()
    );
    // From here on without the network.
    program.succeeds(&["eval", "--run", "new"]);
    program.succeeds(&["export", "--run", "new", "--what", "adapter", "--output", "adapter"]);
    assert_eq!(program.json("adapter/adapter_config.json")["base_model_name_or_path"], "swin-tiny");
    assert!(
        program.text("adapter/README.md").contains("base_model: timm/swin_tiny_patch4_window7_224.ms_in1k")
    );
    program.succeeds(&["eval", "--run", "adapter"]);
    assert_eq!(transfers(), 1);
}

#[test]
fn a_hub_that_lies_leaves_neither_weights_nor_run() {
    let program = with_backbone();
    let bytes = program.read("backbone.safetensors");
    for (faults, reason) in [
        (&[Fault::Status(404)][..], "no such repository, revision or file"),
        (&[Fault::Status(401)], "private or gated"),
        (&[Fault::WrongBytes], "its SHA-256 is"),
        (&[Fault::Longer], "were announced"),
        (&[Fault::Html], "is not that of a Hub"),
        (&[Fault::NoEtag], "has no `ETag`"),
        (&[Fault::EvilEtag], "the `ETag` is `../../evil`"),
        (&[Fault::EvilCommit], "expected 40 hexadecimal digits"),
        (&[Fault::RedirectLoop], "more than 5 redirects"),
    ] {
        let server = Server::start(bytes.clone(), faults);
        let mut command = program.command(&finetune("swin-tiny"));
        command.env("HF_ENDPOINT", server.address()).env("HF_HUB_OFFLINE", "0");
        let said = command.assert().failure().get_output().stderr.clone();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains(reason) && said.contains("`swin-tiny`"), "{faults:?}: {said}");
        assert!(!program.path("new").exists(), "{faults:?} left a run");
        let repo = program.path("hf/hub/models--timm--swin_tiny_patch4_window7_224.ms_in1k");
        assert!(!repo.join("snapshots").exists(), "{faults:?} left a file in the cache");
    }
}

#[test]
fn two_processes_download_once() {
    let program = with_backbone();
    let server = Server::start(program.read("backbone.safetensors"), &[Fault::Slow]);
    let run = |output: &'static str| {
        let mut args = finetune("swin-tiny");
        args.extend(["--set", "train.panels=0"]);
        *args.iter_mut().find(|arg| **arg == "new").unwrap() = output;
        let mut command = program.command(&args);
        command.env("HF_ENDPOINT", server.address()).env("HF_HUB_OFFLINE", "0");
        command
    };
    std::thread::scope(|scope| {
        for output in ["one", "two"] {
            let mut command = run(output);
            scope.spawn(move || command.assert().success());
        }
    });
    assert_eq!(server.requests().iter().filter(|request| request.method == "GET").count(), 1);
}
