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

#[test]
fn files_made_to_harm_are_refused_and_nothing_is_left() {
    let program = Program::new();
    let witness = program.path("pickle-ran");
    let command = format!("touch {}", witness.display());
    let checkpoint = |pickle: Pickle| {
        zip(&[Entry::stored("x/data.pkl", &pickle.end()), Entry::stored("x/data/0", &[0; 4])])
    };
    let tensor = || Pickle::new(2).dict().text("w").global("torch._utils", "_rebuild_tensor_v2").mark();
    let code = |module: &str, name: &str| {
        let call = Pickle::new(2).dict().text("w").global(module, name).text(&command);
        checkpoint(call.tuple1().reduce().set_item())
    };
    let huge = [1 << 30, 1 << 30];
    let huge = tensor().storage("FloatStorage", "0", 1).int(0).ints(&huge).ints(&huge).none().none();
    let mut doubling = Pickle::new(2).dict().text("w").list();
    for slot in 0..100 {
        doubling = doubling.put(slot).pop().list().get(slot).append().get(slot).append();
    }
    let mut nested = b"]".repeat(50_000);
    nested.extend(b"a".repeat(49_999));
    let empty = Pickle::new(2).dict().end();
    let entry = Entry::stored("x/data.pkl", &empty);
    let many: Vec<Entry> = (0..100_000).map(|n| Entry::stored(&format!("x/data/{n}"), &[])).collect();
    let lie = Entry { size: 1 << 31, packed_size: 1 << 31, ..entry.clone() };
    let mut header = (1u64 << 40).to_le_bytes().to_vec();
    header.extend(b"{}");
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("system.pth", code("os", "system"), "it asks to call `os.system`"),
        ("eval.pth", code("builtins", "eval"), "it asks to call `builtins.eval`"),
        ("short.pth", checkpoint(tensor().tuple().reduce().set_item()), "has 0 arguments"),
        ("huge.pth", checkpoint(huge.tuple().reduce().set_item()), "does not lie in its storage"),
        ("doubling.pth", checkpoint(doubling.set_item()), "holds no state dict"),
        ("nested.pth", checkpoint(Pickle::new(2).raw(&nested)), "nest deeper than 200"),
        ("bomb.pth", zip(&[Entry::deflated("x/data.pkl", &vec![0; 50 << 20])]), "a zip bomb?"),
        ("twice.pth", zip(&[entry.clone(), entry]), "two entries named"),
        ("many.pth", zip(&many), "at most 65536"),
        ("lie.pth", zip(&[lie]), "lies outside of the file"),
        ("header.safetensors", header, "its header claims"),
        ("page.safetensors", b"<html>Please sign in</html>".to_vec(), "HTML"),
    ];
    let names: Vec<&str> = cases.iter().map(|(name, ..)| *name).collect();
    for (name, bytes, reason) in &cases {
        fs::write(program.path(name), bytes).unwrap();
        program.refuses(&finetune(name), &[name, reason]);
        program.refuses(&["import", name, "--output", "new"], &[name, reason]);
    }
    assert!(!witness.exists(), "a pickle ran");
    let mut left = program.names("");
    left.retain(|name| !names.contains(&name.as_str()));
    assert!(left.is_empty(), "{left:?}");
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
