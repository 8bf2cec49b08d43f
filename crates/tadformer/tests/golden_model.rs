//! The whole network against numbers of an independent implementation: values, losses, gradients by name.

mod golden;

use candle_core::{DType, Tensor};
use golden::{assert_near, config, open, sampled, scalar, specs};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use tadformer::config::{ModelConfig, WeightsSource};
use tadformer::{Config, MultiTaskLoss, MultiTaskModel, SharedBackbone};
use tadformer_data::Task;
use tadformer_ops::testing::{GoldenStore, assert_close, assert_zero, named_tensor};
use tadformer_ops::{Mode, ParamStore, Rng, Role, no_grad};

/// Stage features in the golden order `(b, tokens, c)`, by name: `shared` and each task.
fn stage_features(model: &MultiTaskModel, image: &Tensor) -> Vec<(String, Tensor)> {
    let b = image.dims()[0];
    let mut features = Vec::new();
    for (i, stage) in model.stages(image, &mut Mode::Eval).unwrap().into_iter().enumerate() {
        features.push((format!("eval/stage{i}/shared"), stage.xs.flatten(1, 2).unwrap()));
        let tasks = stage.tasks.unwrap().tensor().unwrap();
        for (t, spec) in specs().iter().enumerate() {
            let own = tasks.narrow(0, t * b, b).unwrap().flatten(1, 2).unwrap();
            features.push((format!("eval/stage{i}/{}", spec.task), own));
        }
    }
    features
}

#[test]
fn micro_model_values_losses_and_gradients() {
    assert_micro_model(&[]);
}

#[test]
fn a_checkpointed_micro_model_has_the_same_values_losses_and_gradients() {
    assert_micro_model(&[0, 1, 2, 3]);
}

#[track_caller]
fn assert_micro_model(checkpointed: &[usize]) {
    let file = open("micro_model");
    let store = GoldenStore::new();
    let specs = specs();
    let mut model = MultiTaskModel::new(&config(&file), &specs, &store.params()).unwrap();
    model.set_grad_checkpointing(checkpointed).unwrap();
    let names: BTreeSet<String> = store.with_role(Role::Trainable).into_iter().map(|e| e.name).collect();
    let expected: BTreeSet<String> = serde_json::from_value(file.meta["trainable"].clone()).unwrap();
    assert_eq!(names, expected, "trainable tensors");

    let image = file.tensor("in/image");
    for (name, found) in stage_features(&model, image) {
        assert_close(&name, &found, file.tensor(&name), 3e-5);
    }
    let labels: Vec<(Task, Tensor)> = specs
        .iter()
        .map(|spec| (spec.task, file.tensor(&format!("label/{}", spec.task)).to_dtype(DType::F32).unwrap()))
        .collect();
    let loss = MultiTaskLoss::new(specs.iter().map(|spec| spec.task));

    for (mode_name, mut rng) in [("eval", None), ("train", Some(Rng::named(0, "golden", 0)))] {
        let mut mode = rng.as_mut().map_or(Mode::Eval, Mode::Train);
        let logits = model.coarse_logits(image, &mut mode).unwrap();
        for (task, logits) in &logits.resized().unwrap() {
            let name = format!("{mode_name}/out/{task}");
            assert_close(&name, logits, file.tensor(&name), 3e-5);
        }
        let losses = loss.forward(&logits, &labels).unwrap();
        let parts = losses.tasks.iter().map(|(task, loss)| (task.name, &loss.value));
        for (name, found) in parts.chain([("total", &losses.total)]) {
            let expected = scalar(file.tensor(&format!("{mode_name}/loss/{name}")));
            assert_near(&format!("{mode_name}: loss {name}"), scalar(found), expected, 2e-6);
        }
        if mode_name == "eval" {
            continue;
        }
        let grads = losses.total.backward().unwrap();
        let listed = |key: &str| serde_json::from_value::<BTreeSet<String>>(file.meta[key].clone()).unwrap();
        let (no_grad, zero_grad) = (listed("no_grad"), listed("zero_grad"));
        let mut squares = 0f64;
        for entry in store.with_role(Role::Trainable) {
            let name = &entry.name;
            let Some(grad) = grads.get(&entry.tensor) else {
                assert!(no_grad.contains(name), "`{name}` has no gradient");
                continue;
            };
            assert!(!no_grad.contains(name), "`{name}` has a gradient and should have none");
            let values = grad.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            squares += values.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
            let expected = file.tensor(&format!("grad/{name}"));
            if zero_grad.contains(name) {
                assert_zero(name, grad);
            } else {
                assert_close(name, grad, expected, 3e-4);
            }
        }
        assert_near("gradient norm", squares.sqrt(), scalar(file.tensor("grad_norm")), 1e-3);
        for entry in store.with_role(Role::Buffer) {
            let expected = file.tensor(&format!("buf_after/{}", entry.name));
            assert_close(&entry.name, &entry.tensor, expected, 1e-5);
        }
    }
}

#[test]
fn swin_tiny_at_224_as_it_is_and_packed() {
    let file = open("swin_t_224");
    file.compared_elsewhere(&["train/", "grad_first8/"]);
    let store = GoldenStore::new();
    let specs = specs();
    let mut model = MultiTaskModel::new(&config(&file), &specs, &store.params()).unwrap();
    let count: usize = store.with_role(Role::Trainable).iter().map(|e| e.tensor.elem_count()).sum();
    assert_eq!(count as u64, file.meta["counts"]["trainable"].as_u64().unwrap());

    let check = |name: &str, found: &Tensor| {
        let found = sampled(found, file.tensor(&format!("{name}/idx")));
        assert_close(name, &found, file.tensor(&format!("{name}/val")), 3e-5);
    };
    let image = named_tensor("input:swin_t_224/image", (1, 3, 224, 224), 0.0, 1.732_050_8).unwrap();
    for packed in [false, true] {
        if packed {
            model.pack().unwrap();
        }
        for (name, found) in no_grad(|| stage_features(&model, &image)) {
            check(&name, &found);
        }
        for (task, logits) in no_grad(|| model.forward(&image, &mut Mode::Eval)).unwrap() {
            check(&format!("eval/out/{task}"), &logits);
        }
    }
}

#[test]
fn a_microsoft_backbone_below_golden_updates_gives_the_published_outputs() {
    let file = open("reference_outputs");
    file.compared_elsewhere(&["checkpoint/"]);
    let weights = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tadformer-weights/tests/data/swin_backbone_ms.pth");
    let model = ModelConfig { weights: WeightsSource::File(weights), ..config(&file) };
    let shared = SharedBackbone::open(&Config { model: model.clone(), ..Config::default() }).unwrap();
    let specs = specs();
    let golden = GoldenStore::new();
    MultiTaskModel::new(&model, &specs, &golden.params()).unwrap();
    let values: HashMap<_, _> = golden
        .entries()
        .into_iter()
        .map(|entry| {
            let value = shared.tensor(&entry.name).cloned().unwrap_or_else(|| entry.tensor.detach());
            (entry.name, value)
        })
        .collect();
    let store = ParamStore::with_values(0, values);
    let network = MultiTaskModel::new(&model, &specs, &store.params()).unwrap();
    assert!(store.entries().iter().all(|entry| entry.loaded) && store.unused().is_empty());
    let image =
        named_tensor("input:reference_checkpoint/eval/image", (2, 3, 64, 64), 0.0, 1.732_050_8).unwrap();
    for (task, logits) in network.forward(&image, &mut Mode::Eval).unwrap() {
        let found = sampled(&logits, file.tensor(&format!("ms_backbone/idx/{task}")));
        let name = format!("ms_backbone/val/{task}");
        assert_close(&name, &found, file.tensor(&name), 3e-5);
    }
}
