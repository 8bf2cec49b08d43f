//! Samples on their way to the network: `cargo bench --package tadformer-benches --bench data`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tadformer_data::synthetic::{Domain, Split, Synthetic, SyntheticConfig, spec};
use tadformer_data::{Augmentation, Dataset, Pipeline, Task};
use tadformer_ops::Rng;

/// Scenes that a bench goes through: they differ in cost by a factor of three.
const SCENES: usize = 64;

fn synthetic(domain: Domain) -> Synthetic {
    let tasks: Vec<Task> = Task::all().filter(|task| spec(domain, *task).is_ok()).collect();
    let config =
        SyntheticConfig { seed: 0, domain, split: Split::Train, samples: SCENES, height: 224, width: 224 };
    Synthetic::new(config, &tasks).unwrap()
}

fn samples(c: &mut Criterion) {
    let mut group = c.benchmark_group("data/cpu/224x224");
    group.throughput(Throughput::Elements(1));
    for (name, domain) in [("main", Domain::Main), ("pretrain", Domain::Pretrain)] {
        let (set, mut index) = (synthetic(domain), 0);
        group.bench_function(format!("synthetic sample, {name}"), |b| {
            b.iter(|| {
                index = (index + 1) % SCENES;
                set.load(index).unwrap()
            });
        });
    }
    let sample = synthetic(Domain::Main).load(0).unwrap();
    let pipeline = Pipeline::training(Augmentation::pascal_context(), 224, 224);
    let mut draws = 0;
    group.bench_function("training pipeline, six tasks", |b| {
        b.iter_batched(
            || sample.clone(),
            |sample| {
                draws += 1;
                pipeline.apply(sample, &mut Rng::named(0, "bench", draws)).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, samples);
criterion_main!(benches);
