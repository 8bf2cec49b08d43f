//! Grids that no window fits, padded with zeros, against torchvision's Swin with the same weights under torchvision's names.

use candle_core::{D, Device, IndexOp, Tensor};
use std::collections::HashMap;
use std::sync::Arc;
use tadformer_backbone::{Adaptation, Skip, StageOutput, Swin, SwinConfig, Tuning, WindowPadding};
use tadformer_ops::testing::{GoldenFile, GoldenStore, assert_close, golden_parameter, named_tensor};
use tadformer_ops::{Mode, ParamStore, Role};
use tadformer_peft::{Filter, LoraConfig};
use tadformer_weights::names::{self, Naming};
use tadformer_weights::{StateDict, Tensor as Weight};

fn config(window_padding: WindowPadding) -> SwinConfig {
    SwinConfig {
        embed_dim: 8,
        depths: [2; 4],
        num_heads: [1, 2, 4, 8],
        window_size: 5,
        drop_path_rate: 0.0,
        window_padding,
        ..SwinConfig::tiny()
    }
}

/// The state dict that torchvision's network was given.
fn torchvision_weights(file: &GoldenFile) -> StateDict {
    let listed: Vec<(String, Vec<usize>)> = serde_json::from_value(file.meta["names"].clone()).unwrap();
    let mut weights = StateDict::new();
    for (name, shape) in listed {
        let values = golden_parameter(&name, shape.as_slice()).unwrap().flatten_all().unwrap();
        weights.insert(Weight::from_f32(name, shape, &values.to_vec1::<f32>().unwrap()).unwrap()).unwrap();
    }
    weights
}

#[test]
fn outputs_and_gradients_of_torchvision() {
    let file =
        GoldenFile::open(format!("{}/tests/data/window_padding.safetensors", env!("CARGO_MANIFEST_DIR")));
    let weights = torchvision_weights(&file);
    let mapped = names::map(&weights).unwrap();
    assert_eq!(mapped.naming, Naming::Torchvision);
    assert!(mapped.ignored.is_empty());
    let tensor = |weight: &Weight| Tensor::from_vec(weight.to_f32(), weight.shape(), &Device::Cpu).unwrap();
    let loaded: HashMap<_, _> =
        mapped.tensors.iter().map(|weight| (weight.name().to_owned(), tensor(weight))).collect();
    let store = ParamStore::with_values(0, loaded);
    let params = store.params().pp("backbone");
    let swin = Swin::new(&config(WindowPadding::Zeros), &Tuning::Full, &params).unwrap();
    assert!(store.unused().is_empty() && store.entries().iter().all(|entry| entry.loaded));

    let image = named_tensor("input:window_padding/image", (1, 3, 64, 96), 0.0, 3f64.sqrt()).unwrap();
    let stages = swin.forward(&image, &mut Mode::Eval).unwrap();
    let mut loss = Tensor::new(0f32, &Device::Cpu).unwrap();
    for (i, StageOutput { xs, .. }) in stages.iter().enumerate() {
        assert_close(&format!("stage {i}"), xs, file.tensor(&format!("out/stage{i}")), 1e-5);
        let cotangent = named_tensor(&format!("cot:window_padding/stage{i}"), xs.shape(), 0.0, 1.0).unwrap();
        loss = ((xs * cotangent).unwrap().sum_all().unwrap() + loss).unwrap();
    }
    let grads = loss.backward().unwrap();
    let trainable: HashMap<String, Tensor> =
        store.with_role(Role::Trainable).into_iter().map(|entry| (entry.name, entry.tensor)).collect();
    // Both in the order of torchvision's file.
    let ours: HashMap<&str, &str> =
        weights.iter().map(Weight::name).zip(mapped.tensors.iter().map(Weight::name)).collect();
    let mut compared = 0;
    for name in file.names("grad/") {
        let expected = file.tensor(&format!("grad/{name}"));
        let found = grads.get(&trainable[ours[name]]).unwrap();
        assert_close(&format!("gradient of {name}"), found, expected, 3e-5);
        compared += 1;
    }
    assert_eq!(compared, 17, "a bias and a table a block, and the patch embedding's bias");
}

#[test]
fn the_two_paddings_differ_only_where_windows_hang_over() {
    let outputs = |padding, sides: (usize, usize)| {
        let store = GoldenStore::new();
        let swin = Swin::new(&config(padding), &Tuning::Frozen, &store.params()).unwrap();
        let image = named_tensor("image", (1, 3, sides.0, sides.1), 0.0, 1.0).unwrap();
        swin.forward(&image, &mut Mode::Eval).unwrap()
    };
    // Stages of 80 × 120, 40 × 60, 20 × 30 and 10 × 15 tokens: windows of 5 fit them all, more than one along each side.
    let sides = (320, 480);
    let fitting = [WindowPadding::Masked, WindowPadding::Zeros].map(|padding| outputs(padding, sides));
    for (masked, zeros) in fitting[0].iter().zip(&fitting[1]) {
        assert_close("windows that fit", &masked.xs, &zeros.xs, 2e-6);
    }
    let [masked, zeros] =
        [WindowPadding::Masked, WindowPadding::Zeros].map(|padding| outputs(padding, (64, 96)).remove(0).xs);
    let difference = (masked - zeros).unwrap().abs().unwrap().max(D::Minus1).unwrap();
    // The shift brings padding into the window of the upper left corner, and the mask keeps it away.
    let inside = difference.i((0, 0, 0)).unwrap().to_scalar::<f32>().unwrap();
    let outside = difference.max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(outside > 1e-3 && inside < 1e-6, "{inside} inside, {outside} at most");
}

fn adapted() -> Tuning {
    Tuning::Adapted(adaptation())
}

fn adaptation() -> Adaptation {
    Adaptation {
        tasks: 2,
        prompts_per_task: 1,
        lora: LoraConfig { rank: 2, scale: 4.0, dropout: 0.0 },
        filter: Filter::Dynamic,
        condition: true,
        skip: Skip::Gated,
    }
}

/// Every output of a network with task streams.
fn all(stages: &[StageOutput]) -> Vec<Tensor> {
    let of = |stage: &StageOutput| {
        let tasks = stage.tasks.as_ref().unwrap().tensor().unwrap();
        [stage.xs.clone(), stage.prompts.clone().unwrap(), tasks]
    };
    stages.iter().flat_map(of).collect()
}

#[test]
fn every_way_through_an_adapted_network_pads_alike() {
    let store = GoldenStore::new();
    let mut swin = Swin::new(&config(WindowPadding::Zeros), &adapted(), &store.params()).unwrap();
    let image = named_tensor("image", (2, 3, 64, 96), 0.0, 1.0).unwrap();
    let recorded = all(&swin.forward(&image, &mut Mode::Eval).unwrap());
    let check = |what: &str, found: Vec<Tensor>| {
        for (i, (found, expected)) in found.iter().zip(&recorded).enumerate() {
            assert_close(&format!("{what}, output {i}"), found, expected, 1e-5);
        }
    };
    let forward = |swin: &Swin| all(&swin.forward(&image, &mut Mode::Eval).unwrap());
    check("prediction", tadformer_ops::no_grad(|| forward(&swin)));
    swin.set_grad_checkpointing(&[0, 1, 2, 3]).unwrap();
    check("checkpointed", forward(&swin));
    swin.set_grad_checkpointing(&[]).unwrap();
    swin.pack().unwrap();
    check("packed", tadformer_ops::no_grad(|| forward(&swin)));
    // Where there are prompts and task streams, the padding is felt as well.
    let store = GoldenStore::new();
    let masked = Swin::new(&config(WindowPadding::Masked), &adapted(), &store.params()).unwrap();
    for (found, zeros) in forward(&masked).iter().zip(&recorded) {
        let difference =
            (found - zeros).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference > 1e-4, "{difference}");
    }
}

#[test]
fn checkpointed_gradients_are_those_of_the_whole_pass() {
    let gradients = |stages: &[usize]| {
        let store = GoldenStore::new();
        let mut swin = Swin::new(&config(WindowPadding::Zeros), &adapted(), &store.params()).unwrap();
        swin.set_grad_checkpointing(stages).unwrap();
        let image = named_tensor("image", (1, 3, 64, 96), 0.0, 1.0).unwrap();
        let outputs = all(&swin.forward(&image, &mut Mode::Eval).unwrap());
        let losses: Vec<Tensor> = outputs.iter().map(|xs| xs.sqr().unwrap().mean_all().unwrap()).collect();
        let grads = Tensor::stack(&losses, 0).unwrap().sum_all().unwrap().backward().unwrap();
        let of = |store: &Arc<GoldenStore>| store.with_role(Role::Trainable);
        let found =
            of(&store).into_iter().filter_map(|entry| Some((entry.name, grads.get(&entry.tensor)?.clone())));
        found.collect::<HashMap<_, _>>()
    };
    let (whole, again) = (gradients(&[]), gradients(&[0, 1, 2, 3]));
    assert_eq!(whole.len(), again.len());
    for (name, expected) in &whole {
        assert_close(name, &again[name], expected, 3e-4);
    }
}
