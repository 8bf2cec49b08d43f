//! A picture with its labels.

use crate::{Raster, Task};

/// A picture and the labels that its data set has for it, all of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name within the data set, unique in its split.
    pub id: String,
    /// RGB, `(3, h, w)`, `0.0..=255.0` until it is normalised.
    pub image: Raster,
    /// Label maps in the order of the data set's tasks; ignored pixels hold [`IGNORE`](crate::IGNORE).
    pub labels: Vec<(Task, Raster)>,
}

impl Sample {
    /// The label map of `task`, if this sample has one.
    pub fn label(&self, task: Task) -> Option<&Raster> {
        self.labels.iter().find(|(t, _)| *t == task).map(|(_, map)| map)
    }
}
