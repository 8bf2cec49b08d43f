//! Saved models opened: the size of adapters, several of them on one backbone, and packed ones.

use candle_core::{CpuStorage, Storage, Tensor};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tadformer::config::{BackboneConfig, WeightsSource};
use tadformer::{
    Checkpoint, Config, Export, Predictor, RunDir, SavedModel, Session, SharedBackbone, TrainState,
};
use tadformer_backbone::SwinConfig;
use tadformer_data::Raster;
use tadformer_data::format::picture::Photo;
use tadformer_ops::Role;

/// A network of a few thousand numbers.
fn small(seed: u64) -> Config {
    let mut config = Config { seed, ..Config::default() };
    config.model.backbone = BackboneConfig::Sizes(SwinConfig {
        embed_dim: 16,
        depths: [1, 1, 1, 1],
        num_heads: [1, 2, 4, 8],
        window_size: 4,
        mlp_ratio: 2,
        ..SwinConfig::tiny()
    });
    config.model.adaptation.rank = 4;
    config.data.size = [32, 32];
    config
}

/// A run in `folder` whose model was never trained.
fn run(folder: &Path, config: &Config) -> PathBuf {
    let session = Session::fresh(config.clone()).unwrap();
    let run = RunDir::create(folder, &session.config).unwrap();
    let state = TrainState { origin: session.origin.clone(), ..TrainState::default() };
    Checkpoint::write(&run.checkpoints().best(), &session.store, None, &state).unwrap();
    folder.to_owned()
}

/// Where a tensor's numbers are.
fn address(tensor: &Tensor) -> usize {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(CpuStorage::F32(values)) => values.as_ptr().addr(),
        _ => panic!("a tensor of f32 in main memory"),
    }
}

#[test]
fn two_adapters_on_one_backbone_share_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let base = Predictor::open(&run(&path("base"), &small(0)), &[]).unwrap();
    Export::Backbone.write(&base, &path("backbone")).unwrap();
    let weights = WeightsSource::File(path("backbone/model.safetensors"));
    let mut adapters = Vec::new();
    for seed in [1, 2] {
        let mut config = small(seed);
        config.model.weights = weights.clone();
        let model = Predictor::open(&run(&path(&format!("run-{seed}")), &config), &[]).unwrap();
        let adapter = path(&format!("adapter-{seed}"));
        Export::Adapter.write(&model, &adapter).unwrap();
        adapters.push(adapter);
    }

    let config = SavedModel::config_of(&adapters[0], &[]).unwrap();
    // SAFETY: nobody else knows the temporary file.
    let shared = unsafe { SharedBackbone::map(&config) }.unwrap();
    let models: Vec<Predictor> = adapters
        .iter()
        .map(|adapter| Predictor::on(&shared, SavedModel::open(adapter, &[]).unwrap()).unwrap())
        .collect();
    // A few kilobytes of numbers beyond the two are the running statistics and what the modules keep.
    let (mut addresses, mut own) = (HashSet::new(), 0);
    for model in &models {
        for entry in model.entries() {
            let bytes = entry.tensor.elem_count() * 4;
            if entry.role == Role::Frozen {
                let of_backbone = shared.tensor(&entry.name).unwrap();
                assert_eq!(address(&entry.tensor), address(of_backbone), "`{}` is a copy", entry.name);
            } else {
                own += bytes;
            }
            addresses.insert((address(&entry.tensor), bytes));
        }
    }
    let held: usize = addresses.iter().map(|(_, bytes)| bytes).sum();
    assert!(held <= shared.bytes() + own, "{held} bytes, expected {} and {own}", shared.bytes());
    // The adapters differ, so do the models.
    let prompts = |model: &Predictor| {
        let entry = model.entries().iter().find(|entry| entry.name == "backbone.task_prompts").unwrap();
        entry.tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_ne!(prompts(&models[0]), prompts(&models[1]));
    // An adapter of other weights has no place on this backbone.
    let other = Predictor::open(&run(&path("other"), &small(3)), &[]).unwrap();
    Export::Adapter.write(&other, &path("adapter-3")).unwrap();
    let saved = SavedModel::open(&path("adapter-3"), &[]).unwrap();
    let message = Predictor::on(&shared, saved).unwrap_err().to_string();
    assert!(message.contains("other frozen weights"), "{message}");
}

#[test]
fn a_packed_model_predicts_the_same_and_leaves_its_backbone_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let open = || Predictor::open(&run(&path("run"), &small(1)), &[]).unwrap();
    let (plain, mut packed) = (open(), Predictor::open(&path("run"), &[]).unwrap());
    packed.pack().unwrap();
    let picture = Raster::filled(3, 40, 50, 90.0);
    let logits = plain.predict(&picture).unwrap();
    for ((task, found), (_, expected)) in packed.predict(&picture).unwrap().iter().zip(&logits) {
        for (x, y) in found.data.iter().zip(&expected.data) {
            assert!((x - y).abs() <= 1e-4 * y.abs().max(1.0), "{task}: {x} instead of {y}");
        }
    }
    let photo = Photo { width: 50, height: 40, rgb: vec![90; 3 * 40 * 50], tag: 1 };
    let maps = packed.coarse(&photo).unwrap().activated(Some((40, 50))).unwrap();
    let maps: Vec<Raster> = maps.into_iter().flatten().collect();
    assert_eq!(maps, packed.activate(&packed.predict(&picture).unwrap()).unwrap());
    let refused = |result: Result<(), tadformer::Error>, part: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(Export::Full.write(&packed, &path("export")), "opened anew");
    refused(packed.pack(), "packed for prediction");
    assert!(!path("export").exists());

    // On a backbone that another model uses too.
    Export::Backbone.write(&plain, &path("backbone")).unwrap();
    let mut config = small(1);
    config.model.weights = WeightsSource::File(path("backbone/model.safetensors"));
    let based = run(&path("based"), &config);
    let shared = SharedBackbone::open(&config).unwrap();
    let model = || Predictor::on(&shared, SavedModel::open(&based, &[]).unwrap()).unwrap();
    let other = model();
    let before = other.predict(&picture).unwrap();
    model().pack().unwrap();
    assert_eq!(other.predict(&picture).unwrap(), before);
}

#[test]
fn the_adapter_of_swin_tiny_at_rank_16_is_at_most_14_5_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.model.adaptation.rank = 16;
    let model = Predictor::open(&run(&folder.path().join("run"), &config), &[]).unwrap();
    let adapter = folder.path().join("adapter");
    Export::Adapter.write(&model, &adapter).unwrap();
    let bytes = std::fs::metadata(adapter.join("adapter_model.safetensors")).unwrap().len();
    // 3,557,502 numbers are 14.23 MB.
    assert!((14_230_008..=14_500_000).contains(&bytes), "{bytes} bytes");
}
