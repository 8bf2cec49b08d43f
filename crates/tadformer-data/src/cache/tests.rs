use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{IGNORE, Raster, Task};

/// Samples made from their index and a salt; counts how often one is made.
struct Made {
    tasks: Vec<TaskSpec>,
    ids: Vec<String>,
    salt: f32,
    broken: Option<usize>,
    loads: AtomicUsize,
}

impl Made {
    fn new(len: usize, salt: f32) -> Self {
        let spec = |task| TaskSpec { task, outputs: 4, classes: Vec::new(), palette: Vec::new() };
        let ids = (0..len).map(|i| format!("made-{i}")).collect();
        Self { tasks: Task::all().map(spec).collect(), ids, salt, broken: None, loads: AtomicUsize::new(0) }
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::Relaxed)
    }
}

impl Dataset for Made {
    fn name(&self) -> &str {
        "made"
    }

    fn tasks(&self) -> &[TaskSpec] {
        &self.tasks
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn id(&self, index: usize) -> String {
        self.ids[index].clone()
    }

    fn load(&self, index: usize) -> Result<Sample> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        if self.broken == Some(index) {
            return Err(Error::decode("made.png", "PNG", "it is cut off"));
        }
        let (height, width) = (6 + index % 3, 5);
        let raster = |channels: usize, step: f32| {
            let data = (0..channels * height * width)
                .map(|i| if i % 11 == 3 { IGNORE } else { (i % 200) as f32 * step });
            Raster { channels, height, width, data: data.collect() }
        };
        // Every other sample lacks the labels of every other task.
        let labelled = |i: usize| index.is_multiple_of(2) || i.is_multiple_of(2);
        let labels = self.tasks.iter().enumerate().filter(|(i, _)| labelled(*i));
        let labels = labels.map(|(i, spec)| {
            let step = if i % 2 == 0 { 1.0 } else { 0.01 + self.salt };
            (spec.task, raster(spec.task.label_channels(), step))
        });
        Ok(Sample { id: self.id(index), image: raster(3, 1.0), labels: labels.collect() })
    }
}

fn open(dataset: &Arc<Made>, path: &Path, fingerprint: &str) -> Result<CachedDataset> {
    CachedDataset::open(Arc::clone(dataset) as _, path, fingerprint, |_, _| {})
}

fn all(dataset: &dyn Dataset) -> Vec<Sample> {
    (0..dataset.len()).map(|i| dataset.load(i).unwrap()).collect()
}

#[test]
fn a_cache_is_built_once_and_gives_the_same_samples() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.cache");
    let made = Arc::new(Made::new(70, 0.0));
    let expected = all(made.as_ref());
    let before = made.loads();
    let mut seen = Vec::new();
    let cached =
        CachedDataset::open(Arc::clone(&made) as _, &path, "v1", |done, all| seen.push((done, all))).unwrap();
    assert_eq!(seen, [(32, 70), (64, 70), (70, 70)]);
    assert_eq!(made.loads(), before + 70);
    assert_eq!(all(&cached), expected);
    let again = open(&made, &path, "v1").unwrap();
    assert_eq!(all(&again), expected);
    assert_eq!(made.loads(), before + 70);
    assert_eq!((again.name(), again.len(), again.id(69)), ("made", 70, "made-69".to_owned()));
    assert_eq!(again.tasks(), made.tasks());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn another_fingerprint_task_list_or_split_builds_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.cache");
    open(&Arc::new(Made::new(5, 0.0)), &path, "v1").unwrap();

    let changed = Arc::new(Made::new(5, 0.5));
    assert_eq!(all(&open(&changed, &path, "v2").unwrap()), all(changed.as_ref()));

    let mut fewer = Made::new(5, 0.5);
    fewer.tasks.truncate(2);
    let fewer = Arc::new(fewer);
    assert_eq!(all(&open(&fewer, &path, "v2").unwrap()), all(fewer.as_ref()));

    let mut renamed = Made::new(5, 0.5);
    renamed.ids[3] = "another".into();
    let renamed = Arc::new(renamed);
    assert_eq!(open(&renamed, &path, "v2").unwrap().load(3).unwrap().id, "another");

    let longer = Arc::new(Made::new(6, 0.5));
    assert_eq!(open(&longer, &path, "v2").unwrap().len(), 6);
}

#[test]
fn a_cut_or_changed_file_is_built_again_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.cache");
    let made = Arc::new(Made::new(3, 0.0));
    let expected = all(made.as_ref());
    open(&made, &path, "v1").unwrap();
    let whole = std::fs::read(&path).unwrap();
    for i in 0..64 {
        // Cut: the footer is missing, the cache is built again.
        std::fs::write(&path, &whole[..whole.len() * i / 64]).unwrap();
        assert_eq!(all(&open(&made, &path, "v1").unwrap()), expected);
        // One bit turned: noticed in the index, or in the sample when it is read.
        let mut changed = whole.clone();
        let at = MARK.len() + (whole.len() - MARK.len()) * i / 64;
        changed[at] ^= 1 << (i % 8);
        std::fs::write(&path, &changed).unwrap();
        let cached = open(&made, &path, "v1").unwrap();
        for (i, expected) in expected.iter().enumerate() {
            match cached.load(i) {
                Ok(sample) => assert_eq!(sample, *expected, "bit {at}"),
                Err(error) => {
                    let message = error.to_string();
                    assert!(
                        message.contains("made.cache") && message.contains("remove the file"),
                        "{message}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_sample_that_cannot_be_read_leaves_the_old_cache_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.cache");
    open(&Arc::new(Made::new(4, 0.0)), &path, "v1").unwrap();
    let old = std::fs::read(&path).unwrap();
    let broken = Arc::new(Made { broken: Some(2), ..Made::new(4, 0.0) });
    let message = open(&broken, &path, "v2").err().unwrap().to_string();
    assert!(message.contains("made.png"), "{message}");
    assert_eq!(std::fs::read(&path).unwrap(), old);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let message = open(&broken, &folder.path().join("none/made.cache"), "v2").err().unwrap().to_string();
    assert!(message.contains("write the cache") && message.contains("none"), "{message}");
}

#[test]
fn many_threads_read_one_cache() {
    let folder = tempfile::tempdir().unwrap();
    let made = Arc::new(Made::new(40, 0.0));
    let cached = open(&made, &folder.path().join("made.cache"), "v1").unwrap();
    let expected = all(made.as_ref());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(all(&cached), expected));
        }
    });
}
