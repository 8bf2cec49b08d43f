//! Files of `torch.save`: the reference's real ones, and small ones of each container and pickle protocol.

mod golden;

use std::path::PathBuf;

use golden::{generated, json, offset_and_amplitude};
use sha2::{Digest, Sha256};
use tadformer_weights::{Checkpoint, Dtype, PickleValue, StateDict, Tensor};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// `data/make_pickles.py` writes the same objects into each of these.
const CONTAINERS: [&str; 6] =
    ["protocol2.pth", "protocol3.pth", "protocol4.pth", "protocol5.pth", "deflated.pth", "legacy.pth"];

#[test]
fn every_container_and_protocol_gives_the_same_tensors() {
    for file in CONTAINERS {
        let dict = StateDict::read(data(file)).unwrap();
        let get = |name: &str| dict.get(name).unwrap_or_else(|| panic!("{file}: no `{name}`"));
        let base: Vec<f32> = (0..24).map(|n| n as f32 / 8.0).collect();
        assert_eq!(get("whole").to_f32(), base);
        assert_eq!(get("whole").shape(), [4, 6]);
        let transposed: Vec<f32> = (0..24).map(|n| base[(n % 4) * 6 + n / 4]).collect();
        assert_eq!(get("transposed").to_f32(), transposed);
        assert_eq!(get("transposed").shape(), [6, 4]);
        assert_eq!(get("tail").to_f32(), base[18..]);
        assert_eq!(get("every_other").to_f32(), [1, 3, 5, 13, 15, 17].map(|n| base[n]));
        assert_eq!((get("scalar").shape(), get("scalar").to_f32()), (&[][..], vec![2.5]));
        assert_eq!((get("empty").shape(), get("empty").to_f32()), (&[0, 3][..], vec![]));
        assert_eq!(get("parameter").to_f32(), [1.5, -2.0]);
        let typed = |name: &str| (get(name).dtype(), get(name).to_f32());
        assert_eq!(typed("f16"), (Dtype::F16, vec![1.0, -0.5, 65504.0]));
        assert_eq!(typed("bf16"), (Dtype::BF16, vec![1.0, -3.0]));
        assert_eq!(typed("f64"), (Dtype::F64, vec![0.1]));
        assert_eq!(typed("i64"), (Dtype::I64, vec![-1.0, 1_048_576.0]));
        assert_eq!(typed("i32"), (Dtype::I32, vec![-7.0]));
        assert_eq!(typed("i16"), (Dtype::I16, vec![-300.0]));
        assert_eq!(typed("i8"), (Dtype::I8, vec![-5.0]));
        assert_eq!(typed("u8"), (Dtype::U8, vec![200.0]));
        assert_eq!(typed("bool"), (Dtype::Bool, vec![1.0, 0.0]));
        assert_eq!(dict.len(), 16, "{file}");
        assert_eq!(dict.skipped()[0].name, "note");
        assert_eq!(dict.iter().next().unwrap().name(), "whole");
    }
}

#[test]
fn what_is_no_tensor_can_be_read_beside_them() {
    for file in CONTAINERS {
        let checkpoint = Checkpoint::read(data(file)).unwrap();
        let root = checkpoint.root();
        let get = |key: &str| root.get(key).unwrap_or_else(|| panic!("{file}: no `{key}`"));
        assert_eq!(get("epoch").as_i64(), Some(4));
        assert_eq!(get("best").as_f64(), Some(0.625), "{file}");
        assert_eq!(get("count").as_i64(), Some(-3), "{file}");
        assert_eq!(get("raw").as_bytes().as_deref(), Some(&[0x00, 0xff][..]), "{file}");
        assert_eq!(get("flag").as_bool(), Some(true));
        assert!(get("nothing").is_none());
        let config = get("config");
        assert_eq!(config.class(), Some(("yacs.config", "CfgNode")));
        let model = config.get("MODEL").unwrap();
        assert_eq!(model.get("NAME").unwrap().as_str(), Some("swin"));
        assert_eq!(model.get("DROP").unwrap().as_f64(), Some(0.25));
        let depths: Vec<_> = model.get("DEPTHS").unwrap().members().filter_map(PickleValue::as_i64).collect();
        assert_eq!(depths, [2, 2]);
        assert_eq!(config.get("TAGS").unwrap().members().next().unwrap().as_str(), Some("a"));
        assert_eq!(config.get("LONG").unwrap().as_i64(), None, "beyond 64 bits");
        let (key, state) = get("optimizer").get("state").unwrap().items().next().unwrap();
        assert_eq!(key.as_i64(), Some(3));
        let average = checkpoint.tensor("exp_avg", state.get("exp_avg").unwrap()).unwrap();
        assert_eq!(average.to_f32(), [0.5]);
        assert_eq!(checkpoint.tensor("step", state.get("step").unwrap()).map(|t| t.to_f32()), None);
    }
}

#[test]
fn another_state_dict_of_the_file_can_be_chosen() {
    let ema = StateDict::read_key(data("protocol2.pth"), "model_ema").unwrap();
    assert_eq!(ema.get("weight").unwrap().to_f32(), [9.0]);
    let message = StateDict::read_key(data("protocol2.pth"), "teacher").unwrap_err().to_string();
    assert!(message.contains("nothing under `teacher`") && message.contains("`model_ema`"), "{message}");
    let message = StateDict::read_key(data("protocol2.pth"), "config").unwrap_err().to_string();
    assert!(message.contains("no state dict"), "{message}");
}

/// `data/make_negated.py`: the storage has the other sign, and a flag beside it says so.
#[test]
fn tensors_that_are_stored_negated_have_the_numbers_that_pytorch_gives_them() {
    let dict = StateDict::read(data("negated.pth")).unwrap();
    let get = |name: &str| dict.get(name).unwrap().to_f32();
    assert_eq!(get("plain"), [1.0, -2.0]);
    assert_eq!(get("imag"), [-2.0, 4.0, -5.0, 0.5]);
    assert_eq!(get("parameter"), [-2.0, 4.0]);
    for (name, dtype) in [("f16", Dtype::F16), ("bf16", Dtype::BF16), ("f64", Dtype::F64)] {
        assert_eq!((dict.get(name).unwrap().dtype(), get(name)), (dtype, vec![-1.5, 0.0, 2.0]), "{name}");
    }
}

#[test]
fn contiguous_tensors_share_the_bytes_of_the_file() {
    let dict = StateDict::read(data("legacy.pth")).unwrap();
    let (whole, tail) = (dict.get("whole").unwrap().bytes(), dict.get("tail").unwrap().bytes());
    assert_eq!(whole[18 * 4..].as_ptr(), tail.as_ptr());
    // SAFETY: nobody writes to test data.
    let mapped = unsafe { StateDict::map(data("protocol2.pth")) }.unwrap();
    assert_eq!(mapped.get("whole").unwrap().to_f32(), dict.get("whole").unwrap().to_f32());
}

/// Compares every element with `[shape, dtype, SHA-256 of the elements]` as PyTorch reads them (`data/hash_tensors.py`).
fn check_elements(name: &str, found: &Tensor, expected: &serde_json::Value) {
    assert_eq!(serde_json::json!(found.shape()), expected[0], "{name}: shape");
    let dtype = if expected[1] == "float32" { Dtype::F32 } else { Dtype::I64 };
    assert_eq!(found.dtype(), dtype, "{name}");
    let hash: String = Sha256::digest(&found.bytes()[..]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, expected[2].as_str().unwrap(), "{name}: elements");
}

#[test]
fn the_reference_checkpoint_is_read_exactly() {
    let dict = StateDict::read(data("reference_checkpoint.pth")).unwrap();
    let expected = json("reference_checkpoint.json");
    let tensors = expected["model_tensors"].as_object().unwrap();
    assert_eq!(dict.len(), tensors.len());
    for (name, elements) in tensors {
        check_elements(name, dict.get(name).unwrap_or_else(|| panic!("no `{name}`")), elements);
    }
}

#[test]
fn the_reference_checkpoint_tells_its_configuration_and_optimizer() {
    let dict = StateDict::read(data("reference_checkpoint.pth")).unwrap();
    let checkpoint = dict.checkpoint().unwrap();
    let expected = json("reference_checkpoint.json");
    let root = checkpoint.root();
    let keys: Vec<_> = root.items().filter_map(|(key, _)| key.as_str()).collect();
    let wanted: Vec<_> = expected["keys"].as_array().unwrap().iter().filter_map(|key| key.as_str()).collect();
    assert_eq!(keys, wanted);
    let config = root.get("config").unwrap();
    assert_eq!(config.class(), Some(("yacs.config", "CfgNode")));
    assert_eq!(config.get("DATA").unwrap().get("IMG_SIZE").unwrap().as_i64(), Some(64));
    let optimizer = root.get("optimizer").unwrap();
    let groups: Vec<_> = optimizer.get("param_groups").unwrap().members().collect();
    let counts: Vec<_> =
        groups.iter().map(|group| group.get("params").unwrap().members().len() as u64).collect();
    let wanted: Vec<_> = expected["optimizer"]["group_param_counts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(serde_json::Value::as_u64)
        .collect();
    assert_eq!(counts, wanted);
    for (group, hyper) in groups.iter().zip(expected["optimizer"]["group_hyper"].as_array().unwrap()) {
        for key in ["lr", "initial_lr", "weight_decay", "eps"] {
            assert_eq!(group.get(key).unwrap().as_f64(), hyper[key].as_f64(), "{key}");
        }
    }
    let states = expected["optimizer"]["state"].as_object().unwrap();
    let found: Vec<_> = optimizer.get("state").unwrap().items().collect();
    assert_eq!(found.len(), states.len());
    for (index, state) in found {
        let wanted = &states[&index.as_i64().unwrap().to_string()];
        for moment in ["exp_avg", "exp_avg_sq"] {
            let tensor = checkpoint.tensor(moment, state.get(moment).unwrap()).unwrap();
            check_elements(moment, &tensor, &wanted[moment]);
        }
        let step = checkpoint.tensor("step", state.get("step").unwrap()).unwrap();
        assert_eq!(f64::from(step.to_f32()[0]), wanted["step"].as_f64().unwrap());
    }
}

#[test]
fn the_microsoft_file_holds_the_generated_weights_bit_by_bit() {
    let dict = StateDict::read(data("swin_backbone_ms.pth")).unwrap();
    let expected = json("reference_checkpoint.json");
    let tensors = expected["ms_tensors"].as_array().unwrap();
    assert_eq!(dict.len(), tensors.len());
    let mut generated_tensors = 0;
    for (tensor, expected) in dict.iter().zip(tensors) {
        let (name, elements) = expected.as_array().unwrap().split_first().unwrap();
        assert_eq!(tensor.name(), name);
        check_elements(tensor.name(), tensor, &elements.into());
        let full = format!("swin_plain.{}", tensor.name());
        let Some((offset, amplitude)) = offset_and_amplitude(&full, tensor.shape()) else { continue };
        let values = generated(&full, tensor.shape().iter().product(), offset, amplitude);
        assert_eq!(tensor.to_f32(), values, "{full}");
        generated_tensors += 1;
    }
    assert!(generated_tensors > 100, "{generated_tensors}");
}
