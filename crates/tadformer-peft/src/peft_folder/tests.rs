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
    assert_eq!((adapter.config_of("encoder.fc1"), adapter.config_of("encoder.fc2")), (LORA_2, LORA_2));
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
    let config = LoraAdapter::read(folder.path()).unwrap().config_of("encoder.fc1");
    assert!((config.scale - 8.0 / 2f64.sqrt()).abs() < 1e-12 && config.dropout == 0.0, "{config:?}");

    assert!(refusal(|json| json["peft_type"] = "IA3".into()).contains("IA3"));
    assert!(refusal(|json| json["r"] = 0.into()).contains("`r` is 0"));
    assert!(refusal(|json| json["r"] = 3.into()).contains("expected the rank 3"));
    assert!(refusal(|json| json["r"] = "two".into()).contains(CONFIG));
}

/// As `refusal`, with one key set to a value.
fn refusal_of(key: &str, value: serde_json::Value) -> String {
    let message = refusal(|json| _ = json.insert(key.into(), value));
    assert!(message.contains(CONFIG) && message.contains(&format!("`{key}`")), "{message}");
    message
}

#[test]
fn updates_of_a_base_that_peft_changed_are_refused_with_the_way_out() {
    for init in ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "lora_ga"] {
        let message = refusal_of("init_lora_weights", init.into());
        assert!(message.contains(&format!("`{init}`: PEFT changed the base's weights")), "{message}");
        assert!(message.contains("path_initial_model_for_weight_conversion"), "{message}");
    }
    assert!(refusal_of("init_lora_weights", "loftq".into()).contains("merge the adapter in PEFT"));
    assert!(refusal_of("init_lora_weights", "of_tomorrow".into()).contains("not known whether"));
    assert!(refusal_of("init_lora_weights", 3.into()).contains("is 3"));

    let folder = written();
    let path = folder.path().join(CONFIG);
    for init in ["gaussian", "eva", "orthogonal", "mica"] {
        let config =
            format!(r#"{{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "init_lora_weights": "{init}"}}"#);
        fs::write(&path, config).unwrap();
        LoraAdapter::read(folder.path()).unwrap();
    }
}

#[test]
fn every_key_that_makes_another_layer_is_refused_unless_it_is_off() {
    let on = serde_json::json!({
        "use_dora": true, "fan_in_fan_out": true, "bias": "lora_only", "lora_bias": true, "use_qalora": true,
        "modules_to_save": ["head"], "trainable_token_indices": [0], "target_parameters": ["fc1.weight"],
        "layer_replication": [[0, 1]], "alora_invocation_tokens": [5], "kasa_config": {"beta": 0.1},
        "use_bdlora": {"nblocks": 2}, "arrow_config": {"top_k": 3}, "monteclora_config": {"num_samples": 2},
        "megatron_config": {"a": 1}, "ensure_weight_tying": true,
    });
    for (key, value) in on.as_object().unwrap() {
        assert!(refusal_of(key, value.clone()).contains("these layers do not compute"), "{key}");
    }
    assert!(refusal_of("use_something_new", 0.5.into()).contains("not known what it changes"));
    // Of the same keys, and of others, what is off or only says how the adapter came to be.
    let folder = written();
    let path = folder.path().join(CONFIG);
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for key in on.as_object().unwrap().keys() {
        json[key] = serde_json::Value::Null;
    }
    json["use_something_new"] = false.into();
    json["exclude_modules"] = "head".into();
    json["layers_to_transform"] = serde_json::json!([0, 1]);
    json["eva_config"] = serde_json::json!({"rho": 2.0});
    fs::write(&path, json.to_string()).unwrap();
    LoraAdapter::read(folder.path()).unwrap();
}

#[test]
fn patterns_match_as_those_of_peft_and_the_first_in_the_file_counts() {
    let folder = written();
    let path = folder.path().join(CONFIG);
    let scales = |patterns: &str| {
        let config =
            format!(r#"{{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "alpha_pattern": {patterns}}}"#);
        fs::write(&path, config).unwrap();
        let adapter = LoraAdapter::read(folder.path()).map_err(|error| error.to_string())?;
        Ok::<_, String>(["encoder.fc1", "encoder.fc2"].map(|module| adapter.config_of(module).scale))
    };
    // The whole name, or its end after a dot.
    assert_eq!(scales(r#"{"fc1": 4}"#).unwrap(), [2.0, 1.0]);
    assert_eq!(scales(r#"{"c1": 4, "encoder": 6}"#).unwrap(), [1.0, 1.0]);
    assert_eq!(scales(r#"{"^fc1": 4, "^encoder.fc2": 6}"#).unwrap(), [1.0, 3.0]);
    assert_eq!(scales(r#"{"fc1|fc2": 4}"#).unwrap(), [2.0, 2.0]);
    // The order of the file, which need not be that of the alphabet.
    assert_eq!(scales(r#"{"fc1": 20, "encoder.*": 4}"#).unwrap(), [10.0, 2.0]);
    assert_eq!(scales(r#"{"encoder.*": 4, "fc1": 20}"#).unwrap(), [2.0, 2.0]);
    assert_eq!(scales(r#"{"fc1": 20, "encoder.*": 4, "fc1": 8}"#).unwrap(), [4.0, 2.0]);
    for pattern in ["fc(1", "(?!fc1)fc2", "fc[[1]]"] {
        let message = scales(&format!(r#"{{"{pattern}": 4}}"#)).unwrap_err();
        assert!(message.contains(pattern) && message.contains("`alpha_pattern`"), "{message}");
    }
    // A rank is that of the tensors.
    let ranks = serde_json::json!({"encoder.fc1": 4});
    assert!(refusal(|json| json["rank_pattern"] = ranks).contains("expected the rank 4"));
    assert!(refusal(|json| json["rank_pattern"] = serde_json::json!({"x": 0})).contains("`rank_pattern`"));
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_name() {
    let folder = written();
    let path = folder.path().join(WEIGHTS);
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let name = "base_model.model.encoder.fc2.lora_B.weight";
    let mut values = tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (values[5], values[6]) = (f32::NAN, f32::INFINITY);
    tensors.insert(name.to_owned(), Tensor::from_vec(values, (4, 2), &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let message = LoraAdapter::read(folder.path()).unwrap_err().to_string();
    assert!(message.contains(WEIGHTS) && message.contains(name), "{message}");
    assert!(message.contains("2 numbers that are not finite, the first NaN at [2, 1]"), "{message}");
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
