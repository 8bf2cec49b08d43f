//! How many numbers a model has, and which of them train.

use crate::MultiTaskModel;
use crate::config::ModelConfig;
use candle_core::{DType, Device, Result, Shape, Tensor};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tadformer_backbone::{Swin, SwinConfig, Tuning};
use tadformer_data::TaskSpec;
use tadformer_ops::{Entry, Init, Params, Role, Source};

/// The groups in which parameters are counted, in the order in which they are listed.
pub const GROUPS: [&str; 11] = [
    "prompts",
    "patch_embed_proj",
    "norms",
    "rel_pos_bias",
    "lora_A",
    "lora_B",
    "prompt_layernorm",
    "dtf",
    "downsamplers",
    "decoders",
    "weights",
];

/// Parameter counts; buffers (running statistics) are not parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParameterCount {
    /// Numbers that train.
    pub trainable: usize,
    /// All numbers.
    pub total: usize,
    /// Trainable numbers by group.
    pub groups: BTreeMap<&'static str, usize>,
}

impl ParameterCount {
    /// Counts the tensors of a model.
    pub fn of(entries: &[Entry]) -> Self {
        let mut count = Self { trainable: 0, total: 0, groups: BTreeMap::new() };
        for entry in entries {
            let numbers = entry.tensor.elem_count();
            match entry.role {
                Role::Buffer => continue,
                Role::Frozen => {}
                Role::Trainable => {
                    count.trainable += numbers;
                    *count.groups.entry(group(&entry.name)).or_default() += numbers;
                }
            }
            count.total += numbers;
        }
        count
    }
}

impl ParameterCount {
    /// Counts the tensors that a model would have, without drawing their values.
    ///
    /// # Errors
    /// A configuration that does not fit.
    pub fn of_model(config: &ModelConfig, tasks: &[TaskSpec]) -> Result<Self> {
        Ok(Self::of(&outline(config, tasks)?))
    }
}

/// The tensors that a model would have: names, shapes and roles.
///
/// # Errors
/// A configuration that does not fit.
pub(crate) fn outline(config: &ModelConfig, tasks: &[TaskSpec]) -> Result<Vec<Entry>> {
    let outline = Arc::new(Outline::default());
    MultiTaskModel::new(config, tasks, &Params::new(Arc::clone(&outline) as Arc<dyn Source>))?;
    Ok(std::mem::take(&mut *outline.0.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The tensors of a plain backbone. Every weight is asked for as trainable, so nothing is laid out in memory.
///
/// # Errors
/// Sizes that do not fit.
pub(crate) fn plain_outline(sizes: &SwinConfig) -> Result<Vec<Entry>> {
    let outline = Arc::new(Outline::default());
    let params = Params::new(Arc::clone(&outline) as Arc<dyn Source>).pp("backbone");
    Swin::new(sizes, &Tuning::Full, &params)?;
    Ok(std::mem::take(&mut *outline.0.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// A source of tensors that have a shape and no values drawn for it.
#[derive(Default)]
struct Outline(Mutex<Vec<Entry>>);

impl Source for Outline {
    fn get(&self, name: &str, shape: &Shape, _: Init, role: Role) -> Result<Tensor> {
        let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu)?.broadcast_as(shape.clone())?;
        let entry = Entry { name: name.to_owned(), role, tensor: tensor.clone(), loaded: false };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(tensor)
    }
}

/// The group that a tensor is counted in.
pub(crate) fn group(name: &str) -> &'static str {
    let last = name.rsplit('.').next().unwrap_or(name);
    let backbone = name.starts_with("backbone.");
    match last {
        _ if name.starts_with("downsampler.") => "downsamplers",
        _ if !backbone => "decoders",
        "task_prompts" | "prompt_gate" => "prompts",
        "relative_position_bias_table" => "rel_pos_bias",
        "lora_shared_A" => "lora_A",
        "lora_shared_B" => "lora_B",
        _ if name.contains("task_prompts_up") => "prompts",
        _ if name.contains("prompt_layernorm") => "prompt_layernorm",
        _ if name.contains("lora_filter") => "dtf",
        _ if name.contains("patch_embed.proj") => "patch_embed_proj",
        _ if name.contains("norm") => "norms",
        _ => "weights",
    }
}
