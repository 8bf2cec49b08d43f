//! Files that were cut off or changed on the way: refused, or read as they were; never a panic.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tadformer_weights::{Checkpoint, PickleValue, StateDict, Tensor};

fn file(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

const FILES: [&str; 6] = [
    "protocol2.pth",
    "protocol4.pth",
    "protocol5.pth",
    "deflated.pth",
    "legacy.pth",
    "position_bias_resize.safetensors",
];

fn read(bytes: Vec<u8>) -> tadformer_weights::Result<StateDict> {
    StateDict::from_bytes(Path::new("damaged"), bytes)
}

fn contents(dict: &StateDict) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    dict.iter().map(|t| (t.name().to_owned(), t.shape().to_vec(), t.bytes().to_vec())).collect()
}

/// Visits every value and tensor, as somebody who imports the file would.
fn walk(checkpoint: &Checkpoint, value: PickleValue<'_>, depth: usize) -> usize {
    let tensor = checkpoint.tensor("x", value).map_or(0, |tensor: Tensor| tensor.to_f32().len());
    let _ = (value.as_f64(), value.as_i64(), value.as_bytes().map(|b| b.len()), value.kind());
    if depth == 0 {
        return tensor;
    }
    let pairs = value
        .items()
        .map(|(key, value)| walk(checkpoint, key, depth - 1) + walk(checkpoint, value, depth - 1));
    let members = value.members().map(|member| walk(checkpoint, member, depth - 1));
    tensor + pairs.sum::<usize>() + members.sum::<usize>()
}

#[test]
fn every_truncation_is_refused() {
    for name in FILES {
        let whole = file(name);
        for length in 0..whole.len() {
            // Long files at each 1/64 and at their ends.
            if whole.len() > 8192 && length % (whole.len() / 64) != 0 && length + 32 < whole.len() {
                continue;
            }
            let message = read(whole[..length].to_vec()).unwrap_err().to_string();
            assert!(
                message.starts_with("cannot read weights from `damaged`: "),
                "{name} cut to {length} of {} bytes: {message}",
                whole.len()
            );
        }
        read(whole).unwrap();
    }
}

#[test]
fn each_changed_byte_of_a_storage_is_noticed_in_an_archive() {
    let whole = file("protocol2.pth");
    let good = contents(&read(whole.clone()).unwrap());
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        // Names of entries that no tensor uses may change without harm; numbers may not.
        if let Ok(dict) = read(bytes) {
            assert_eq!(contents(&dict), good, "byte {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bits_never_panic(which in 0..FILES.len(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..8)) {
        let mut bytes = file(FILES[which]);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Ok(dict) = read(bytes) {
            let numbers: usize = dict.iter().map(|tensor| tensor.to_f32().len()).sum();
            prop_assert!(numbers < 1 << 20);
            if let Some(checkpoint) = dict.checkpoint() {
                walk(checkpoint, checkpoint.root(), 8);
            }
        }
    }

    #[test]
    fn changed_pickles_under_a_right_checksum_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        // The legacy container has no checksums: its pickles are reached with any change.
        let mut bytes = file("legacy.pth");
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(dict) = read(bytes) {
            let checkpoint = dict.checkpoint().expect("it is a PyTorch file");
            walk(checkpoint, checkpoint.root(), 8);
        }
    }

    #[test]
    fn noise_after_a_known_beginning_never_panics(start in 0..4usize, noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let starts: [&[u8]; 4] = [b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", b"\x08\0\0\0\0\0\0\0{", b""];
        let mut bytes = starts[start].to_vec();
        bytes.extend(noise);
        let message = read(bytes).unwrap_err().to_string();
        prop_assert!(message.starts_with("cannot read weights from `damaged`: "), "{}", message);
    }

    #[test]
    fn written_files_read_back(values in prop::collection::vec(any::<f32>(), 0..50), name in "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut dict = StateDict::new();
        dict.insert(Tensor::from_f32(name.clone(), vec![values.len()], &values).unwrap()).unwrap();
        dict.metadata_mut().insert("format".into(), "pt".into());
        dict.write_safetensors(&path).unwrap();
        let again = StateDict::read(&path).unwrap();
        prop_assert_eq!(contents(&again), contents(&dict));
        prop_assert_eq!(again.metadata(), dict.metadata());
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
