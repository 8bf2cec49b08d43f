//! Milliseconds an image for every meter at 448x448: `cargo run --release -p tadformer-metrics --example meter_speed`.

use std::time::Instant;

use tadformer_metrics::{
    Depth, Edge, EdgeProtocol, Error, MeanIou, Meter, Normals, Planes, Saliency, Tolerance,
};

const SIDE: usize = 448;
const PIXELS: usize = SIDE * SIDE;
const ROUNDS: usize = 15;

fn main() -> Result<(), Error> {
    // A fixed sequence in -1..1, by a multiplicative hash of the index.
    let noise = |i: usize| ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / 8_388_608.0 - 1.0;
    let values = |channels: usize| -> Vec<f32> { (0..channels * PIXELS).map(|i| 4.0 * noise(i)).collect() };
    let label = |f: &dyn Fn(usize) -> f32| -> Vec<f32> { (0..PIXELS).map(f).collect() };

    let classes = label(&|i| (i / 977 % 21) as f32);
    let binary = label(&|i| ((i / 5000) % 2) as f32);
    let depth = label(&|i| 1.0 + (i % 1000) as f32 / 200.0);
    let normals: Vec<f32> = (0..3 * PIXELS).map(|i| if i < 2 * PIXELS { 0.0 } else { 1.0 }).collect();

    // A circle every 40 pixels, and a soft prediction of it two pixels off.
    let radius = |i: usize| ((i % SIDE) as f32 - 200.0).hypot((i / SIDE) as f32 - 230.0) % 40.0 - 20.0;
    let circles = label(&|i| f32::from(u8::from(radius(i).abs() < 0.5)));
    let soft = label(&|i| 2.0 - (radius(i) - 2.0).powi(2) / 3.0 + noise(i));

    time("mean IoU, 21 classes", MeanIou::new(21)?, &values(21), &classes)?;
    time("mean IoU, 40 classes", MeanIou::new(40)?, &values(40), &classes)?;
    time("saliency", Saliency::new(), &values(1), &binary)?;
    time("normals", Normals::new(), &values(3), &normals)?;
    time("depth", Depth::new(), &values(1), &depth)?;
    let distance = EdgeProtocol::distance(Tolerance::Diagonal(0.0075));
    let thick = EdgeProtocol { thin: false, ..EdgeProtocol::bsds() };
    time("edges, distance", Edge::new(distance)?, &soft, &circles)?;
    time("edges, bsds", Edge::new(EdgeProtocol::bsds())?, &soft, &circles)?;
    time("edges, bsds without thinning", Edge::new(thick)?, &soft, &circles)?;
    time("edges, bsds, noise for a prediction", Edge::new(EdgeProtocol::bsds())?, &values(1), &circles)?;
    time("edges, without thinning, noise", Edge::new(thick)?, &values(1), &circles)
}

/// Prints the median and the fastest of several updates, and the headline score.
fn time(name: &str, mut meter: impl Meter, logits: &[f32], label: &[f32]) -> Result<(), Error> {
    let logits = Planes::new(logits, logits.len() / PIXELS, SIDE, SIDE)?;
    let label = Planes::new(label, label.len() / PIXELS, SIDE, SIDE)?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        meter.update(logits, label)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{name:38} median {:7.2} ms, fastest {:7.2} ms   {}",
        times[ROUNDS / 2],
        times[0],
        meter.scores()[0]
    );
    Ok(())
}
