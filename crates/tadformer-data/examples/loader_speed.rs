//! What a training sample costs from the files on disk to the network's input, on one core.
//!
//! `cargo run --release -p tadformer-data --example loader_speed -- ROOT [SAMPLES] [SIDE]` reads the split `train` of a
//! PASCAL-Context tree with all five tasks through the training pipeline and prints one number: milliseconds of processor
//! time a sample. `benches/python/loader.py` runs it in turns with the same steps in Python.

use std::error::Error;

use tadformer_data::{Augmentation, Pipeline, Task, dataset};
use tadformer_ops::Rng;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let root = args.next().ok_or("name the root of a PASCAL-Context tree")?;
    let samples = args.next().map_or(Ok(40), |n| n.parse::<usize>())?;
    let side = args.next().map_or(Ok(512), |n| n.parse())?;
    let tasks: Vec<Task> = ["semseg", "human_parts", "sal", "normals", "edge"]
        .map(|name| Task::from_name(name).expect("the name of a task"))
        .to_vec();
    let set = dataset::open("pascal-context", root.as_ref(), "train", &tasks)?;
    let pipeline = Pipeline::training(Augmentation::pascal_context(), side, side);
    let load = |i: usize| -> Result<(), Box<dyn Error>> {
        let sample = set.load(i % set.len())?;
        let sample = pipeline.apply(sample, &mut Rng::named(0, "loader-speed", i as u64))?;
        std::hint::black_box(sample);
        Ok(())
    };
    load(0)?;
    let start = processor_seconds()?;
    for i in 0..samples {
        load(i)?;
    }
    println!("{:.4}", (processor_seconds()? - start) * 1000.0 / samples as f64);
    Ok(())
}

/// Time that this thread has spent on a processor: other work on the machine does not count.
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().ok_or("an empty schedstat")?.parse()?;
    Ok(nanoseconds * 1e-9)
}
