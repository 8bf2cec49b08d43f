//! Labels against geometry, over many scenes.

use super::*;
use crate::Raster;

fn data(seed: u64, domain: Domain, split: Split, height: usize, width: usize) -> Synthetic {
    let tasks: Vec<Task> = Task::all().filter(|task| spec(domain, *task).is_ok()).collect();
    let config = SyntheticConfig { seed, domain, split, samples: 1000, height, width };
    Synthetic::new(config, &tasks).expect("a valid configuration")
}

fn label<'a>(sample: &'a Sample, task: &str) -> &'a Raster {
    sample.label(Task::from_name(task).expect("a task")).expect("a label")
}

#[test]
fn a_sample_is_a_pure_function_of_seed_split_index_and_size() {
    let train = data(7, Domain::Main, Split::Train, 40, 56);
    let sample = train.load(5).expect("a sample");
    assert_eq!(sample, data(7, Domain::Main, Split::Train, 40, 56).load(5).expect("a sample"));
    for other in [
        data(8, Domain::Main, Split::Train, 40, 56).load(5),
        data(7, Domain::Main, Split::Val, 40, 56).load(5),
        train.load(6),
    ] {
        assert_ne!(sample.image, other.expect("a sample").image);
    }
}
