//! The data's part of the configuration.

use super::out_of_range;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tadformer_data::check::look;
use tadformer_data::synthetic::{Domain, Split, Synthetic, SyntheticConfig};
use tadformer_data::{Augmentation, CachedDataset, Dataset, Task, TaskSpec, dataset, did_you_mean};

/// What the network learns from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Name of the data set: `synthetic`, `pascal-context`, `nyud`, `cityscapes`, `bsds500`, or `folder` for one with a
    /// `dataset.toml` of its own.
    pub name: String,
    /// Its folder; the synthetic set needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Tasks to learn, in the order of their streams.
    pub tasks: Vec<String>,
    /// Rows and columns that the network sees.
    pub size: [usize; 2],
    /// Name of the training split.
    pub train_split: String,
    /// Name of the validation split.
    pub val_split: String,
    /// Threads that load samples; 0 loads them between steps.
    pub workers: usize,
    /// Random changes of training samples; without it, those that the literature uses for the data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augmentation: Option<Augmentation>,
    /// Folder in which decoded samples are kept from run to run; without it files are decoded in every epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Size of the synthetic set.
    pub synthetic: SyntheticSource,
    /// What the data set labels for the tasks, as it was when the model was made: runs and exported models carry it, and need
    /// no data to be used. Data that mean something else are refused. Empty before a run has begun.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<TaskSpec>,
}

/// Which synthetic scenes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyntheticSource {
    /// World of the scenes: `main` or `pretrain`.
    pub domain: Domain,
    /// Scenes to learn from.
    pub train_samples: usize,
    /// Scenes to be measured on.
    pub val_samples: usize,
}

impl Default for SyntheticSource {
    fn default() -> Self {
        Self { domain: Domain::Main, train_samples: 2000, val_samples: 200 }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            name: "synthetic".to_owned(),
            root: None,
            tasks: ["semseg", "normals", "sal", "human_parts"].map(str::to_owned).to_vec(),
            size: [448, 448],
            train_split: "train".to_owned(),
            val_split: "val".to_owned(),
            workers: 1,
            augmentation: None,
            cache: None,
            synthetic: SyntheticSource::default(),
            labels: Vec::new(),
        }
    }
}

impl DataConfig {
    /// The tasks.
    ///
    /// # Errors
    /// A name that no task has.
    pub fn tasks(&self) -> Result<Vec<Task>> {
        let find = |name: &String| Task::from_name(name).ok_or_else(|| Error::Config(unknown_task(name)));
        self.tasks.iter().map(find).collect()
    }

    /// What is labelled for the tasks: as [`labels`](Self::labels) says, or without them the data set's descriptor.
    ///
    /// # Errors
    /// A data set that does not exist, or a task that is not labelled.
    pub fn specs(&self) -> Result<Vec<TaskSpec>> {
        if self.labels.is_empty() {
            return self.described();
        }
        let find = |task: &Task| {
            self.labels.iter().find(|spec| spec.task == *task).cloned().ok_or_else(|| {
                let known: Vec<_> = self.labels.iter().map(|spec| spec.task.name).collect();
                Error::Config(format!(
                    "`data.tasks` names `{task}`, and the model was made for `{}` only (`data.labels`)",
                    known.join("`, `")
                ))
            })
        };
        self.tasks()?.iter().map(find).collect()
    }

    /// Takes the data set's descriptor, as it is now, for what the model is made for.
    ///
    /// # Errors
    /// A data set or task that does not exist.
    pub fn describe(&mut self) -> Result<()> {
        self.labels = self.described()?;
        Ok(())
    }

    /// What the data set labels for the tasks, without opening it.
    fn described(&self) -> Result<Vec<TaskSpec>> {
        let tasks = self.tasks()?;
        if self.name == "synthetic" {
            let domain = self.synthetic.domain;
            return tasks.iter().map(|task| Ok(tadformer_data::synthetic::spec(domain, *task)?)).collect();
        }
        let root = self.root.clone().unwrap_or_default();
        let labelled = dataset::descriptor(&self.name, &root)?.task_specs();
        let find = |task: &Task| {
            labelled.iter().find(|spec| spec.task == *task).cloned().ok_or_else(|| {
                let known: Vec<_> = labelled.iter().map(|spec| spec.task.name).collect();
                Error::Config(format!(
                    "data set `{}` does not label `{task}`, only `{}`",
                    self.name,
                    known.join("`, `")
                ))
            })
        };
        tasks.iter().map(find).collect()
    }

    /// Opens the split to learn from.
    ///
    /// # Errors
    /// A data set that does not exist, is not laid out as it should be, or does not mean what [`labels`](Self::labels) says.
    pub fn open_train(&self, seed: u64) -> Result<Arc<dyn Dataset>> {
        self.open(seed, Split::Train)
    }

    /// Opens the split to be measured on.
    ///
    /// # Errors
    /// As [`open_train`](Self::open_train).
    pub fn open_val(&self, seed: u64) -> Result<Arc<dyn Dataset>> {
        self.open(seed, Split::Val)
    }

    fn open(&self, seed: u64, split: Split) -> Result<Arc<dyn Dataset>> {
        let tasks = self.tasks()?;
        let (name, samples) = match split {
            Split::Train => (&self.train_split, self.synthetic.train_samples),
            Split::Val => (&self.val_split, self.synthetic.val_samples),
        };
        if self.name == "synthetic" {
            let [height, width] = self.size;
            let config =
                SyntheticConfig { seed, domain: self.synthetic.domain, split, samples, height, width };
            return Ok(Arc::new(Synthetic::new(config, &tasks)?));
        }
        let Some(root) = &self.root else {
            let known = || dataset::list().iter().map(|known| known.name.as_str());
            let nearest = if known().any(|name| name == self.name) {
                String::new()
            } else {
                did_you_mean(&self.name, known().chain(["folder"]))
            };
            return Err(Error::Config(format!(
                "data set `{}` is read from a folder: give `--root FOLDER` or `data.root`{nearest}",
                self.name
            )));
        };
        let set = dataset::open(&self.name, root, name, &tasks)?;
        self.check(&*set, root)?;
        self.cached(Arc::from(set), name)
    }

    /// The data set, or its samples as `cache` keeps them; they are made there if they are not, or of other files.
    fn cached(&self, set: Arc<dyn Dataset>, split: &str) -> Result<Arc<dyn Dataset>> {
        let (Some(folder), Some(fingerprint)) = (&self.cache, set.fingerprint()) else {
            return Ok(set);
        };
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::file(folder, format!("cannot make the folder of `data.cache`: {e}")))?;
        let path = folder.join(format!("{}-{}.samples", set.name(), split.replace('/', "-")));
        Ok(Arc::new(CachedDataset::open(set, path, &fingerprint, |_, _| {})?))
    }

    /// Refuses a data set whose labels mean something else than the model was made for.
    fn check(&self, set: &dyn Dataset, root: &Path) -> Result<()> {
        if self.labels.is_empty() {
            return Ok(());
        }
        let differences: Vec<String> =
            self.specs()?.iter().zip(set.tasks()).flat_map(|(ours, data)| ours.differences(data)).collect();
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::file(
            root,
            format!(
                "the labels of data set `{}` are not those that the model was made for: {}. Evaluate and resume with the \
                 data it was trained on (`--root`), or begin a new run on these with `finetune --from`",
                self.name,
                differences.join("; ")
            ),
        ))
    }

    /// Looks at labels of some samples of both splits, as [`look`](tadformer_data::check::look) does, and gives what
    /// looks odd: classes without pixels, tasks that cannot be scored.
    ///
    /// # Errors
    /// A task of which no pixel is labelled in the samples to learn from, and labels that cannot be read.
    pub fn look_at_labels(&self) -> Result<Vec<String>> {
        let Some(root) = self.root.as_ref().filter(|_| self.name != "synthetic") else {
            return Ok(Vec::new());
        };
        let (descriptor, tasks) = (dataset::descriptor(&self.name, root)?, self.tasks()?);
        let train = look(&descriptor, root, &self.train_split, &tasks)?;
        if !train.unlabelled.is_empty() {
            let tasks: Vec<String> = train
                .unlabelled
                .iter()
                .map(|(task, why)| format!("task `{task}` has nothing to learn from: {why}"))
                .collect();
            return Err(Error::Config(format!(
                "{}. `data check` reads every file; a task is left out with `--tasks`",
                tasks.join(". ")
            )));
        }
        let val = look(&descriptor, root, &self.val_split, &tasks)?;
        let classes = train.empty_classes.into_iter().map(|(task, why)| format!("`{task}`: {why}"));
        let scores =
            val.unlabelled.into_iter().map(|(task, why)| format!("`{task}` cannot be scored: {why}"));
        let pictures = train.remarks.into_iter().map(|remark| format!("of those looked at, {remark}"));
        Ok(classes.chain(scores).chain(pictures).collect())
    }

    /// The random changes of training samples.
    pub fn train_augmentation(&self) -> Augmentation {
        self.augmentation.clone().unwrap_or_else(|| match self.name.as_str() {
            "nyud" => Augmentation::nyud(),
            "synthetic" => Augmentation { flip: 0.5, ..Augmentation::none() },
            _ => Augmentation::pascal_context(),
        })
    }

    /// Every value that is out of range.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self
            .tasks
            .iter()
            .filter(|name| Task::from_name(name).is_none())
            .map(|name| unknown_task(name))
            .collect();
        if self.tasks.is_empty() {
            problems
                .push(format!("`data.tasks` is empty, expected some of `{}`", Task::names().join("`, `")));
        }
        if let Some((i, name)) =
            self.tasks.iter().enumerate().find(|(i, name)| self.tasks[..*i].contains(name))
        {
            problems.push(format!("`data.tasks[{i}]` names `{name}` a second time"));
        }
        out_of_range(
            &mut problems,
            &[
                ("data.size[0]", self.size[0] as f64, 16.0..=8192.0),
                ("data.size[1]", self.size[1] as f64, 16.0..=8192.0),
                ("data.workers", self.workers as f64, 0.0..=256.0),
                ("data.synthetic.train_samples", self.synthetic.train_samples as f64, 1.0..=1e9),
                ("data.synthetic.val_samples", self.synthetic.val_samples as f64, 1.0..=1e9),
            ],
        );
        if self.cache.is_some() && self.name == "synthetic" {
            problems.push(
                "`data.cache` is for data sets in folders; scenes of `synthetic` are made in memory, leave it out".to_owned(),
            );
        }
        if let Some(Err(error)) = self.augmentation.as_ref().map(Augmentation::validate) {
            problems.push(format!("in `data`, {error}"));
        }
        problems
    }
}

fn unknown_task(name: &str) -> String {
    let known = Task::names();
    let nearest = did_you_mean(name, known.iter().copied());
    format!("`data.tasks` names `{name}`, expected some of `{}`{nearest}", known.join("`, `"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tadformer_data::Sample;

    /// A set of two pictures with depth, and a folder for its cache.
    fn rooms() -> (tempfile::TempDir, DataConfig) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join("rooms").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let text = "name = \"rooms\"\ntitle = \"rooms\"\n[image]\nfiles = [\"photos/{id}.npy\"]\n[splits]\n\
                    train = { list = \"train.txt\" }\n[[tasks]]\ntask = \"depth\"\n[[tasks.sources]]\n\
                    file = \"depth/{id}.npy\"\nencoding = { kind = \"metres\" }\n";
        write("dataset.toml", text.as_bytes());
        write("train.txt", b"a\nb\n");
        for (id, level) in [("a", 10), ("b", 20)] {
            write(&format!("photos/{id}.npy"), &npy(&[level; 6]));
            write(&format!("depth/{id}.npy"), &npy(&[1, 2, 3, 4, 5, level]));
        }
        let config = DataConfig {
            name: "folder".to_owned(),
            root: Some(folder.path().join("rooms")),
            tasks: vec!["depth".to_owned()],
            cache: Some(folder.path().join("cache")),
            ..DataConfig::default()
        };
        (folder, config)
    }

    /// A `.npy` of bytes, 2 × 3.
    fn npy(values: &[u8; 6]) -> Vec<u8> {
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        bytes
    }

    fn samples(config: &DataConfig) -> Vec<Sample> {
        let set = config.open_train(0).unwrap();
        (0..set.len()).map(|i| set.load(i).unwrap()).collect()
    }

    #[test]
    fn cached_samples_are_those_of_the_files() {
        let (folder, config) = rooms();
        let plain = DataConfig { cache: None, ..config.clone() };
        assert_eq!(samples(&config), samples(&plain));
        let file = folder.path().join("cache/rooms-train.samples");
        let built = fs::read(&file).unwrap();
        assert_eq!(samples(&config), samples(&plain));
        assert_eq!(fs::read(&file).unwrap(), built, "it is not built again");

        // A file of the set changes: the cache is of other data.
        let depth = folder.path().join("rooms/depth/b.npy");
        fs::write(&depth, [npy(&[9; 6]).as_slice()].concat()).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        fs::File::options().write(true).open(&depth).unwrap().set_modified(later).unwrap();
        assert_eq!(samples(&config)[1].labels[0].1.data, [9.0; 6]);
        assert_eq!(samples(&config), samples(&plain));

        // So it is if the descriptor reads the same files in another way.
        let text = folder.path().join("rooms/dataset.toml");
        let changed = fs::read_to_string(&text).unwrap().replace("\"metres\"", "\"metres\", scale = 0.5");
        fs::write(&text, changed).unwrap();
        assert_eq!(samples(&config)[1].labels[0].1.data, [4.5; 6]);

        // Damage is noticed.
        let mut damaged = fs::read(&file).unwrap();
        damaged[20] ^= 1;
        fs::write(&file, damaged).unwrap();
        assert_eq!(samples(&config), samples(&plain));
        assert!(!file.exists(), "the next to open it builds it again");
        assert_eq!(samples(&config), samples(&plain));
        assert!(file.exists());
    }

    #[test]
    fn the_synthetic_set_has_no_cache() {
        let config = DataConfig { cache: Some("cache".into()), ..DataConfig::default() };
        assert!(config.problems().iter().any(|problem| problem.contains("`data.cache`")));
    }
}
