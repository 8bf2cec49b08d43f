//! One frozen backbone for any number of adapters.

use crate::config::{ModelConfig, WeightsSource};
use crate::params::plain_outline;
use crate::pretrained::{self, Origin, Pretrained};
use crate::{Config, Error, Result};
use blake3::{Hash, Hasher};
use candle_core::{CpuStorage, Storage, Tensor};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::OnceLock;
use tadformer_backbone::SwinConfig;
use tadformer_ops::ParamStore;
use tadformer_weights::StateDict;

/// The weights of a plain Swin Transformer, read once. Every model [made on it](crate::Predictor::on) uses the same
/// memory for what its method leaves frozen.
///
/// Candle's tensors own their memory, so a mapped file's pages are copied once, in parallel, and let go.
#[derive(Debug)]
pub struct SharedBackbone {
    sizes: SwinConfig,
    tensors: HashMap<String, Tensor>,
    weights: WeightsSource,
    digests: OnceLock<BTreeMap<String, Hash>>,
}

impl SharedBackbone {
    /// The backbone that a configuration names: `model.weights`, or weights drawn from its seed where that is `none`.
    ///
    /// # Errors
    /// A file that is missing, damaged, no Swin Transformer, or of other sizes than `model.backbone`.
    pub fn open(config: &Config) -> Result<Self> {
        Self::load(config, |path| Ok(StateDict::read(path)?))
    }

    /// As [`open`](Self::open), but the file is mapped into memory while its tensors are taken out, which saves a copy
    /// of it.
    ///
    /// # Safety
    /// Nobody writes to the file or truncates it during the call. Files that are only ever replaced by renaming keep that
    /// promise: those of the Hugging Face cache, and those this program writes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub unsafe fn map(config: &Config) -> Result<Self> {
        // SAFETY: the caller's promise is the same; nothing of the mapping outlives the call.
        Self::load(config, |path| Ok(unsafe { StateDict::map(path) }?))
    }

    fn load(config: &Config, read: impl FnOnce(&Path) -> Result<StateDict>) -> Result<Self> {
        let sizes = config.model.swin();
        let weights = config.model.weights.clone();
        let tensors = match pretrained::open(&weights, read)? {
            Some((path, file)) => {
                let resize = config.model.position_bias_resize;
                Pretrained::of(&path, &file, resize, &plain_outline(&sizes)?)?.values
            }
            None => drawn(config.seed, &sizes)?,
        };
        Ok(Self { sizes, tensors, weights, digests: OnceLock::new() })
    }

    /// The tensor of that full name, `backbone.…`.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The file under it, with its checksum; none if it was drawn.
    ///
    /// # Errors
    /// A file that is gone since.
    pub fn origin(&self) -> Result<Option<Origin>> {
        Origin::of(&self.weights)
    }

    /// Bytes of all its tensors.
    pub fn bytes(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum()
    }

    pub(crate) fn tensors(&self) -> &HashMap<String, Tensor> {
        &self.tensors
    }

    /// Refuses a model of other sizes.
    pub(crate) fn check(&self, model: &ModelConfig) -> Result<()> {
        let wanted = model.swin();
        // How a network is run is the model's own business, as long as its tensors are these.
        let SwinConfig { drop_path_rate, window_padding, .. } = self.sizes;
        let same_windows = (0..4).all(|stage| wanted.stage_window(stage) == self.sizes.stage_window(stage));
        if same_windows && (SwinConfig { drop_path_rate, window_padding, ..wanted.clone() }) == self.sizes {
            return Ok(());
        }
        Err(Error::Config(format!("the shared backbone is {:?}, and the model needs {wanted:?}", self.sizes)))
    }

    /// A checksum of the values of the tensors `names`, whatever file they came from; nothing if one is not among them.
    pub(crate) fn fingerprint<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let digests = self.digests.get_or_init(|| {
            self.tensors.par_iter().map(|(name, tensor)| (name.clone(), digest(tensor))).collect()
        });
        combined(names.into_iter().map(|name| Some((name, *digests.get(name)?))))
    }
}

/// The same checksum, of tensors that need not be a backbone's.
pub(crate) fn fingerprint<'a>(tensors: &[(&'a str, &'a Tensor)]) -> String {
    let digests: Vec<_> = tensors.par_iter().map(|(name, tensor)| Some((*name, digest(tensor)))).collect();
    combined(digests.into_iter()).expect("every tensor has a digest")
}

/// BLAKE3 over names and digests in the order of the names, in hexadecimal.
fn combined<'a>(digests: impl Iterator<Item = Option<(&'a str, Hash)>>) -> Option<String> {
    let digests: BTreeMap<&str, Hash> = digests.collect::<Option<_>>()?;
    let mut hash = Hasher::new();
    for (name, digest) in digests {
        hash.update(name.as_bytes());
        hash.update(&[0]);
        hash.update(digest.as_bytes());
    }
    Some(hash.finalize().to_hex().to_string())
}

/// BLAKE3 of a tensor's numbers, row-major and little-endian. Weights are `f32` in main memory, and contiguous.
fn digest(tensor: &Tensor) -> Hash {
    let mut hash = Hasher::new();
    let (storage, layout) = tensor.storage_and_layout();
    if let (Storage::Cpu(CpuStorage::F32(values)), Some((start, stop))) =
        (&*storage, layout.contiguous_offsets())
    {
        let values = &values[start..stop];
        if cfg!(target_endian = "little") {
            // SAFETY: numbers are initialised bytes, and bytes lie anywhere.
            let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) };
            hash.update(bytes);
        } else {
            for value in values {
                hash.update(&value.to_le_bytes());
            }
        }
    }
    hash.finalize()
}

/// What a model of `seed` without pretrained weights would draw.
fn drawn(seed: u64, sizes: &SwinConfig) -> Result<HashMap<String, Tensor>> {
    let store = ParamStore::new(seed);
    let params = store.params().pp("backbone").frozen_scope();
    tadformer_backbone::Swin::new(sizes, &tadformer_backbone::Tuning::Full, &params)?;
    Ok(store.entries().into_iter().map(|entry| (entry.name, entry.tensor)).collect())
}
