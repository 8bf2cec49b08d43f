//! Logits to maps against the output mapping of the published code, whose maps are levels of 0 to 255.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use tadformer_data::draw::activate;
use tadformer_data::{Raster, Task};

/// Shape and numbers of the tensor `name`.
fn numbers(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let values = match tensor.dtype() {
        Dtype::U8 => tensor.data().iter().copied().map(f32::from).collect(),
        Dtype::F32 => tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        other => panic!("{name}: {other:?}"),
    };
    (tensor.shape().to_vec(), values)
}

#[test]
fn classes_probabilities_and_directions_are_the_published_maps() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tadformer-metrics/tests/data/metrics.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut compared = 0;
    for name in file.names() {
        let parts: Vec<&str> = name.split('/').collect();
        let &[case, batch, kind @ ("classes" | "get_output"), task] = parts.as_slice() else { continue };
        let (shape, logits) = numbers(&file, &format!("{case}/{batch}/logits/{task}"));
        let (_, expected) = numbers(&file, name);
        let (channels, height, width) = (shape[1], shape[2], shape[3]);
        let size = expected.len() / shape[0];
        for (logits, expected) in
            logits.chunks_exact(logits.len() / shape[0]).zip(expected.chunks_exact(size))
        {
            let logits = Raster { channels, height, width, data: logits.to_vec() };
            let map = activate(Task::from_name(task).unwrap(), &logits).unwrap();
            let plane = height * width;
            for (i, expected) in expected.iter().enumerate() {
                // Directions lie pixel by pixel in the file, here plane by plane.
                let value = map.data[i % map.channels * plane + i / map.channels];
                let (found, allowed) = match (kind, task) {
                    ("classes", _) => (value, 0.0),
                    (_, "normals") => ((value + 1.0) * 127.5, 1e-4),
                    _ => (value * 255.0, 1e-4),
                };
                assert!(
                    (found - expected).abs() <= allowed,
                    "{name}: element {i} is {found}, expected {expected}"
                );
            }
        }
        compared += 1;
    }
    assert_eq!(compared, 8);
}
