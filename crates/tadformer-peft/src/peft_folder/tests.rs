use super::*;
use crate::{LoraLinear, variables};
use candle_nn::{Linear, Module};
use tadformer_ops::testing::{assert_close, named_tensor};

const LORA_2: LoraConfig = LoraConfig { rank: 2, scale: 0.75, dropout: 0.125 };

/// A model of two wrapped linears in `store`.
fn model(store: &std::sync::Arc<ParamStore>) -> [LoraLinear; 2] {
    let root = store.params().pp("encoder");
    ["fc1", "fc2"].map(|name| {
        let linear = Linear::new(named_tensor(name, (4, 4), 0.0, 1.0).unwrap(), None);
        LoraLinear::new(&linear, &LORA_2, &root.pp(name)).unwrap()
    })
}

/// The same with updates that are not zero.
fn learned() -> (std::sync::Arc<ParamStore>, [LoraLinear; 2]) {
    let store = ParamStore::new(0);
    let layers = model(&store);
    for (i, variable) in variables(&store).unwrap().iter().enumerate() {
        variable.set(&named_tensor(&format!("value {i}"), variable.shape(), 0.0, 1.0).unwrap()).unwrap();
    }
    (store, layers)
}

fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = learned();
    LoraAdapter::new(&store.with_role(Role::Trainable), &LORA_2).unwrap().write(folder.path()).unwrap();
    folder
}

/// The refusal of a folder whose configuration was changed by `edit`.
fn refusal(edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> String {
    let folder = written();
    let path = folder.path().join(CONFIG);
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(json.as_object_mut().unwrap());
    fs::write(&path, json.to_string()).unwrap();
    LoraAdapter::read(folder.path()).unwrap_err().to_string()
}

#[test]
fn an_adapter_comes_back_as_it_was() {
    let folder = written();
    let adapter = LoraAdapter::read(folder.path()).unwrap();
    assert_eq!(adapter.config, LORA_2);
    let store = ParamStore::with_values(1, adapter.values.clone());
    let layers = model(&store);
    adapter.check(&store).unwrap();
    let xs = named_tensor("xs", (3, 4), 0.0, 1.0).unwrap();
    for (read, kept) in layers.iter().zip(learned().1) {
        assert_close("outputs", &read.forward(&xs).unwrap(), &kept.forward(&xs).unwrap(), 0.0);
    }
}

#[test]
fn files_are_named_as_peft_names_them() {
    let folder = written();
    let names: BTreeSet<String> = candle_core::safetensors::load(folder.path().join(WEIGHTS), &Device::Cpu)
        .unwrap()
        .into_keys()
        .collect();
    let module = |name| ["A", "B"].map(|x| format!("base_model.model.encoder.{name}.lora_{x}.weight"));
    assert_eq!(names, [module("fc1"), module("fc2")].into_iter().flatten().collect());
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join(CONFIG)).unwrap()).unwrap();
    assert_eq!(json["peft_type"], "LORA");
    assert_eq!((&json["r"], &json["lora_alpha"]), (&serde_json::json!(2), &serde_json::json!(1.5)));
    assert_eq!(json["target_modules"], serde_json::json!(["encoder.fc1", "encoder.fc2"]));
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 2, "something was left beside the files");
}

#[test]
fn what_peft_writes_besides_is_read_over_and_what_changes_the_sum_is_refused() {
    let folder = written();
    let path = folder.path().join(CONFIG);
    let theirs = r#"{"peft_type": "LORA", "auto_mapping": null, "r": 2, "lora_alpha": 8, "lora_dropout": 0.0, "bias":
        "none", "target_modules": "encoder.*", "use_rslora": true, "rank_pattern": {}, "init_lora_weights": true}"#;
    fs::write(&path, theirs).unwrap();
    let config = LoraAdapter::read(folder.path()).unwrap().config;
    assert!((config.scale - 8.0 / 2f64.sqrt()).abs() < 1e-12 && config.dropout == 0.0, "{config:?}");

    for key in ["use_dora", "fan_in_fan_out"] {
        let message = refusal(|json| _ = json.insert(key.into(), true.into()));
        assert!(message.contains(key), "{message}");
    }
    assert!(refusal(|json| json["bias"] = "all".into()).contains("`bias`"));
    assert!(refusal(|json| json["peft_type"] = "IA3".into()).contains("IA3"));
    assert!(refusal(|json| json["r"] = 0.into()).contains("`r` is 0"));
    assert!(refusal(|json| json["r"] = 3.into()).contains("expected the rank 3"));
    assert!(refusal(|json| json["r"] = "two".into()).contains(CONFIG));
    let ranks = serde_json::json!({"encoder.fc1": 4});
    assert!(refusal(|json| _ = json.insert("rank_pattern".into(), ranks)).contains("rank_pattern"));
}

#[test]
fn damaged_and_foreign_weights_are_refused_by_name() {
    let folder = written();
    let path = folder.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    let message = || LoraAdapter::read(folder.path()).unwrap_err().to_string();
    for length in [0, 7, 40, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(message().contains(WEIGHTS), "{}", message());
    }
    let tensors = |names: &[&str]| {
        let tensor = named_tensor("x", (2, 2), 0.0, 1.0).unwrap();
        let map: HashMap<_, _> = names.iter().map(|name| ((*name).to_owned(), tensor.clone())).collect();
        candle_core::safetensors::save(&map, &path).unwrap();
    };
    tensors(&["base_model.model.score.weight"]);
    assert!(message().contains("score.weight"), "{}", message());
    tensors(&["base_model.model.fc.lora_A.weight"]);
    assert!(message().contains("one factor"), "{}", message());
    fs::remove_file(&path).unwrap();
    assert!(message().contains(WEIGHTS), "{}", message());
}

#[test]
fn what_is_no_low_rank_update_is_not_left_out_silently() {
    let (store, _) = learned();
    store.params().pp("head_lora_x").trainable("weight", 3, tadformer_ops::Init::ONES).unwrap();
    let message = LoraAdapter::new(&store.with_role(Role::Trainable), &LORA_2).unwrap_err().to_string();
    assert!(message.contains("head_lora_x.weight"), "{message}");

    let nameless = ParamStore::new(0);
    let linear = Linear::new(named_tensor("w", (4, 4), 0.0, 1.0).unwrap(), None);
    LoraLinear::new(&linear, &LORA_2, &nameless.params()).unwrap();
    let message = LoraAdapter::new(&nameless.with_role(Role::Trainable), &LORA_2).unwrap_err().to_string();
    assert!(message.contains("params.pp(name)"), "{message}");
}

#[test]
fn an_adapter_of_another_model_lists_every_difference() {
    let adapter = LoraAdapter::read(written().path()).unwrap();
    let store = ParamStore::with_values(0, adapter.values.clone());
    let linear = Linear::new(named_tensor("w", (4, 4), 0.0, 1.0).unwrap(), None);
    for name in ["fc1", "fc3"] {
        LoraLinear::new(&linear, &LORA_2, &store.params().pp("encoder").pp(name)).unwrap();
    }
    let message = adapter.check(&store).unwrap_err().to_string();
    assert!(message.contains("lacks `encoder.fc3.lora_shared_A`, `encoder.fc3.lora_shared_B`"), "{message}");
    assert!(
        message.contains("no place for `encoder.fc2.lora_shared_A`, `encoder.fc2.lora_shared_B`"),
        "{message}"
    );
}
