//! Maps of a picture of any size.

use crate::evaluate::raster;
use crate::run::RunDir;
use crate::session::Session;
use crate::{Override, Result};
use candle_core::{Device, Tensor};
use tadformer_data::draw::activate;
use tadformer_data::{Pipeline, Raster, Sample, Task, TaskSpec};
use tadformer_ops::{Mode, Rng, interpolate_planes, no_grad};

/// A trained model, for pictures.
#[derive(Debug)]
pub struct Predictor {
    session: Session,
}

impl Predictor {
    /// The best model of a run, or the last where no best one was kept.
    ///
    /// # Errors
    /// A folder without a run or checkpoint, or one whose weight file is gone.
    pub fn open(run: &RunDir, overrides: &[Override]) -> Result<Self> {
        let best = run.best_checkpoint();
        let path = if best.is_file() { best } else { run.last_checkpoint() };
        let session = Session::restored(run.config(overrides)?, &run.read_checkpoint(&path)?)?;
        Ok(Self { session })
    }

    /// The model and its tensors.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What the model predicts, in the order of [`predict`](Self::predict).
    pub fn tasks(&self) -> &[TaskSpec] {
        &self.session.specs
    }

    /// Logits `(outputs, h, w)` of each task at the size of `picture` `(3, h, w)`, `0.0..=255.0`.
    ///
    /// The picture is resized to the size that the model was trained at, and the logits back.
    ///
    /// # Errors
    /// A picture without pixels or with too many.
    pub fn predict(&self, picture: &Raster) -> Result<Vec<(Task, Raster)>> {
        let [height, width] = self.session.config.data.size;
        let sample = Sample { id: String::new(), image: picture.clone(), labels: Vec::new() };
        let sample = Pipeline::evaluation(height, width).apply(sample, &mut Rng::named(0, "predict", 0))?;
        let image = Tensor::from_vec(sample.image.data, (1, 3, height, width), &Device::Cpu)?;
        let size = (picture.height, picture.width);
        let resized =
            |(task, logits): (Task, Tensor)| Ok((task, raster(&interpolate_planes(&logits, size)?.get(0)?)?));
        self.logits(&image)?.into_iter().map(resized).collect()
    }

    /// Logits `(b, outputs, h, w)` of each task for normalised images `(b, 3, h, w)`, at their own size.
    ///
    /// # Errors
    /// A tensor that is no batch of images.
    pub fn logits(&self, images: &Tensor) -> Result<Vec<(Task, Tensor)>> {
        Ok(no_grad(|| self.session.model.forward(images, &mut Mode::Eval))?)
    }

    /// The maps that logits stand for: classes, probabilities, unit vectors, metres.
    ///
    /// # Errors
    /// A number of channels that a task cannot have.
    pub fn activate(&self, logits: &[(Task, Raster)]) -> Result<Vec<Raster>> {
        logits.iter().map(|(task, map)| Ok(activate(*task, map)?)).collect()
    }
}
