//! What each step between the decoder and the network costs on one core.
//!
//! `cargo run --release -p tadformer-data --example pipeline_speed` prints milliseconds of processor time a sample, for one
//! generated 375×500 picture with the five PASCAL-Context labels, to 448².

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tadformer_data::{Augmentation, Draw, LabelKind, Pipeline, Raster, Sample, Task};
use tadformer_ops::Rng;

const HEIGHT: usize = 375;
const WIDTH: usize = 500;
const ROUNDS: usize = 100;

fn main() {
    let sample = sample();
    let none = Pipeline::none();
    let resize = Pipeline::evaluation(448, 448);
    let train = Pipeline::training(Augmentation::pascal_context(), 448, 448);
    let flip = Draw { flip: true, ..Draw::NONE };
    let warp = Draw { degrees: 13.0, scale: 1.1, ..Draw::NONE };

    let copy = time(|| sample.clone());
    let report = |name: &str, milliseconds: f64| println!("{name:<44} {milliseconds:6.2} ms");
    report("copy of the sample (taken off below)", copy);
    let apply = |pipeline: &Pipeline, draw: &Draw| {
        time(|| pipeline.apply_drawn(sample.clone(), draw).expect("a generated sample is well formed")) - copy
    };
    report("ignore marks, levels, normalise", apply(&none, &Draw::NONE));
    report("the same and flip", apply(&none, &flip));
    report("the same and rotate, scale", apply(&none, &warp));
    report("the same and resize (evaluation)", apply(&resize, &Draw::NONE));
    // The largest magnification of the recipe leaves no pixel outside: the most work that a draw can make.
    let most = Draw { flip: true, degrees: 20.0, scale: 1.25 };
    let whole = apply(&train, &most);
    report("training, PASCAL-Context recipe", whole);
    println!("{:.0} samples/s on this core without decoding", 1000.0 / whole);
}

/// Mean milliseconds of processor time of a call.
fn time(call: impl Fn() -> Sample) -> f64 {
    std::hint::black_box(call());
    let start = clock();
    for _ in 0..ROUNDS {
        std::hint::black_box(call());
    }
    (clock() - start).as_secs_f64() * 1000.0 / ROUNDS as f64
}

/// Time that this thread has spent on a processor, so that other work on the machine does not count; where the system does
/// not tell, time on the wall.
fn clock() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = text.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn sample() -> Sample {
    let mut rng = Rng::named(0, "picture", 0);
    let mut raster = |channels: usize, value: &dyn Fn(f64) -> f64| {
        let data = (0..channels * HEIGHT * WIDTH).map(|_| value(rng.uniform()) as f32).collect();
        Raster { channels, height: HEIGHT, width: WIDTH, data }
    };
    let image = raster(3, &|u| (u * 256.0).floor());
    let names = ["semseg", "human_parts", "sal", "normals", "edge"];
    let labels = names.into_iter().filter_map(Task::from_name).map(|task| {
        let map = match task.label {
            LabelKind::Classes => raster(1, &|u| (u * 7.0).floor()),
            LabelKind::Binary => raster(1, &f64::round),
            LabelKind::Metres => raster(1, &|u| 0.5 + 9.0 * u),
            LabelKind::UnitVector => raster(3, &|u| (2.0 * u - 1.0) / 1.8),
        };
        (task, map)
    });
    Sample { id: "generated".into(), image, labels: labels.collect() }
}
