//! What the golden tests of the model share: its files, tasks and configuration.

use candle_core::Tensor;
use tadformer::Losses;
use tadformer::config::{AdaptationConfig, BackboneConfig, ModelConfig};
use tadformer_backbone::SwinConfig;
use tadformer_data::{EDGE_TOLERANCE, Task, TaskSpec};
use tadformer_decoders::DecoderConfig;
use tadformer_ops::testing::GoldenFile;

/// The golden file `name`.
pub(crate) fn open(name: &str) -> GoldenFile {
    GoldenFile::open(format!("{}/tests/data/{name}.safetensors", env!("CARGO_MANIFEST_DIR")))
}

/// The tasks of every golden model, in their order.
pub(crate) fn specs() -> Vec<TaskSpec> {
    [("semseg", 21), ("normals", 3), ("sal", 1), ("human_parts", 7)]
        .map(|(name, outputs)| {
            let task = Task::from_name(name).unwrap();
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

/// The configuration that a golden file describes, without anything random.
pub(crate) fn config(file: &GoldenFile) -> ModelConfig {
    let golden = &file.meta["config"];
    let size = |name: &str| golden[name].as_u64().unwrap() as usize;
    let four = |name: &str| serde_json::from_value::<[usize; 4]>(golden[name].clone()).unwrap();
    ModelConfig {
        drop_path_rate: 0.0,
        backbone: BackboneConfig::Sizes(SwinConfig {
            embed_dim: size("embed"),
            depths: four("depths"),
            num_heads: four("heads"),
            window_size: size("window"),
            image_size: size("img"),
            ..SwinConfig::tiny()
        }),
        adaptation: AdaptationConfig {
            rank: size("r"),
            scale: golden["scale"].as_f64().unwrap(),
            dropout: 0.0,
            ..AdaptationConfig::default()
        },
        decoder: DecoderConfig::Hrnet { channels: four("channels") },
        ..ModelConfig::default()
    }
}

/// The elements of `tensor` at the flat `positions`.
#[allow(dead_code, reason = "not every file of tests has sampled tensors")]
pub(crate) fn sampled(tensor: &Tensor, positions: &Tensor) -> Tensor {
    tensor.flatten_all().unwrap().contiguous().unwrap().index_select(positions, 0).unwrap()
}

/// The only element of `tensor`.
pub(crate) fn scalar(tensor: &Tensor) -> f64 {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values.len(), 1, "a single number");
    f64::from(values[0])
}

/// Fails unless `found` is within `tolerance · |expected|` of `expected`.
#[track_caller]
pub(crate) fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    let off = (found / expected - 1.0).abs();
    assert!(
        off <= tolerance,
        "{what} is {found}, expected {expected}: off by {off:.2e}, allowed {tolerance:.0e}"
    );
}

/// Compares every task's loss and the total with those that `expected` gives by name.
#[track_caller]
#[allow(dead_code, reason = "not every file of tests has all losses")]
pub(crate) fn assert_losses(what: &str, found: &Losses, expected: impl Fn(&str) -> f64, tolerance: f64) {
    let tasks = found.tasks.iter().map(|(task, loss)| (task.name, &loss.value));
    for (name, value) in tasks.chain([("total", &found.total)]) {
        assert_near(&format!("{what}: loss {name}"), scalar(value), expected(name), tolerance);
    }
}

/// The elements of `tensor` in `f64`.
#[allow(dead_code, reason = "not every file of tests looks at elements")]
pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f64::from).collect()
}
