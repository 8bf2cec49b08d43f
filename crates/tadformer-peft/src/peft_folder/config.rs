//! `adapter_config.json`: what it says about the updates, and what it may say that they are not.
//!
//! Keys and meanings as in PEFT 0.21.2, `peft/tuners/lora/config.py` and `layer.py`.

use crate::LoraConfig;
use regex::Regex;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

const LORA: &str = "LORA";

/// Ways to begin (`init_lora_weights`) that leave the base as it was: its weight and `s·BA` are the adapted weight.
const PLAIN_INITS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

/// Beginnings of those that take the update's first value out of the base's weight, so that the update alone means nothing.
const BASE_CHANGING_INITS: [&str; 5] = ["pissa", "olora", "corda", "lora_ga", "loftq"];

/// Keys without a meaning for what a written update computes: which layers were chosen (the tensors say that), how training
/// began and went, where the base is from.
const SILENT: [&str; 19] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "merge_weights",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",
];

/// Keys by which PEFT computes something else than `s·BA` beside each named layer, and what.
const FOREIGN: [(&str, &str); 16] = [
    ("alora_invocation_tokens", "updates that only some tokens get (aLoRA)"),
    ("arrow_config", "a router between adapters (Arrow)"),
    ("bias", "trained biases of the base"),
    ("ensure_weight_tying", "updates shared between layers"),
    ("fan_in_fan_out", "weights stored transposed"),
    ("kasa_config", "a base whose smallest singular values were cut off (KaSA)"),
    ("layer_replication", "layers used more than once"),
    ("lora_bias", "a bias behind the update"),
    ("megatron_config", "layers split over devices"),
    ("modules_to_save", "whole layers trained beside the updates"),
    ("monteclora_config", "sampled updates (Monteclora)"),
    ("target_parameters", "updates of parameters that are no linear layer"),
    ("trainable_token_indices", "trained rows of an embedding"),
    ("use_bdlora", "block-diagonal factors (BD-LoRA)"),
    ("use_dora", "a trained length of each row (DoRA)"),
    ("use_qalora", "inputs that are averaged in groups (QALoRA)"),
];

/// The keys that say what a LoRA computes; the others are looked at one by one.
#[derive(Debug, serde::Deserialize)]
pub(super) struct PeftConfig {
    #[serde(default)]
    peft_type: String,
    #[serde(default)]
    r: usize,
    #[serde(default)]
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(default)]
    rank_pattern: Option<InOrder<usize>>,
    #[serde(default)]
    alpha_pattern: Option<InOrder<f64>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// The sizes of updates, by the name of their layer.
#[derive(Debug)]
pub(super) struct Sizes {
    rank: usize,
    alpha: f64,
    dropout: f64,
    use_rslora: bool,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

impl PeftConfig {
    /// The sizes that it gives, or what these layers do not compute.
    pub(super) fn sizes(&self) -> Result<Sizes, String> {
        if self.peft_type != LORA {
            return Err(format!("`peft_type` is `{}`, expected `{LORA}`", self.peft_type));
        }
        if self.r == 0 || !self.lora_alpha.is_finite() || !(0.0..1.0).contains(&self.lora_dropout) {
            return Err(format!(
                "`r` is {}, `lora_alpha` {}, `lora_dropout` {}; expected a rank of at least 1, a finite factor and a \
                 probability below 1",
                self.r, self.lora_alpha, self.lora_dropout
            ));
        }
        self.check_init()?;
        for (key, value) in &self.others {
            check_other(key, value)?;
        }
        let ranks = compiled("rank_pattern", self.rank_pattern.as_ref())?;
        if ranks.iter().any(|(_, rank)| *rank == 0) {
            return Err("its `rank_pattern` has the rank 0, expected at least 1".to_owned());
        }
        Ok(Sizes {
            rank: self.r,
            alpha: self.lora_alpha,
            dropout: self.lora_dropout,
            use_rslora: self.use_rslora,
            ranks,
            alphas: compiled("alpha_pattern", self.alpha_pattern.as_ref())?,
        })
    }

    /// Refuses an update whose beginning was taken out of the base's weights.
    fn check_init(&self) -> Result<(), String> {
        let init = match &self.init_lora_weights {
            Value::Null | Value::Bool(_) => return Ok(()),
            Value::String(init) => init,
            other => {
                return Err(format!(
                    "its `init_lora_weights` is {other}, expected a name, `true` or `false`"
                ));
            }
        };
        let lower = init.to_lowercase();
        if PLAIN_INITS.contains(&lower.as_str()) {
            return Ok(());
        }
        if !BASE_CHANGING_INITS.iter().any(|changing| lower.starts_with(changing)) {
            return Err(format!(
                "its `init_lora_weights` is `{init}`, of which is not known whether it changed the base; `true`, `false`, \
                 `{}` are read",
                PLAIN_INITS.join("`, `")
            ));
        }
        let way_out = if lower == "loftq" {
            "train on the original weights, or merge the adapter in PEFT and take the whole model"
        } else {
            "have PEFT write it as a plain LoRA, whose file says `true`: `save_pretrained(FOLDER, \
             path_initial_model_for_weight_conversion=INITIAL)` with the adapter as it was before training"
        };
        Err(format!(
            "its `init_lora_weights` is `{init}`: PEFT changed the base's weights before it trained, and the update fits \
             those alone; {way_out}"
        ))
    }
}

impl Sizes {
    /// The size of the update of the layer `module`: of patterns the first that matches, in the order of the file.
    pub(super) fn of(&self, module: &str) -> LoraConfig {
        let rank = first(&self.ranks, module).unwrap_or(self.rank);
        let alpha = first(&self.alphas, module).unwrap_or(self.alpha);
        let divisor = if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        LoraConfig { rank, scale: alpha / divisor, dropout: self.dropout }
    }

    /// The size where no pattern says otherwise.
    pub(super) fn usual(&self) -> LoraConfig {
        let plain = Self { ranks: Vec::new(), alphas: Vec::new(), ..*self };
        plain.of("")
    }
}

/// Refuses a key that changes what the adapter computes, unless it is off.
fn check_other(key: &str, value: &Value) -> Result<(), String> {
    let off = match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || (key == "bias" && text == "none"),
        Value::Array(members) => members.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    if off || SILENT.contains(&key) {
        return Ok(());
    }
    match FOREIGN.iter().find(|(foreign, _)| *foreign == key) {
        Some((_, what)) => Err(format!("it sets `{key}`: {what}, which these layers do not compute")),
        None => Err(format!(
            "it sets the key `{key}`, of which is not known what it changes; if it changes nothing of the result, take it \
             out of the file"
        )),
    }
}

/// Patterns as PEFT matches them: a regular expression for the whole name, or for its end after a dot
/// (`peft/utils/other.py`, `get_pattern_key`).
fn compiled<T: Copy>(what: &str, patterns: Option<&InOrder<T>>) -> Result<Vec<(Regex, T)>, String> {
    /// What stands for itself in a Python set and for an operation in one of `regex`.
    const SETS: [&str; 4] = ["[[", "&&", "--", "~~"];
    let refused = |key: &str, reason: &str| {
        Err(format!("the pattern `{key}` of its `{what}` cannot be understood: {reason}"))
    };
    let compile = |(key, value): &(String, T)| {
        if SETS.iter().any(|set| key.contains(set)) {
            return refused(key, "it has nested sets");
        }
        match Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")) {
            Ok(regex) => Ok((regex, *value)),
            Err(error) => refused(key, &error.to_string()),
        }
    };
    patterns.map_or_else(|| Ok(Vec::new()), |InOrder(patterns)| patterns.iter().map(compile).collect())
}

fn first<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    patterns.iter().find(|(regex, _)| regex.is_match(module)).map(|(_, value)| *value)
}

/// An object of JSON in the order of its file, which decides between patterns; of a key that stands there twice the last
/// value, at the first place, as in Python.
#[derive(Debug)]
struct InOrder<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = InOrder<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("patterns with a number each")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Vec<(String, T)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    match entries.iter_mut().find(|(known, _)| *known == key) {
                        Some(known) => known.1 = value,
                        None => entries.push((key, value)),
                    }
                }
                Ok(InOrder(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// The configuration of updates of the size `usual` in `modules`, and of other sizes in `others`.
pub(super) fn to_json(usual: &LoraConfig, modules: &[&str], others: &BTreeMap<String, LoraConfig>) -> Value {
    let alpha = |size: &LoraConfig| size.scale * size.rank as f64;
    // From the beginning of the name: without that, the pattern of `fc1` would be one of `encoder.fc1` too.
    let pattern = |value: &dyn Fn(&LoraConfig) -> Value| -> Map<String, Value> {
        others.iter().map(|(module, size)| (format!("^{}", regex::escape(module)), value(size))).collect()
    };
    json!({
        "peft_type": LORA,
        "task_type": null,
        "base_model_name_or_path": null,
        "r": usual.rank,
        "lora_alpha": alpha(usual),
        "lora_dropout": usual.dropout,
        "rank_pattern": pattern(&|size| size.rank.into()),
        "alpha_pattern": pattern(&|size| alpha(size).into()),
        "target_modules": modules,
        "bias": "none",
        "inference_mode": true,
    })
}
