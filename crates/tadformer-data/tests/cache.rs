//! The cache of decoded samples as a trainer uses it.

mod made;

use std::path::Path;
use std::sync::Arc;

use made::{Fault, Made};
use tadformer_data::{CachedDataset, Dataset, Result, Sample, Task};

/// Bytes of the mark with which a cache begins.
const MARK: usize = 8;

fn made(len: usize, salt: f32) -> Made {
    Made { salt, ..Made::new(&Task::names(), len) }
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
    let made = Arc::new(made(70, 0.0));
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
    assert_eq!((again.name(), again.len(), again.id(69)), ("made", 70, "0069".to_owned()));
    assert_eq!(again.tasks(), made.tasks());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn another_fingerprint_task_list_or_split_builds_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.cache");
    open(&Arc::new(made(5, 0.0)), &path, "v1").unwrap();

    let changed = Arc::new(made(5, 0.5));
    assert_eq!(all(&open(&changed, &path, "v2").unwrap()), all(changed.as_ref()));

    let mut fewer = made(5, 0.5);
    fewer.tasks.truncate(2);
    let fewer = Arc::new(fewer);
    assert_eq!(all(&open(&fewer, &path, "v2").unwrap()), all(fewer.as_ref()));

    let mut renamed = made(5, 0.5);
    renamed.ids[3] = "another".into();
    let renamed = Arc::new(renamed);
    assert_eq!(open(&renamed, &path, "v2").unwrap().load(3).unwrap().id, "another");

    let longer = Arc::new(made(6, 0.5));
    assert_eq!(open(&longer, &path, "v2").unwrap().len(), 6);
}

#[test]
fn a_cut_or_changed_file_is_noticed_and_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.cache");
    let made = Arc::new(made(3, 0.0));
    let expected = all(made.as_ref());
    open(&made, &path, "v1").unwrap();
    let whole = std::fs::read(&path).unwrap();
    for i in 0..64 {
        // Cut: the footer is missing, the cache is built again.
        std::fs::write(&path, &whole[..whole.len() * i / 64]).unwrap();
        assert_eq!(all(&open(&made, &path, "v1").unwrap()), expected);
        // One bit turned: noticed in the index, or in the sample when it is read.
        let mut changed = whole.clone();
        let at = MARK + (whole.len() - MARK) * i / 64;
        changed[at] ^= 1 << (i % 8);
        std::fs::write(&path, &changed).unwrap();
        let cached = open(&made, &path, "v1").unwrap();
        assert_eq!(all(&cached), expected, "bit {at}");
        // What was turned in a sample was noticed when it was read: the file is gone, or it is whole.
        assert!(std::fs::read(&path).map_or(true, |found| found == whole), "bit {at}");
    }
}

#[test]
fn a_sample_that_cannot_be_read_leaves_the_old_cache_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.cache");
    open(&Arc::new(made(4, 0.0)), &path, "v1").unwrap();
    let old = std::fs::read(&path).unwrap();
    let broken =
        Arc::new(Made { fault: |i| if i == 2 { Fault::Missing } else { Fault::None }, ..made(4, 0.0) });
    let message = open(&broken, &path, "v2").err().unwrap().to_string();
    assert!(message.contains("labels/0007.png"), "{message}");
    assert_eq!(std::fs::read(&path).unwrap(), old);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let message = open(&broken, &folder.path().join("none/made.cache"), "v2").err().unwrap().to_string();
    assert!(message.contains("write the cache") && message.contains("none"), "{message}");
}

#[test]
fn many_threads_read_one_cache() {
    let folder = tempfile::tempdir().unwrap();
    let made = Arc::new(made(40, 0.0));
    let cached = open(&made, &folder.path().join("made.cache"), "v1").unwrap();
    let expected = all(made.as_ref());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(all(&cached), expected));
        }
    });
}
