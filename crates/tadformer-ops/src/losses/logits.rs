//! Where a loss finds its logits.

use candle_core::{Result, Tensor, Var, bail};

/// The logits of a loss: planes, or tokens that are resized on the way. A `&Tensor` is planes.
#[derive(Debug, Clone, Copy)]
pub enum DenseLogits<'a> {
    /// `(b, c, h, w)`, of the labels' size.
    Planes(&'a Tensor),
    /// `(b, h, w, c)` on any grid. The loss is that of [`interpolate_planes`](crate::interpolate_planes) of them, to the
    /// last bit of every resized number, but a few resized rows are all that ever exists: neither they nor their gradients
    /// make a tensor.
    Tokens {
        /// The tokens.
        grid: &'a Tensor,
        /// Rows and columns to resize to. Labels of fewer rows or columns are those of its top left.
        size: (usize, usize),
        /// What the loss will be multiplied by. Its gradient is formed with it before it is added up on the grid; a
        /// backward that comes with this factor then uses it as it is, any other one scales it.
        weight: f32,
    },
}

impl<'a> From<&'a Tensor> for DenseLogits<'a> {
    fn from(planes: &'a Tensor) -> Self {
        Self::Planes(planes)
    }
}

impl<'a> From<&'a Var> for DenseLogits<'a> {
    fn from(planes: &'a Var) -> Self {
        Self::Planes(planes)
    }
}

impl<'a> DenseLogits<'a> {
    /// The tensor as it was given.
    pub(super) fn tensor(self) -> &'a Tensor {
        match self {
            Self::Planes(tensor) | Self::Tokens { grid: tensor, .. } => tensor,
        }
    }

    /// The factor that is in the gradient; one that cannot be taken out again is not put in.
    pub(super) fn weight(self) -> f32 {
        match self {
            Self::Tokens { weight, .. } if weight.is_normal() => weight,
            _ => 1.0,
        }
    }

    /// Images, channels, rows and columns that these logits have beside `labels`, whose images and channels are not looked
    /// at.
    ///
    /// # Errors
    /// Tensors that are not of rank 4; labels larger than the size of the tokens, or with an empty side.
    pub(super) fn beside(self, op: &'static str, labels: &Tensor) -> Result<[usize; 4]> {
        match self {
            Self::Planes(planes) => planes.dims4().map(<[usize; 4]>::from),
            Self::Tokens { grid, size, .. } => {
                let ((b, h, w, c), (_, _, rows, columns)) = (grid.dims4()?, labels.dims4()?);
                if [h, w, rows, columns].contains(&0) {
                    bail!("{op}: tokens {:?} and labels {:?}: a side is empty", grid.dims(), labels.dims());
                }
                if rows > size.0 || columns > size.1 {
                    bail!("{op}: labels {:?} are larger than the {size:?} of the logits", labels.dims());
                }
                Ok([b, c, rows, columns])
            }
        }
    }

    /// Checks that every logit has a label of its own.
    ///
    /// # Errors
    /// Other labels.
    pub(super) fn require_same_shape(self, op: &'static str, labels: &Tensor) -> Result<()> {
        let (found, same) = match self {
            Self::Planes(planes) => (planes.dims().to_vec(), planes.dims() == labels.dims()),
            Self::Tokens { .. } => {
                let dims = self.beside(op, labels)?;
                (dims.to_vec(), labels.dims() == dims)
            }
        };
        if !same {
            bail!("{op}: predictions {found:?} and labels {:?} differ in shape", labels.dims());
        }
        Ok(())
    }
}
