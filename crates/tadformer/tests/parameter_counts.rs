//! Parameter counts of every published size and rank: `data/param_counts.json`.

use serde_json::Value;
use std::collections::BTreeMap;
use tadformer::config::{AdaptationConfig, BackboneConfig, ModelConfig};
use tadformer::{MultiTaskModel, ParameterCount};
use tadformer_backbone::SwinConfig;
use tadformer_data::{EDGE_TOLERANCE, Task, TaskSpec};
use tadformer_decoders::DecoderConfig;
use tadformer_ops::ParamStore;

const FILE: &str = include_str!("data/param_counts.json");

fn specs(file: &Value) -> Vec<TaskSpec> {
    let names: Vec<String> = serde_json::from_value(file["tasks"].clone()).unwrap();
    let outputs = BTreeMap::from([("semseg", 21), ("normals", 3), ("sal", 1), ("human_parts", 7)]);
    let spec = |name: &String| TaskSpec {
        task: Task::from_name(name).unwrap(),
        outputs: outputs[name.as_str()],
        classes: Vec::new(),
        palette: Vec::new(),
        edge_tolerance: EDGE_TOLERANCE,
    };
    names.iter().map(spec).collect()
}

fn config(file: &Value, row: &Value) -> ModelConfig {
    let backbone = match row["size"].as_str().unwrap() {
        "T" => "swin-tiny",
        "S" => "swin-small",
        "B" => "swin-base",
        "L" => "swin-large",
        other => panic!("an unknown size `{other}`"),
    };
    let rank = row["r"].as_u64().unwrap() as usize;
    let channels = serde_json::from_value(file["decoder_channels"].clone()).unwrap();
    ModelConfig {
        backbone: BackboneConfig::Named(backbone.to_owned()),
        adaptation: AdaptationConfig { rank, ..AdaptationConfig::default() },
        decoder: DecoderConfig::Hrnet { channels },
        ..ModelConfig::default()
    }
}

#[test]
fn every_size_and_rank_has_the_published_counts() {
    let file: Value = serde_json::from_str(FILE).unwrap();
    let (rows, specs) = (file["rows"].as_array().unwrap(), specs(&file));
    assert_eq!(rows.len(), 12);
    for row in rows {
        let what = format!("Swin-{} of rank {}", row["size"], row["r"]);
        let count = ParameterCount::of_model(&config(&file, row), &specs).unwrap();
        let groups: BTreeMap<&str, usize> = row["groups"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, count)| (name.as_str(), count.as_u64().unwrap() as usize))
            .collect();
        assert_eq!(count.groups, groups, "{what}: trainable numbers by group");
        assert_eq!(Some(count.trainable as u64), row["trainable"].as_u64(), "{what}: trainable numbers");
        assert_eq!(Some(count.total as u64), row["total"].as_u64(), "{what}: all numbers");
    }
}

#[test]
fn the_published_sizes_are_those_of_the_named_backbones() {
    let file: Value = serde_json::from_str(FILE).unwrap();
    for row in file["rows"].as_array().unwrap() {
        let BackboneConfig::Named(name) = config(&file, row).backbone else { unreachable!("a name") };
        let sizes = SwinConfig::from_name(&name).unwrap();
        let listed = |key: &str| serde_json::from_value::<Vec<usize>>(row[key].clone()).unwrap();
        assert_eq!(Some(sizes.embed_dim as u64), row["embed"].as_u64(), "{name}: channels");
        assert_eq!(sizes.depths.to_vec(), listed("depths"), "{name}: depths");
        assert_eq!(sizes.num_heads.to_vec(), listed("heads"), "{name}: heads");
        assert_eq!(Some(sizes.image_size as u64), row["img"].as_u64(), "{name}: image side");
    }
}

#[test]
fn a_model_with_values_has_the_counts_of_its_configuration() {
    let file: Value = serde_json::from_str(FILE).unwrap();
    let (config, specs) = (config(&file, &file["rows"][0]), specs(&file));
    let store = ParamStore::new(0);
    MultiTaskModel::new(&config, &specs, &store.params()).unwrap();
    let outlined = ParameterCount::of_model(&config, &specs).unwrap();
    assert_eq!(ParameterCount::of(&store.entries()), outlined);
}
