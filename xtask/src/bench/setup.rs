//! What is measured: the work, and the sizes of the model and its input.

use clap::ValueEnum;
use serde::Serialize;

/// A step of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// Normalised images in, full-resolution maps of every task out.
    Predict,
    /// Forward, losses, backward, clipping, AdamW.
    Train,
}

impl What {
    /// The worker's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Train => "train",
        }
    }

    /// The batch that comparisons are made at.
    pub(crate) fn usual_batch(self) -> usize {
        match self {
            Self::Predict => 1,
            Self::Train => 2,
        }
    }
}

/// Sizes of the model and its input; every worker takes the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setup {
    pub(crate) what: What,
    /// Images a step.
    pub(crate) batch: usize,
    /// Rows and columns of an image.
    pub(crate) size: usize,
    /// Rank of the low-rank updates.
    pub(crate) rank: usize,
    pub(crate) tasks: Vec<String>,
    /// Threads that a step may use.
    pub(crate) threads: usize,
}

/// The four tasks of PASCAL-Context that the paper reports, in its order.
pub(crate) const TASKS: [&str; 4] = ["semseg", "normals", "sal", "human_parts"];

impl Setup {
    /// The setting of the paper's table: Swin-T, 448², rank 64, four tasks.
    pub(crate) fn usual(what: What, threads: usize) -> Self {
        let tasks = TASKS.map(str::to_owned).to_vec();
        Self { what, batch: what.usual_batch(), size: 448, rank: 64, tasks, threads }
    }

    /// The arguments that Rust and Python workers have in common.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let numbers = [("--batch", self.batch), ("--size", self.size), ("--rank", self.rank)];
        let mut arguments = vec![self.what.name().to_owned()];
        arguments.extend(numbers.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]));
        arguments.extend(["--tasks".to_owned(), self.tasks.join(",")]);
        arguments
    }

    /// The work and the sizes in words.
    pub(crate) fn describe(&self) -> String {
        format!("{}: {}", self.what.name(), self.sizes())
    }

    /// The sizes in words.
    pub(crate) fn sizes(&self) -> String {
        let Self { batch, size, rank, tasks, threads, .. } = self;
        let tasks = tasks.len();
        format!("Swin-T, {size}x{size}, batch {batch}, rank {rank}, {tasks} tasks, {threads} threads")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_is_told_the_whole_setting() {
        let setup = Setup { size: 224, ..Setup::usual(What::Train, 3) };
        let told = setup.arguments().join(" ");
        assert_eq!(told, "train --batch 2 --size 224 --rank 64 --tasks semseg,normals,sal,human_parts");
        assert_eq!(setup.describe(), "train: Swin-T, 224x224, batch 2, rank 64, 4 tasks, 3 threads");
    }
}
