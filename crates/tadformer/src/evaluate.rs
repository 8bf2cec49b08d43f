//! Scores of a model on a split.

use crate::{Error, MultiTaskModel, Result};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use tadformer_data::draw::{Compared, Picture, activate, compare};
use tadformer_data::{Batch, LabelKind, Loader, Metric, Raster, Task, TaskSpec, annotators, denormalize};
use tadformer_metrics::{
    Depth, Direction, Edge, EdgeProtocol, MeanIou, Meter, Normals, Planes, Saliency, Score, Tolerance,
};
use tadformer_ops::{Mode, no_grad};

/// Scores of every task, the headline figure first.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Scores by task, in the order of the tasks.
    pub scores: Vec<(Task, Vec<Score>)>,
    /// Drawn samples: name and picture.
    pub panels: Vec<(String, Picture)>,
}

/// One score in a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreRecord {
    /// Value in `unit`; nothing where no pixel was labelled.
    pub value: Option<f64>,
    /// `%`, `degrees`, `m`, or nothing.
    pub unit: &'static str,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// The meter of a task.
///
/// # Errors
/// A number of classes that no meter counts.
pub fn meter(spec: &TaskSpec) -> Result<Box<dyn Meter>> {
    let refused = |source| Error::Metric { id: spec.task.name.to_owned(), source };
    Ok(match spec.task.metric {
        Metric::MeanIou => Box::new(MeanIou::new(spec.outputs).map_err(refused)?),
        Metric::Saliency => Box::new(Saliency::new()),
        Metric::Normals => Box::new(Normals::new()),
        Metric::Depth => Box::new(Depth::new()),
        Metric::Edge => {
            let tolerance = Tolerance::Diagonal(spec.edge_tolerance);
            let protocol = EdgeProtocol { tolerance, ..EdgeProtocol::bsds() };
            Box::new(Edge::new(protocol).map_err(refused)?)
        }
    })
}

/// Scores `model` on every sample of `loader`, in the precision that `tadformer_ops::autocast` has set, draws the first `panels` of them, and calls `progress` with the number of
/// samples done.
///
/// # Errors
/// A sample that cannot be read, or labels that their task does not allow.
pub fn evaluate(
    model: &MultiTaskModel,
    specs: &[TaskSpec],
    loader: &Loader,
    panels: usize,
    mut progress: impl FnMut(usize),
) -> Result<Evaluation> {
    let mut meters = specs.iter().map(meter).collect::<Result<Vec<_>>>()?;
    let mut pictures = Vec::new();
    let mut done = 0;
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        let image = image_tensor(&batch)?;
        let logits = no_grad(|| model.forward(&image, &mut Mode::Eval))?;
        for i in 0..batch.ids.len() {
            let maps = logits.iter().map(|(_, t)| raster(&t.get(i)?)).collect::<Result<Vec<_>>>()?;
            let labels: Vec<Raster> =
                specs.iter().map(|spec| label(&batch, spec.task, i)).collect::<Result<_>>()?;
            meters.par_iter_mut().zip(specs.par_iter().zip(maps.par_iter().zip(&labels))).try_for_each(
                |(meter, (spec, (map, label)))| {
                    score(meter.as_mut(), spec.task, map, label)
                        .map_err(|source| Error::Metric { id: batch.ids[i].clone(), source })
                },
            )?;
            if pictures.len() < panels {
                pictures.push((batch.ids[i].clone(), panel(&batch, i, specs, &maps, &labels)?));
            }
            done += 1;
            progress(done);
        }
    }
    let scores = specs.iter().zip(&meters).map(|(spec, meter)| (spec.task, meter.scores())).collect();
    Ok(Evaluation { scores, panels: pictures })
}

impl Evaluation {
    /// The headline figure of each task.
    pub fn headlines(&self) -> impl Iterator<Item = (Task, &Score)> {
        self.scores.iter().filter_map(|(task, scores)| Some((*task, scores.first()?)))
    }

    /// The scores by task and name, for a file.
    pub fn records(&self) -> BTreeMap<&'static str, BTreeMap<&'static str, ScoreRecord>> {
        let record = |score: &Score| {
            let value = score.value.is_finite().then_some(score.value);
            let higher_is_better = score.direction == Direction::HigherIsBetter;
            (score.name, ScoreRecord { value, unit: score.unit, higher_is_better })
        };
        self.scores.iter().map(|(task, scores)| (task.name, scores.iter().map(record).collect())).collect()
    }
}

/// The pictures of a batch, `(b, 3, h, w)`.
///
/// # Errors
/// None in practice: a batch holds as many numbers as its size says.
pub(crate) fn image_tensor(batch: &Batch) -> Result<Tensor> {
    Ok(Tensor::from_slice(&batch.image, (batch.ids.len(), 3, batch.height, batch.width), &Device::Cpu)?)
}

/// The labels of a batch, `(b, c, h, w)` a task.
///
/// # Errors
/// None in practice: a batch holds as many numbers as its size says.
pub(crate) fn label_tensors(batch: &Batch) -> Result<Vec<(Task, Tensor)>> {
    let tensor = |(task, values): &(Task, Vec<f32>)| {
        let shape = (batch.ids.len(), task.label_channels(), batch.height, batch.width);
        Ok((*task, Tensor::from_slice(values, shape, &Device::Cpu)?))
    };
    batch.labels.iter().map(tensor).collect()
}

/// A map `(c, h, w)` as planes.
pub(crate) fn raster(map: &Tensor) -> Result<Raster> {
    let (channels, height, width) = map.dims3()?;
    Ok(Raster { channels, height, width, data: map.flatten_all()?.to_vec1()? })
}

fn label(batch: &Batch, task: Task, i: usize) -> Result<Raster> {
    let Some((_, values)) = batch.labels.iter().find(|(found, _)| *found == task) else {
        return Err(Error::Training(format!("the batch has no labels of task `{task}`")));
    };
    let (channels, height, width) = (task.label_channels(), batch.height, batch.width);
    let size = channels * height * width;
    Ok(Raster { channels, height, width, data: values[i * size..(i + 1) * size].to_vec() })
}

fn score(
    meter: &mut dyn Meter,
    task: Task,
    map: &Raster,
    label: &Raster,
) -> std::result::Result<(), tadformer_metrics::Error> {
    let logits = Planes::new(&map.data, map.channels, map.height, map.width)?;
    // Several people's drawings are numbers that other labels hold as well.
    let apart = (task.label == LabelKind::Binary).then(|| annotators::apart(label));
    let label = apart.as_ref().unwrap_or(label);
    meter.update(logits, Planes::new(&label.data, label.channels, label.height, label.width)?)
}

fn panel(batch: &Batch, i: usize, specs: &[TaskSpec], maps: &[Raster], labels: &[Raster]) -> Result<Picture> {
    let size = 3 * batch.height * batch.width;
    let data = batch.image[i * size..(i + 1) * size].to_vec();
    let mut image = Raster { channels: 3, height: batch.height, width: batch.width, data };
    denormalize(&mut image);
    let activated: Vec<Raster> = specs
        .iter()
        .zip(maps)
        .map(|(spec, map)| activate(spec.task, map))
        .collect::<tadformer_data::Result<_>>()?;
    let compared: Vec<Compared<'_>> = specs
        .iter()
        .zip(activated.iter().zip(labels))
        .map(|(spec, (map, label))| Compared { spec, prediction: Some(map), label: Some(label) })
        .collect();
    Ok(compare(&Picture::of_image(&image)?, &compared)?)
}
