//! `cargo xtask bench peers`: ours and PyTorch peers, step by step in turn.

use super::build::Programs;
use super::document;
use super::machine::Machine;
use super::peer::{OURS, Peer, prepare};
use super::rounds::{Measured, alternate, warm_up};
use super::setup::{Setup, TASKS, What};
use super::start;
use super::statistics::Summary;
use super::table::Comparison;
use super::worker::Worker;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::Command;

/// Compare with PyTorch peers: medians, ratios, spread, memory
///
/// Builds the release worker, starts it and the peers, and lets them step in turn: A B C A B C. What a step holds is the
/// same for all. Needs `pip install -r benches/python/requirements.txt`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Measure::Predict, Measure::Train, Measure::Start])]
    what: Vec<Measure>,
    /// Peers: eager, eager-malloc, eager-bf16, timm-peft, openvino, openvino-bf16; `ours` for none
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    peers: Vec<String>,
    /// Timed steps of each
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Images a step; without it, 1 to predict and 2 to train
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Rows and columns of an image
    #[arg(long, value_name = "N", default_value_t = 448)]
    size: usize,
    /// Rank of the low-rank updates
    #[arg(long, value_name = "R", default_value_t = 64)]
    rank: usize,
    /// Tasks
    #[arg(long, value_name = "TASK", value_delimiter = ',', default_values_t = TASKS.map(str::to_owned))]
    tasks: Vec<String>,
    /// Threads of each; without it, all processors
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The Python of the peers
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,
    /// A smoke test: 224², rank 16, batch 1, one round
    #[arg(long)]
    quick: bool,
    /// Print every step as JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Also write the tables into this file, between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Normalised images to maps
    Predict,
    /// A training step
    Train,
    /// From process start to the first maps on disk
    Start,
}

/// 10⁹ operations in a step of the worker's `products`: eight times 2·1024³.
const PRODUCTS: f64 = 8.0 * 2.0 * 1.073_741_824;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (peers, programs) = prepare(&arguments.peers, &arguments.python)?;
    let machine = Machine::this();
    let mut comparisons = Vec::new();
    for what in &arguments.what {
        let comparison = match what {
            Measure::Predict => compare(arguments, What::Predict, &peers, &programs, &machine)?,
            Measure::Train => compare(arguments, What::Train, &peers, &programs, &machine)?,
            Measure::Start => first_prediction(arguments, &peers, &programs, &machine)?,
        };
        if !arguments.json {
            println!("{}", comparison.markdown(&machine));
        }
        comparisons.push(comparison);
    }
    if arguments.json {
        let all = serde_json::json!({ "machine": machine, "comparisons": comparisons });
        println!("{}", serde_json::to_string_pretty(&all).expect("figures are plain data"));
    }
    if let Some(path) = &arguments.write {
        let blocks: Vec<_> = comparisons.iter().map(|c| (c.name, c.markdown(&machine))).collect();
        document::update(path, &blocks)?;
    }
    Ok(())
}

impl Arguments {
    fn setup(&self, what: What, machine: &Machine) -> Setup {
        let threads = self.threads.unwrap_or(machine.processors);
        let batch = self.batch.unwrap_or_else(|| what.usual_batch());
        let (batch, size, rank) = if self.quick { (1, 224, 16) } else { (batch, self.size, self.rank) };
        Setup { what, batch, size, rank, tasks: self.tasks.clone(), threads }
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { usize::from(self.rounds) }
    }
}

fn compare(
    arguments: &Arguments,
    what: What,
    peers: &[Peer],
    programs: &Programs,
    machine: &Machine,
) -> Result<Comparison> {
    let setup = arguments.setup(what, machine);
    eprintln!("{}", setup.describe());
    let processors = machine.processors;
    let start = |peer: Peer| -> Result<Worker> {
        eprintln!("  starting {}", peer.name);
        let mut worker = Worker::start(peer.name, peer.command(&setup, programs)?)?;
        warm_up(&mut worker, processors)?;
        Ok(worker)
    };
    let mut products = Command::new(&programs.worker);
    products.arg("products").env("RAYON_NUM_THREADS", setup.threads.to_string());
    let mut workers = vec![Worker::start("products", products)?, start(OURS)?];
    let mut rows = vec![OURS];
    let mut left_out = Vec::new();
    for peer in peers.iter().filter(|peer| peer.does(what)) {
        // One peer that cannot run here should not lose the others.
        match start(*peer) {
            Ok(worker) => {
                workers.push(worker);
                rows.push(*peer);
            }
            Err(error) => left_out.push((peer.title.to_owned(), format!("{error:#}"))),
        }
    }
    let rounds = arguments.rounds();
    let mut steps =
        alternate(&mut workers, rounds, processors, |round| eprintln!("  round {round} of {rounds}"))?;
    let mut workers = workers.into_iter();
    let products: Vec<f64> = steps.remove(0).iter().map(|step| PRODUCTS / step.seconds).collect();
    workers.next().context("the first worker is the one of the products")?.end()?;
    let measured = rows
        .iter()
        .zip(workers.zip(steps))
        .map(|(peer, (worker, steps))| {
            let about = worker.about.clone();
            Measured::new(peer.name, peer.title, about, steps, worker.end()?)
        })
        .collect::<Result<_>>()?;
    Ok(Comparison { name: what.name(), setup, rows: measured, left_out, products: Summary::of(&products) })
}

fn first_prediction(
    arguments: &Arguments,
    peers: &[Peer],
    programs: &Programs,
    machine: &Machine,
) -> Result<Comparison> {
    let setup = Setup { batch: 1, ..arguments.setup(What::Predict, machine) };
    eprintln!("start to first prediction");
    let python = peers.iter().any(|peer| peer.in_python());
    let rows = start::measure(&setup, programs, arguments.rounds(), python, machine.processors)?;
    Ok(Comparison { name: "start", setup, rows, left_out: Vec::new(), products: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn a_quick_run_is_small_whatever_else_is_asked_for() {
        let given =
            ["x", "--quick", "--size", "896", "--rounds", "50", "--threads", "3", "--what", "train,start"];
        let arguments = Program::parse_from(given).arguments;
        let setup = arguments.setup(What::Train, &Machine::this());
        assert_eq!((setup.size, setup.rank, setup.batch, setup.threads), (224, 16, 1, 3));
        assert_eq!(arguments.rounds(), 1);
        assert_eq!(arguments.what, [Measure::Train, Measure::Start]);
        assert!(Program::try_parse_from(["x", "--rounds", "0"]).is_err());
    }
}
