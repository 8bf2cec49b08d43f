//! One prediction: normalised images in, every task's map at full resolution out.

use crate::Work;
use crate::setup::Setup;
use anyhow::Result;
use candle_core::Tensor;
use tadformer::{MultiTaskModel, Session};
use tadformer_ops::{Mode, autocast, no_grad};

pub(crate) struct Predict {
    model: MultiTaskModel,
    images: Tensor,
}

impl Predict {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let Session { mut model, .. } = setup.session()?;
        autocast(setup.precision(), || model.pack())?;
        Ok(Self { model, images: setup.images()? })
    }
}

impl Work for Predict {
    fn step(&mut self) -> Result<()> {
        let logits = no_grad(|| self.model.coarse_logits(&self.images, &mut Mode::Eval))?;
        std::hint::black_box(logits.activated(None)?);
        Ok(())
    }
}
