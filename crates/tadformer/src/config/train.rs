//! The training's part of the configuration.

use super::out_of_range;
use crate::checkpoints::MOST;
use crate::optim::{AdamWConfig, ScheduleConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tadformer_data::Task;

/// How the network learns; the defaults are the paper's recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: usize,
    /// Samples a batch.
    pub batch_size: usize,
    /// Batches whose gradients are averaged before an update.
    pub accumulation: usize,
    /// Stages of the backbone, 0 to 3, whose blocks run a second time in the backward instead of keeping what it needs: less
    /// memory, more time, the same losses, gradients to rounding.
    pub grad_checkpointing: Vec<usize>,
    /// Largest norm of the gradient of all trainable tensors together.
    pub clip_norm: f64,
    /// Epochs between evaluations; there is one before the first epoch and one after the last in any case.
    pub eval_every: usize,
    /// Validation samples drawn at every evaluation.
    pub panels: usize,
    /// The most time between two checkpoints, `10m`, `90s`; there is one after every epoch and every evaluation in any case,
    /// and with `0s` after every update.
    #[serde(with = "humantime_serde")]
    pub checkpoint_every: Duration,
    /// How many of the newest checkpoints are kept, besides the best: if the newest is damaged, the one before is used.
    pub keep_checkpoints: usize,
    /// How long a training that was asked to stop may take to finish its update and save.
    #[serde(with = "humantime_serde")]
    pub save_deadline: Duration,
    /// Weights of the tasks' losses; a task that is not named has its usual one.
    pub loss_weights: BTreeMap<String, f64>,
    /// Learning rates, for 512 samples an update; they are scaled to the samples that an update really has.
    pub schedule: ScheduleConfig,
    /// The optimiser.
    pub adamw: AdamWConfig,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 300,
            batch_size: 32,
            accumulation: 1,
            schedule: ScheduleConfig::default(),
            adamw: AdamWConfig::default(),
            grad_checkpointing: Vec::new(),
            clip_norm: 5.0,
            loss_weights: BTreeMap::new(),
            eval_every: 5,
            panels: 4,
            checkpoint_every: Duration::from_secs(600),
            keep_checkpoints: 2,
            save_deadline: Duration::from_secs(120),
        }
    }
}

impl TrainConfig {
    /// Weight of the loss of `task`.
    pub fn loss_weight(&self, task: Task) -> f64 {
        self.loss_weights.get(task.name).copied().unwrap_or(task.loss_weight)
    }

    /// Every value that is out of range.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        out_of_range(
            &mut problems,
            &[
                ("train.epochs", self.epochs as f64, 1.0..=1e6),
                ("train.batch_size", self.batch_size as f64, 1.0..=65536.0),
                ("train.accumulation", self.accumulation as f64, 1.0..=65536.0),
                ("train.clip_norm", self.clip_norm, 1e-9..=1e9),
                ("train.eval_every", self.eval_every as f64, 1.0..=1e6),
                ("train.panels", self.panels as f64, 0.0..=1000.0),
                ("train.keep_checkpoints", self.keep_checkpoints as f64, 1.0..=MOST as f64),
            ],
        );
        for (i, stage) in self.grad_checkpointing.iter().enumerate() {
            if *stage > 3 {
                problems
                    .push(format!("`train.grad_checkpointing` names stage {stage}, expected some of 0 to 3"));
            } else if self.grad_checkpointing[..i].contains(stage) {
                problems.push(format!("`train.grad_checkpointing` names stage {stage} twice"));
            }
        }
        problems
            .extend(self.schedule.problems(self.epochs).iter().map(|p| format!("in `train.schedule`, {p}")));
        problems.extend(self.adamw.problems().iter().map(|p| format!("in `train.adamw`, {p}")));
        for (name, weight) in &self.loss_weights {
            if Task::from_name(name).is_none() {
                let known = Task::names().join("`, `");
                problems.push(format!("`train.loss_weights` names `{name}`, expected some of `{known}`"));
            }
            if !(0.0..=1e6).contains(weight) {
                problems.push(format!("`train.loss_weights.{name}` is {weight}, expected 0 to 1000000"));
            }
        }
        problems
    }
}
