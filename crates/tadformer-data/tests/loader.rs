//! The loader as a trainer uses it.

mod made;

use std::sync::Arc;
use std::time::Duration;

use made::{Fault, Made};
use tadformer_data::{Augmentation, Batch, IGNORE, Loader, Pipeline, Result, Sampling};

/// The tasks of every data set here.
const TASKS: [&str; 3] = ["semseg", "normals", "depth"];

type When = fn(usize) -> Fault;

fn made(len: usize) -> Made {
    Made::new(&TASKS, len)
}

fn sampling(batch_size: usize) -> Sampling {
    Sampling { batch_size, shuffle: true, drop_last: false, seed: 5 }
}

fn training() -> Pipeline {
    Pipeline::training(Augmentation::pascal_context(), 12, 16)
}

fn loader(dataset: Made, batch_size: usize, workers: usize) -> Loader {
    Loader::new(Arc::new(dataset), training(), sampling(batch_size), workers).unwrap()
}

fn batches(loader: &Loader, epoch: u64, start: usize) -> Vec<Batch> {
    loader.epoch(epoch, start).collect::<Result<_>>().unwrap()
}

#[test]
fn every_number_of_workers_gives_the_same_batches() {
    let inline = loader(made(23), 4, 0);
    let expected: Vec<_> = (0..2).map(|epoch| batches(&inline, epoch, 0)).collect();
    assert_eq!(expected[0].len(), 6);
    assert_ne!(expected[0], expected[1]);
    for workers in [1, 2, 5, 16] {
        let threaded = loader(made(23), 4, workers);
        for (epoch, expected) in expected.iter().enumerate() {
            assert!(batches(&threaded, epoch as u64, 0) == *expected, "{workers} workers, epoch {epoch}");
        }
    }
}

#[test]
fn a_resume_in_the_middle_of_an_epoch_goes_on_as_if_never_stopped() {
    for workers in [0, 3] {
        let whole = batches(&loader(made(23), 4, workers), 2, 0);
        for start in 0..=whole.len() + 1 {
            let resumed = batches(&loader(made(23), 4, workers), 2, start);
            assert!(resumed == whole[start.min(whole.len())..], "{workers} workers from batch {start}");
        }
    }
}

#[test]
fn batches_have_the_documented_shapes_and_order() {
    let made = loader(made(9), 4, 2);
    let all = batches(&made, 0, 0);
    assert_eq!(all.iter().map(|batch| batch.ids.len()).collect::<Vec<_>>(), [4, 4, 1]);
    let ids: Vec<String> = all.iter().flat_map(|batch| batch.ids.clone()).collect();
    let order: Vec<String> = made.sampler().order(0).iter().map(|i| format!("{i:04}")).collect();
    assert_eq!(ids, order);
    for batch in &all {
        let b = batch.ids.len();
        let pixels = 12 * 16;
        assert_eq!((batch.height, batch.width), (12, 16));
        assert_eq!(batch.image.len(), b * 3 * pixels);
        let labels: Vec<_> = batch.labels.iter().map(|(task, map)| (task.name, map.len())).collect();
        assert_eq!(labels, [("semseg", b * pixels), ("normals", 3 * b * pixels), ("depth", b * pixels)]);
        let (_, depth) = &batch.labels[2];
        for (id, map) in batch.ids.iter().zip(depth.chunks_exact(pixels)) {
            let labelled = id.parse::<usize>().unwrap() % 2 == 0;
            assert_eq!(map.iter().any(|&v| v != IGNORE), labelled, "depth of `{id}`");
        }
    }
}

#[test]
fn an_error_names_its_sample_and_the_next_batches_follow() {
    for workers in [0, 1, 4] {
        let faults: [(When, [&str; 2]); 3] = [
            (|i| if i == 7 { Fault::Missing } else { Fault::None }, ["`0007`", "labels/0007.png"]),
            (|i| if i == 7 { Fault::Panic } else { Fault::None }, ["`0007`", "the reader is broken"]),
            (|i| if i == 7 { Fault::OddShape } else { Fault::None }, ["`0007`", "shape"]),
        ];
        for (fault, words) in faults {
            let dataset = Made { fault, ..made(20) };
            let sampling = Sampling { shuffle: false, ..sampling(4) };
            let loader = Loader::new(Arc::new(dataset), training(), sampling, workers).unwrap();
            let results: Vec<_> = loader.epoch(0, 0).collect();
            assert_eq!(results.len(), 5);
            for (i, result) in results.into_iter().enumerate() {
                match result {
                    Ok(batch) => assert_eq!(batch.ids[0], format!("{:04}", 4 * i)),
                    Err(error) => {
                        assert_eq!(i, 1, "{error}");
                        let text = format!("{error}: {:?}", std::error::Error::source(&error));
                        assert!(words.iter().all(|word| text.contains(word)), "{text}");
                    }
                }
            }
        }
    }
}

#[test]
fn dropping_an_epoch_stops_its_workers() {
    for taken in [0, 1, 3] {
        let dataset = Arc::new(Made { fault: |_| Fault::Slow, ..made(4000) });
        let loader = Loader::new(Arc::clone(&dataset) as _, training(), sampling(8), 3).unwrap();
        let mut epoch = loader.epoch(0, 0);
        for _ in 0..taken {
            epoch.next().unwrap().unwrap();
        }
        drop(epoch);
        let loads = dataset.loads();
        // What was taken, and at most two batches ahead of it.
        assert!(loads <= 8 * (taken + 2), "{loads} samples for {taken} batches");
        // The workers' clones of the data set are gone with them: this one and the loader's are left.
        assert_eq!(Arc::strong_count(&dataset), 2);
        assert_eq!(dataset.loads(), loads);
    }
}

#[test]
fn prefetch_is_bounded() {
    let dataset = Arc::new(made(1000));
    let loader = Loader::new(Arc::clone(&dataset) as _, training(), sampling(4), 2).unwrap();
    let mut epoch = loader.epoch(0, 0);
    epoch.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(dataset.loads() <= 3 * 4);
    assert_eq!(epoch.len(), 249);
}

#[test]
fn waiting_is_measured() {
    let dataset = Made { fault: |_| Fault::Slow, ..made(4) };
    let loader = loader(dataset, 2, 0);
    assert_eq!(loader.waited(), Duration::ZERO);
    batches(&loader, 0, 0);
    assert!(loader.waited() >= Duration::from_millis(80), "{:?}", loader.waited());
}

#[test]
fn what_can_never_train_is_refused_before_it_starts() {
    let refused = |len, sampling, pipeline| {
        let result = Loader::new(Arc::new(made(len)), pipeline, sampling, 1);
        result.err().expect("it should be refused").to_string()
    };
    let message = refused(0, sampling(2), training());
    assert!(message.contains("`made`") && message.contains("no samples"), "{message}");
    let message = refused(3, Sampling { drop_last: true, ..sampling(4) }, training());
    assert!(message.contains("`drop_last`") && message.contains("3 samples"), "{message}");
    let message = refused(3, sampling(2), Pipeline::evaluation(0, 4));
    assert!(message.contains("`size`"), "{message}");
}

#[test]
fn samples_of_different_sizes_do_not_make_a_batch() {
    let load = |batch_size| {
        let sampling = Sampling::sequential(batch_size);
        let loader = Loader::new(Arc::new(made(4)), Pipeline::none(), sampling, 1).unwrap();
        loader.epoch(0, 0).collect::<Result<Vec<_>>>()
    };
    assert_eq!(load(1).unwrap().len(), 4);
    let message = load(2).unwrap_err().to_string();
    assert!(message.contains("`0001`") && message.contains("`size`"), "{message}");
}
