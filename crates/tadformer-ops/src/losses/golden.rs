//! Every loss against the published PyTorch code: `tests/data/losses.safetensors`, whose values and gradients come from an
//! `f64` run and whose metadata names each case's task and value.

use super::{LossValue, balanced_bce, balanced_bce_labelled, cross_entropy, masked_l1, normals_l1};
use crate::testing::assert_close;
use candle_core::{Device, Result, Tensor, Var};
use serde_json::Value;
use std::collections::HashMap;

const FILE: &[u8] = include_bytes!("../../tests/data/losses.safetensors");

fn load() -> (HashMap<String, Tensor>, Value) {
    let (_, header) = safetensors::SafeTensors::read_metadata(FILE).unwrap();
    let meta = serde_json::from_str(&header.metadata().as_ref().unwrap()["meta"]).unwrap();
    (candle_core::safetensors::load_buffer(FILE, &Device::Cpu).unwrap(), meta)
}

fn loss(task: &str, x: &Tensor, y: &Tensor) -> Result<LossValue> {
    match task {
        "semseg" | "human_parts" => cross_entropy(x, y),
        "sal" => balanced_bce(x, y, None),
        "edge" => balanced_bce(x, y, Some(0.95)),
        "normals" => normals_l1(x, y),
        "depth" => masked_l1(x, y),
        other => panic!("no loss for `{other}`"),
    }
}

#[test]
fn every_case_has_the_published_value_and_gradient() {
    let (tensors, meta) = load();
    let cases = meta["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 21);
    for (name, case) in cases {
        let [x, y, expected] = ["pred", "label", "grad"].map(|key| &tensors[&format!("{name}/{key}")]);
        let x = Var::from_tensor(x).unwrap();
        let found = loss(case["task"].as_str().unwrap(), &x, y).unwrap();
        let value = f64::from(found.value.to_scalar::<f32>().unwrap());
        match case["value"].as_f64() {
            Some(expected) => {
                assert!(
                    (value - expected).abs() <= 1e-6 * expected.abs(),
                    "{name}: {value}, expected {expected}"
                );
            }
            // PyTorch divides 0 by 0 where nothing is labelled.
            None => assert_eq!((value, found.labelled), (0.0, 0), "{name}"),
        }
        let grads = found.value.backward().unwrap();
        let grad = grads.get(&x).unwrap();
        assert_close(name, grad, expected, 1e-5);
        if found.labelled == 0 {
            let sum = grad.abs().unwrap().sum_all().unwrap();
            assert_eq!(sum.to_scalar::<f32>().unwrap(), 0.0, "{name}");
        }
    }
}

#[test]
fn where_everything_is_labelled_both_balanced_losses_agree() {
    let (tensors, _) = load();
    for (name, agree) in [("sal", true), ("edge", true), ("sal_soft_labels", true), ("sal_label255", false)] {
        let [x, y] = ["pred", "label"].map(|key| &tensors[&format!("{name}/{key}")]);
        for weight in [None, Some(0.95)] {
            let [all, labelled] = [balanced_bce, balanced_bce_labelled]
                .map(|loss| loss(x, y, weight).unwrap().value.to_scalar::<f32>().unwrap());
            assert_eq!(all == labelled, agree, "{name}: {all} {labelled}");
        }
    }
}
