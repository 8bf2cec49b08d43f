//! Training a small network of every kind: which tensors learn, that the loss falls, and what is said when it cannot.

use candle_core::{DType, Device, Tensor};
use std::collections::BTreeSet;
use tadformer::config::{AdaptationConfig, BackboneConfig, Method, ModelConfig};
use tadformer::optim::{AdamW, AdamWConfig, Gradients};
use tadformer::{Config, Evaluation, Reporter};
use tadformer::{MultiTaskLoss, MultiTaskModel, RunDir, Session, Trainer, UpdateRecord};
use tadformer_backbone::SwinConfig;
use tadformer_data::synthetic::{Domain, Split, Synthetic, SyntheticConfig, spec};
use tadformer_data::{Dataset, Pipeline, Task, TaskSpec};
use tadformer_decoders::DecoderConfig;
use tadformer_ops::testing::{assert_close, assert_zero};
use tadformer_ops::{Mode, ParamStore, Rng, Role};

/// How the bias of the convolution in front of a head's BatchNorm ends, whose gradient is zero by algebra.
const BEFORE_BATCH_NORM: &str = ".last_layer.0.bias";

const TASKS: [&str; 6] = ["semseg", "human_parts", "sal", "normals", "edge", "depth"];

/// Two blocks in the first stage, so that one of them is not the last.
fn config(method: Method, decoder: DecoderConfig) -> ModelConfig {
    let swin = SwinConfig { embed_dim: 16, depths: [2, 1, 1, 1], ..SwinConfig::tiny() };
    let swin = SwinConfig { num_heads: [1, 2, 4, 8], window_size: 4, mlp_ratio: 2, ..swin };
    ModelConfig {
        method,
        drop_path_rate: 0.0,
        backbone: BackboneConfig::Sizes(swin),
        adaptation: AdaptationConfig { rank: 4, dropout: 0.0, ..AdaptationConfig::default() },
        decoder,
        ..ModelConfig::default()
    }
}

fn hrnet() -> DecoderConfig {
    DecoderConfig::Hrnet { channels: [6, 8, 10, 12] }
}

fn tasks() -> Vec<Task> {
    TASKS.map(|name| Task::from_name(name).unwrap()).to_vec()
}

fn specs() -> Vec<TaskSpec> {
    tasks().into_iter().map(|task| spec(Domain::Main, task).unwrap()).collect()
}

/// Two synthetic scenes with their labels.
fn batch(height: usize, width: usize) -> (Tensor, Vec<(Task, Tensor)>) {
    let config =
        SyntheticConfig { seed: 3, domain: Domain::Main, split: Split::Train, samples: 2, height, width };
    let set = Synthetic::new(config, &tasks()).unwrap();
    let samples = [0, 1].map(|index| {
        let sample = set.load(index).unwrap();
        Pipeline::evaluation(height, width).apply(sample, &mut Rng::named(0, "test", 0)).unwrap()
    });
    let stack = |channels: usize, values: Vec<f32>| {
        Tensor::from_vec(values, (2, channels, height, width), &Device::Cpu).unwrap()
    };
    let image = samples.iter().flat_map(|sample| sample.image.data.clone()).collect();
    let labels = tasks().into_iter().map(|task| {
        let values = samples.iter().flat_map(|sample| sample.label(task).unwrap().data.clone()).collect();
        (task, stack(task.label_channels(), values))
    });
    (stack(3, image), labels.collect())
}

/// One network with what trains it.
struct Network {
    store: std::sync::Arc<ParamStore>,
    model: MultiTaskModel,
    loss: MultiTaskLoss,
    optimizer: AdamW,
}

impl Network {
    fn new(config: &ModelConfig) -> Self {
        let store = ParamStore::new(1);
        let model = MultiTaskModel::new(config, &specs(), &store.params()).unwrap();
        let optimizer = AdamW::new(&store.with_role(Role::Trainable), AdamWConfig::default()).unwrap();
        Self { store, model, loss: MultiTaskLoss::new(tasks()), optimizer }
    }

    /// The total loss on a batch, and its gradients.
    fn gradients(&self, (image, labels): &(Tensor, Vec<(Task, Tensor)>)) -> (f32, Gradients) {
        let logits =
            self.model.coarse_logits(image, &mut Mode::Train(&mut Rng::named(0, "test", 0))).unwrap();
        let total = self.loss.forward(&logits, labels).unwrap().total;
        let parameters = self.store.with_role(Role::Trainable);
        (total.to_scalar().unwrap(), Gradients::from_store(&total.backward().unwrap(), &parameters))
    }

    fn step(&mut self, batch: &(Tensor, Vec<(Task, Tensor)>)) -> f32 {
        let (loss, mut gradients) = self.gradients(batch);
        gradients.clip(5.0).unwrap();
        self.optimizer.step(&gradients, 1e-2).unwrap();
        loss
    }
}

/// Takes a step and checks that all trainable tensors but those that `silent` names have a finite gradient, and that
/// exactly the trainable tensors moved.
#[track_caller]
fn assert_learns(config: &ModelConfig, silent: impl Fn(&str) -> bool) {
    let mut network = Network::new(config);
    let batch = batch(64, 64);
    let (_, gradients) = network.gradients(&batch);
    let parameters = network.store.with_role(Role::Trainable);
    let missing: BTreeSet<&str> = gradients.missing().collect();
    let expected: BTreeSet<&str> = parameters.iter().map(|e| e.name.as_str()).filter(|n| silent(n)).collect();
    assert_eq!(missing, expected, "{:?}: tensors without a gradient", config.method);
    for entry in &parameters {
        let Some(gradient) = gradients.get(&entry.name).unwrap() else { continue };
        assert_eq!(gradient.dims(), entry.tensor.dims(), "`{}`", entry.name);
        let values = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(values.iter().all(|g| g.is_finite()), "`{}`", entry.name);
    }
    let values = |role: Role| -> Vec<(String, Vec<f32>)> {
        let flat = |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        network.store.with_role(role).iter().map(|e| (e.name.clone(), flat(&e.tensor))).collect()
    };
    let (frozen, trainable) = (values(Role::Frozen), values(Role::Trainable));
    assert_eq!(frozen.is_empty(), config.method == Method::Full, "{:?}: frozen tensors", config.method);
    let mut optimizer = AdamW::new(&parameters, AdamWConfig::default()).unwrap();
    optimizer.step(&gradients, 1e-2).unwrap();
    assert_eq!(values(Role::Frozen), frozen, "{:?}: frozen tensors moved", config.method);
    for ((name, before), (_, after)) in trainable.iter().zip(values(Role::Trainable)) {
        let gradient = gradients.get(name).unwrap();
        let zero =
            gradient.is_none_or(|g| g.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() == 0.0);
        // A gradient of nothing but zeros may leave a tensor where it is.
        assert!(zero || *before != after, "`{name}` has a gradient and did not move");
    }
    network.step(&batch);
}

/// Prompts are read once more after the last block of a stage only: no loss depends on the layer norms of the others.
fn idle_prompt_norm(name: &str) -> bool {
    name.contains("layers.0.blocks.0.") && name.contains("prompt_layernorm")
}

#[test]
fn every_trainable_tensor_of_tadformer_has_a_gradient() {
    assert_learns(&config(Method::Tadformer, hrnet()), idle_prompt_norm);
    let segformer = DecoderConfig::Segformer { embed_dim: 16, dropout: 0.0 };
    assert_learns(&config(Method::Tadformer, segformer), idle_prompt_norm);
}

#[test]
fn heads_of_the_last_stage_leave_the_task_streams_of_the_others_idle() {
    let aspp = DecoderConfig::Aspp { rates: [1, 2, 3], channels: 8, dropout: 0.0 };
    for decoder in [aspp, DecoderConfig::Deconv { channels: 8 }] {
        // The shared stream goes through every stage; what is only for the tasks of an earlier one ends there.
        assert_learns(&config(Method::Tadformer, decoder), |name| {
            let earlier = (0..3).any(|stage| name.starts_with(&format!("backbone.layers.{stage}.")));
            earlier
                && ["lora_filter", "prompt_layernorm", "prompt_gate"].iter().any(|part| name.contains(part))
        });
    }
}

#[test]
fn every_weight_of_full_tuning_has_a_gradient() {
    assert_learns(&config(Method::Full, hrnet()), |_| false);
}

#[test]
fn decoders_alone_leave_the_backbone_as_it_is() {
    let config = config(Method::DecodersOnly, hrnet());
    let backbone = |name: &str| name.starts_with("backbone.");
    let network = Network::new(&config);
    assert!(!network.store.with_role(Role::Trainable).iter().any(|entry| backbone(&entry.name)));
    assert_learns(&config, |_| false);
}

#[test]
fn the_loss_of_a_fixed_batch_falls() {
    for method in [Method::Tadformer, Method::Full, Method::DecodersOnly] {
        let mut network = Network::new(&config(method, hrnet()));
        let batch = batch(64, 64);
        let losses: Vec<f32> = (0..20).map(|_| network.step(&batch)).collect();
        assert!(losses[19] < 0.7 * losses[0], "{method:?}: {losses:?}");
    }
}

#[test]
fn checkpointed_stages_have_the_same_losses_and_gradients() {
    let adaptation = AdaptationConfig { rank: 4, dropout: 0.3, ..AdaptationConfig::default() };
    for method in [Method::Tadformer, Method::Full] {
        let config = ModelConfig { drop_path_rate: 0.5, adaptation, ..config(method, hrnet()) };
        let mut network = Network::new(&config);
        let batch = batch(64, 96);
        let (loss, gradients) = network.gradients(&batch);
        for stages in [&[0][..], &[1, 3], &[0, 1, 2, 3]] {
            network.model.set_grad_checkpointing(stages).unwrap();
            let (found, again) = network.gradients(&batch);
            assert_eq!(found, loss, "{stages:?}");
            assert!(gradients.missing().eq(again.missing()), "{stages:?}: tensors without a gradient");
            for entry in network.store.with_role(Role::Trainable) {
                let of = |gradients: &Gradients| gradients.get(&entry.name).unwrap();
                let what = format!("{stages:?}: `{}`", entry.name);
                match (of(&again), of(&gradients)) {
                    (Some(again), Some(gradient)) if entry.name.ends_with(BEFORE_BATCH_NORM) => {
                        assert_zero(&what, &again);
                        assert_zero(&what, &gradient);
                    }
                    // What several functions use gets a sum, whose order may be another one on the second tape.
                    (Some(again), Some(gradient)) => assert_close(&what, &again, &gradient, 1e-5),
                    _ => {}
                }
            }
        }
        let message = network.model.set_grad_checkpointing(&[1, 4]).unwrap_err().to_string();
        assert!(message.contains("no stage 4 to checkpoint, expected 0 to 3"), "{message}");
    }
}

#[test]
fn sides_that_are_no_multiples_of_the_stride_train_and_predict() {
    let mut network = Network::new(&config(Method::Tadformer, hrnet()));
    let batch = batch(50, 37);
    let losses: Vec<f32> = (0..10).map(|_| network.step(&batch)).collect();
    assert!(losses[9] < losses[0], "{losses:?}");
    for (height, width) in [(50, 37), (1, 1), (33, 64), (5, 130)] {
        let image = Tensor::ones((1, 3, height, width), DType::F32, &Device::Cpu).unwrap();
        let logits = network.model.forward(&image, &mut Mode::Eval).unwrap();
        for ((task, logits), spec) in logits.iter().zip(specs()) {
            assert_eq!(logits.dims(), [1, spec.outputs, height, width], "{task}");
        }
    }
}

/// Makes a tensor not a number once the first evaluation is over.
struct Poison(Tensor);

impl Reporter for Poison {
    fn update(&mut self, _: &UpdateRecord, _: u64) {}
    fn scored(&mut self, _: usize, _: usize) {}
    fn evaluated(&mut self, _: usize, _: &Evaluation) {
        let nan = Tensor::full(f32::NAN, self.0.shape(), &Device::Cpu).unwrap();
        candle_core::Var::from_tensor(&self.0).unwrap().set(&nan).unwrap();
    }
}

#[test]
fn a_number_that_is_not_finite_stops_training_with_its_task() {
    let set = [
        "data.size=[32,32]",
        "data.synthetic.train_samples=4",
        "data.synthetic.val_samples=1",
        "train.panels=0",
    ];
    let set: Vec<_> = set.iter().map(|text| text.parse().unwrap()).collect();
    let text = "[train]\nepochs = 1\nbatch_size = 4\n[train.schedule]\nwarmup_epochs = 0\n";
    let mut settings = Config::parse(text, "test", &set).unwrap();
    settings.model = config(Method::Tadformer, hrnet());
    let session = Session::fresh(settings).unwrap();
    let parameters = session.store.with_role(Role::Trainable);
    let bias = parameters.iter().find(|e| e.name.contains("normals") && e.name.ends_with("bias")).unwrap();
    let mut poison = Poison(bias.tensor.clone());
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(&folder.path().join("run"), &session.config).unwrap();
    let message = Trainer::new(session, run).unwrap().run(&mut poison).unwrap_err().to_string();
    assert!(message.contains("the loss of task `normals` is NaN in update 0"), "{message}");
}
