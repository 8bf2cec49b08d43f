//! What a new model takes over from a trained one that need not be of the same tasks, classes or ranks.

use crate::config::ModelConfig;
use crate::params::{group, outline};
use crate::{Error, Predictor, Result};
use candle_core::Tensor;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use tadformer_data::{LabelKind, TaskSpec};
use tadformer_ops::{Entry, Role};

/// The task prompts, a few rows a task, in the order of the tasks.
const PROMPTS: &str = "backbone.task_prompts";

/// What became of each tensor when a model began with another's weights. Its [`Display`](fmt::Display) lists them in groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Tensors taken over whole, by name.
    pub taken: Vec<String>,
    /// Tensors of which some rows were taken over, by name, with what those rows stand for; the others were drawn.
    pub in_part: Vec<(String, String)>,
    /// Tensors drawn at random, by name, with why.
    pub drawn: Vec<(String, String)>,
    /// Trained tensors of the other model that the new one has no place for, by name.
    pub left_behind: Vec<String>,
}

impl Transfer {
    /// Whether every trained tensor was taken over and no other had to be drawn.
    pub fn is_complete(&self) -> bool {
        self.in_part.is_empty() && self.drawn.is_empty() && self.left_behind.is_empty()
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |names: &[String]| grouped(names.iter().map(|name| (place(name), String::new())));
        let with =
            |names: &[(String, String)]| grouped(names.iter().map(|(name, why)| (place(name), why.clone())));
        let lines = [
            ("taken over", self.taken.len(), plain(&self.taken)),
            ("taken over in part", self.in_part.len(), with(&self.in_part)),
            ("drawn at random", self.drawn.len(), with(&self.drawn)),
            ("left behind", self.left_behind.len(), plain(&self.left_behind)),
        ];
        let lines = lines.iter().filter(|(_, number, _)| *number > 0);
        let lines: Vec<String> =
            lines.map(|(what, number, list)| format!("{what}, {number} tensors: {list}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Where a tensor belongs, in words.
fn place(name: &str) -> String {
    let rest = name.strip_prefix("decoders.decoders.").map(|rest| ("decoder", rest));
    let rest = rest.or_else(|| name.strip_prefix("downsampler.").map(|rest| ("downsampler", rest)));
    match rest.and_then(|(what, rest)| Some((what, rest.split_once('.')?.0))) {
        Some((what, task)) => format!("{what} of `{task}`"),
        None => format!("backbone's {}", group(name)),
    }
}

/// `place (number, reason), …` in the order in which they come first.
fn grouped(named: impl Iterator<Item = (String, String)>) -> String {
    let mut groups: Vec<((String, String), usize)> = Vec::new();
    for key in named {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, number)) => *number += 1,
            None => groups.push((key, 1)),
        }
    }
    let words = groups.into_iter().map(|((place, why), number)| match why.as_str() {
        "" => format!("{place} ({number})"),
        why => format!("{place} ({number}: {why})"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// A tensor that is put together from rows of the other model's and rows that are drawn.
pub(crate) struct Patchwork {
    pub(crate) name: String,
    source: Tensor,
    /// For each row of the new tensor the other's row, where it has one.
    rows: Vec<Option<usize>>,
}

impl Patchwork {
    /// The tensor, where `drawn` has what the other model does not.
    ///
    /// # Errors
    /// None in practice: the shapes were compared.
    pub(crate) fn over(&self, drawn: &Tensor) -> Result<Tensor> {
        let rows = self.rows.iter().enumerate().map(|(row, from)| match from {
            Some(from) => self.source.narrow(0, *from, 1),
            None => drawn.narrow(0, row, 1),
        });
        let rows = rows.collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&rows, 0)?)
    }
}

/// What a new model can have of `model`.
pub(crate) struct Plan {
    /// Values of whole tensors.
    pub(crate) values: HashMap<String, Tensor>,
    /// Tensors to be put together.
    pub(crate) patchworks: Vec<Patchwork>,
    pub(crate) transfer: Transfer,
}

impl Plan {
    /// Compares the tensors that a model of `config` for `specs` would train, `wanted`, with those of `model`.
    ///
    /// # Errors
    /// Another backbone, or a model of which nothing fits.
    pub(crate) fn new(
        config: &ModelConfig,
        specs: &[TaskSpec],
        wanted: &[Entry],
        model: &Predictor,
    ) -> Result<Self> {
        let (ours, theirs) = (config.swin(), model.config().model.swin());
        let theirs = tadformer_backbone::SwinConfig { drop_path_rate: ours.drop_path_rate, ..theirs };
        if ours != theirs {
            return Err(Error::file(
                model.file(),
                format!("the model has another backbone: {theirs:?}, and the new one would have {ours:?}"),
            ));
        }
        let source: HashMap<&str, &Entry> =
            model.entries().iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let rows = Rows { config, specs, model, of_classes: of_classes(config, specs)? };
        let mut plan = Self { values: HashMap::new(), patchworks: Vec::new(), transfer: Transfer::default() };
        let trained = |entry: &&Entry| entry.role != Role::Frozen;
        // What stays frozen comes from the weight file: a checkpoint refers to that instead of keeping it.
        for entry in wanted.iter().filter(trained) {
            match source.get(entry.name.as_str()) {
                Some(found) => plan.compare(entry, &found.tensor, &rows),
                None => plan.transfer.drawn.push((entry.name.clone(), String::new())),
            }
        }
        let transfer = &plan.transfer;
        if transfer.taken.is_empty() && transfer.in_part.is_empty() {
            return Err(Error::file(
                model.file(),
                format!("nothing in it fits the new model; is it of the same method?\n{transfer}"),
            ));
        }
        let has_place: HashSet<&str> =
            wanted.iter().filter(trained).map(|entry| entry.name.as_str()).collect();
        let left = model.entries().iter().filter(trained);
        let left =
            left.filter(|entry| !has_place.contains(entry.name.as_str())).map(|entry| entry.name.clone());
        plan.transfer.left_behind = left.collect();
        Ok(plan)
    }

    fn compare(&mut self, entry: &Entry, found: &Tensor, rows: &Rows<'_>) {
        let name = entry.name.clone();
        let (wanted, there) = (entry.tensor.dims(), found.dims());
        let same = |from: usize| wanted.get(from..) == there.get(from..);
        match rows.of(&name, wanted, there).filter(|_| same(1)) {
            Some((from, _)) if from.iter().all(Option::is_none) => {
                self.transfer.drawn.push((name, "nothing of the same name".to_owned()));
            }
            Some((from, _)) if same(0) && from.iter().enumerate().all(|(row, from)| *from == Some(row)) => {
                self.take(name, found);
            }
            Some((from, what)) => {
                // All of them in another order are no less.
                match same(0) && from.iter().all(Option::is_some) {
                    true => self.transfer.taken.push(name.clone()),
                    false => self.transfer.in_part.push((name.clone(), what)),
                }
                self.patchworks.push(Patchwork { name, source: found.clone(), rows: from });
            }
            None if same(0) => self.take(name, found),
            None => self.transfer.drawn.push((name, "another shape".to_owned())),
        }
    }

    fn take(&mut self, name: String, found: &Tensor) {
        self.values.insert(name.clone(), found.clone());
        self.transfer.taken.push(name);
    }
}

/// Whose each row of a tensor is, where rows belong to tasks or classes: those are matched by name, whatever their place.
struct Rows<'a> {
    config: &'a ModelConfig,
    specs: &'a [TaskSpec],
    model: &'a Predictor,
    /// Tensors with a row a class, and the place of their task.
    of_classes: HashMap<String, usize>,
}

impl Rows<'_> {
    /// The other model's row for each row, and what was found of what, in words; nothing for a tensor whose rows have no
    /// owners, or that has not one row an owner.
    fn of(&self, name: &str, wanted: &[usize], there: &[usize]) -> Option<(Vec<Option<usize>>, String)> {
        if name == PROMPTS {
            let each = self.config.adaptation.prompts_per_task;
            let theirs: Vec<&str> = self.model.tasks().iter().map(|spec| spec.task.name).collect();
            let fits = wanted.first() == Some(&(each * self.specs.len()))
                && there.first() == Some(&(each * theirs.len()));
            let ours: Vec<&str> = self.specs.iter().map(|spec| spec.task.name).collect();
            return fits.then(|| matched(&ours, &theirs, each));
        }
        let ours = &self.specs[*self.of_classes.get(name)?];
        let theirs = self.model.tasks().iter().find(|spec| spec.task == ours.task)?;
        let fits =
            wanted.first() == Some(&ours.classes.len()) && there.first() == Some(&theirs.classes.len());
        let names = |spec: &'_ TaskSpec| spec.classes.clone();
        fits.then(|| matched(&names(ours), &names(theirs), 1))
    }
}

/// For `each` rows a name in `ours` the rows of the same name in `theirs`.
fn matched<S: AsRef<str>>(ours: &[S], theirs: &[S], each: usize) -> (Vec<Option<usize>>, String) {
    let mut free: BTreeSet<usize> = (0..theirs.len()).collect();
    let mut names = Vec::new();
    let mut rows = Vec::with_capacity(each * ours.len());
    for name in ours {
        // A name that stands there twice is matched twice.
        let found = free.iter().copied().find(|at| theirs[*at].as_ref() == name.as_ref());
        if let Some(at) = found {
            free.remove(&at);
            names.push(name.as_ref());
        }
        rows.extend((0..each).map(|i| found.map(|at| at * each + i)));
    }
    let listed = names.iter().take(4).copied().collect::<Vec<_>>().join("`, `");
    let more = if names.len() > 4 { ", …" } else { "" };
    (rows, format!("{} of {}, `{listed}`{more}", names.len(), ours.len()))
}

/// The tensors that have a row a class: those whose shape changes when a task has one class more.
fn of_classes(config: &ModelConfig, specs: &[TaskSpec]) -> Result<HashMap<String, usize>> {
    let mut more = specs.to_vec();
    more.iter_mut().filter(|spec| spec.task.label == LabelKind::Classes).for_each(|spec| spec.outputs += 1);
    let (now, then) = (outline(config, specs)?, outline(config, &more)?);
    let changed = now.into_iter().zip(then).filter(|(now, then)| now.tensor.dims() != then.tensor.dims());
    let task = |name: &str| {
        let task = name.strip_prefix("decoders.decoders.")?.split_once('.')?.0;
        specs.iter().position(|spec| spec.task.name == task)
    };
    Ok(changed.filter_map(|(now, _)| Some((now.name.clone(), task(&now.name)?))).collect())
}
