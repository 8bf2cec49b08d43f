//! A folder that Hugging Face PEFT wrote (version 0.21; `data/peft/make.py`) computes the same here.

use candle_core::{Device, Tensor};
use candle_nn::{Linear, Module};
use std::collections::HashMap;
use std::path::Path;
use tadformer_ops::testing::assert_close;
use tadformer_peft::{LoraAdapter, LoraLinear, ParamStore, Role};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/peft"))
}

/// The base network with the adapter's updates, and the case's tensors.
fn adapted(adapter: &LoraAdapter) -> ([LoraLinear; 2], HashMap<String, Tensor>) {
    let case = candle_core::safetensors::load(folder().join("case.safetensors"), &Device::Cpu).unwrap();
    let store = ParamStore::with_values(0, adapter.values.clone());
    let layers = ["fc1", "fc2"].map(|name| {
        let bias = case.get(&format!("{name}.bias")).cloned();
        let linear = Linear::new(case[&format!("{name}.weight")].clone(), bias);
        LoraLinear::new(&linear, &adapter.config, &store.params().pp(name)).unwrap()
    });
    adapter.check(&store).unwrap();
    (layers, case)
}

#[test]
fn an_adapter_of_hugging_face_computes_the_same_merged_or_not() {
    let adapter = LoraAdapter::read(folder()).unwrap();
    assert_eq!((adapter.config.rank, adapter.config.scale, adapter.config.dropout), (2, 1.5, 0.1));
    let (mut layers, case) = adapted(&adapter);
    let forward = |[fc1, fc2]: &[LoraLinear; 2]| fc2.forward(&fc1.forward(&case["xs"])?);
    assert_close("adapted", &forward(&layers).unwrap(), &case["ys"], 1e-6);
    layers.iter_mut().for_each(|layer| layer.merge().unwrap());
    assert_close("merged", &forward(&layers).unwrap(), &case["ys"], 1e-6);
}

#[test]
fn written_again_it_holds_the_same_numbers_under_the_same_names() {
    let written = tempfile::tempdir().unwrap();
    let adapter = LoraAdapter::read(folder()).unwrap();
    let store = ParamStore::with_values(0, adapter.values.clone());
    for (name, (outputs, inputs)) in [("fc1", (6, 5)), ("fc2", (4, 6))] {
        let weight = Tensor::zeros((outputs, inputs), candle_core::DType::F32, &Device::Cpu).unwrap();
        LoraLinear::new(&Linear::new(weight, None), &adapter.config, &store.params().pp(name)).unwrap();
    }
    LoraAdapter::new(&store.with_role(Role::Trainable), &adapter.config)
        .unwrap()
        .write(written.path())
        .unwrap();
    let load = |folder: &Path| {
        candle_core::safetensors::load(folder.join("adapter_model.safetensors"), &Device::Cpu).unwrap()
    };
    let (theirs, ours) = (load(folder()), load(written.path()));
    assert_eq!(theirs.len(), ours.len());
    for (name, tensor) in &theirs {
        assert_close(name, &ours[name], tensor, 0.0);
    }
}
