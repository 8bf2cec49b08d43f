//! A checksum over everything a file of ours says, kept in the file: what was changed on a disk or on the way is not used.

use rayon::prelude::*;
use tadformer_weights::{StateDict, Tensor};

/// What stands before the checksum in the sealed text; it is the last field of a JSON object.
const FIELD: &str = ",\"blake3\":\"";

/// Adds the checksum of `dict` to the JSON object that its metadata have under `key`, as the field `blake3`. It has no entry of
/// its own because the format's writer puts several into any order, and the same contents should make the same file.
///
/// # Panics
/// Metadata without a JSON object under `key`.
pub(crate) fn seal(dict: &mut StateDict, key: &str) {
    let checksum = checksum(dict);
    let text = dict.metadata_mut().get_mut(key).expect("what is sealed is there");
    assert_eq!(text.pop(), Some('}'), "a JSON object ends so");
    text.push_str(FIELD);
    text.push_str(&checksum);
    text.push_str("\"}");
}

/// Takes the checksum out of a dict that should be as [`seal`] left it; says what is wrong if it is not.
pub(crate) fn open_seal(dict: &mut StateDict, key: &str) -> Result<(), String> {
    let text = dict.metadata_mut().get_mut(key).ok_or_else(|| format!("its metadata has no `{key}`"))?;
    let sealed = text.strip_suffix("\"}").and_then(|text| text.rsplit_once(FIELD));
    let Some((open, expected)) = sealed.map(|(open, sum)| (format!("{open}}}"), sum.to_owned())) else {
        return Err(format!("its `{key}` has no checksum `blake3` at its end"));
    };
    *text = open;
    let found = checksum(dict);
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "its contents have the BLAKE3 checksum {found}, expected {expected}: it was changed after it was written"
    ))
}

/// BLAKE3 over names, types, shapes and bytes in the order of the names, and over the metadata.
fn checksum(dict: &StateDict) -> String {
    let mut tensors: Vec<&Tensor> = dict.iter().collect();
    tensors.sort_unstable_by_key(|tensor| tensor.name());
    let digests: Vec<blake3::Hash> = tensors.par_iter().map(|tensor| blake3::hash(tensor.bytes())).collect();
    let mut hash = blake3::Hasher::new();
    // Every text goes in behind its length, so that no two contents make the same stream.
    let mut text = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    for (tensor, digest) in tensors.iter().zip(digests) {
        text(tensor.name());
        text(&format!("{} {:?}", tensor.dtype(), tensor.shape()));
        text(&digest.to_hex());
    }
    for (key, value) in dict.metadata() {
        text(key);
        text(value);
    }
    hash.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut dict = StateDict::new();
        dict.insert(Tensor::from_f32("b", vec![2, 3], &[1.0, -2.0, 0.0, 4.0, 5.5, 6.0]).unwrap()).unwrap();
        dict.insert(Tensor::from_f32("a", vec![2], &[0.25, 3.0]).unwrap()).unwrap();
        dict.metadata_mut().insert("state".to_owned(), "{\"epoch\":1}".to_owned());
        seal(&mut dict, "state");
        dict.write_safetensors(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn what_was_written_is_read() {
        let (_folder, path) = sealed();
        let mut dict = StateDict::read(&path).unwrap();
        open_seal(&mut dict, "state").unwrap();
        assert_eq!(dict.metadata()["state"], "{\"epoch\":1}");
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed() {
        let (_folder, path) = sealed();
        let whole = std::fs::read(&path).unwrap();
        let accepted = |bytes: Vec<u8>| match StateDict::from_bytes(&path, bytes) {
            Ok(mut dict) => open_seal(&mut dict, "state").is_ok(),
            Err(_) => false,
        };
        assert!(accepted(whole.clone()));
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!accepted(bytes), "bit {bit} of {}", 8 * whole.len());
        }
        for length in 0..whole.len() {
            assert!(!accepted(whole[..length].to_vec()), "{length} of {}", whole.len());
        }
    }
}
