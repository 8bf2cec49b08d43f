//! Batches, decoded and augmented ahead of the trainer.
//!
//! The trainer's thread hands out one job a sample, for a bounded number of batches ahead. Workers load and transform; the one
//! that finishes the last sample of a batch puts the batch together. Batches leave in order. A sample depends on the seed,
//! the epoch and its index and on nothing else, so the number of workers changes the time and never a bit of the result.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tadformer_ops::Rng;

use crate::{Dataset, Error, IGNORE, Pipeline, Result, Sample, Sampler, Sampling, Task};

/// Samples of one size, stacked.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Names of the samples; their number is `b`.
    pub ids: Vec<String>,
    /// Rows of picture and labels.
    pub height: usize,
    /// Columns of picture and labels.
    pub width: usize,
    /// Normalised pictures, `(b, 3, height, width)`.
    pub image: Vec<f32>,
    /// For each task of the data set its labels, `(b, c, height, width)`; all [`IGNORE`] for a sample that has none.
    pub labels: Vec<(Task, Vec<f32>)>,
}

/// Loads the batches of a split, epoch by epoch.
pub struct Loader {
    work: Work,
    sampler: Sampler,
    workers: usize,
    /// Nanoseconds.
    waited: Arc<AtomicU64>,
}

impl Loader {
    /// A loader on `workers` threads; with 0, samples are loaded when they are asked for.
    ///
    /// # Errors
    /// A split without samples or without a full batch where only full ones are wanted; a pipeline out of range.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        pipeline: Pipeline,
        sampling: Sampling,
        workers: usize,
    ) -> Result<Self> {
        pipeline.validate()?;
        let sampler = Sampler::new(dataset.len(), sampling)
            .map_err(|error| Error::Config(format!("data set `{}`: {error}", dataset.name())))?;
        let work = Work { dataset, pipeline, seed: sampling.seed, epoch: 0 };
        Ok(Self { work, sampler, workers, waited: Arc::default() })
    }

    /// The order of the samples.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Batches an epoch.
    pub fn batches(&self) -> usize {
        self.sampler.batches()
    }

    /// The batches of `epoch` (below 2³²) from batch `start_batch` on, in order: as if the earlier ones had been taken.
    ///
    /// An error names its sample. The batch that it belongs to is lost; the next ones can still be asked for. Dropping the
    /// iterator stops the workers and waits until each has finished the sample that it is loading.
    pub fn epoch(&self, epoch: u64, start_batch: usize) -> Epoch {
        let work = Work { epoch, ..self.work.clone() };
        let batches = self.sampler.epoch(epoch);
        let pool = Pool::start(&work, self.workers, self.sampler.sampling().batch_size);
        Epoch { work, batches, next: start_batch, pool, waited: Arc::clone(&self.waited) }
    }

    /// How long all epochs' [`next`](Iterator::next) calls together kept the caller waiting.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }
}

/// The random numbers that change the sample `index` in `epoch` (below 2³²): a function of these and of nothing else.
pub fn augmentation_stream(seed: u64, epoch: u64, index: usize) -> Rng {
    Rng::named(seed, "augment", epoch << 32 | index as u64)
}

/// The batches of one epoch; see [`Loader::epoch`].
pub struct Epoch {
    work: Work,
    batches: Vec<Vec<usize>>,
    next: usize,
    /// None: the caller's thread does the work.
    pool: Option<Pool>,
    waited: Arc<AtomicU64>,
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let indices = self.batches.get(self.next)?;
        let start = Instant::now();
        let batch = match &mut self.pool {
            Some(pool) => pool.batch(&self.batches, self.next),
            None => {
                let samples = indices.iter().map(|&index| self.work.sample(index));
                self.work.stack(samples.collect::<Vec<_>>())
            }
        };
        self.next += 1;
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.waited.fetch_add(nanoseconds, Ordering::Relaxed);
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batches.len().saturating_sub(self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Epoch {}

/// The threads of an epoch and what is under way on them.
struct Pool {
    /// None once the pool stops.
    jobs: Option<Sender<Job>>,
    results: Receiver<(usize, Result<Batch>)>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// The first batch that has not been handed out, once one has.
    scheduled: Option<usize>,
    /// Batches under way at once, the one that is waited for included.
    ahead: usize,
    /// Batches that were finished before their turn.
    early: BTreeMap<usize, Result<Batch>>,
}

/// One sample to load.
struct Job {
    batch: usize,
    slot: usize,
    index: usize,
    gathered: Arc<Gathered>,
}

/// The samples of one batch as they arrive.
struct Gathered(Mutex<Vec<Option<Result<Sample>>>>);

impl Pool {
    /// A pool of `workers` threads, or of as many as the system gives; none if that is none.
    fn start(work: &Work, workers: usize, batch_size: usize) -> Option<Self> {
        // At least one batch beyond the one that is waited for, and no worker idle while the last samples of one are loaded.
        let ahead = 1 + workers.div_ceil(batch_size);
        // Sending never blocks: there is room for all that can be under way.
        let (jobs, queue) = bounded::<Job>(ahead * batch_size);
        let (sender, results) = bounded(ahead);
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..workers)
            .map_while(|i| {
                let (work, queue, sender, stop) =
                    (work.clone(), queue.clone(), sender.clone(), Arc::clone(&stop));
                let name = format!("loader {i}");
                thread::Builder::new().name(name).spawn(move || serve(&work, &queue, &sender, &stop)).ok()
            })
            .collect();
        let early = BTreeMap::new();
        (!threads.is_empty()).then_some(Self {
            jobs: Some(jobs),
            results,
            stop,
            threads,
            scheduled: None,
            ahead,
            early,
        })
    }

    /// Batch `wanted`, waiting for it if need be; keeps the workers busy with those after it.
    fn batch(&mut self, batches: &[Vec<usize>], wanted: usize) -> Result<Batch> {
        self.schedule(batches, wanted);
        loop {
            if let Some(batch) = self.early.remove(&wanted) {
                // Its place goes to another before the trainer takes its step.
                self.schedule(batches, wanted + 1);
                return batch;
            }
            match self.results.recv() {
                Ok((batch, result)) => _ = self.early.insert(batch, result),
                Err(_) => return Err(Error::Config("every loader thread has ended".into())),
            }
        }
    }

    /// Hands out the samples of the batches from `first` that may be under way.
    fn schedule(&mut self, batches: &[Vec<usize>], first: usize) {
        let start = self.scheduled.unwrap_or(first);
        let end = batches.len().min(first + self.ahead).max(start);
        let Some(jobs) = &self.jobs else { return };
        for (batch, indices) in batches.iter().enumerate().take(end).skip(start) {
            let gathered = Arc::new(Gathered(Mutex::new(indices.iter().map(|_| None).collect())));
            for (slot, &index) in indices.iter().enumerate() {
                let job = Job { batch, slot, index, gathered: Arc::clone(&gathered) };
                if jobs.send(job).is_err() {
                    return;
                }
            }
        }
        self.scheduled = Some(end);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A worker's panics are caught where they happen; there is nothing left to report here.
            _ = thread.join();
        }
    }
}

/// A worker: loads until there are no more jobs.
fn serve(work: &Work, jobs: &Receiver<Job>, results: &Sender<(usize, Result<Batch>)>, stop: &AtomicBool) {
    for job in jobs {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let sample = work.sample(job.index);
        let Some(samples) = job.gathered.put(job.slot, sample) else { continue };
        if results.send((job.batch, work.stack(samples))).is_err() {
            return;
        }
    }
}

impl Gathered {
    /// Adds a sample; gives all of them back with the last.
    fn put(&self, slot: usize, sample: Result<Sample>) -> Option<Vec<Result<Sample>>> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots[slot] = Some(sample);
        slots.iter().all(Option::is_some).then(|| slots.drain(..).flatten().collect())
    }
}

/// What a worker needs to know.
#[derive(Clone)]
struct Work {
    dataset: Arc<dyn Dataset>,
    pipeline: Pipeline,
    seed: u64,
    epoch: u64,
}

impl Work {
    /// Loads and transforms a sample; a panic of the data set becomes an error.
    fn sample(&self, index: usize) -> Result<Sample> {
        let load = || {
            let id = self.dataset.id(index);
            let mut rng = augmentation_stream(self.seed, self.epoch, index);
            let loaded = self.dataset.load(index).and_then(|sample| self.pipeline.apply(sample, &mut rng));
            loaded.map_err(|error| error.of_sample(&id))
        };
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
            let id = catch_unwind(AssertUnwindSafe(|| self.dataset.id(index)));
            let id = id.unwrap_or_else(|_| format!("number {index}"));
            Err(Error::Config(format!(
                "loading sample `{id}` of data set `{}` panicked: {}; this is a fault of the code that reads it",
                self.dataset.name(),
                message(panic.as_ref())
            )))
        })
    }

    /// Puts samples of one size together; the first error wins.
    fn stack(&self, samples: Vec<Result<Sample>>) -> Result<Batch> {
        let samples = samples.into_iter().collect::<Result<Vec<_>>>()?;
        let (height, width) = samples.first().map_or((0, 0), |s| (s.image.height, s.image.width));
        if let Some(odd) = samples.iter().find(|s| (s.image.height, s.image.width) != (height, width)) {
            return Err(Error::Config(format!(
                "sample `{}` is {}x{} and `{}` is {height}x{width}: samples of a batch must be of one size; give \
                 the pipeline a `size` or take batches of 1",
                odd.id, odd.image.height, odd.image.width, samples[0].id
            )));
        }
        let pixels = samples.len() * height * width;
        let tasks = self.dataset.tasks().iter().map(|spec| spec.task);
        let mut batch = Batch {
            ids: Vec::with_capacity(samples.len()),
            height,
            width,
            image: Vec::with_capacity(3 * pixels),
            labels: tasks.map(|task| (task, Vec::with_capacity(task.label_channels() * pixels))).collect(),
        };
        // Each sample is freed as soon as it is copied: a batch never exists twice.
        for sample in samples {
            batch.image.extend_from_slice(&sample.image.data);
            for (task, labels) in &mut batch.labels {
                match sample.label(*task) {
                    Some(map) => labels.extend_from_slice(&map.data),
                    None => {
                        let elements = task.label_channels() * height * width;
                        labels.resize(labels.len() + elements, IGNORE);
                    }
                }
            }
            batch.ids.push(sample.id);
        }
        Ok(batch)
    }
}

/// The words of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

impl Error {
    /// The same error, with the name of the sample in its text.
    fn of_sample(self, id: &str) -> Self {
        match self {
            Self::Io { action, path, source } => {
                let source = std::io::Error::new(source.kind(), format!("{source} (sample `{id}`)"));
                Self::Io { action, path, source }
            }
            Self::Decode { path, format, reason } => {
                Self::Decode { path, format, reason: format!("{reason} (sample `{id}`)") }
            }
            Self::Label { path, task, reason } => {
                Self::Label { path, task, reason: format!("{reason} (sample `{id}`)") }
            }
            other => Self::Config(format!("cannot load sample `{id}`: {other}")),
        }
    }
}
