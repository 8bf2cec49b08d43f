//! Folders that Hugging Face PEFT wrote (version 0.21.2; `data/peft/make.py`) compute the same here.

use candle_core::{Device, Tensor};
use candle_nn::{Linear, Module};
use std::collections::HashMap;
use std::path::Path;
use tadformer_ops::testing::assert_close;
use tadformer_peft::{LoraAdapter, LoraConfig, LoraLinear, ParamStore, Role};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/peft"))
}

type Case = HashMap<String, Tensor>;

/// The named linears of a folder's network with the adapter's updates, and the case's tensors.
fn adapted<const N: usize>(
    folder: &Path,
    adapter: &LoraAdapter,
    names: [&str; N],
) -> ([LoraLinear; N], Case) {
    let case = candle_core::safetensors::load(folder.join("case.safetensors"), &Device::Cpu).unwrap();
    let store = ParamStore::with_values(0, adapter.values.clone());
    let layers = names.map(|name| {
        let bias = case.get(&format!("{name}.bias")).cloned();
        let linear = Linear::new(case[&format!("{name}.weight")].clone(), bias);
        LoraLinear::new(&linear, &adapter.config_of(name), &store.params().pp(name)).unwrap()
    });
    adapter.check(&store).unwrap();
    (layers, case)
}

fn chain(layers: &[LoraLinear], xs: &Tensor) -> Tensor {
    layers.iter().fold(xs.clone(), |xs, layer| layer.forward(&xs).unwrap())
}

#[test]
fn an_adapter_of_hugging_face_computes_the_same_merged_or_not() {
    let adapter = LoraAdapter::read(folder()).unwrap();
    assert_eq!(adapter.config_of("fc1"), LoraConfig { rank: 2, scale: 1.5, dropout: 0.1 });
    let (mut layers, case) = adapted(folder(), &adapter, ["fc1", "fc2"]);
    assert_close("adapted", &chain(&layers, &case["xs"]), &case["ys"], 1e-6);
    layers.iter_mut().for_each(|layer| layer.merge().unwrap());
    assert_close("merged", &chain(&layers, &case["xs"]), &case["ys"], 1e-6);
}

/// PEFT sorts patterns on saving and takes the first that matches: `encoder.*` stands before `fc1` in the file.
#[test]
fn layers_have_the_ranks_and_factors_that_the_patterns_of_a_file_give_them() {
    let folder = folder().join("patterns");
    let adapter = LoraAdapter::read(&folder).unwrap();
    let size = |module| (adapter.config_of(module).rank, adapter.config_of(module).scale);
    assert_eq!(size("encoder.fc1"), (2, 4.0 / 2.0));
    assert_eq!(size("encoder.fc2"), (3, 4.0 / 3.0));
    assert_eq!(size("head"), (1, 3.0 / 1.0));
    let names = ["encoder.fc1", "encoder.fc2", "head"];
    let (layers, case) = adapted(&folder, &adapter, names);
    assert_close("adapted", &chain(&layers, &case["xs"]), &case["ys"], 1e-6);

    let written = tempfile::tempdir().unwrap();
    adapter.write(written.path()).unwrap();
    let again = LoraAdapter::read(written.path()).unwrap();
    for name in names {
        let (found, expected) = (again.config_of(name), adapter.config_of(name));
        assert_eq!(found.rank, expected.rank, "{name}");
        assert!((found.scale - expected.scale).abs() < 1e-12, "{name}: {found:?}, expected {expected:?}");
    }
}

#[test]
fn written_again_it_holds_the_same_numbers_under_the_same_names() {
    let written = tempfile::tempdir().unwrap();
    let adapter = LoraAdapter::read(folder()).unwrap();
    let store = ParamStore::with_values(0, adapter.values.clone());
    for (name, (outputs, inputs)) in [("fc1", (6, 5)), ("fc2", (4, 6))] {
        let weight = Tensor::zeros((outputs, inputs), candle_core::DType::F32, &Device::Cpu).unwrap();
        LoraLinear::new(&Linear::new(weight, None), &adapter.config_of(name), &store.params().pp(name))
            .unwrap();
    }
    adapter.with_entries(&store.with_role(Role::Trainable)).unwrap().write(written.path()).unwrap();
    let load = |folder: &Path| {
        candle_core::safetensors::load(folder.join("adapter_model.safetensors"), &Device::Cpu).unwrap()
    };
    let (theirs, ours) = (load(folder()), load(written.path()));
    assert_eq!(theirs.len(), ours.len());
    for (name, tensor) in &theirs {
        assert_close(name, &ours[name], tensor, 0.0);
    }
}
