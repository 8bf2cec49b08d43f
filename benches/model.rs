//! Whole steps of Swin-T, rank 64, four tasks, 448²: `cargo bench --package tadformer-benches --bench model`.

use candle_core::Tensor;
use criterion::{Criterion, criterion_group, criterion_main};
use tadformer::config::ModelConfig;
use tadformer::optim::Gradients;
use tadformer::{MultiTaskLoss, MultiTaskModel};
use tadformer_benches::normal;
use tadformer_data::{EDGE_TOLERANCE, Task, TaskSpec};
use tadformer_ops::{Mode, ParamStore, Rng, Role, no_grad};

fn specs() -> Vec<TaskSpec> {
    [("semseg", 21), ("normals", 3), ("sal", 1), ("human_parts", 7)]
        .map(|(name, outputs)| {
            let task = Task::from_name(name).expect("a task of that name");
            TaskSpec {
                task,
                outputs,
                classes: Vec::new(),
                palette: Vec::new(),
                edge_tolerance: EDGE_TOLERANCE,
            }
        })
        .to_vec()
}

fn model(c: &mut Criterion) {
    let (store, specs) = (ParamStore::new(0), specs());
    let model = MultiTaskModel::new(&ModelConfig::default(), &specs, &store.params()).unwrap();
    let image = normal("image", &[1, 3, 448, 448]).unwrap();
    let labels: Vec<(Task, Tensor)> = specs
        .iter()
        .map(|spec| (spec.task, normal("labels", &[1, spec.task.label_channels(), 448, 448]).unwrap()))
        .map(|(task, values)| (task, values.abs().unwrap().clamp(0.0, 0.99).unwrap().floor().unwrap()))
        .collect();
    let loss = MultiTaskLoss::new(specs.iter().map(|spec| spec.task));
    let parameters = store.with_role(Role::Trainable);

    let mut group = c.benchmark_group("model/cpu/swin-tiny r64 448x448 batch 1");
    group.sample_size(10);
    group.bench_function("predict", |b| {
        b.iter(|| no_grad(|| model.forward(&image, &mut Mode::Eval)).unwrap());
    });
    let mut step = 0;
    group.bench_function("forward and backward", |b| {
        b.iter(|| {
            step += 1;
            let mut rng = Rng::named(0, "step", step);
            let logits = model.coarse_logits(&image, &mut Mode::Train(&mut rng)).unwrap();
            let losses = loss.forward(&logits, &labels).unwrap();
            Gradients::from_store(&losses.total.backward().unwrap(), &parameters)
        });
    });
    group.finish();
}

criterion_group!(benches, model);
criterion_main!(benches);
