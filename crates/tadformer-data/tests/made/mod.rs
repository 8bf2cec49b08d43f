//! Samples made from their index, for tests of what reads a data set.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tadformer_data::{
    Dataset, EDGE_TOLERANCE, Error, IGNORE, LabelKind, Raster, Result, Sample, Task, TaskSpec,
};

/// What is wrong with a sample.
pub(crate) enum Fault {
    None,
    Missing,
    Panic,
    OddShape,
    Slow,
}

/// A data set of samples of sizes that differ; every other one lacks its depth. It counts how often one is made.
pub(crate) struct Made {
    pub(crate) tasks: Vec<TaskSpec>,
    pub(crate) ids: Vec<String>,
    /// Added to every depth.
    pub(crate) salt: f32,
    pub(crate) fault: fn(usize) -> Fault,
    pub(crate) loads: AtomicUsize,
}

impl Made {
    /// `len` samples `0000`, `0001`, … labelled for the tasks of these names.
    pub(crate) fn new(tasks: &[&str], len: usize) -> Self {
        let spec = |name: &&str| TaskSpec {
            task: Task::from_name(name).unwrap(),
            outputs: 3,
            classes: Vec::new(),
            palette: Vec::new(),
            edge_tolerance: EDGE_TOLERANCE,
        };
        Self {
            tasks: tasks.iter().map(spec).collect(),
            ids: (0..len).map(|index| format!("{index:04}")).collect(),
            salt: 0.0,
            fault: |_| Fault::None,
            loads: AtomicUsize::new(0),
        }
    }

    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::Relaxed)
    }
}

impl Dataset for Made {
    fn name(&self) -> &str {
        "made"
    }

    fn tasks(&self) -> &[TaskSpec] {
        &self.tasks
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn id(&self, index: usize) -> String {
        self.ids[index].clone()
    }

    fn load(&self, index: usize) -> Result<Sample> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let (mut height, width) = (10 + index % 5, 14 + index % 3);
        match (self.fault)(index) {
            Fault::None => {}
            Fault::Missing => {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(Error::Io { action: "read", path: PathBuf::from("labels/0007.png"), source });
            }
            Fault::Panic => panic!("the reader is broken"),
            Fault::OddShape => height = 0,
            Fault::Slow => std::thread::sleep(Duration::from_millis(20)),
        }
        let raster = |channels: usize, value: &dyn Fn(usize) -> f32| {
            let data = (0..channels * height * width).map(|i| value(i * 31 + index * 7)).collect();
            Raster { channels, height, width, data }
        };
        let labelled = |task: Task| task.label != LabelKind::Metres || index.is_multiple_of(2);
        let label = |task: Task| {
            let value = |i: usize| match task.label {
                LabelKind::Classes if i % 11 == 3 => IGNORE,
                LabelKind::Classes => (i % 21) as f32,
                LabelKind::Binary | LabelKind::UnitVector => (i % 2) as f32,
                LabelKind::Metres => (i % 9) as f32 * 0.7 + self.salt,
            };
            (task, raster(task.label_channels(), &value))
        };
        let labels = self.tasks.iter().map(|spec| spec.task).filter(|task| labelled(*task)).map(label);
        Ok(Sample { id: self.id(index), image: raster(3, &|i| (i % 256) as f32), labels: labels.collect() })
    }
}
