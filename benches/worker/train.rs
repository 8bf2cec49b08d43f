//! One step of training, as the trainer makes it, on the same images and labels every time.

use crate::Work;
use crate::setup::Setup;
use anyhow::{Result, ensure};
use candle_core::Tensor;
use tadformer::optim::{AdamW, Gradients};
use tadformer::{MultiTaskLoss, Session};
use tadformer_data::Task;
use tadformer_ops::{Entry, Mode, Rng, Role};

pub(crate) struct Train {
    session: Session,
    images: Tensor,
    labels: Vec<(Task, Tensor)>,
    loss: MultiTaskLoss,
    parameters: Vec<Entry>,
    optimizer: AdamW,
    rate: f64,
    update: u64,
}

impl Train {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let session = setup.session()?;
        let parameters = session.store.with_role(Role::Trainable);
        let train = &session.config.train;
        Ok(Self {
            images: setup.images()?,
            labels: setup.labels(&session.specs)?,
            loss: MultiTaskLoss::new(session.specs.iter().map(|spec| spec.task)),
            optimizer: AdamW::new(&parameters, train.adamw)?,
            rate: train.schedule.scaled_to(setup.batch()).base_lr,
            update: 0,
            parameters,
            session,
        })
    }
}

impl Work for Train {
    fn step(&mut self) -> Result<()> {
        let mut rng = Rng::named(self.session.config.seed, "train/update", self.update);
        self.update += 1;
        let logits = self.session.model.coarse_logits(&self.images, &mut Mode::Train(&mut rng))?;
        let losses = self.loss.forward(&logits, &self.labels)?;
        let total = losses.total.to_scalar::<f32>()?;
        ensure!(total.is_finite(), "the loss is {total} after {} updates", self.update);
        let mut gradients = Gradients::from_store(&losses.total.backward()?, &self.parameters);
        gradients.clip(self.session.config.train.clip_norm)?;
        Ok(self.optimizer.step(&gradients, self.rate)?)
    }
}
