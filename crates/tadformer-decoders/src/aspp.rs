//! Atrous spatial pyramid pooling, the head of DeepLab v3.

use crate::conv::{DilatedConv, PointwiseConv};
use crate::fuse::{fuse, grid};
use candle_core::{Result, Tensor};
use tadformer_ops::{BatchNorm, Mode, Params, dropout};

/// Five views of one feature map — a 1×1 convolution, three 3×3 convolutions of growing dilation, the mean of the whole
/// map — fused by a 1×1 convolution, then a 3×3 and a 1×1 convolution.
///
/// DeepLab v3 (arXiv 1706.05587, section 3.3); layers and state-dict names of `torchvision`'s `DeepLabHead`
/// (`0.convs.0.0` … `0.project.0`, `1`, `2`, `4`). Every convolution but the last is followed by BatchNorm and ReLU.
///
/// Only the last stage is used: no gradient reaches the task features of earlier ones.
#[derive(Debug, Clone)]
pub struct AsppHead {
    point: (PointwiseConv, BatchNorm),
    dilated: Vec<(DilatedConv, BatchNorm)>,
    pooled: (PointwiseConv, BatchNorm),
    project: (PointwiseConv, BatchNorm),
    dropout: f64,
    smooth: (DilatedConv, BatchNorm),
    predict: PointwiseConv,
}

impl AsppHead {
    /// A head that takes a map of width `in_dim`; `rates` are the dilations.
    ///
    /// # Errors
    /// A loaded value of another shape.
    pub fn new(
        in_dim: usize,
        rates: [usize; 3],
        channels: usize,
        dropout: f64,
        outputs: usize,
        params: &Params,
    ) -> Result<Self> {
        let pyramid = params.pp(0);
        let convs = pyramid.pp("convs");
        let norm = |params: &Params| BatchNorm::new(channels, params);
        let pointwise = |in_dim, conv: &Params, bn: &Params| -> Result<_> {
            Ok((PointwiseConv::no_bias(in_dim, channels, conv)?, norm(bn)?))
        };
        let dilated = |in_dim, rate, conv: &Params, bn: &Params| -> Result<_> {
            Ok((DilatedConv::new(in_dim, channels, rate, conv)?, norm(bn)?))
        };
        let at = |i: usize, j: usize| convs.pp(i).pp(j);
        Ok(Self {
            point: pointwise(in_dim, &at(0, 0), &at(0, 1))?,
            dilated: rates
                .iter()
                .zip(1..)
                .map(|(&rate, i)| dilated(in_dim, rate, &at(i, 0), &at(i, 1)))
                .collect::<Result<_>>()?,
            // The pooling itself is number 0 there.
            pooled: pointwise(in_dim, &at(4, 1), &at(4, 2))?,
            project: pointwise(5 * channels, &pyramid.pp("project.0"), &pyramid.pp("project.1"))?,
            dropout,
            smooth: dilated(channels, 1, &params.pp(1), &params.pp(2))?,
            predict: PointwiseConv::new(channels, outputs, &params.pp(4))?,
        })
    }

    /// `(b, h, w, c)` to `(b, h, w, outputs)`.
    ///
    /// # Errors
    /// Shapes that do not fit. A batch of one in training: the mean of one map has no variance over the batch.
    pub fn forward(&self, xs: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (conv, norm) = &self.point;
        let mut views = vec![norm.forward_relu(&conv.forward(xs)?, mode)?];
        for (conv, norm) in &self.dilated {
            views.push(norm.forward_relu(&conv.forward(xs)?, mode)?);
        }
        let (conv, norm) = &self.pooled;
        let mean = xs.mean_keepdim((1, 2))?;
        let pooled = norm.forward_relu(&conv.forward(&mean)?, mode);
        views.push(pooled.map_err(|e| e.context("aspp head: the branch of the whole map's mean"))?);
        let (conv, norm) = &self.project;
        // The mean's view has a grid of one point: its resize is the broadcast.
        let mut ys = norm.forward_relu(&fuse(conv, &views, grid(xs)?)?, mode)?;
        if let Mode::Train(rng) = mode
            && self.dropout > 0.0
        {
            ys = dropout(&ys, self.dropout, rng)?;
        }
        let (conv, norm) = &self.smooth;
        self.predict.forward(&norm.forward_relu(&conv.forward(&ys)?, mode)?)
    }
}
