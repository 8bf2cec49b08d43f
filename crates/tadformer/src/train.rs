//! The training loop.

use crate::checkpoint::{Checkpoint, TrainState};
use crate::checkpoints::Newest;
use crate::config::Method;
use crate::control::Control;
use crate::evaluate::{Evaluation, evaluate, image_tensor, label_tensors};
use crate::optim::{self, AdamW, Gradients, Schedule};
use crate::report::{Report, references};
use crate::run::{Log, RunDir, RunLock};
use crate::session::Session;
use crate::{Config, Error, MultiTaskLoss, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tadformer_data::{Batch, Loader, Pipeline, Sampling, Task};
use tadformer_ops::{Entry, Mode, Rng, Role, autocast};

/// What is seen of training while it goes on.
pub trait Reporter {
    /// An update was made.
    fn update(&mut self, update: &UpdateRecord, of: u64);
    /// `done` of `of` samples of an evaluation are scored.
    fn scored(&mut self, done: usize, of: usize);
    /// An evaluation is finished.
    fn evaluated(&mut self, epoch: usize, evaluation: &Evaluation);
}

/// One update, as the log has it. `seconds`, `images_per_second` and `waited` are the only fields that differ between two
/// runs of the same seed.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateRecord {
    /// Always `update`.
    pub kind: &'static str,
    /// Number of the update, from 0.
    pub update: u64,
    /// Epoch, from 0.
    pub epoch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Weighted sum of the losses.
    pub total: f64,
    /// Each task's loss, unweighted; means over accumulated batches.
    pub losses: BTreeMap<&'static str, f64>,
    /// Batches in which a task had no labelled pixel.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unlabelled: BTreeMap<&'static str, usize>,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Since the start of this process's training.
    pub seconds: f64,
    /// Samples a second in this update.
    pub images_per_second: f64,
    /// Share of this update's time spent waiting for samples, `0..=1`.
    pub waited: f64,
}

#[derive(Serialize)]
struct EvaluationRecord<'a> {
    kind: &'static str,
    epoch: usize,
    precision: &'static str,
    gain: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    left_out: &'a [String],
    best: usize,
    scores: BTreeMap<&'static str, BTreeMap<&'static str, crate::evaluate::ScoreRecord>>,
}

/// Trains the model of a configuration, evaluates it, and keeps the record in a run's folder.
pub struct Trainer {
    session: Session,
    run: RunDir,
    log: Log,
    train: Loader,
    val: Loader,
    val_len: usize,
    loss: MultiTaskLoss,
    parameters: Vec<Entry>,
    optimizer: AdamW,
    schedule: Schedule,
    state: TrainState,
    report: Report,
    control: Control,
    /// When the last checkpoint was written.
    saved: Instant,
    /// What was passed over to go on: damaged checkpoints and where they are now.
    notes: Vec<String>,
    _lock: RunLock,
}

impl Trainer {
    /// A new run of a fresh model in the folder `run`.
    ///
    /// # Errors
    /// A configuration or data that do not fit; everything is checked before the first step.
    pub fn new(session: Session, run: RunDir) -> Result<Self> {
        let state = TrainState { origin: session.origin.clone(), ..TrainState::default() };
        Self::assemble(session, run, state)
    }

    /// A run that was stopped, from its newest checkpoint that is whole; damaged ones are set aside, which
    /// [`notes`](Self::notes) says.
    ///
    /// # Errors
    /// A run without a checkpoint that is whole, or one that does not fit its configuration.
    pub fn resume(config: Config, run: RunDir) -> Result<Self> {
        let checkpoints = run.checkpoints();
        let Newest { checkpoint, damaged } = checkpoints.newest()?.ok_or_else(|| run.without_checkpoint())?;
        let session = Session::restored(config, &checkpoint)?;
        let mut trainer = Self::assemble(session, run, checkpoint.state)?;
        for (path, error) in damaged {
            let aside = checkpoints.set_aside(&path)?;
            trainer.notes.push(format!(
                "{error}; it is `{}` now, and the run goes on from the one before, after update {}",
                aside.display(),
                trainer.state.update
            ));
        }
        trainer.optimizer.load_state(checkpoint.optimizer)?;
        trainer.report = Report::read(&trainer.run, &trainer.state)?;
        trainer.log = trainer.run.log_until(&trainer.state)?;
        // A stop between the two files of a checkpoint leaves an older best one beside the last. Later in the epoch the
        // weights are others than those that were scored.
        if trainer.state.batch == 0 {
            trainer.keep_best()?;
        }
        if !trainer.notes.is_empty() {
            trainer.save()?;
        }
        Ok(trainer)
    }

    fn assemble(session: Session, run: RunDir, state: TrainState) -> Result<Self> {
        let Config { seed, precision: _, data, train, model } = &session.config;
        if model.method == Method::Merged {
            return Err(Error::Config(
                "`model.method` is `merged`, which is for use: its updates are folded into frozen weights"
                    .to_owned(),
            ));
        }
        let lock = run.lock()?;
        run.sweep(&lock)?;
        let [height, width] = data.size;
        let train_set = data.open_train(*seed)?;
        // A short last batch would weigh its samples more; a set that is one short batch has no other.
        let drop_last = train_set.len() >= train.batch_size;
        let sampling = Sampling { batch_size: train.batch_size, shuffle: true, drop_last, seed: *seed };
        let pipeline = Pipeline::training(data.train_augmentation(), height, width);
        let train_loader = Loader::new(train_set, pipeline, sampling, data.workers)?;
        let val_set = data.open_val(*seed)?;
        let val_len = val_set.len();
        let sampling = Sampling::sequential(train.batch_size);
        let val_loader = Loader::new(val_set, Pipeline::evaluation(height, width), sampling, data.workers)?;

        let updates = train_loader.batches().div_ceil(train.accumulation);
        let samples = train.batch_size * train.accumulation;
        let schedule = Schedule::new(train.schedule.scaled_to(samples), train.epochs, updates)?;
        let parameters = session.store.with_role(Role::Trainable);
        let weights = session.specs.iter().map(|spec| (spec.task, train.loss_weight(spec.task)));
        Ok(Self {
            loss: MultiTaskLoss::with_weights(weights)?,
            optimizer: AdamW::new(&parameters, train.adamw)?,
            report: Report::new(references(&session)?),
            log: run.log()?,
            train: train_loader,
            val: val_loader,
            val_len,
            parameters,
            schedule,
            state,
            session,
            run,
            control: Control::default(),
            saved: Instant::now(),
            notes: Vec::new(),
            _lock: lock,
        })
    }

    /// The model and its tensors.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The run's folder.
    pub fn run_dir(&self) -> &RunDir {
        &self.run
    }

    /// What asks this training to stop or to save; clones of it ask the same one.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What whoever goes on with the run should know; empty for a run whose newest checkpoint was whole.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Updates made, and those of the whole run.
    pub fn updates(&self) -> (u64, u64) {
        (self.state.update, self.schedule.updates())
    }

    /// Whether every epoch is over and scored.
    pub fn is_finished(&self) -> bool {
        self.state.epoch >= self.session.config.train.epochs && !self.evaluation_is_due()
    }

    /// Trains to the end: evaluates first, then every few epochs and after the last; keeps the newest checkpoints and the best.
    /// Ends early, with a checkpoint, where its [`control`](Self::control) was asked to stop.
    ///
    /// # Errors
    /// Data that cannot be read, a loss or gradient that is not finite, a folder that cannot be written to.
    pub fn run(&mut self, reporter: &mut dyn Reporter) -> Result<&Report> {
        autocast(self.session.config.precision, || self.train_and_evaluate(reporter))?;
        Ok(&self.report)
    }

    fn train_and_evaluate(&mut self, reporter: &mut dyn Reporter) -> Result<()> {
        let start = Instant::now();
        loop {
            if self.evaluation_is_due() {
                let evaluation = self.evaluate(reporter)?;
                self.save()?;
                self.keep_best()?;
                reporter.evaluated(self.state.epoch, &evaluation);
            }
            if self.is_finished() || self.control.is_stopping() {
                return Ok(());
            }
            self.train_epoch(start, reporter)?;
        }
    }

    /// Before the first epoch, after every few, and after the last; once each.
    fn evaluation_is_due(&self) -> bool {
        let (epoch, train) = (self.state.epoch, &self.session.config.train);
        let scored = self.report.snapshots().last().is_some_and(|snapshot| snapshot.epoch == epoch);
        !scored && self.state.batch == 0 && (epoch.is_multiple_of(train.eval_every) || epoch == train.epochs)
    }

    /// Trains to the end of the epoch under way, or until it was asked to stop; saves now and then, and last.
    fn train_epoch(&mut self, start: Instant, reporter: &mut dyn Reporter) -> Result<()> {
        let (accumulation, every) =
            (self.session.config.train.accumulation, self.session.config.train.checkpoint_every);
        let mut left = self.train.batches().saturating_sub(self.state.batch);
        let mut batches = Vec::with_capacity(accumulation);
        let mut clock = Clock::new(self.train.waited());
        for batch in self.train.epoch(self.state.epoch as u64, self.state.batch) {
            batches.push(batch?);
            left -= 1;
            if batches.len() < accumulation && left > 0 {
                continue;
            }
            let record = self.update(&batches, start, &mut clock)?;
            self.state.batch += batches.len();
            self.log.add(&record)?;
            reporter.update(&record, self.schedule.updates());
            batches.clear();
            let asked = self.control.take_save();
            if left > 0 && (asked || self.control.is_stopping() || self.saved.elapsed() >= every) {
                self.save()?;
            }
            if left > 0 && self.control.is_stopping() {
                return Ok(());
            }
        }
        self.state.epoch += 1;
        self.state.batch = 0;
        self.save()
    }

    /// One update of the weights from the mean gradient of some batches.
    fn update(&mut self, batches: &[Batch], start: Instant, clock: &mut Clock) -> Result<UpdateRecord> {
        let update = self.state.update;
        let mut rng = Rng::named(self.session.config.seed, "train/update", update);
        let lr = self.schedule.lr_for_update(update);
        let share = 1.0 / batches.len() as f64;
        let mut gradients: Option<Gradients> = None;
        let (mut total, mut losses, mut unlabelled) = (0.0, BTreeMap::new(), BTreeMap::new());
        for batch in batches {
            let logits =
                self.session.model.coarse_logits(&image_tensor(batch)?, &mut Mode::Train(&mut rng))?;
            let found = self.loss.forward(&logits, &label_tensors(batch)?)?;
            for (task, loss) in &found.tasks {
                let value = f64::from(loss.value.to_scalar::<f32>()?);
                *losses.entry(task.name).or_insert(0.0) += value * share;
                if loss.labelled == 0 {
                    *unlabelled.entry(task.name).or_insert(0) += 1;
                }
                self.check_finite(*task, value)?;
            }
            total += f64::from(found.total.to_scalar::<f32>()?) * share;
            let own = Gradients::from_store(&found.total.backward()?, &self.parameters);
            match &mut gradients {
                Some(gradients) => gradients.add(&own)?,
                None => gradients = Some(own),
            }
        }
        let Some(mut gradients) = gradients else {
            return Err(Error::Training("an update was asked for without a batch".to_owned()));
        };
        gradients.scale(share);
        let grad_norm =
            gradients.clip(self.session.config.train.clip_norm).map_err(|error| self.bad_gradient(error))?;
        self.optimizer.step(&gradients, lr)?;
        self.state.update += 1;
        let samples: usize = batches.iter().map(|batch| batch.ids.len()).sum();
        let (seconds, waited) = clock.lap(self.train.waited());
        Ok(UpdateRecord {
            kind: "update",
            update,
            epoch: self.state.epoch,
            lr,
            total,
            losses,
            unlabelled,
            grad_norm,
            seconds: start.elapsed().as_secs_f64(),
            images_per_second: samples as f64 / seconds,
            waited: waited / seconds,
        })
    }

    fn check_finite(&self, task: Task, loss: f64) -> Result<()> {
        if loss.is_finite() {
            return Ok(());
        }
        Err(Error::Training(format!(
            "the loss of task `{task}` is {loss} in update {}; the weights are as they were after the one before. Lower \
             `train.schedule.base_lr`, or look at the labels with a smaller `train.batch_size`",
            self.state.update
        )))
    }

    fn bad_gradient(&self, error: optim::Error) -> Error {
        match error {
            optim::Error::NotFinite { tensor } => Error::Training(format!(
                "the gradient of `{tensor}` is not finite in update {}; the weights are as they were. Lower \
                 `train.schedule.base_lr`",
                self.state.update
            )),
            other => other.into(),
        }
    }

    /// Scores the model, records the scores, and decides whether it is the best so far.
    fn evaluate(&mut self, reporter: &mut dyn Reporter) -> Result<Evaluation> {
        let Session { model, specs, config, .. } = &self.session;
        let of = self.val_len;
        let evaluation =
            evaluate(model, specs, &self.val, config.train.panels, |done| reporter.scored(done, of))?;
        let epoch = self.state.epoch;
        for (id, picture) in &evaluation.panels {
            picture.save_png(self.run.panel(epoch, id))?;
        }
        let newest = self.report.add(epoch, &evaluation).clone();
        self.state.best = self.report.best().map(|best| (best.gain, best.epoch));
        let best = self.state.best.map_or(epoch, |(_, epoch)| epoch);
        self.log.add(&EvaluationRecord {
            kind: "evaluation",
            epoch,
            precision: config.precision.name(),
            gain: newest.gain,
            left_out: &newest.left_out,
            best,
            scores: evaluation.records(),
        })?;
        self.report.write(&self.run)?;
        Ok(evaluation)
    }

    /// Keeps the model and where training stands as the newest checkpoint; the log is on the disk before it.
    fn save(&mut self) -> Result<()> {
        self.log.sync()?;
        let keep = self.session.config.train.keep_checkpoints;
        self.run.checkpoints().write_last(keep, &self.session.store, &self.optimizer, &self.state)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Keeps the model as the best one if its evaluation was the best.
    fn keep_best(&self) -> Result<()> {
        match self.state.best {
            Some((_, epoch)) if epoch == self.state.epoch => {
                Checkpoint::write(&self.run.checkpoints().best(), &self.session.store, None, &self.state)
            }
            _ => Ok(()),
        }
    }
}

/// The time of each update, and how much of it was spent waiting for samples.
struct Clock {
    last: Instant,
    waited: Duration,
}

impl Clock {
    fn new(waited: Duration) -> Self {
        Self { last: Instant::now(), waited }
    }

    /// Seconds since the last lap, and the part of them that was waiting.
    fn lap(&mut self, waited: Duration) -> (f64, f64) {
        let seconds = self.last.elapsed().as_secs_f64().max(1e-9);
        let waiting = (waited - self.waited).as_secs_f64();
        (self.last, self.waited) = (Instant::now(), waited);
        (seconds, waiting)
    }
}
