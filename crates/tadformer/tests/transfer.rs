//! Beginning with a model of other tasks and classes: rows go by name, whatever their place.

use candle_core::{Device, Tensor, Var};
use std::path::Path;
use tadformer::config::{BackboneConfig, Method};
use tadformer::{Checkpoint, Config, Predictor, RunDir, Session, TrainState, Transfer};
use tadformer_backbone::SwinConfig;
use tadformer_data::TaskSpec;
use tadformer_ops::Role;

const PROMPTS: &str = "backbone.task_prompts";
const HEAD: &str = "decoders.decoders.semseg.last_layer.3.weight";

fn config(tasks: &[&str]) -> Config {
    let mut config = Config::default();
    let sizes =
        SwinConfig { embed_dim: 16, depths: [1, 1, 1, 1], num_heads: [1, 2, 4, 8], ..SwinConfig::tiny() };
    config.model.backbone = BackboneConfig::Sizes(SwinConfig { window_size: 4, mlp_ratio: 2, ..sizes });
    config.model.adaptation.rank = 4;
    config.model.adaptation.prompts_per_task = 2;
    config.data.tasks = tasks.iter().map(|task| (*task).to_owned()).collect();
    config.data.describe().unwrap();
    config
}

fn set(session: &Session, name: &str, value: impl Fn(&Tensor) -> Tensor) {
    let tensor = session.store.get(name).unwrap_or_else(|| panic!("`{name}`")).tensor;
    Var::from_tensor(&tensor).unwrap().set(&value(&tensor)).unwrap();
}

/// Every number of a row is the row's own.
fn numbered(tensor: &Tensor) -> Tensor {
    let rows = Tensor::arange(0f32, tensor.dims()[0] as f32, &Device::Cpu).unwrap();
    let shape: Vec<usize> =
        tensor.dims().iter().enumerate().map(|(i, n)| if i == 0 { *n } else { 1 }).collect();
    rows.reshape(shape).unwrap().broadcast_as(tensor.shape()).unwrap().contiguous().unwrap()
}

/// A run of `config` whose prompts and class rows carry their numbers and whose other trained tensors are 7.
fn run(folder: &Path, config: Config) -> Predictor {
    let session = Session::fresh(config).unwrap();
    for entry in session.store.with_role(Role::Trainable) {
        set(&session, &entry.name, |tensor| (tensor.zeros_like().unwrap() + 7.0).unwrap());
    }
    for name in [PROMPTS, HEAD] {
        set(&session, name, numbered);
    }
    let run = RunDir::create(folder, &session.config).unwrap();
    Checkpoint::write(&run.checkpoints().best(), &session.store, None, &TrainState::default()).unwrap();
    Predictor::open(folder, &[]).unwrap()
}

/// The first number of each row.
fn rows(session: &Session, name: &str) -> Vec<f32> {
    let tensor = session.store.get(name).unwrap().tensor;
    let rows = tensor.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    rows.iter().map(|row| row[0]).collect()
}

fn begun(config: &Config, model: &Predictor) -> (Session, Transfer) {
    Session::starting_from(config.clone(), model).unwrap()
}

#[test]
fn prompts_and_classes_follow_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let model = run(&folder.path().join("run"), config(&["semseg", "normals", "depth"]));

    let mut wanted = config(&["depth", "edge", "semseg"]);
    let TaskSpec { classes, outputs, palette, .. } = &mut wanted.data.labels[2];
    // One class is new, one gone, and the order another.
    classes.reverse();
    classes.insert(1, "of its own".to_owned());
    let gone = classes.pop().unwrap();
    assert_eq!((classes.len(), palette.len()), (*outputs, *outputs));
    let classes = classes.clone();
    let (session, transfer) = begun(&wanted, &model);
    let fresh = Session::fresh(wanted).unwrap();

    let prompts = rows(&session, PROMPTS);
    assert_eq!((&prompts[..2], &prompts[4..]), ([4.0, 5.0].as_slice(), [0.0, 1.0].as_slice()));
    assert_eq!(prompts[2..4], rows(&fresh, PROMPTS)[2..4], "those of `edge` are drawn");
    let known = &model.tasks()[0].classes;
    assert_eq!(known[0], gone);
    let drawn = rows(&fresh, HEAD);
    for (row, (class, found)) in classes.iter().zip(rows(&session, HEAD)).enumerate() {
        let expected = known.iter().position(|known| known == class).map_or(drawn[row], |at| at as f32);
        assert_eq!(found, expected, "`{class}`");
    }

    // What is of no task is taken whole, what is of others is drawn or stays behind.
    let taken = |name: &str| transfer.taken.iter().any(|taken| taken.starts_with(name));
    assert!(taken("backbone.layers.0.blocks.0.attn.qkv.lora_shared_A") && taken("decoders.decoders.depth."));
    assert!(!taken("decoders.decoders.edge."));
    assert_eq!(rows(&session, "decoders.decoders.depth.last_layer.3.weight"), [7.0]);
    let edge = |(name, _): &(String, String)| name.contains(".edge.");
    assert!(transfer.drawn.iter().all(edge) && !transfer.drawn.is_empty(), "{transfer}");
    assert!(transfer.left_behind.iter().all(|name| name.contains(".normals.")), "{transfer}");
    assert!(!transfer.is_complete());
    let text = transfer.to_string();
    assert!(text.contains("backbone's prompts (1: 2 of 3, `depth`, `semseg`)"), "{text}");
    assert!(text.contains("decoder of `semseg` (2: "), "{text}");
    assert!(text.lines().count() == 4, "{text}");
}

#[test]
fn the_same_model_is_taken_whole_and_other_tasks_are_no_reason_to_draw() {
    let folder = tempfile::tempdir().unwrap();
    let model = run(&folder.path().join("run"), config(&["semseg", "depth"]));
    let (session, transfer) = begun(&config(&["semseg", "depth"]), &model);
    assert!(transfer.is_complete(), "{transfer}");
    for entry in model.entries() {
        let found = session.store.get(&entry.name).unwrap().tensor.flatten_all().unwrap();
        let expected = entry.tensor.flatten_all().unwrap();
        assert_eq!(found.to_vec1::<f32>().unwrap(), expected.to_vec1::<f32>().unwrap(), "`{}`", entry.name);
    }
    // Tasks in another order: nothing is lost.
    let (session, transfer) = begun(&config(&["depth", "semseg"]), &model);
    assert!(transfer.is_complete(), "{transfer}");
    assert_eq!(rows(&session, PROMPTS), [2.0, 3.0, 0.0, 1.0]);
}

#[test]
fn what_is_frozen_comes_from_the_weight_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = run(&folder.path().join("run"), config(&["semseg", "depth"]));
    let mut wanted = config(&["semseg", "depth"]);
    wanted.model.method = Method::DecodersOnly;
    // A checkpoint of the new run keeps no norms: those that were trained would be lost on resuming.
    let (session, transfer) = begun(&wanted, &model);
    let norm = "backbone.layers.0.blocks.0.norm1.weight";
    assert_eq!(session.store.get(norm).unwrap().role, Role::Frozen);
    let found = session.store.get(norm).unwrap().tensor.to_vec1::<f32>().unwrap();
    assert!(found.iter().all(|value| *value == 1.0), "{found:?}");
    assert!(transfer.left_behind.iter().any(|name| name == norm), "{transfer}");

    wanted.seed = 5;
    let message = Session::starting_from(wanted, &model).unwrap_err().to_string();
    assert!(message.contains("drawn from seed 0") && message.contains("--seed 0"), "{message}");
    let mut other = config(&["semseg", "depth"]);
    let BackboneConfig::Sizes(sizes) = &mut other.model.backbone else { unreachable!("it has sizes") };
    sizes.embed_dim = 32;
    let message = Session::starting_from(other, &model).unwrap_err().to_string();
    assert!(message.contains("another backbone") && message.contains("embed_dim: 32"), "{message}");
}
