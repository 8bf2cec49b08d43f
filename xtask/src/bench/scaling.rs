//! `cargo xtask bench scaling`: what a step costs as one size grows and the others stay.

use super::build::Programs;
use super::document;
use super::machine::Machine;
use super::peer::{OURS, Peer, prepare};
use super::plot::{Chart, Line};
use super::rounds::{Measured, alternate, warm_up};
use super::setup::{Setup, TASKS, What};
use super::statistics::straight_line;
use super::worker::Worker;
use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Measure cost against image size, batch, rank, tasks and threads, and draw it
///
/// Writes `scaling-WHAT-AXIS.svg` and, against the batch, `memory-WHAT-batch.svg`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [What::Predict, What::Train])]
    what: Vec<What>,
    /// Along what
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Axis::value_variants().to_vec())]
    axes: Vec<Axis>,
    /// Peers to draw beside ours: eager, eager-malloc, eager-bf16, timm-peft, openvino, openvino-bf16
    #[arg(long, value_name = "PEER", value_delimiter = ',', default_value = "ours")]
    peers: Vec<String>,
    /// Timed steps of each point
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The Python of the peers
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,
    /// A smoke test: 224², rank 16, one step, two points an axis
    #[arg(long)]
    quick: bool,
    /// Print every point as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Folder for the charts
    #[arg(long, value_name = "FOLDER", default_value = "docs/images")]
    output: PathBuf,
    /// Also write the table into this file, between `<!-- bench:scaling -->` and `<!-- /bench:scaling -->`
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// The size that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Axis {
    /// Rows and columns of the image
    Size,
    /// Images a step
    Batch,
    /// Rank of the low-rank updates
    Rank,
    /// Number of tasks
    Tasks,
    /// Threads
    Threads,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Batch => "batch",
            Self::Rank => "rank",
            Self::Tasks => "tasks",
            Self::Threads => "threads",
        }
    }

    /// The values measured; sides are multiples of 224, so that every stage is cut into whole windows.
    fn values(self, processors: usize, quick: bool) -> Vec<usize> {
        let all = match self {
            Self::Size => vec![224, 448, 672, 896],
            Self::Batch => vec![1, 2, 4],
            Self::Rank => vec![8, 16, 32, 64],
            Self::Tasks => vec![1, 2, 3, 4],
            Self::Threads => {
                let powers = (0..usize::BITS).map(|i| 1 << i).take_while(|n| *n < processors);
                powers.chain([processors]).collect()
            }
        };
        if quick { all[..all.len().min(2)].to_vec() } else { all }
    }

    fn apply(self, setup: &mut Setup, value: usize) {
        match self {
            Self::Size => setup.size = value,
            Self::Batch => setup.batch = value,
            Self::Rank => setup.rank = value,
            Self::Tasks => setup.tasks = TASKS[..value].iter().map(|task| (*task).to_owned()).collect(),
            Self::Threads => setup.threads = value,
        }
    }

    /// Where a value stands on the chart, and the axis' name there: cost should be linear in it.
    fn place(self, value: usize) -> f64 {
        match self {
            Self::Size => (value * value) as f64 / 1e6,
            _ => value as f64,
        }
    }

    /// What the slope of a line along it is given for.
    fn unit(self) -> &'static str {
        match self {
            Self::Size => "a million pixels",
            Self::Batch => "an image",
            Self::Rank => "a rank",
            Self::Tasks => "a task",
            Self::Threads => "a thread",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Size => "pixels of the image, millions",
            Self::Batch => "images a step",
            Self::Rank => "rank",
            Self::Tasks => "tasks",
            Self::Threads => "threads",
        }
    }
}

/// What one value of an axis costs.
#[derive(Debug, Clone, Serialize)]
struct Point {
    axis: Axis,
    value: usize,
    setup: Setup,
    rows: Vec<Measured>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (peers, programs) = prepare(&arguments.peers, &arguments.python)?;
    let machine = Machine::this();
    let mut missing: Vec<(What, Axis)> = arguments
        .what
        .iter()
        .flat_map(|what| arguments.axes.iter().map(move |axis| (*what, *axis)))
        .collect();
    missing.reverse();
    let mut points = Vec::new();
    while let Some((what, axis)) = missing.pop() {
        let of_axis = measure(arguments, what, axis, &peers, &programs, &machine)?;
        draw(&arguments.output, what, axis, &of_axis)?;
        points.extend(of_axis);
        // Long work: what is there is written before the next series, which may not come to its end.
        if let Some(path) = &arguments.write {
            let text = table(&points, &missing, &machine) + &shown(&points, path, &arguments.output);
            document::update(path, &[("scaling", text)])?;
        }
    }
    if arguments.json {
        let all = serde_json::json!({ "machine": machine, "points": points });
        println!("{}", serde_json::to_string_pretty(&all).expect("figures are plain data"));
    } else {
        println!("{}", table(&points, &missing, &machine));
    }
    Ok(())
}

fn measure(
    arguments: &Arguments,
    what: What,
    axis: Axis,
    peers: &[Peer],
    programs: &Programs,
    machine: &Machine,
) -> Result<Vec<Point>> {
    let processors = machine.processors;
    let mut points = Vec::new();
    for value in axis.values(processors, arguments.quick) {
        let mut setup = Setup { batch: 1, ..Setup::usual(what, processors) };
        if arguments.quick {
            (setup.size, setup.rank) = (224, 16);
        }
        axis.apply(&mut setup, value);
        eprintln!("{}", setup.describe());
        let shown: Vec<Peer> =
            [OURS].into_iter().chain(peers.iter().copied().filter(|peer| peer.does(what))).collect();
        let mut workers = Vec::with_capacity(shown.len());
        for peer in &shown {
            let mut worker = Worker::start(peer.name, peer.command(&setup, programs)?)?;
            warm_up(&mut worker, processors)?;
            workers.push(worker);
        }
        let rounds = if arguments.quick { 1 } else { usize::from(arguments.rounds) };
        let steps = alternate(&mut workers, rounds, processors, |_| ())?;
        let rows = shown
            .iter()
            .zip(workers.into_iter().zip(steps))
            .map(|(peer, (worker, steps))| {
                let about = worker.about.clone();
                Measured::new(peer.name, peer.title, about, steps, worker.end()?)
            })
            .collect::<Result<_>>()?;
        points.push(Point { axis, value, setup, rows });
    }
    Ok(points)
}

fn draw(folder: &Path, what: What, axis: Axis, points: &[Point]) -> Result<()> {
    let work = match what {
        What::Predict => "prediction",
        What::Train => "training step",
    };
    let chart = |y: &str, title: String, value: fn(&Measured) -> Option<f64>| Chart {
        title,
        x: axis.title().to_owned(),
        y: y.to_owned(),
        lines: lines(axis, points, value),
    };
    let time = chart("seconds", format!("{work}: time a step"), |row| Some(row.summary.median));
    document::write(&folder.join(chart_name("scaling", what, axis)), time.svg().as_bytes())?;
    if axis == Axis::Batch {
        let memory = chart("GiB", format!("{work}: peak memory"), |row| {
            row.peak.map(|bytes| bytes as f64 / f64::from(1 << 30))
        });
        document::write(&folder.join(chart_name("memory", what, axis)), memory.svg().as_bytes())?;
    }
    Ok(())
}

fn chart_name(of: &str, what: What, axis: Axis) -> String {
    format!("{of}-{}-{}.svg", what.name(), axis.name())
}

/// The charts of what was measured as pictures of the Markdown file `document`; none if they are not in or below its
/// folder.
fn shown(points: &[Point], document: &Path, folder: &Path) -> String {
    let Some(below) = document.parent().and_then(|parent| folder.strip_prefix(parent).ok()) else {
        return String::new();
    };
    let mut series: Vec<(What, Axis)> = points.iter().map(|point| (point.setup.what, point.axis)).collect();
    series.dedup();
    let mut text = String::new();
    for (what, axis) in series {
        let memory = (axis == Axis::Batch).then_some(("memory", "peak memory"));
        for (of, title) in [("scaling", "time")].into_iter().chain(memory) {
            let file = below.join(chart_name(of, what, axis));
            let title = format!("{title} of {} along {}", what.name(), axis.name());
            text += &format!("\n![{title}]({})", file.display());
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// One line a worker, through the values of `of`.
fn lines(axis: Axis, points: &[Point], of: fn(&Measured) -> Option<f64>) -> Vec<Line> {
    let Some(first) = points.first() else { return Vec::new() };
    let through =
        |i: usize| points.iter().filter_map(|p| Some((axis.place(p.value), of(p.rows.get(i)?)?))).collect();
    first
        .rows
        .iter()
        .enumerate()
        .map(|(i, row)| Line { name: row.title.clone(), points: through(i) })
        .collect()
}

/// The table of what was measured, with a list of what is still `missing`, last one first.
fn table(points: &[Point], missing: &[(What, Axis)], machine: &Machine) -> String {
    let mut lines = vec![
        "| work | axis | value | worker | s a step | min – max | peak MiB |".to_owned(),
        "| --- | --- | ---: | --- | ---: | ---: | ---: |".to_owned(),
    ];
    let mut busy = false;
    for point in points {
        for row in &point.rows {
            busy |= !row.quiet;
            let mebibytes = row.peak.map_or("–".to_owned(), |bytes| (bytes >> 20).to_string());
            lines.push(format!(
                "| {} | {} | {} | {}{} | {:.3} | {:.3} – {:.3} | {mebibytes} |",
                point.setup.what.name(),
                point.axis.name(),
                point.value,
                row.title,
                if row.quiet { "" } else { " \\*" },
                row.summary.median,
                row.summary.min,
                row.summary.max,
            ));
        }
    }
    lines.push(String::new());
    lines.extend(growth(points));
    if busy {
        lines.push("- \\* the machine was busy with other work in nearly every step.".to_owned());
    }
    if !missing.is_empty() {
        let names = missing.iter().rev().map(|(what, axis)| format!("{} along {}", what.name(), axis.name()));
        lines.push(format!("- Not measured: {}.", names.collect::<Vec<_>>().join(", ")));
    }
    lines.push(format!(
        "- Others stay at 448x448, batch 1, rank 64, 4 tasks. Machine: {}.",
        machine.describe()
    ));
    lines.join("\n")
}

/// The straight lines through time against pixels and tasks, and through memory against the batch.
fn growth(points: &[Point]) -> Vec<String> {
    let mut sentences = Vec::new();
    for what in What::value_variants() {
        for axis in [Axis::Size, Axis::Batch, Axis::Tasks] {
            let chosen: Vec<&Point> =
                points.iter().filter(|point| point.setup.what == *what && point.axis == axis).collect();
            let workers = chosen.first().map_or(0, |point| point.rows.len());
            for i in 0..workers {
                let (value, unit): (fn(&Measured) -> Option<f64>, _) = match axis {
                    Axis::Batch => (|row| row.peak.map(|bytes| (bytes >> 20) as f64), "MiB of peak memory"),
                    _ => (|row| Some(row.summary.median), "s"),
                };
                let rows = chosen.iter().filter_map(|point| Some((point, point.rows.get(i)?)));
                let placed: Vec<(f64, f64)> =
                    rows.filter_map(|(point, row)| Some((axis.place(point.value), value(row)?))).collect();
                if let Some((start, slope)) = straight_line(&placed) {
                    let (work, name, per) = (what.name(), &chosen[0].rows[i].title, axis.unit());
                    sentences.push(format!("- {work}, {name}: {start:.2} + {slope:.2} {unit} {per}."));
                }
            }
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::super::worker::{About, Step};
    use super::*;

    #[test]
    fn an_axis_changes_one_size_alone() {
        let usual = Setup::usual(What::Train, 2);
        for axis in Axis::value_variants() {
            let mut setup = usual.clone();
            axis.apply(&mut setup, 3);
            let changed = [
                setup.size != usual.size,
                setup.batch != usual.batch,
                setup.rank != usual.rank,
                setup.tasks != usual.tasks,
                setup.threads != usual.threads,
            ];
            assert_eq!(changed.iter().filter(|changed| **changed).count(), 1, "{axis:?}");
        }
    }

    #[test]
    fn threads_go_up_to_the_processors() {
        assert_eq!(Axis::Threads.values(6, false), [1, 2, 4, 6]);
        assert_eq!(Axis::Threads.values(1, false), [1]);
        assert_eq!(Axis::Size.values(1, true), [224, 448]);
    }

    #[test]
    fn every_point_is_in_the_table_and_on_the_chart() {
        let row = |seconds| {
            let about = About { version: String::new(), simd: String::new(), threads: 2 };
            let steps = vec![Step { seconds, others: Some(0.0) }; 3];
            Measured::new("ours", "ours, f32", about, steps, Some(3 << 30)).unwrap()
        };
        let setup = Setup::usual(What::Predict, 2);
        let points: Vec<Point> = [(1, 0.5), (2, 1.0)]
            .map(|(value, seconds)| Point {
                axis: Axis::Batch,
                value,
                setup: setup.clone(),
                rows: vec![row(seconds)],
            })
            .to_vec();
        let text = table(&points, &[(What::Train, Axis::Rank), (What::Train, Axis::Size)], &Machine::this());
        assert!(
            text.contains("| predict | batch | 2 | ours, f32 | 1.000 | 1.000 – 1.000 | 3072 |"),
            "{text}"
        );
        assert!(text.contains("- predict, ours, f32: 3072.00 + 0.00 MiB of peak memory an image."), "{text}");
        assert!(text.contains("- Not measured: train along size, train along rank."), "{text}");
        let pictures = shown(&points, Path::new("docs/performance.md"), Path::new("docs/images"));
        assert_eq!(
            pictures,
            "\n\n![time of predict along batch](images/scaling-predict-batch.svg)\
             \n![peak memory of predict along batch](images/memory-predict-batch.svg)"
        );
        assert_eq!(shown(&points, Path::new("docs/performance.md"), Path::new("elsewhere")), "");
        let folder = tempfile::tempdir().unwrap();
        draw(folder.path(), What::Predict, Axis::Batch, &points).unwrap();
        for name in ["scaling-predict-batch.svg", "memory-predict-batch.svg"] {
            let svg = std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!(svg.matches("<circle").count(), 2, "{name}");
        }
    }
}
