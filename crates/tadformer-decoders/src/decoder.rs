//! One interface for all heads.

use crate::{AsppHead, DecoderConfig, DeconvHead, Downsampler, HrnetHead, SegformerHead};
use candle_core::{Result, Tensor, bail};
use tadformer_ops::{Features, Mode, Params, interpolate_planes};

/// The decoder of one task: from the backbone's features to a map the size of the image.
///
/// Its head has the state-dict prefix `decoders.decoders.{task}`, the downsampler of HRNet's head `downsampler.{task}`.
#[derive(Debug, Clone)]
pub struct Decoder {
    task: String,
    in_dims: [usize; 4],
    head: Head,
}

#[derive(Debug, Clone)]
enum Head {
    Hrnet(Downsampler, HrnetHead),
    Segformer(SegformerHead),
    Aspp(AsppHead),
    Deconv(DeconvHead),
}

impl Decoder {
    /// A decoder for the stage widths `in_dims`; `params` is the root of the model.
    ///
    /// # Errors
    /// A configuration out of bounds, no outputs, or a loaded value of another shape.
    pub fn new(
        config: &DecoderConfig,
        task: &str,
        in_dims: [usize; 4],
        outputs: usize,
        params: &Params,
    ) -> Result<Self> {
        config.validate()?;
        if outputs == 0 || in_dims.contains(&0) {
            bail!("decoder of `{task}`: widths {in_dims:?} to {outputs} outputs; none of them can be 0");
        }
        let place = params.pp("decoders.decoders").pp(task);
        let head = match *config {
            DecoderConfig::Hrnet { channels } => Head::Hrnet(
                Downsampler::new(in_dims, channels, &params.pp("downsampler").pp(task))?,
                HrnetHead::new(channels, outputs, &place)?,
            ),
            DecoderConfig::Segformer { embed_dim, dropout } => {
                Head::Segformer(SegformerHead::new(in_dims, embed_dim, dropout, outputs, &place)?)
            }
            DecoderConfig::Aspp { rates, channels, dropout } => {
                Head::Aspp(AsppHead::new(in_dims[3], rates, channels, dropout, outputs, &place)?)
            }
            DecoderConfig::Deconv { channels } => {
                Head::Deconv(DeconvHead::new(in_dims[3], channels, outputs, &place)?)
            }
        };
        Ok(Self { task: task.to_owned(), in_dims, head })
    }

    /// Features of the four stages, finest first, to tokens on the head's own grid: [`forward`](Self::forward) before its
    /// resize.
    ///
    /// # Shapes
    /// - `features[i]` `(b, h_i, w_i, in_dims[i])`
    /// - output `(b, h, w, outputs)`
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn tokens<F: Clone + Into<Features>>(&self, features: &[F], mode: &mut Mode<'_>) -> Result<Tensor> {
        let features: Vec<Features> = features.iter().cloned().map(Into::into).collect();
        self.check(&features)?;
        match &self.head {
            Head::Hrnet(downsampler, head) => head.forward(&downsampler.forward(&features)?, mode),
            Head::Segformer(head) => head.forward(&features, mode),
            Head::Aspp(head) => head.forward(&features[3].tensor()?, mode),
            Head::Deconv(head) => head.forward(&features[3].tensor()?, mode),
        }
    }

    /// Features of the four stages, finest first, to one map of size `image_size` = (rows, columns).
    ///
    /// Everything goes by the grids that the features have: they need not divide the image.
    ///
    /// # Shapes
    /// - `features[i]` `(b, h_i, w_i, in_dims[i])`
    /// - output `(b, outputs, H, W)`
    ///
    /// # Errors
    /// Features that do not fit, by number; in training, too few points for a BatchNorm to have a variance.
    pub fn forward<F: Clone + Into<Features>>(
        &self,
        features: &[F],
        image_size: (usize, usize),
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        logit_planes(&self.tokens(features, mode)?, image_size)
    }

    fn check(&self, features: &[Features]) -> Result<()> {
        if features.len() != self.in_dims.len() {
            bail!("decoder of `{}`: {} features, expected one a stage, that is 4", self.task, features.len());
        }
        let batch = features[0].dims().first().copied().unwrap_or(0);
        for (i, (xs, dim)) in features.iter().zip(self.in_dims).enumerate() {
            match *xs.dims().as_slice() {
                [b, h, w, c] if b == batch && c == dim && h > 0 && w > 0 => {}
                _ => bail!(
                    "decoder of `{}`: feature {i} has shape {:?}, expected ({batch}, h, w, {dim}) with a grid that is not empty",
                    self.task,
                    xs.dims()
                ),
            }
        }
        Ok(())
    }
}

/// The last step of every decoder: tokens `(b, h, w, c)` to planes `(b, c, rows, columns)` of the given size, bilinearly.
///
/// # Errors
/// A tensor of another rank, or an empty side.
pub fn logit_planes(tokens: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    interpolate_planes(&tokens.permute((0, 3, 1, 2))?, size)
}
