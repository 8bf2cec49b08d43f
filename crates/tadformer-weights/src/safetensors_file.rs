//! Safetensors in and out; the header is parsed and checked by the format's own crate.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use tadformer_files::Durability;

use crate::bytes::Bytes;
use crate::dtype::Dtype;
use crate::error::{Error, Parse, Refusal, Result, refuse};
use crate::state_dict::{StateDict, Tensor};

/// Tensors of a safetensors file as ranges of its bytes, in the order of their data.
pub(crate) fn read(bytes: &Bytes) -> Parse<StateDict> {
    let Some(declared) = bytes.first_chunk().map(|b| u64::from_le_bytes(*b)) else {
        return refuse(format!("it has {} bytes; the download or copy was cut off", bytes.len()));
    };
    if bytes.get(8) != Some(&b'{') {
        return refuse(format!(
            "{}; .safetensors, and .pth, .pt or .bin of `torch.save` are read",
            guess(bytes)
        ));
    }
    if declared > bytes.len() as u64 - 8 {
        return refuse(format!(
            "its header claims {declared} bytes in a file of {}; the download or copy was cut off",
            bytes.len()
        ));
    }
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| match e {
        safetensors::SafeTensorError::MetadataIncompleteBuffer => Refusal(format!(
            "its header describes other than the {} bytes of tensors that are there; the download or copy was cut off",
            bytes.len() as u64 - 8 - declared
        )),
        e => Refusal(format!("it is neither a PyTorch file nor a whole safetensors file: {e}")),
    })?;
    let start = header + 8;
    let mut dict = StateDict::new();
    for name in metadata.offset_keys() {
        let info = metadata.info(&name).expect("the name comes from the same header");
        let Some(dtype) = Dtype::from_safetensors(info.dtype) else {
            return refuse(format!(
                "the tensor `{name}` has the element type {:?}, which is not read",
                info.dtype
            ));
        };
        let (from, to) = info.data_offsets;
        let Some(data) = bytes.slice(start + from..start + to) else {
            return refuse(format!("the tensor `{name}` lies outside of the file"));
        };
        let tensor =
            Tensor::new(name, dtype, info.shape.clone(), data).map_err(|e| Refusal(e.to_string()))?;
        dict.insert(tensor).map_err(|e| Refusal(e.to_string()))?;
    }
    if let Some(texts) = metadata.metadata() {
        dict.metadata_mut().extend(texts.iter().map(|(key, text)| (key.clone(), text.clone())));
    }
    Ok(dict)
}

/// Serialises beside `path`, then renames.
pub(crate) fn write(dict: &StateDict, path: &Path) -> Result<()> {
    let texts: HashMap<String, String> =
        dict.metadata().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let texts = (!texts.is_empty()).then_some(texts);
    let views = dict.iter().map(|tensor| (tensor.name(), View(tensor)));
    let bytes = safetensors::serialize(views, texts)
        .map_err(|e| Error::io("serialise tensors for", path, std::io::Error::other(e)))?;
    tadformer_files::write(path, &bytes, Durability::Synced).map_err(|e| Error::io("write", path, e))
}

struct View<'a>(&'a Tensor);

impl safetensors::View for View<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        self.0.dtype().to_safetensors()
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.bytes())
    }

    fn data_len(&self) -> usize {
        self.0.bytes().len()
    }
}

/// What a file that is no weight file seems to be.
fn guess(bytes: &[u8]) -> &'static str {
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"<") {
        "it is an HTML or XML page, not weights (a login or error page that was saved as a file?)"
    } else if text.starts_with(b"version https://git-lfs") {
        "it is a Git LFS pointer, not the weights it points to (fetch them with `git lfs pull`)"
    } else if bytes.starts_with(b"\x89HDF") {
        "it is an HDF5 file"
    } else if bytes.starts_with(b"\x1f\x8b") {
        "it is gzip-compressed: unpack it first"
    } else if bytes.get(257..262) == Some(b"ustar") {
        "it is a tar archive (the oldest format of PyTorch, or a data set)"
    } else if bytes.starts_with(b"\x80") {
        "it is a bare pickle"
    } else {
        "it is of no known weight format"
    }
}
