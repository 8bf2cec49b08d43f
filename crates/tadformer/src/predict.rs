//! Maps of a picture of any size.

use crate::evaluate::raster;
use crate::report::Report;
use crate::saved::SavedModel;
use crate::shared_backbone::SharedBackbone;
use crate::{CoarseLogits, Config, Error, MultiTaskModel, Override, Result};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use tadformer_data::draw::activate;
use tadformer_data::format::picture::Photo;
use tadformer_data::{Pipeline, Raster, Sample, Task, TaskSpec};
use tadformer_ops::{Entry, Mode, Rng, autocast, interpolate_planes, no_grad};

/// A trained model, for pictures.
#[derive(Debug)]
pub struct Predictor {
    config: Config,
    model: MultiTaskModel,
    specs: Vec<TaskSpec>,
    entries: Vec<Entry>,
    whole: bool,
    report: Option<Report>,
    file: PathBuf,
}

impl Predictor {
    /// The model in a folder: a run, or an exported adapter, full or merged model ([`SavedModel::open`]).
    ///
    /// # Errors
    /// A folder without a model, a damaged file, or one whose weight file is gone or another.
    pub fn open(folder: &Path, overrides: &[Override]) -> Result<Self> {
        let saved = SavedModel::open(folder, overrides)?;
        if saved.is_whole() {
            return Self::assemble(saved, None);
        }
        let backbone = SharedBackbone::open(saved.config())?;
        Self::on(&backbone, saved)
    }

    /// A model on a backbone that others use too: its frozen weights are the backbone's memory, not a copy.
    ///
    /// # Errors
    /// A model that is whole by itself, of other sizes than the backbone, or trained on other frozen weights.
    pub fn on(backbone: &SharedBackbone, saved: SavedModel) -> Result<Self> {
        if saved.is_whole() {
            return Err(Error::Config(
                "a full or merged model has its own backbone; open it with `Predictor::open`".to_owned(),
            ));
        }
        Self::assemble(saved, Some(backbone))
    }

    fn assemble(mut saved: SavedModel, backbone: Option<&SharedBackbone>) -> Result<Self> {
        let (model, entries, specs) = saved.build(backbone)?;
        let whole = saved.is_whole();
        let (config, report, file) = saved.into_parts();
        Ok(Self { config, model, specs, entries, whole, report, file })
    }

    /// Gets the model ready for many pictures and nothing else ([`MultiTaskModel::pack`]), in the configuration's precision:
    /// the same predictions to rounding, sooner. What the tensors were before is not kept, unless others share them:
    /// [`entries`](Self::entries) is empty afterwards, and the model cannot be exported.
    ///
    /// # Errors
    /// A model that is packed already.
    pub fn pack(&mut self) -> Result<()> {
        self.entries = Vec::new();
        Ok(autocast(self.config.precision, || self.model.pack())?)
    }

    /// What the model was trained with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The network.
    pub fn model(&self) -> &MultiTaskModel {
        &self.model
    }

    /// Its tensors, none of a [packed](Self::pack) model. Frozen ones may be shared with other models; none may be changed.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The file that its own tensors came from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether its frozen weights came with it, instead of from the configuration's `model.weights` and `seed`.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Its scores, where they were kept with it.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// What the model predicts, in the order of [`predict`](Self::predict).
    pub fn tasks(&self) -> &[TaskSpec] {
        &self.specs
    }

    /// Logits `(outputs, h, w)` of each task at the size of `picture` `(3, h, w)`, `0.0..=255.0`.
    ///
    /// The picture is resized to the size that the model was trained at, and the logits back. They are as many numbers as the
    /// picture has pixels, times the outputs of all tasks; [`coarse`](Self::coarse) gives them some rows at a time.
    ///
    /// # Errors
    /// A picture without pixels or with too many.
    pub fn predict(&self, picture: &Raster) -> Result<Vec<(Task, Raster)>> {
        let size = (picture.height, picture.width);
        let resized =
            |(task, logits): (Task, Tensor)| Ok((task, raster(&interpolate_planes(&logits, size)?.get(0)?)?));
        self.logits(&self.image(picture)?)?.into_par_iter().map(resized).collect()
    }

    /// What the decoders say of a picture, to be resized to any size: to its own by
    /// [`CoarseLogits::each_strip`], without a map in memory, or to a small one by [`CoarseLogits::activated`].
    ///
    /// # Errors
    /// A picture without pixels or with a side that is too long.
    pub fn coarse(&self, picture: &Photo) -> Result<CoarseLogits> {
        let [height, width] = self.config.data.size;
        let image = Pipeline::photo(picture, [height, width])?;
        let image = Tensor::from_vec(image.data, (1, 3, height, width), &Device::Cpu)?;
        let forward = || self.model.coarse_logits(&image, &mut Mode::Eval);
        Ok(autocast(self.config.precision, || no_grad(forward))?)
    }

    /// A picture as the model takes it, `(1, 3, h, w)`.
    fn image(&self, picture: &Raster) -> Result<Tensor> {
        let [height, width] = self.config.data.size;
        let sample = Sample { id: String::new(), image: picture.clone(), labels: Vec::new() };
        let sample = Pipeline::evaluation(height, width).apply(sample, &mut Rng::named(0, "predict", 0))?;
        Ok(Tensor::from_vec(sample.image.data, (1, 3, height, width), &Device::Cpu)?)
    }

    /// Logits `(b, outputs, h, w)` of each task for normalised images `(b, 3, h, w)`, at their own size.
    ///
    /// # Errors
    /// A tensor that is no batch of images.
    pub fn logits(&self, images: &Tensor) -> Result<Vec<(Task, Tensor)>> {
        let forward = || self.model.forward(images, &mut Mode::Eval);
        Ok(autocast(self.config.precision, || no_grad(forward))?)
    }

    /// The maps that logits stand for: classes, probabilities, unit vectors, metres.
    ///
    /// # Errors
    /// A number of channels that a task cannot have.
    pub fn activate(&self, logits: &[(Task, Raster)]) -> Result<Vec<Raster>> {
        logits.par_iter().map(|(task, map)| Ok(activate(*task, map)?)).collect()
    }
}
