//! Several adapters on one frozen backbone, mapped from its file and shared.
//!
//! ```text
//! cargo run --release -p tadformer --example serve_adapters -- BACKBONE.safetensors ADAPTER_FOLDER...
//! ```
//!
//! prints how long backbone and adapters take to load, and how much memory each adds (Linux).

use std::path::Path;
use std::time::Instant;
use tadformer::{Override, Predictor, SavedModel, SharedBackbone};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(backbone), folders) = (arguments.next(), arguments.collect::<Vec<_>>()) else {
        return Err("expected a backbone and the folders of adapters".into());
    };
    let weights = [Override::new("model.weights", backbone.as_str())];
    let Some(first) = folders.first() else { return Err("expected the folder of an adapter".into()) };
    let config = SavedModel::config_of(Path::new(first), &weights)?;

    let (start, memory) = (Instant::now(), resident());
    // SAFETY: nobody writes to the file while its tensors are taken out.
    let shared = unsafe { SharedBackbone::map(&config)? };
    println!(
        "backbone: {:.1} ms, {:.1} MB of tensors, {:.1} MB resident",
        start.elapsed().as_secs_f64() * 1e3,
        shared.bytes() as f64 / 1e6,
        resident() - memory
    );
    let mut predictors = Vec::new();
    for folder in &folders {
        let (start, memory) = (Instant::now(), resident());
        let saved = SavedModel::open(Path::new(folder), &weights)?;
        predictors.push(Predictor::on(&shared, saved)?);
        println!(
            "{folder}: {:.1} ms, {:.1} MB resident",
            start.elapsed().as_secs_f64() * 1e3,
            resident() - memory
        );
    }
    println!("{} models from one backbone: {:.1} MB resident in all", predictors.len(), resident());
    Ok(())
}

/// Megabytes of this process in main memory; 0 where the system does not say.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0);
    kib * 1024.0 / 1e6
}
