//! From logits and labels of every task to the one number that training minimises.

use crate::CoarseLogits;
use candle_core::{Result, Tensor, bail};
use tadformer_data::{Loss, Task};
use tadformer_ops::{DenseLogits, LossValue, balanced_bce_labelled, cross_entropy, masked_l1, normals_l1};

/// The loss that the definition of `task` names. Pixels of label 255 are left out, in every task.
///
/// # Shapes
/// - `logits` of `c` channels; `labels` `(b, 1, h, w)`, or `(b, 3, h, w)` for directions
///
/// # Errors
/// Shapes that do not fit or a class out of range; the message names the task.
pub fn task_loss<'a>(task: Task, logits: impl Into<DenseLogits<'a>>, labels: &Tensor) -> Result<LossValue> {
    let logits = logits.into();
    let loss = match task.loss {
        Loss::CrossEntropy => cross_entropy(logits, labels),
        Loss::BalancedBce { positive_weight } => balanced_bce_labelled(logits, labels, positive_weight),
        Loss::NormalsL1 => normals_l1(logits, labels),
        Loss::L1 => masked_l1(logits, labels),
    };
    loss.map_err(|error| error.context(format!("the loss of task `{task}`")))
}

/// The weighted sum of the losses of some tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiTaskLoss {
    terms: Vec<(Task, f64)>,
}

/// What [`MultiTaskLoss`] makes of one batch.
#[derive(Debug, Clone)]
pub struct Losses {
    /// `Σ weight · loss`, a scalar with a gradient.
    pub total: Tensor,
    /// Each task's own loss, unweighted, in the order of the tasks.
    pub tasks: Vec<(Task, LossValue)>,
}

impl MultiTaskLoss {
    /// Every task with the weight of its definition.
    pub fn new(tasks: impl IntoIterator<Item = Task>) -> Self {
        Self { terms: tasks.into_iter().map(|task| (task, task.loss_weight)).collect() }
    }

    /// The given weights, at least 0.
    ///
    /// # Errors
    /// A weight that is negative or not finite, a task given twice, or no task.
    pub fn with_weights(weights: impl IntoIterator<Item = (Task, f64)>) -> Result<Self> {
        let terms: Vec<(Task, f64)> = weights.into_iter().collect();
        if terms.is_empty() {
            bail!("a multi-task loss of no task");
        }
        for (i, (task, weight)) in terms.iter().enumerate() {
            if !(weight.is_finite() && *weight >= 0.0) {
                bail!("the loss weight of task `{task}` is {weight}, expected a finite number of at least 0");
            }
            if terms[..i].iter().any(|(earlier, _)| earlier == task) {
                bail!("task `{task}` has two loss weights");
            }
        }
        Ok(Self { terms })
    }

    /// The tasks and their weights.
    pub fn weights(&self) -> &[(Task, f64)] {
        &self.terms
    }

    /// The losses of a batch; of `logits` and `labels` those of this loss's tasks are used.
    ///
    /// # Errors
    /// As [`task_loss`]; or logits or labels of a task that are not there.
    pub fn forward(&self, logits: &CoarseLogits, labels: &[(Task, Tensor)]) -> Result<Losses> {
        let mut tasks = Vec::with_capacity(self.terms.len());
        let mut total: Option<Tensor> = None;
        for (task, weight) in &self.terms {
            let Some(logits) = logits.of(*task, *weight) else {
                bail!("task `{task}` has no logits in this batch");
            };
            let Some((_, labels)) = labels.iter().find(|(found, _)| found == task) else {
                bail!("task `{task}` has no labels in this batch");
            };
            let loss = task_loss(*task, logits, labels)?;
            let weighted = loss.value.affine(*weight, 0.0)?;
            total = Some(match total {
                Some(total) => (total + weighted)?,
                None => weighted,
            });
            tasks.push((*task, loss));
        }
        match total {
            Some(total) => Ok(Losses { total, tasks }),
            None => bail!("a multi-task loss of no task"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use std::collections::HashMap;
    use tadformer_ops::testing::assert_close;

    const FILE: &[u8] = include_bytes!("../../tadformer-ops/tests/data/losses.safetensors");

    type Batch = (Vec<(Task, Var)>, Vec<(Task, Tensor)>, HashMap<String, Tensor>, serde_json::Value);

    /// The plain published case of every task.
    fn batch() -> Batch {
        let tensors = candle_core::safetensors::load_buffer(FILE, &Device::Cpu).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(FILE).unwrap();
        let meta = serde_json::from_str(&header.metadata().as_ref().unwrap()["meta"]).unwrap();
        let of = |task: Task, key: &str| tensors[&format!("{task}/{key}")].clone();
        let logits = Task::all().map(|task| (task, Var::from_tensor(&of(task, "pred")).unwrap())).collect();
        let labels = Task::all().map(|task| (task, of(task, "label"))).collect();
        (logits, labels, tensors, meta)
    }

    /// The logits as tokens of the labels' grid.
    fn coarse(logits: &[(Task, Var)]) -> CoarseLogits {
        let (_, _, h, w) = logits[0].1.dims4().unwrap();
        let tokens = |var: &Var| var.permute((0, 2, 3, 1)).unwrap();
        let tasks = logits.iter().map(|(task, var)| (*task, tokens(var))).collect();
        CoarseLogits::new(tasks, (h, w), (h, w))
    }

    #[test]
    fn the_total_and_its_gradients_are_the_published_ones() {
        let (logits, labels, tensors, meta) = batch();
        let losses = MultiTaskLoss::new(Task::all()).forward(&coarse(&logits), &labels).unwrap();
        let total = f64::from(losses.total.to_scalar::<f32>().unwrap());
        let expected = meta["multitask"]["total"].as_f64().unwrap();
        assert!((total / expected - 1.0).abs() < 1e-6, "{total}, expected {expected}");
        let grads = losses.total.backward().unwrap();
        for (task, var) in &logits {
            let expected = (&tensors[&format!("{task}/grad")] * task.loss_weight).unwrap();
            assert_close(task.name, grads.get(var).unwrap(), &expected, 1e-5);
            assert_eq!(meta["multitask"]["weights"][task.name].as_f64(), Some(task.loss_weight));
        }
    }

    #[test]
    fn a_task_without_labels_adds_nothing_and_is_counted() {
        let (logits, mut labels, _, _) = batch();
        let loss = MultiTaskLoss::new(Task::all());
        for (_, label) in &mut labels {
            *label = label.affine(0.0, 255.0).unwrap();
        }
        let losses = loss.forward(&coarse(&logits), &labels).unwrap();
        assert_eq!(losses.total.to_scalar::<f32>().unwrap(), 0.0);
        let grads = losses.total.backward().unwrap();
        for ((task, var), (_, value)) in logits.iter().zip(&losses.tasks) {
            assert_eq!(value.labelled, 0, "{task}");
            let sum = grads.get(var).unwrap().abs().unwrap().sum_all().unwrap();
            assert_eq!(sum.to_scalar::<f32>().unwrap(), 0.0, "{task}");
        }
    }

    #[test]
    fn weights_can_be_given_and_must_make_sense() {
        let [semseg, depth] = ["semseg", "depth"].map(|name| Task::from_name(name).unwrap());
        let (logits, labels, _, _) = batch();
        let loss = MultiTaskLoss::with_weights([(semseg, 0.0), (depth, 3.0)]).unwrap();
        let losses = loss.forward(&coarse(&logits), &labels).unwrap();
        let depth_loss = losses.tasks[1].1.value.to_scalar::<f32>().unwrap();
        assert_eq!(losses.total.to_scalar::<f32>().unwrap(), 3.0 * depth_loss);
        let refused = |weights: &[(Task, f64)]| {
            MultiTaskLoss::with_weights(weights.iter().copied()).unwrap_err().to_string()
        };
        assert!(refused(&[(semseg, f64::NAN)]).contains("the loss weight of task `semseg` is NaN"));
        assert!(refused(&[(semseg, 1.0), (semseg, 2.0)]).contains("two loss weights"));
        assert!(refused(&[]).contains("no task"));
    }

    #[test]
    fn a_wrong_label_names_its_task() {
        let (logits, mut labels, _, _) = batch();
        labels[0].1 = (&labels[0].1 + 300.0).unwrap();
        let loss = MultiTaskLoss::new(Task::all());
        let message = loss.forward(&coarse(&logits), &labels).unwrap_err().to_string();
        assert!(
            message.contains("task `semseg`") && message.contains("but there are 21 classes"),
            "{message}"
        );
        labels.remove(0);
        let message = loss.forward(&coarse(&logits), &labels).unwrap_err().to_string();
        assert!(message.contains("task `semseg` has no labels"), "{message}");
    }
}
