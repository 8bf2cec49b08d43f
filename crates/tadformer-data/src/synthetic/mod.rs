//! The built-in data set: scenes cast from a seed, with labels that are exact because they are geometry.
//!
//! A scene is a room, a walled court or open ground under the sky, with one to six solids and up to two people. The picture
//! is lit by one lamp or the sun with shadows and by ambient light, and everything in it has a procedural material. Labels
//! say what the ray through each pixel's centre meets:
//!
//! - `semseg`: the class of the surface (12 classes; `background` is sky, hills and ceilings);
//! - `human_parts`: 0 or one of six parts, as in PASCAL-Person-Part (the neck is torso, hands are lower arms, feet lower legs);
//! - `sal`: 1 on the heaviest object and on those at least half as heavy, where an object weighs the solid angle of its
//!   bounding ball, more in the middle of the view and more for people;
//! - `normals`: the outward unit normal in camera space, `x` right, `y` up, `z` towards the viewer;
//! - `edge`: 1 on the nearer pixel of two neighbours of different instances, on creases of solids, and where a body that is
//!   not convex steps behind itself; one pixel thin;
//! - `depth`: metres along the optical axis.
//!
//! Rays are cast in packets of 64 neighbours (`bundle`): what they meet (`trace`), how that is painted (`patch`,
//! `material`), and what light comes back (`shade`). Each step is a loop without branches over all rays, which compiles to
//! vectors (`lanes`, `simd`); their width changes no bit.
//!
//! Sky and hills have no depth and no normal; they are ignored there. Sample `i` is a pure function of seed, domain, split,
//! `i` and size, the same on any number of threads; another size of the same shape shows the same view.

mod vec3;
mod lanes;
mod simd;
mod camera;
mod shape;
mod person;
mod noise;
mod stripe;
mod pattern;
mod material;
mod sky;
mod setting;
mod scene;
mod catalogue;
mod compose;
mod cull;
mod trace;
mod patch;
mod shade;
mod bundle;
mod develop;
mod frame;
mod render;
mod labels;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use tadformer_ops::Rng;

use self::frame::Frame;
use self::labels::{LABELLERS, Labeller};
use self::render::render;
use self::scene::Scene;
use crate::{Dataset, EDGE_TOLERANCE, Error, Result, Sample, Task, TaskSpec};

/// Which scenes: those of one split never occur in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Scenes to learn from.
    Train,
    /// Scenes to be measured on.
    Val,
}

/// Which world the scenes are from; the two share no family of solids, no material and no light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Ten families of solids and people.
    #[default]
    Main,
    /// Five other families, without people, to train a backbone on before it meets the main one.
    Pretrain,
}

/// What to render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticConfig {
    /// Seed of every scene.
    pub seed: u64,
    /// World.
    pub domain: Domain,
    /// Split.
    pub split: Split,
    /// Number of samples.
    pub samples: usize,
    /// Rows of a picture, at least 1.
    pub height: usize,
    /// Columns of a picture, at least 1.
    pub width: usize,
}

/// Pictures of more pixels than this are refused.
const MOST_PIXELS: usize = 1 << 26;

/// Frames of more pixels than this are not kept for the next sample.
const MOST_KEPT: usize = 1 << 20;

thread_local! {
    /// The frame of the thread's last sample, so that the next one need not wait for fresh memory.
    static FRAME: Cell<Frame> = Cell::default();
}

/// A split of the synthetic data set.
///
/// ```
/// use tadformer_data::{Dataset, Task};
/// use tadformer_data::synthetic::{Domain, Split, Synthetic, SyntheticConfig};
///
/// let config = SyntheticConfig { seed: 1, domain: Domain::Main, split: Split::Val, samples: 10, height: 48, width: 64 };
/// let tasks: Vec<Task> = Task::all().collect();
/// let data = Synthetic::new(config, &tasks)?;
/// let sample = data.load(3)?;
/// assert_eq!((sample.image.channels, sample.image.height, sample.image.width), (3, 48, 64));
/// assert_eq!(sample.labels.len(), 6);
/// assert_eq!(sample, data.load(3)?);
/// # Ok::<(), tadformer_data::Error>(())
/// ```
pub struct Synthetic {
    config: SyntheticConfig,
    specs: Vec<TaskSpec>,
    labellers: Vec<&'static Labeller>,
}

impl Synthetic {
    /// The split that `config` describes, labelled for `tasks` in that order.
    ///
    /// # Errors
    /// A size of zero or of more than 2²⁶ pixels, no task, a task that is named twice or that the domain does not label.
    pub fn new(config: SyntheticConfig, tasks: &[Task]) -> Result<Self> {
        let pixels = config.height.checked_mul(config.width);
        if !pixels.is_some_and(|n| (1..=MOST_PIXELS).contains(&n)) {
            return Err(Error::Config(format!(
                "cannot render synthetic pictures of {}x{} pixels; both sides must be at least 1 and their product at \
                 most {MOST_PIXELS}",
                config.height, config.width
            )));
        }
        if tasks.is_empty() {
            return Err(Error::Config(
                "the synthetic data set was asked for no task; name at least one".to_owned(),
            ));
        }
        let mut specs = Vec::with_capacity(tasks.len());
        let mut labellers = Vec::with_capacity(tasks.len());
        for (i, task) in tasks.iter().enumerate() {
            if tasks[..i].contains(task) {
                return Err(Error::Config(format!(
                    "the synthetic data set was asked for task `{task}` twice"
                )));
            }
            specs.push(spec(config.domain, *task)?);
            labellers.push(labeller(config.domain, *task)?);
        }
        Ok(Self { config, specs, labellers })
    }

    /// What this renders.
    pub fn config(&self) -> &SyntheticConfig {
        &self.config
    }

    fn scene(&self, index: usize) -> Scene {
        let mut rng = Rng::named(self.config.seed, self.config.stream(), index as u64);
        Scene::draw(&mut rng, self.config.domain.catalogue())
    }

    /// The frame of a scene, for tests.
    #[cfg(test)]
    fn frame(&self, scene: &Scene) -> Frame {
        let mut frame = Frame::default();
        render(scene, self.config.height, self.config.width, &mut frame);
        frame
    }
}

impl std::fmt::Debug for Synthetic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Synthetic").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Dataset for Synthetic {
    fn name(&self) -> &str {
        match self.config.domain {
            Domain::Main => "synthetic",
            Domain::Pretrain => "synthetic-pretrain",
        }
    }

    fn tasks(&self) -> &[TaskSpec] {
        &self.specs
    }

    fn len(&self) -> usize {
        self.config.samples
    }

    fn id(&self, index: usize) -> String {
        let split = match self.config.split {
            Split::Train => "train",
            Split::Val => "val",
        };
        format!("{split}-{index:06}")
    }

    fn load(&self, index: usize) -> Result<Sample> {
        if index >= self.config.samples {
            return Err(Error::Config(format!(
                "data set `{}` has {} samples; there is no sample {index}",
                self.name(),
                self.config.samples
            )));
        }
        let scene = self.scene(index);
        let mut frame = FRAME.take();
        render(&scene, self.config.height, self.config.width, &mut frame);
        let label = |(spec, labeller): (&TaskSpec, &&Labeller)| (spec.task, (labeller.label)(&scene, &frame));
        let labels = self.specs.iter().zip(&self.labellers).map(label).collect();
        let image = std::mem::take(&mut frame.image);
        if frame.size() <= MOST_KEPT {
            FRAME.set(frame);
        }
        Ok(Sample { id: self.id(index), image, labels })
    }
}

impl SyntheticConfig {
    /// The family of random streams that the scenes come from, one an index.
    fn stream(&self) -> &'static str {
        match (self.domain, self.split) {
            (Domain::Main, Split::Train) => "synthetic/main/train",
            (Domain::Main, Split::Val) => "synthetic/main/val",
            (Domain::Pretrain, Split::Train) => "synthetic/pretrain/train",
            (Domain::Pretrain, Split::Val) => "synthetic/pretrain/val",
        }
    }
}

/// What `domain` labels for `task`.
///
/// # Errors
/// The domain does not label it.
pub fn spec(domain: Domain, task: Task) -> Result<TaskSpec> {
    let classes = (labeller(domain, task)?.classes)(domain.catalogue());
    let outputs = if classes.is_empty() { task.label_channels() } else { classes.len() };
    let palette = classes.iter().map(|class| class.colour).collect();
    let classes = classes.into_iter().map(|class| class.name.to_owned()).collect();
    Ok(TaskSpec { task, outputs, classes, palette, edge_tolerance: EDGE_TOLERANCE })
}

fn labeller(domain: Domain, task: Task) -> Result<&'static Labeller> {
    let available = || LABELLERS.iter().filter(|l| !l.needs_people || domain.catalogue().person.is_some());
    available().find(|l| l.task == task.name).ok_or_else(|| {
        let names: Vec<&str> = available().map(|l| l.task).collect();
        Error::Config(format!(
            "the synthetic domain `{domain:?}` does not label task `{task}`; it labels {}",
            names.join(", ")
        ))
    })
}
