//! The network's part of the configuration.

use super::out_of_range;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tadformer_backbone::{Adaptation, Skip, SwinConfig, Tuning, WindowPadding};
use tadformer_data::did_you_mean;
use tadformer_decoders::DecoderConfig;
use tadformer_peft::{Filter, LoraConfig};
use tadformer_weights::TableResize;

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// How the backbone is tuned.
    pub method: Method,
    /// Where its pretrained weights come from: a file, `embedded`, or `none` for random ones.
    pub weights: WeightsSource,
    /// How their position bias tables are made for another window: `auto`, `bicubic` or `geometric`.
    pub position_bias_resize: PositionBiasResize,
    /// Drop path at the last block while training; earlier blocks less, linearly from 0.
    pub drop_path_rate: f64,
    /// What windows find beyond the edge of a grid that is no multiple of the window: `masked` or `zeros`.
    pub window_padding: WindowPadding,
    /// The backbone: a name (`swin-tiny`, `swin-small`, `swin-base`, `swin-large`) or a table of sizes.
    pub backbone: BackboneConfig,
    /// What TADFormer adds.
    pub adaptation: AdaptationConfig,
    /// The head of every task.
    pub decoder: DecoderConfig,
}

impl Default for ModelConfig {
    /// The paper's largest: Swin-T, rank 64, HRNet heads.
    fn default() -> Self {
        Self {
            method: Method::Tadformer,
            weights: WeightsSource::None,
            position_bias_resize: PositionBiasResize::Auto,
            drop_path_rate: 0.2,
            window_padding: WindowPadding::Masked,
            backbone: BackboneConfig::Named("swin-tiny".to_owned()),
            adaptation: AdaptationConfig::default(),
            decoder: DecoderConfig::default(),
        }
    }
}

/// How the backbone is tuned; the decoders always train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Low-rank updates, task prompts and dynamic task filters on frozen weights.
    #[default]
    Tadformer,
    /// Every weight trains.
    Full,
    /// Nothing of the backbone trains.
    DecodersOnly,
    /// `tadformer` with the updates that no task stream shares folded into the frozen weights, as `export` writes it: for
    /// use, not for training.
    Merged,
}

/// Where pretrained weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum WeightsSource {
    /// Nowhere: they are drawn from the seed.
    None,
    /// The small backbone inside the program: see [`embedded`](crate::embedded).
    Embedded,
    /// A weight file.
    File(PathBuf),
}

impl From<String> for WeightsSource {
    fn from(text: String) -> Self {
        match text.as_str() {
            "none" => Self::None,
            "embedded" => Self::Embedded,
            _ => Self::File(text.into()),
        }
    }
}

impl From<WeightsSource> for String {
    fn from(source: WeightsSource) -> Self {
        match source {
            WeightsSource::None => "none".to_owned(),
            WeightsSource::Embedded => "embedded".to_owned(),
            WeightsSource::File(path) => path.display().to_string(),
        }
    }
}

/// How position bias tables of a weight file are made for another window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionBiasResize {
    /// As [those do](tadformer_weights::names::Naming::table_resize) whose names the file has.
    #[default]
    Auto,
    /// [`TableResize::Bicubic`].
    Bicubic,
    /// [`TableResize::Geometric`].
    Geometric,
}

impl PositionBiasResize {
    /// What was chosen; nothing if the file decides.
    pub(crate) fn chosen(self) -> Option<TableResize> {
        match self {
            Self::Auto => None,
            Self::Bicubic => Some(TableResize::Bicubic),
            Self::Geometric => Some(TableResize::Geometric),
        }
    }
}

/// The backbone, by name or by numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected the name of a backbone or a table with `embed_dim`, `depths`, `num_heads`, `window_size`"
)]
pub enum BackboneConfig {
    /// A published variant.
    Named(String),
    /// Sizes.
    Sizes(SwinConfig),
}

/// What TADFormer adds to the backbone, apart from the number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptationConfig {
    /// Rank of the low-rank updates.
    pub rank: usize,
    /// Factor of the low-rank updates.
    pub scale: f64,
    /// Dropout on the input of the low-rank updates while training.
    pub dropout: f64,
    /// Prompts a task.
    pub prompts_per_task: usize,
    /// What lies between the low-rank factors in the task streams: `dynamic` or `none`.
    pub filter: Filter,
    /// Whether prompts condition the task streams.
    pub condition: bool,
    /// How the skip feature joins: `gated`, `average` or `none`.
    pub skip: Skip,
}

impl Default for AdaptationConfig {
    fn default() -> Self {
        let LoraConfig { rank, scale, dropout } = LoraConfig::default();
        Self {
            rank,
            scale,
            dropout,
            prompts_per_task: 1,
            filter: Filter::Dynamic,
            condition: true,
            skip: Skip::Gated,
        }
    }
}

impl ModelConfig {
    /// The backbone's sizes; those of Swin-T for a name that [`problems`](Self::problems) complains of.
    pub fn swin(&self) -> SwinConfig {
        let sizes = match &self.backbone {
            BackboneConfig::Named(name) => SwinConfig::from_name(name).unwrap_or_else(SwinConfig::tiny),
            BackboneConfig::Sizes(sizes) => sizes.clone(),
        };
        SwinConfig { drop_path_rate: self.drop_path_rate, window_padding: self.window_padding, ..sizes }
    }

    /// How the backbone is tuned for `tasks` tasks.
    pub fn tuning(&self, tasks: usize) -> Tuning {
        let AdaptationConfig { rank, scale, dropout, prompts_per_task, filter, condition, skip } =
            self.adaptation;
        let lora = LoraConfig { rank, scale, dropout };
        let adaptation = Adaptation { tasks, prompts_per_task, lora, filter, condition, skip };
        match self.method {
            Method::Full => Tuning::Full,
            Method::DecodersOnly => Tuning::Frozen,
            Method::Tadformer => Tuning::Adapted(adaptation),
            Method::Merged => Tuning::Merged(adaptation),
        }
    }

    /// Every value that is out of range.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let BackboneConfig::Named(name) = &self.backbone
            && SwinConfig::from_name(name).is_none()
        {
            let (known, nearest) =
                (SwinConfig::names().join("`, `"), did_you_mean(name, SwinConfig::names()));
            problems.push(format!(
                "`model.backbone` is `{name}`, expected `{known}` or a table of sizes{nearest}"
            ));
        }
        problems.extend(
            self.swin().problems().into_iter().map(|problem| format!("in `model.backbone`, {problem}")),
        );
        let adaptation = &self.adaptation;
        out_of_range(
            &mut problems,
            &[
                ("model.drop_path_rate", self.drop_path_rate, 0.0..=0.99),
                ("model.adaptation.rank", adaptation.rank as f64, 1.0..=self.swin().embed_dim as f64),
                ("model.adaptation.dropout", adaptation.dropout, 0.0..=0.99),
                ("model.adaptation.scale", adaptation.scale, 0.0..=1e3),
                ("model.adaptation.prompts_per_task", adaptation.prompts_per_task as f64, 1.0..=64.0),
            ],
        );
        if let Err(error) = self.decoder.validate() {
            problems.push(format!("in `model.decoder`, {error}"));
        }
        problems
    }
}
