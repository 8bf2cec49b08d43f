//! The backbone inside the program fits the quickstart, and is what the quickstart starts from.

use std::collections::BTreeMap;
use tadformer::{Checkpoint, Config, Session, TrainState, embedded};
use tadformer_backbone::SwinConfig;
use tadformer_ops::Role;
use tadformer_weights::{Dtype, StateDict};

const QUICKSTART: &str = include_str!("../../../configs/quickstart.toml");
const PRETRAIN: &str = include_str!("../../../configs/pretrain.toml");

fn config(text: &str, set: &[&str]) -> Config {
    let set: Vec<_> = set.iter().map(|change| change.parse().unwrap()).collect();
    Config::parse(text, "test", &set).unwrap()
}

fn refusal(config: Config) -> String {
    match Session::fresh(config) {
        Ok(_) => panic!("a model was built"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_file_is_small_half_precision_and_of_the_stated_sizes() {
    assert!(embedded::BACKBONE.len() <= 2_000_000);
    let file = StateDict::from_bytes("embedded".as_ref(), embedded::BACKBONE.to_vec()).unwrap();
    assert!(file.iter().all(|tensor| tensor.dtype() == Dtype::F16));
    assert!(file.iter().all(|tensor| tensor.to_f32().iter().all(|value| value.is_finite())));
    for text in [QUICKSTART, PRETRAIN] {
        let sizes = config(text, &[]).model.swin();
        let drop_path_rate = sizes.drop_path_rate;
        assert_eq!(sizes, SwinConfig { drop_path_rate, ..embedded::config() });
    }
    let numbers: usize = file.iter().map(|tensor| tensor.shape().iter().product::<usize>()).sum();
    let pretrained = config(PRETRAIN, &[]);
    let session = Session::fresh(pretrained).unwrap();
    let backbone = session.store.entries().into_iter().filter(|entry| entry.name.starts_with("backbone."));
    assert_eq!(numbers, backbone.map(|entry| entry.tensor.elem_count()).sum::<usize>());
}

#[test]
fn the_quickstart_starts_from_it_and_every_frozen_weight_is_loaded() {
    let session = Session::fresh(config(QUICKSTART, &[])).unwrap();
    let entries = session.store.entries();
    assert!(entries.iter().filter(|entry| entry.role == Role::Frozen).count() > 30);
    let drawn: Vec<_> = entries
        .iter()
        .filter(|entry| entry.role == Role::Frozen && !entry.loaded)
        .map(|entry| &entry.name)
        .collect();
    assert!(drawn.is_empty(), "{drawn:?} are random");
    assert_eq!(session.store.unused(), Vec::<String>::new());
    let origin = session.origin.unwrap();
    assert_eq!((origin.path.as_str(), origin.sha256.len()), ("embedded", 64));

    let file = StateDict::from_bytes("embedded".as_ref(), embedded::BACKBONE.to_vec()).unwrap();
    let patches = session.store.get("backbone.patch_embed.proj.weight").unwrap().tensor;
    let stored = file.get("patch_embed.proj.weight").unwrap().to_f32();
    assert_eq!(patches.flatten_all().unwrap().to_vec1::<f32>().unwrap(), stored);
}

#[test]
fn the_name_is_kept_in_a_resolved_configuration() {
    let text = config(QUICKSTART, &[]).to_toml().unwrap();
    assert!(text.contains("weights = \"embedded\""), "{text}");
    assert_eq!(config(&text, &[]), config(QUICKSTART, &[]));
}

#[test]
fn a_backbone_of_other_sizes_is_refused_with_the_way_out() {
    let message = refusal(config(QUICKSTART, &["model.backbone.embed_dim=32"]));
    assert!(message.contains("`embedded`") && message.contains("[32, 3, 4, 4]"), "{message}");
    assert!(message.contains("--weights none"), "{message}");
}

#[test]
fn a_checkpoint_trained_on_it_is_not_restored_on_random_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let trained = Session::fresh(config(QUICKSTART, &[])).unwrap();
    let state = TrainState { origin: trained.origin.clone(), ..TrainState::default() };
    Checkpoint::write(&path, &trained.store, None, &state).unwrap();
    let checkpoint = Checkpoint::read(&path).unwrap();
    let restored = Session::restored(config(QUICKSTART, &[]), &checkpoint).unwrap();
    let values = |session: &Session| -> BTreeMap<String, Vec<f32>> {
        let flat = |entry: tadformer_ops::Entry| {
            (entry.name, entry.tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        session.store.entries().into_iter().map(flat).collect()
    };
    assert_eq!(values(&restored), values(&trained));
    let error = Session::restored(config(QUICKSTART, &["model.weights=none"]), &checkpoint);
    let message = error.err().unwrap().to_string();
    assert!(message.contains("trained on `embedded`"), "{message}");
}
