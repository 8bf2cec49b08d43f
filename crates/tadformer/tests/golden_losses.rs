//! The weighted total of all six losses against that of the published code.

use std::path::Path;
use tadformer::{CoarseLogits, MultiTaskLoss};
use tadformer_data::Task;
use tadformer_ops::testing::GoldenFile;

#[test]
fn the_total_of_six_tasks_is_the_published_one() {
    let path = "../tadformer-ops/tests/data/losses.safetensors";
    let file = GoldenFile::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    // Each loss alone, and its gradient, is compared in tadformer-ops.
    file.compared_elsewhere(&[""]);
    let golden = &file.meta["multitask"];
    let tasks = golden["tasks"].as_array().unwrap().iter().map(|name| {
        let task = Task::from_name(name.as_str().unwrap()).unwrap();
        assert_eq!(task.loss_weight, golden["weights"][task.name].as_f64().unwrap(), "weight of {task}");
        task
    });
    let tasks: Vec<Task> = tasks.collect();
    assert_eq!(tasks.len(), 6);
    let tokens = |task: &Task| {
        let planes = file.tensor(&format!("{task}/pred"));
        (*task, planes.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap())
    };
    let labels: Vec<_> =
        tasks.iter().map(|task| (*task, file.tensor(&format!("{task}/label")).clone())).collect();
    // The decoders' grids have the pictures' size, so nothing is resized.
    let logits = CoarseLogits::new(tasks.iter().map(tokens).collect(), (8, 10), (8, 10));
    let total = MultiTaskLoss::new(tasks.iter().copied()).forward(&logits, &labels).unwrap().total;
    let (found, expected) = (f64::from(total.to_scalar::<f32>().unwrap()), golden["total"].as_f64().unwrap());
    assert!((found / expected - 1.0).abs() <= 1e-6, "{found}, expected {expected}");
}
