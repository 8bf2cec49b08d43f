//! One prediction: normalised images in, every task's map at full resolution out.

use crate::Work;
use crate::setup::Setup;
use anyhow::Result;
use candle_core::Tensor;
use tadformer::Session;
use tadformer_ops::{Mode, no_grad};

pub(crate) struct Predict {
    session: Session,
    images: Tensor,
}

impl Predict {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        Ok(Self { session: setup.session()?, images: setup.images()? })
    }
}

impl Work for Predict {
    fn step(&mut self) -> Result<()> {
        let logits = no_grad(|| self.session.model.coarse_logits(&self.images, &mut Mode::Eval))?;
        std::hint::black_box(logits.activated(None)?);
        Ok(())
    }
}
