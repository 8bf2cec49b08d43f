//! Which head, and its sizes.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

/// The head of a task, written with its sizes: `type = "hrnet"` with any field that differs from the default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum DecoderConfig {
    /// The fusion of HRNet v2 (arXiv 1908.07919, section 3.2) behind a [`Downsampler`](crate::Downsampler).
    Hrnet {
        /// Channels to which the downsampler brings each stage.
        #[serde(default = "hrnet_channels")]
        channels: [usize; 4],
    },
    /// The all-MLP head of SegFormer (arXiv 2105.15203, section 3.2).
    Segformer {
        /// Channels to which each stage is brought before the fusion.
        #[serde(default = "segformer_embed_dim")]
        embed_dim: usize,
        /// Probability with which a channel is dropped before the last layer, in `0..1`.
        #[serde(default = "segformer_dropout")]
        dropout: f64,
    },
    /// Atrous spatial pyramid pooling of the last stage (DeepLab v3, arXiv 1706.05587, section 3.3).
    Aspp {
        /// Dilations of the three 3×3 convolutions, in points of the last stage's grid.
        #[serde(default = "aspp_rates")]
        rates: [usize; 3],
        /// Channels of every branch and of the fusion.
        #[serde(default = "head_channels")]
        channels: usize,
        /// Probability with which a number is dropped after the fusion, in `0..1`.
        #[serde(default = "aspp_dropout")]
        dropout: f64,
    },
    /// Three deconvolutions of the last stage (Simple Baselines, arXiv 1804.06208, section 2).
    Deconv {
        /// Channels of every deconvolution.
        #[serde(default = "head_channels")]
        channels: usize,
    },
}

impl Default for DecoderConfig {
    /// The head of the published results: HRNet with 18, 36, 72 and 144 channels.
    fn default() -> Self {
        Self::Hrnet { channels: hrnet_channels() }
    }
}

impl DecoderConfig {
    /// SegFormer's head with its published sizes.
    pub fn segformer() -> Self {
        Self::Segformer { embed_dim: segformer_embed_dim(), dropout: segformer_dropout() }
    }

    /// DeepLab v3's head with the rates for output stride 16.
    pub fn aspp() -> Self {
        Self::Aspp { rates: aspp_rates(), channels: head_channels(), dropout: aspp_dropout() }
    }

    /// Simple Baselines' head with its published sizes.
    pub fn deconv() -> Self {
        Self::Deconv { channels: head_channels() }
    }

    /// Checks every field against its bounds.
    ///
    /// # Errors
    /// A field out of its bounds, by name.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Hrnet { channels } => positive("hrnet", "channels", channels),
            Self::Segformer { embed_dim, dropout } => {
                positive("segformer", "embed_dim", &[*embed_dim])?;
                probability("segformer", *dropout)
            }
            Self::Aspp { rates, channels, dropout } => {
                positive("aspp", "rates", rates)?;
                positive("aspp", "channels", &[*channels])?;
                probability("aspp", *dropout)
            }
            Self::Deconv { channels } => positive("deconv", "channels", &[*channels]),
        }
    }
}

/// No head is this wide; wider ones are a slip of the keyboard, and products of two still fit.
const MAX_SIZE: usize = 1 << 16;

fn positive(head: &str, field: &str, values: &[usize]) -> Result<()> {
    match values.iter().find(|&&value| value == 0 || value > MAX_SIZE) {
        Some(value) => bail!("decoder `{head}`: `{field}` holds {value}, but must be within 1..={MAX_SIZE}"),
        None => Ok(()),
    }
}

fn probability(head: &str, dropout: f64) -> Result<()> {
    if !(0.0..1.0).contains(&dropout) {
        bail!("decoder `{head}`: `dropout` is {dropout}, but must be at least 0 and below 1");
    }
    Ok(())
}

fn hrnet_channels() -> [usize; 4] {
    [18, 36, 72, 144]
}

fn segformer_embed_dim() -> usize {
    256
}

fn segformer_dropout() -> f64 {
    0.1
}

fn aspp_rates() -> [usize; 3] {
    [6, 12, 18]
}

fn aspp_dropout() -> f64 {
    0.5
}

fn head_channels() -> usize {
    256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_alone_is_the_published_head() {
        for (text, expected) in [
            (r#"{"type": "hrnet"}"#, DecoderConfig::default()),
            (r#"{"type": "segformer"}"#, DecoderConfig::segformer()),
            (r#"{"type": "aspp"}"#, DecoderConfig::aspp()),
            (r#"{"type": "deconv"}"#, DecoderConfig::deconv()),
            (
                r#"{"type": "hrnet", "channels": [1, 2, 3, 4]}"#,
                DecoderConfig::Hrnet { channels: [1, 2, 3, 4] },
            ),
        ] {
            let config: DecoderConfig = serde_json::from_str(text).unwrap();
            assert_eq!(config, expected);
            config.validate().unwrap();
            let written = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<DecoderConfig>(&written).unwrap(), config);
        }
    }

    #[test]
    fn unknown_types_and_fields_are_named() {
        for (text, named) in [
            (r#"{"type": "unet"}"#, "unet"),
            (r#"{"type": "hrnet", "chanels": [1, 2, 3, 4]}"#, "chanels"),
            (r#"{"type": "aspp", "embed_dim": 3}"#, "embed_dim"),
        ] {
            let message = serde_json::from_str::<DecoderConfig>(text).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }

    #[test]
    fn a_field_out_of_bounds_is_named() {
        for (config, named) in [
            (DecoderConfig::Hrnet { channels: [18, 0, 72, 144] }, "`channels` holds 0"),
            (DecoderConfig::Segformer { embed_dim: 8, dropout: 1.0 }, "`dropout` is 1"),
            (DecoderConfig::Aspp { rates: [0, 1, 2], channels: 8, dropout: 0.0 }, "`rates` holds 0"),
            (DecoderConfig::Deconv { channels: usize::MAX }, "`channels` holds"),
        ] {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
