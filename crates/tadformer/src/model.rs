//! One backbone, a decoder a task.

use crate::CoarseLogits;
use crate::config::ModelConfig;
use candle_core::{Result, Tensor, bail};
use tadformer_backbone::{StageOutput, Swin};
use tadformer_data::{Task, TaskSpec};
use tadformer_decoders::Decoder;
use tadformer_ops::{Features, Mode, Params};

/// The whole network: TADFormer, or one of the methods it is compared with.
///
/// Its tensors carry the names of the published code: `backbone…`, `downsampler.<task>…`, `decoders.decoders.<task>…`.
#[derive(Debug, Clone)]
pub struct MultiTaskModel {
    backbone: Swin,
    decoders: Vec<(Task, Decoder)>,
    stride: usize,
}

impl MultiTaskModel {
    /// The network of `config` for the given tasks, in the order of their streams.
    ///
    /// # Errors
    /// A configuration with problems, no tasks, or a loaded value of another shape.
    pub fn new(config: &ModelConfig, tasks: &[TaskSpec], params: &Params) -> Result<Self> {
        if tasks.is_empty() {
            bail!("a model needs at least one task");
        }
        let swin = config.swin();
        let backbone = Swin::new(&swin, &config.tuning(tasks.len()), &params.pp("backbone"))?;
        let in_dims = [0, 1, 2, 3].map(|stage| swin.feature_dim(stage));
        let decoders = tasks
            .iter()
            .map(|spec| {
                Ok((spec.task, Decoder::new(&config.decoder, spec.task.name, in_dims, spec.outputs, params)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { backbone, decoders, stride: swin.stride() })
    }

    /// [`Swin::set_grad_checkpointing`] of the backbone.
    ///
    /// # Errors
    /// A stage that does not exist.
    pub fn set_grad_checkpointing(&mut self, stages: &[usize]) -> Result<()> {
        self.backbone.set_grad_checkpointing(stages)
    }

    /// Gets the backbone ready for prediction and nothing else ([`Swin::pack`]): outputs are the same to rounding, earlier.
    ///
    /// # Errors
    /// A model that is packed already.
    pub fn pack(&mut self) -> Result<()> {
        self.backbone.pack()
    }

    /// Logits of every task, in order, at the image's size: [`coarse_logits`](Self::coarse_logits), resized.
    ///
    /// # Shapes
    /// - `image` `(b, 3, H, W)`, normalised
    /// - each output `(b, outputs, H, W)`
    ///
    /// # Errors
    /// An image without pixels or of another number of channels.
    pub fn forward(&self, image: &Tensor, mode: &mut Mode<'_>) -> Result<Vec<(Task, Tensor)>> {
        self.coarse_logits(image, mode)?.resized()
    }

    /// Logits of every task, in order, on the grids that the decoders give: what a loss takes, which resizes them itself.
    ///
    /// An image whose sides are no multiples of the backbone's stride is continued to the right and downwards with its
    /// last pixels; the logits' size says so.
    ///
    /// # Shapes
    /// - `image` `(b, 3, H, W)`, normalised
    ///
    /// # Errors
    /// An image without pixels or of another number of channels.
    pub fn coarse_logits(&self, image: &Tensor, mode: &mut Mode<'_>) -> Result<CoarseLogits> {
        let (_, channels, height, width) = image.dims4()?;
        if channels != 3 || height == 0 || width == 0 {
            bail!("model: the image has shape {:?}, expected (b, 3, H, W)", image.dims());
        }
        let (padded_height, padded_width) = self.padded(height, width);
        let image = pad(image, padded_height, padded_width)?;
        let stages = self.backbone.forward(&image, mode)?;
        let mut tokens = Vec::with_capacity(self.decoders.len());
        for ((task, decoder), features) in self.decoders.iter().zip(self.features(stages)?) {
            tokens.push((*task, decoder.tokens(&features, mode)?));
        }
        Ok(CoarseLogits::new(tokens, (padded_height, padded_width), (height, width)))
    }

    /// What every stage of the backbone gives for an image whose sides are multiples of the stride.
    ///
    /// # Errors
    /// Other sides.
    pub fn stages(&self, image: &Tensor, mode: &mut Mode<'_>) -> Result<Vec<StageOutput>> {
        self.backbone.forward(image, mode)
    }

    /// Sides of an image after padding.
    pub fn padded(&self, height: usize, width: usize) -> (usize, usize) {
        (height.next_multiple_of(self.stride), width.next_multiple_of(self.stride))
    }

    /// Each task's features of the four stages: its own streams, or the shared ones where the method has no others.
    fn features(&self, stages: Vec<StageOutput>) -> Result<Vec<Vec<Features>>> {
        let tasks = self.decoders.len();
        let mut features = vec![Vec::with_capacity(stages.len()); tasks];
        for stage in stages {
            let of_stage = match stage.tasks {
                Some(streams) => streams.split(tasks)?,
                None => vec![stage.xs.into(); tasks],
            };
            features.iter_mut().zip(of_stage).for_each(|(list, feature)| list.push(feature));
        }
        Ok(features)
    }
}

/// Repeats the last row and column until the image has the given sides.
fn pad(image: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, _, h, w) = image.dims4()?;
    image.pad_with_same(2, 0, height - h)?.pad_with_same(3, 0, width - w)
}
