//! Tasks are data: one value says all that the rest of the system needs to know of a task.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::task_spec::Written;

/// The value that marks a pixel without a label, in every label map.
pub const IGNORE: f32 = 255.0;

/// How far a predicted edge may lie from a labelled one where the data set says nothing: the BSDS benchmark's share of
/// the picture's diagonal.
pub const EDGE_TOLERANCE: f64 = 0.0075;

/// What a label map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelKind {
    /// One channel of class indices `0..outputs`.
    Classes,
    /// One channel of 0 or 1; of several people's drawings as [`annotators`](crate::annotators) says.
    Binary,
    /// Three channels, a unit vector in camera space.
    UnitVector,
    /// One channel of a positive quantity in metres.
    Metres,
}

/// What a class map without any class but background says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackgroundOnly {
    /// There is nothing to see: background is learnt.
    Labelled,
    /// Nobody looked: the map is ignored as a whole. The literature trains human parts only on pictures that show people.
    Ignored,
}

/// How logits and labels become a number to minimise (`tadformer::losses`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Softmax cross-entropy, mean over labelled pixels.
    CrossEntropy,
    /// Logistic loss, positives weighted by the share of negatives in the batch, or by a fixed weight.
    BalancedBce {
        /// Weight of the positives, `0..=1`; `None` takes the batch's share of negatives.
        positive_weight: Option<f64>,
    },
    /// Sum of absolute differences to the normalised prediction over labelled entries.
    NormalsL1,
    /// Mean absolute difference over labelled pixels.
    L1,
}

/// Which meter scores a task (`tadformer-metrics`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Mean intersection over union of all classes.
    MeanIou,
    /// Best mean intersection over union over thresholds, and F measures.
    Saliency,
    /// Angular error.
    Normals,
    /// Root mean square error and relatives.
    Depth,
    /// Balanced loss and optimal-data-set-scale F.
    Edge,
}

/// How a map of this task is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// Each class in its palette colour.
    Palette,
    /// A probability as grey.
    Grey,
    /// A unit vector as `127.5 (v + 1)` in RGB.
    Vector,
    /// A quantity through a perceptual colour map, nearest bright.
    ColourMap,
}

/// The definition of a task.
#[derive(Debug, PartialEq)]
pub struct TaskDefinition {
    /// Name in configurations, files and tensor names.
    pub name: &'static str,
    /// What it predicts, in words.
    pub title: &'static str,
    /// What its labels hold.
    pub label: LabelKind,
    /// What a class map of nothing but background says.
    pub background_only: BackgroundOnly,
    /// Its loss.
    pub loss: Loss,
    /// Weight of its loss in the total.
    pub loss_weight: f64,
    /// Its meter.
    pub metric: Metric,
    /// How its maps are drawn.
    pub drawing: Drawing,
}

/// A task, as a cheap handle to its definition.
#[derive(Clone, Copy, PartialEq)]
pub struct Task(&'static TaskDefinition);

/// Every task known, in the order in which they are listed.
pub static TASKS: [TaskDefinition; 6] = [
    TaskDefinition {
        name: "semseg",
        title: "semantic segmentation",
        label: LabelKind::Classes,
        background_only: BackgroundOnly::Labelled,
        loss: Loss::CrossEntropy,
        loss_weight: 1.0,
        metric: Metric::MeanIou,
        drawing: Drawing::Palette,
    },
    TaskDefinition {
        name: "human_parts",
        title: "human part segmentation",
        label: LabelKind::Classes,
        background_only: BackgroundOnly::Ignored,
        loss: Loss::CrossEntropy,
        loss_weight: 2.0,
        metric: Metric::MeanIou,
        drawing: Drawing::Palette,
    },
    TaskDefinition {
        name: "sal",
        title: "saliency",
        label: LabelKind::Binary,
        background_only: BackgroundOnly::Labelled,
        loss: Loss::BalancedBce { positive_weight: None },
        loss_weight: 5.0,
        metric: Metric::Saliency,
        drawing: Drawing::Grey,
    },
    TaskDefinition {
        name: "normals",
        title: "surface normals",
        label: LabelKind::UnitVector,
        background_only: BackgroundOnly::Labelled,
        loss: Loss::NormalsL1,
        loss_weight: 10.0,
        metric: Metric::Normals,
        drawing: Drawing::Vector,
    },
    TaskDefinition {
        name: "edge",
        title: "edge detection",
        label: LabelKind::Binary,
        background_only: BackgroundOnly::Labelled,
        loss: Loss::BalancedBce { positive_weight: Some(0.95) },
        loss_weight: 50.0,
        metric: Metric::Edge,
        drawing: Drawing::Grey,
    },
    TaskDefinition {
        name: "depth",
        title: "depth",
        label: LabelKind::Metres,
        background_only: BackgroundOnly::Labelled,
        loss: Loss::L1,
        loss_weight: 1.0,
        metric: Metric::Depth,
        drawing: Drawing::ColourMap,
    },
];

impl Task {
    /// The task called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        TASKS.iter().find(|task| task.name == name).map(Self)
    }

    /// Every task.
    pub fn all() -> impl Iterator<Item = Self> {
        TASKS.iter().map(Self)
    }

    /// The names of every task, for messages.
    pub fn names() -> Vec<&'static str> {
        TASKS.iter().map(|task| task.name).collect()
    }

    /// Channels of the network's output for this task on a data set with `classes` classes.
    pub fn outputs(self, classes: usize) -> usize {
        match self.label {
            LabelKind::Classes => classes,
            LabelKind::Binary | LabelKind::Metres => 1,
            LabelKind::UnitVector => 3,
        }
    }

    /// Channels of a label map of this task.
    pub fn label_channels(self) -> usize {
        match self.label {
            LabelKind::UnitVector => 3,
            LabelKind::Classes | LabelKind::Binary | LabelKind::Metres => 1,
        }
    }
}

impl std::ops::Deref for Task {
    type Target = TaskDefinition;

    fn deref(&self) -> &TaskDefinition {
        self.0
    }
}

impl Eq for Task {}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A task as one data set labels it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct TaskSpec {
    /// The task.
    pub task: Task,
    /// Channels of the network's output: classes of a classification, 3 for normals, otherwise 1.
    pub outputs: usize,
    /// Class names, one an output, for `LabelKind::Classes`; otherwise empty.
    pub classes: Vec<String>,
    /// RGB colour of each class, for `Drawing::Palette`; otherwise empty.
    pub palette: Vec<[u8; 3]>,
    /// For `Metric::Edge`: how far a predicted edge may lie from a labelled one, a share of the picture's diagonal,
    /// `0..=0.05`.
    pub edge_tolerance: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_tasks() {
        for task in Task::all() {
            assert_eq!(Task::from_name(task.name), Some(task));
        }
        assert_eq!(Task::from_name("segsem"), None);
    }
}
