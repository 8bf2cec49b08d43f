//! The scores of a run: before, best and last, as a table.

use crate::evaluate::{Evaluation, ScoreRecord};
use crate::folder::is_file;
use crate::run::RunDir;
use crate::session::Session;
use crate::{Config, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use tadformer_data::{Task, TaskSpec, dataset};

/// Its file in a run's folder.
pub(crate) const FILE: &str = "metrics.json";

/// Headline figures of the tasks at one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Epochs finished when it was taken.
    pub epoch: usize,
    /// Mean gain over the references in percent.
    pub gain: Option<f64>,
    /// Every score by task and name.
    pub scores: BTreeMap<String, BTreeMap<String, Value>>,
}

/// One score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Value in `unit`; nothing where no pixel was labelled.
    pub value: Option<f64>,
    /// `%`, `degrees`, `m`, or nothing.
    pub unit: String,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// What the gain is measured against, and the snapshots of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Tasks in order, with the name of their headline score.
    headlines: Vec<(String, String)>,
    /// Published single-task figures; empty where there are none, and then the first evaluation is the reference.
    single_task: Vec<(String, f64)>,
    /// Every evaluation in order.
    snapshots: Vec<Snapshot>,
}

/// Published figures of networks trained for one task alone, where the data set and backbone have them all.
///
/// # Errors
/// A data set that cannot be described.
pub(crate) fn references(session: &Session) -> Result<Vec<(Task, f64)>> {
    references_of(&session.config, &session.specs)
}

/// As [`references`], for a configuration.
///
/// # Errors
/// A data set that cannot be described.
pub(crate) fn references_of(config: &Config, specs: &[TaskSpec]) -> Result<Vec<(Task, f64)>> {
    let (data, model) = (&config.data, &config.model);
    let crate::config::BackboneConfig::Named(backbone) = &model.backbone else {
        return Ok(Vec::new());
    };
    if data.name == "synthetic" {
        return Ok(Vec::new());
    }
    let descriptor = dataset::descriptor(&data.name, &data.root.clone().unwrap_or_default())?;
    let figure = |task: Task| {
        let found = descriptor.tasks.iter().find(|entry| entry.task == task.name)?;
        Some((task, *found.single_task.get(backbone)?))
    };
    let all: Option<Vec<_>> = specs.iter().map(|spec| figure(spec.task)).collect();
    Ok(all.unwrap_or_default())
}

impl Report {
    /// An empty report against published single-task figures, if there are any.
    pub fn new(single_task: Vec<(Task, f64)>) -> Self {
        let single_task =
            single_task.into_iter().map(|(task, value)| (task.name.to_owned(), value)).collect();
        Self { headlines: Vec::new(), single_task, snapshots: Vec::new() }
    }

    /// The report of a run that goes on after `epoch`; what was measured later is measured again.
    ///
    /// # Errors
    /// A file that is missing or cannot be understood.
    pub fn read(run: &RunDir, epoch: usize) -> Result<Self> {
        let mut report = Self::parse(&run.path().join(FILE))?;
        report.snapshots.retain(|snapshot| snapshot.epoch <= epoch);
        Ok(report)
    }

    /// The report in a folder, if there is one.
    ///
    /// # Errors
    /// A file that cannot be understood.
    pub(crate) fn find(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if is_file(&path)? { Self::parse(&path).map(Some) } else { Ok(None) }
    }

    fn parse(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::file(path, format!("cannot be understood: {error}")))
    }

    /// Adds an evaluation and gives its gain in percent: Δm against the single-task figures, or the mean relative gain
    /// over the first evaluation.
    pub fn add(&mut self, epoch: usize, evaluation: &Evaluation) -> Option<f64> {
        self.headlines = evaluation
            .headlines()
            .map(|(task, score)| (task.name.to_owned(), score.name.to_owned()))
            .collect();
        let references: Vec<(Task, f64)> = if self.single_task.is_empty() {
            evaluation.headlines().filter_map(|(task, _)| Some((task, self.first(task.name)?))).collect()
        } else {
            evaluation
                .headlines()
                .filter_map(|(task, _)| {
                    self.single_task.iter().find(|(name, _)| name == task.name).map(|f| (task, f.1))
                })
                .collect()
        };
        let gain = evaluation.gain(&references).filter(|gain| gain.is_finite());
        let scores = evaluation.records().into_iter().map(|(task, scores)| {
            let own = |(name, score): (&str, ScoreRecord)| {
                let ScoreRecord { value, unit, higher_is_better } = score;
                (name.to_owned(), Value { value, unit: unit.to_owned(), higher_is_better })
            };
            (task.to_owned(), scores.into_iter().map(own).collect())
        });
        self.snapshots.push(Snapshot { epoch, gain, scores: scores.collect() });
        gain
    }

    /// Every evaluation in order.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// The snapshot with the largest gain.
    pub fn best(&self) -> Option<&Snapshot> {
        let gain = |snapshot: &Snapshot| snapshot.gain.unwrap_or(f64::NEG_INFINITY);
        self.snapshots.iter().max_by(|a, b| gain(a).total_cmp(&gain(b)))
    }

    /// Writes `metrics.json` and `metrics.md`.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn write(&self, run: &RunDir) -> Result<()> {
        run.write(FILE, &self.to_json())?;
        run.write("metrics.md", self.table().as_bytes())
    }

    /// The report as the JSON of `metrics.json`.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a report is plain data")
    }

    /// The headline figures as a Markdown table: before, best, last, what changed, and the published single-task figures
    /// with Δm where there are any.
    pub fn table(&self) -> String {
        let (Some(first), Some(best), Some(last)) =
            (self.snapshots.first(), self.best(), self.snapshots.last())
        else {
            return String::new();
        };
        let mut table = String::from("| task | score | before | best | last | change | single task |\n");
        table += "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n";
        for (task, name) in &self.headlines {
            let value = |snapshot: &Snapshot| figure(snapshot, task, name);
            let cell = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.2}"));
            let single = self.single_task.iter().find(|(found, _)| found == task).map(|(_, value)| *value);
            let known = first.scores.get(task).and_then(|scores| scores.get(name));
            let unit = known.map_or("", |value| value.unit.as_str());
            let arrow = if known.is_none_or(|value| value.higher_is_better) { "↑" } else { "↓" };
            // A difference, not a ratio: a network that knows nothing may score next to nothing.
            let change =
                value(first).zip(value(last)).map_or("–".to_owned(), |(a, b)| format!("{:+.2}", b - a));
            let score = if unit.is_empty() { name.clone() } else { format!("{name} ({unit})") };
            let (before, best, last) = (cell(value(first)), cell(value(best)), cell(value(last)));
            // Writing to a string does not fail.
            let _ = writeln!(
                table,
                "| {task} | {score} {arrow} | {before} | {best} | {last} | {change} | {} |",
                cell(single)
            );
        }
        if !self.single_task.is_empty() {
            let [first, best, last] = [first, best, last]
                .map(|snapshot| snapshot.gain.map_or("–".to_owned(), |gain| format!("{gain:+.2}")));
            let _ = writeln!(table, "| all | Δm (%) ↑ | {first} | {best} | {last} | – | – |");
        }
        let _ = writeln!(table, "\nBest after epoch {}, last after epoch {}.", best.epoch, last.epoch);
        table
    }

    fn first(&self, task: &str) -> Option<f64> {
        let first = self.snapshots.first()?;
        let (_, name) = self.headlines.iter().find(|(found, _)| found == task)?;
        figure(first, task, name)
    }
}

fn figure(snapshot: &Snapshot, task: &str, name: &str) -> Option<f64> {
    snapshot.scores.get(task)?.get(name)?.value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(epoch: usize, gain: f64, value: f64) -> Snapshot {
        let value = Value { value: Some(value), unit: "%".to_owned(), higher_is_better: true };
        let scores = BTreeMap::from([("sal".to_owned(), BTreeMap::from([("maxF".to_owned(), value)]))]);
        Snapshot { epoch, gain: Some(gain), scores }
    }

    #[test]
    fn changes_are_differences_and_the_mean_is_of_single_task_figures_only() {
        let mut report = Report {
            headlines: vec![("sal".to_owned(), "maxF".to_owned())],
            single_task: Vec::new(),
            snapshots: vec![snapshot(0, 0.0, 0.5), snapshot(1, 9900.0, 50.0), snapshot(2, 7900.0, 40.0)],
        };
        let table = report.table();
        assert!(table.contains("| sal | maxF (%) ↑ | 0.50 | 50.00 | 40.00 | +39.50 | – |"), "{table}");
        assert!(!table.contains("00.00 |\n") && !table.contains("Δm"), "{table}");
        report.single_task = vec![("sal".to_owned(), 60.0)];
        assert!(
            report.table().contains("| all | Δm (%) ↑ | +0.00 | +9900.00 | +7900.00 |"),
            "{}",
            report.table()
        );
    }
}
