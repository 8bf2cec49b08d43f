//! One prediction: normalised images in, every task's map at full resolution out.

use crate::Work;
use crate::setup::Setup;
use anyhow::Result;
use candle_core::Tensor;
use rayon::prelude::*;
use tadformer::Session;
use tadformer_data::Raster;
use tadformer_data::draw::activate;
use tadformer_ops::{Mode, no_grad};

pub(crate) struct Predict {
    session: Session,
    images: Tensor,
    batch: usize,
}

impl Predict {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        Ok(Self { session: setup.session()?, images: setup.images()?, batch: setup.batch() })
    }
}

impl Work for Predict {
    fn step(&mut self) -> Result<()> {
        let logits = no_grad(|| self.session.model.forward(&self.images, &mut Mode::Eval))?;
        logits.par_iter().try_for_each(|(task, logits)| {
            for i in 0..self.batch {
                let (channels, height, width) = logits.get(i)?.dims3()?;
                let data = logits.get(i)?.flatten_all()?.to_vec1()?;
                std::hint::black_box(activate(*task, &Raster { channels, height, width, data })?);
            }
            Ok(())
        })
    }
}
