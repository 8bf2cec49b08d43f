//! The plain network, without prompts or tasks, against timm's `swin_tiny_patch4_window7_224` with the same weights,
//! which come in under timm's names.

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use tadformer_backbone::{PatchEmbed, PatchMerging, Position, Swin, SwinBlock, SwinConfig, Tuning};
use tadformer_ops::testing::{GoldenFile, assert_close, golden_parameter, named_tensor};
use tadformer_ops::{LAYER_NORM_EPS, Mode, ParamStore, Role, layer_norm, linear};
use tadformer_weights::names::{self, Mapped, Naming, Reason};
use tadformer_weights::{StateDict, Tensor as Weight};

/// The state dict that timm's network was given.
fn timm_weights(file: &GoldenFile) -> StateDict {
    let listed: Vec<(String, Vec<usize>)> = serde_json::from_value(file.meta["timm_names"].clone()).unwrap();
    let mut weights = StateDict::new();
    for (name, shape) in listed {
        let values = golden_parameter(&name, shape.as_slice()).unwrap().flatten_all().unwrap();
        weights.insert(Weight::from_f32(name, shape, &values.to_vec1::<f32>().unwrap()).unwrap()).unwrap();
    }
    weights
}

fn tensor(weight: &Weight) -> Tensor {
    Tensor::from_vec(weight.to_f32(), weight.shape(), &Device::Cpu).unwrap()
}

/// The same weights in a file under the names of `naming`, read back.
fn under(weights: &StateDict, naming: Naming) -> StateDict {
    let ours = names::map(weights).unwrap().tensors;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    names::unmap(&ours, naming).unwrap().write_safetensors(&path).unwrap();
    StateDict::read(&path).unwrap()
}

#[test]
fn features_and_logits_of_timm_under_three_namings() {
    let file =
        GoldenFile::open(format!("{}/tests/data/plain_swin_timm.safetensors", env!("CARGO_MANIFEST_DIR")));
    let weights = timm_weights(&file);
    let Mapped { naming, tensors, ignored } = names::map(&weights).unwrap();
    assert_eq!(naming, Naming::Timm);
    let ignored: Vec<_> = ignored.iter().map(|tensor| (tensor.name.as_str(), tensor.reason)).collect();
    let expected = [
        ("norm.weight", Reason::FinalNorm),
        ("norm.bias", Reason::FinalNorm),
        ("head.fc.weight", Reason::Classifier),
        ("head.fc.bias", Reason::Classifier),
    ];
    assert_eq!(ignored, expected);

    for naming in [Naming::Microsoft, Naming::HuggingFace] {
        let other = names::map(&under(&weights, naming)).unwrap();
        assert_eq!((other.naming, other.tensors.len()), (naming, tensors.len()));
        for tensor in &tensors {
            let name = tensor.name();
            let found = other.tensors.get(name).unwrap_or_else(|| panic!("{naming:?}: no `{name}`"));
            assert_eq!(found.shape(), tensor.shape(), "{naming:?}: `{name}`");
            assert!(found.bytes()[..] == tensor.bytes()[..], "{naming:?}: `{name}` differs");
        }
    }
    check_outputs(&file, &weights, &tensors);
}

/// What the last block of every stage gives, of a network put together from the weights in `store`.
fn before_merging(config: &SwinConfig, store: &ParamStore, image: &Tensor) -> Vec<Tensor> {
    let values = store.entries().into_iter().map(|entry| (entry.name, entry.tensor)).collect();
    let store = ParamStore::with_values(0, values);
    let params = store.params().pp("backbone");
    let embed = PatchEmbed::new(4, config.embed_dim, &params.pp("patch_embed")).unwrap();
    let (mut xs, mut outputs) = (embed.forward(image).unwrap(), Vec::new());
    for stage in 0..4 {
        let params = params.pp(format!("layers.{stage}"));
        for block in 0..config.depths[stage] {
            let (position, params) = (Position { stage, block }, params.pp(format!("blocks.{block}")));
            let block = SwinBlock::new(config, &Tuning::Frozen, position, &params).unwrap();
            xs = block.forward(&xs, None, &mut Mode::Eval).unwrap().xs;
        }
        outputs.push(xs.clone());
        if stage < 3 {
            let merging = PatchMerging::new(config.dim(stage), &Tuning::Frozen, &params.pp("downsample"));
            xs = merging.unwrap().forward(&xs).unwrap().tensor().unwrap();
        }
    }
    outputs
}

/// Runs the network with `tensors`, and timm's norm and classifier after it.
fn check_outputs(file: &GoldenFile, weights: &StateDict, tensors: &StateDict) {
    let loaded: HashMap<String, Tensor> = tensors.iter().map(|w| (w.name().to_owned(), tensor(w))).collect();
    let store = ParamStore::with_values(0, loaded);
    let config = SwinConfig { image_size: 224, ..SwinConfig::tiny() };
    let model = Swin::new(&config, &Tuning::Frozen, &store.params().pp("backbone")).unwrap();
    assert!(store.unused().is_empty(), "no layer asked for {:?}", store.unused());
    for entry in store.entries() {
        assert!(entry.loaded, "`{}` is in no file of timm", entry.name);
        assert_eq!(entry.role, Role::Frozen, "`{}`", entry.name);
    }

    let check = |name: &str, found: &Tensor| {
        let positions = file.tensor(&format!("{name}/idx"));
        let found = found.flatten_all().unwrap().contiguous().unwrap().index_select(positions, 0).unwrap();
        assert_close(name, &found, file.tensor(&format!("{name}/val")), 1e-5);
    };
    let image = named_tensor("input:plain_swin_timm/image", (1, 3, 224, 224), 0.0, 1.732_050_8).unwrap();
    let stages = model.forward(&image, &mut Mode::Eval).unwrap();
    assert_eq!(stages.len(), 4);
    assert!(stages.iter().all(|stage| stage.prompts.is_none() && stage.tasks.is_none()));
    let last = &stages[3].xs;
    assert_eq!(last.dims(), [1, 7, 7, 768]);
    check("timm_stage3", last);
    // timm merges patches at the beginning of a stage, we at the end of the one before: what its other stages give is what
    // comes out of the last block.
    for (i, xs) in before_merging(&config, &store, &image).iter().enumerate() {
        check(&format!("timm_stage{i}"), xs);
    }

    let weight = |name: &str| tensor(weights.get(name).unwrap());
    let features = layer_norm(last, &weight("norm.weight"), &weight("norm.bias"), LAYER_NORM_EPS).unwrap();
    check("forward_features", &features);
    let pooled = features.mean((1, 2)).unwrap();
    let logits = linear(&pooled, &weight("head.fc.weight"), Some(&weight("head.fc.bias"))).unwrap();
    assert_eq!(logits.dims(), [1, 1000]);
    check("logits", &logits);
}
