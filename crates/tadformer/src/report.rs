//! The scores of a run: before, best and last, as a table.

use crate::checkpoint::TrainState;
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
use tadformer_metrics::{Direction, error_reduction, relative_gain};

/// Its file in a run's folder.
pub(crate) const FILE: &str = "metrics.json";

/// The scores of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Epochs finished when it was taken.
    pub epoch: usize,
    /// Mean gain of the tasks that have a score, in percent; nothing where none has one, or where one has lost its own.
    pub gain: Option<f64>,
    /// Tasks without a score, which the gain leaves out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
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

/// What the gain is measured against, the snapshots of a run, and which of them is the best: the checkpoint, the table, the
/// model card and the log all go by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Tasks in order, with the name of their headline score.
    headlines: Vec<(String, String)>,
    /// Published single-task figures; empty where there are none, and then the first score of a task is its reference.
    single_task: Vec<(String, f64)>,
    /// The epoch of the best evaluation.
    #[serde(default)]
    best: Option<usize>,
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
        Self { headlines: Vec::new(), single_task, best: None, snapshots: Vec::new() }
    }

    /// The report of a run that goes on from `state`; what was measured later is measured again.
    ///
    /// # Errors
    /// A file that is missing or cannot be understood.
    pub fn read(run: &RunDir, state: &TrainState) -> Result<Self> {
        let mut report = Self::parse(&run.path().join(FILE))?;
        report.snapshots.retain(|snapshot| snapshot.epoch <= state.epoch);
        report.decide();
        if let Some((_, epoch)) = state.best {
            report.best_is(epoch);
        }
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
        let mut report: Self = serde_json::from_slice(&text)
            .map_err(|error| Error::file(path, format!("cannot be understood: {error}")))?;
        let kept = report.best;
        report.decide();
        if let Some(epoch) = kept {
            report.best_is(epoch);
        }
        Ok(report)
    }

    /// Adds an evaluation, and decides whether it is the best so far.
    pub fn add(&mut self, epoch: usize, evaluation: &Evaluation) -> &Snapshot {
        self.headlines = evaluation
            .headlines()
            .map(|(task, score)| (task.name.to_owned(), score.name.to_owned()))
            .collect();
        let scores = evaluation.records().into_iter().map(|(task, scores)| {
            let own = |(name, score): (&str, ScoreRecord)| {
                let ScoreRecord { value, unit, higher_is_better } = score;
                (name.to_owned(), Value { value, unit: unit.to_owned(), higher_is_better })
            };
            (task.to_owned(), scores.into_iter().map(own).collect())
        });
        self.snapshots.push(Snapshot { epoch, gain: None, left_out: Vec::new(), scores: scores.collect() });
        let newest = self.snapshots.len() - 1;
        self.judge(newest);
        &self.snapshots[newest]
    }

    /// Every evaluation in order.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// The snapshot with the largest gain, the first of equals; the last one where no task has a score.
    pub fn best(&self) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| Some(snapshot.epoch) == self.best)
    }

    /// Takes the evaluation after `epoch` for the best, if there was one: its weights are the ones that were kept.
    pub(crate) fn best_is(&mut self, epoch: usize) {
        if self.snapshots.iter().any(|snapshot| snapshot.epoch == epoch) {
            self.best = Some(epoch);
        }
    }

    /// Decides anew from the scores alone.
    fn decide(&mut self) {
        self.best = None;
        (0..self.snapshots.len()).for_each(|index| self.judge(index));
    }

    /// Computes the gain of one snapshot, those before it being judged, and makes it the best if it is.
    fn judge(&mut self, index: usize) {
        let (mut gains, mut left_out, mut lost) = (Vec::new(), Vec::new(), false);
        for (task, name) in &self.headlines {
            let score = |snapshot: &'_ Snapshot| figure(snapshot, task, name);
            let reference = self.snapshots[..=index].iter().find_map(score);
            match (score(&self.snapshots[index]), reference) {
                (Some(ours), Some(first)) => gains.push(self.task_gain(index, task, name, ours, first)),
                (_, reference) => {
                    left_out.push(task.clone());
                    lost |= reference.is_some();
                }
            }
        }
        let mean = gains.iter().sum::<f64>() / gains.len() as f64;
        // Without one of its tasks an evaluation does not compare with those before.
        let gain = (!lost && mean.is_finite()).then_some(mean);
        (self.snapshots[index].gain, self.snapshots[index].left_out) = (gain, left_out);
        let best = self.best().and_then(|best| best.gain);
        if best.is_none() || gain > best {
            self.best = Some(self.snapshots[index].epoch);
        }
    }

    /// The gain of one task in percent, over its single-task figure or else over its first score in this run.
    fn task_gain(&self, index: usize, task: &str, name: &str, ours: f64, first: f64) -> f64 {
        let Value { unit, higher_is_better, .. } = &self.snapshots[index].scores[task][name];
        let direction = if *higher_is_better { Direction::HigherIsBetter } else { Direction::LowerIsBetter };
        match self.single_task.iter().find(|(found, _)| found == task) {
            Some((_, single_task)) => relative_gain(ours, *single_task, direction),
            None => error_reduction(ours, first, unit, direction),
        }
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
        let left_out = best.left_out.join("`, `");
        if !self.single_task.is_empty() {
            let [first, best, last] = [first, best, last]
                .map(|snapshot| snapshot.gain.map_or("–".to_owned(), |gain| format!("{gain:+.2}")));
            let tasks = if left_out.is_empty() { "all" } else { "those with a score" };
            let _ = writeln!(table, "| {tasks} | Δm (%) ↑ | {first} | {best} | {last} | – | – |");
        }
        let _ = writeln!(table, "\nBest after epoch {}, last after epoch {}.", best.epoch, last.epoch);
        table += &match (best.gain, left_out.is_empty()) {
            (None, _) => {
                "No evaluation can be compared with others, so the last one stands for the best.\n".to_owned()
            }
            (Some(_), true) => String::new(),
            (Some(_), false) => format!("Not counted for the best: `{left_out}`, without a score.\n"),
        };
        table
    }
}

fn figure(snapshot: &Snapshot, task: &str, name: &str) -> Option<f64> {
    snapshot.scores.get(task)?.get(name)?.value
}

#[cfg(test)]
mod tests {
    use super::*;
    use tadformer_metrics::Score;

    const SEMSEG: &str = "semseg";
    const DEPTH: &str = "depth";

    /// An evaluation with these headline figures; what is not a number has no score.
    fn evaluation(semseg: f64, depth: f64) -> Evaluation {
        let score = |name, unit, direction, value| Score { name, unit, direction, value };
        let of = |task: &str, score| (Task::from_name(task).unwrap(), vec![score]);
        let scores = vec![
            of(SEMSEG, score("mIoU", "%", Direction::HigherIsBetter, semseg)),
            of(DEPTH, score("rmse", "m", Direction::LowerIsBetter, depth)),
        ];
        Evaluation { scores, panels: Vec::new() }
    }

    /// The report of a run with these evaluations, epoch by epoch.
    fn report(single_task: Vec<(Task, f64)>, evaluations: &[(f64, f64)]) -> Report {
        let mut report = Report::new(single_task);
        for (epoch, (semseg, depth)) in evaluations.iter().enumerate() {
            report.add(epoch, &evaluation(*semseg, *depth));
        }
        report
    }

    fn best(evaluations: &[(f64, f64)]) -> usize {
        report(Vec::new(), evaluations).best().unwrap().epoch
    }

    #[test]
    fn a_task_without_a_score_is_left_out_and_named() {
        let report = report(Vec::new(), &[(22.0, f64::NAN), (80.0, f64::NAN), (75.0, f64::NAN)]);
        let best = report.best().unwrap();
        assert_eq!((best.epoch, best.left_out.as_slice()), (1, [DEPTH.to_owned()].as_slice()));
        // 58 of the 78 points that were missing.
        assert!((best.gain.unwrap() - 58.0 / 0.78).abs() < 1e-9, "{best:?}");
        let table = report.table();
        assert!(table.contains("| depth | rmse (m) ↓ | – | – | – | – | – |"), "{table}");
        assert!(table.contains("Best after epoch 1, last after epoch 2.\n"), "{table}");
        assert!(table.contains("Not counted for the best: `depth`, without a score.\n"), "{table}");
    }

    #[test]
    fn a_first_score_of_nothing_or_next_to_nothing_does_not_rule() {
        for first in [0.0, 1e-12, 0.39] {
            // A tenth of a point on nothing does not make up for half of the error in depth.
            assert_eq!(best(&[(first, 2.0), (first + 0.1, 4.0), (first, 1.9)]), 2, "from {first}");
            assert_eq!(best(&[(first, 2.0), (20.0, 1.9), (10.0, 1.9)]), 1, "from {first}");
        }
        assert_eq!(best(&[(10.0, 0.0), (10.0, 1e-9), (90.0, 0.0)]), 2);
    }

    #[test]
    fn what_is_not_a_number_never_wins() {
        assert_eq!(best(&[(10.0, 2.0), (11.0, 1.9), (90.0, f64::NAN)]), 1);
        assert_eq!(best(&[(10.0, 2.0), (9.0, 2.1), (90.0, f64::INFINITY)]), 0);
        let lost = report(Vec::new(), &[(10.0, 2.0), (90.0, f64::NAN)]);
        assert_eq!(lost.snapshots()[1].gain, None);
        assert_eq!(lost.snapshots()[1].left_out, [DEPTH]);
        // A score that appears later is measured from where it appeared.
        assert_eq!(best(&[(10.0, f64::INFINITY), (10.0, 2.0), (10.0, 1.0)]), 2);
    }

    #[test]
    fn of_equals_the_first_is_the_best_and_without_any_score_the_last() {
        assert_eq!(best(&[(10.0, 2.0), (20.0, 2.0), (20.0, 2.0)]), 1);
        let nothing = report(Vec::new(), &[(f64::NAN, f64::NAN), (f64::NAN, f64::NAN)]);
        assert_eq!(nothing.best().unwrap().epoch, 1);
        assert!(nothing.table().contains("the last one stands for the best"), "{}", nothing.table());
    }

    #[test]
    fn a_report_that_goes_on_decides_as_one_that_was_not_stopped() {
        let evaluations = [(0.0, f64::NAN), (30.0, f64::NAN), (20.0, 3.0), (31.0, 2.0), (31.0, 2.0)];
        let whole = report(Vec::new(), &evaluations);
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), &Config::default()).unwrap();
        for stopped in 0..evaluations.len() {
            let first = report(Vec::new(), &evaluations[..=stopped]);
            // The scores of one more evaluation were written before the run was stopped.
            report(Vec::new(), &evaluations[..evaluations.len().min(stopped + 2)]).write(&run).unwrap();
            let best = first.best().map(|best| (best.gain, best.epoch));
            let state = TrainState { epoch: stopped, best, ..TrainState::default() };
            let mut resumed = Report::read(&run, &state).unwrap();
            assert_eq!(resumed, first, "stopped after {stopped}");
            for (epoch, (semseg, depth)) in evaluations.iter().enumerate().skip(stopped + 1) {
                resumed.add(epoch, &evaluation(*semseg, *depth));
            }
            assert_eq!(resumed, whole, "stopped after {stopped}");
        }
    }

    #[test]
    fn the_best_is_the_one_whose_weights_were_kept() {
        // As runs wrote it that kept the weights of another evaluation than the best.
        let mut old = report(Vec::new(), &[(10.0, 2.0), (50.0, 1.0)]);
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), &Config::default()).unwrap();
        old.best = None;
        old.write(&run).unwrap();
        let state = TrainState { epoch: 1, best: Some((None, 0)), ..TrainState::default() };
        let mut resumed = Report::read(&run, &state).unwrap();
        assert_eq!(resumed.best().unwrap().epoch, 0);
        resumed.add(2, &evaluation(49.0, 1.0));
        assert_eq!(resumed.best().unwrap().epoch, 2);
    }

    #[test]
    fn changes_are_differences_and_the_mean_is_of_single_task_figures_only() {
        let evaluations = [(0.5, 1.0), (50.0, 0.5), (40.0, 0.5)];
        let table = report(Vec::new(), &evaluations).table();
        assert!(table.contains("| semseg | mIoU (%) ↑ | 0.50 | 50.00 | 40.00 | +39.50 | – |"), "{table}");
        assert!(!table.contains("Δm"), "{table}");
        let figures = vec![(Task::from_name(SEMSEG).unwrap(), 40.0), (Task::from_name(DEPTH).unwrap(), 0.5)];
        let table = report(figures.clone(), &evaluations).table();
        assert!(table.contains("| all | Δm (%) ↑ | -99.38 | +12.50 | +0.00 |"), "{table}");
        let table = report(figures, &[(20.0, f64::NAN), (50.0, f64::NAN)]).table();
        assert!(table.contains("| those with a score | Δm (%) ↑ | -50.00 | +25.00 | +25.00 |"), "{table}");
    }
}
