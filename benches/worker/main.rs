//! Our side of `cargo xtask bench`: a process that does one step of work for every line `step`, and says how long it
//! took. `benches/python/worker.py` speaks the same protocol for the PyTorch peers.
//!
//! ```text
//! → (arguments)             ← ready {"engine": …, "version": …, "simd": …, "threads": …}
//! → step                    ← seconds 0.123456
//! → end, or end of file     ← peak 123456789          (bytes resident at most; `peak unknown` off Linux)
//! ```

#[path = "../../crates/tadformer-cli/src/process.rs"]
mod process;
mod predict;
mod products;
mod setup;
mod train;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use predict::Predict;
use products::Products;
use setup::Setup;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tadformer::{Checkpoint, RunDir, Session, TrainState, autocast};
use tadformer_data::draw::Picture;
use train::Train;

/// Steps of work for `cargo xtask bench`, one for every line `step` on standard input.
#[derive(Parser)]
#[command(name = "tadformer-worker")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Normalised images in, full-resolution maps out
    Predict(Setup),
    /// Forward, losses, backward, clipping, AdamW
    Train(Setup),
    /// Eight products of 1024×1024 matrices
    Products,
    /// Write the folder of a run whose model was never trained, for `tadformer-cli predict`
    WriteRun {
        #[command(flatten)]
        setup: Setup,
        /// The folder to make
        #[arg(long, value_name = "FOLDER")]
        output: PathBuf,
        /// Also write a picture of the model's size
        #[arg(long, value_name = "PNG")]
        picture: PathBuf,
    },
}

/// Work that is timed.
trait Work {
    /// Does it once.
    fn step(&mut self) -> Result<()>;
}

fn main() -> Result<()> {
    // What the program that users run sets for itself.
    process::prepare();
    tadformer::simd_limit()?;
    match Arguments::parse().command {
        Command::Predict(setup) => {
            let mut work = Predict::new(&setup)?;
            autocast(setup.precision(), || serve(&mut work))
        }
        Command::Train(setup) => {
            let mut work = Train::new(&setup)?;
            autocast(setup.precision(), || serve(&mut work))
        }
        Command::Products => serve(&mut Products::new()?),
        Command::WriteRun { setup, output, picture } => write_run(&setup, &output, &picture),
    }
}

fn serve(work: &mut dyn Work) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let about = serde_json::json!({
        "engine": "ours",
        "version": concat!("tadformer ", env!("CARGO_PKG_VERSION")),
        "simd": tadformer_ops::simd_level().name(),
        "threads": rayon::current_num_threads(),
    });
    writeln!(out, "ready {about}")?;
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "step" => {
                let start = Instant::now();
                work.step()?;
                writeln!(out, "seconds {:.6}", start.elapsed().as_secs_f64())?;
            }
            "end" => break,
            other => bail!("the worker was told `{other}`, expected `step` or `end`"),
        }
    }
    match peak_memory() {
        Some(bytes) => writeln!(out, "peak {bytes}")?,
        None => writeln!(out, "peak unknown")?,
    }
    Ok(())
}

/// The most memory that this process ever had resident, in bytes (`VmHWM`).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn write_run(setup: &Setup, output: &Path, picture: &Path) -> Result<()> {
    let session = Session::fresh(setup.config()?)?;
    let run = RunDir::create(output, &session.config)?;
    Checkpoint::write(&run.checkpoints().last(), &session.store, None, &TrainState::default())?;
    let [height, width] = session.config.data.size;
    let mut scene = Picture::filled(height, width, [0; 3]);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        scene.set(y, x, [(x * y / 97 % 256) as u8, (x / 2 % 256) as u8, (y / 2 % 256) as u8]);
    }
    Ok(scene.save_png(picture)?)
}
