//! The model card.

use super::{Export, adapter};
use crate::config::{BackboneConfig, WeightsSource};
use crate::{Config, ParameterCount, Predictor, Result};
use std::fmt::Write;

/// Its Markdown, with the front matter that the Hugging Face Hub reads.
pub(crate) fn card(what: Export, model: &Predictor, config: &Config) -> Result<String> {
    let weights: String = config.model.weights.clone().into();
    let known = tadformer_weights::known_model(&weights);
    let mut card = "---\nlibrary_name: tadformer\n".to_owned();
    if let Some(known) = known {
        // Writing to a string does not fail.
        let _ = writeln!(card, "base_model: {}", known.repo);
    }
    card += "pipeline_tag: image-segmentation\ntags:\n- multi-task\n- dense-prediction\n- swin\n---\n\n";
    card += heading(what);
    let tasks: Vec<_> = model.tasks().iter().map(|spec| spec.task.name).collect();
    let backbone = match &config.model.backbone {
        BackboneConfig::Named(name) => name.clone(),
        BackboneConfig::Sizes(sizes) => {
            format!("a Swin of {} channels and depths {:?}", sizes.embed_dim, sizes.depths)
        }
    };
    let count = ParameterCount::of(model.entries());
    let _ = write!(
        card,
        "\n- tasks: {}\n- data set: {}\n- size of the pictures: {} × {}\n- backbone: {backbone}\n- rank: {}\n\
         - parameters: {} trained of {}\n",
        tasks.join(", "),
        config.data.name,
        config.data.size[0],
        config.data.size[1],
        config.model.adaptation.rank,
        count.trainable,
        count.total
    );
    if what == Export::Adapter {
        let stands_on = match &config.model.weights {
            WeightsSource::None => format!("weights drawn from seed {}", config.seed),
            WeightsSource::Embedded => "the backbone inside the program (`embedded`)".to_owned(),
            WeightsSource::File(_) => format!("`{weights}`"),
        };
        let _ = writeln!(card, "- frozen weights: {stands_on}; `{}` has their checksum", adapter::CONFIG);
    }
    card += "\n## Scores\n\n";
    match model.report().filter(|report| !report.snapshots().is_empty()) {
        Some(report) => card += &report.table(),
        None => card += "None were kept with the model.\n",
    }
    card += "\n## Use\n\n```sh\n";
    card += match what {
        Export::Adapter => {
            "tadformer-cli predict --run THIS_FOLDER --weights BACKBONE --input photo.jpg --output maps\n"
        }
        Export::Full | Export::Merged => {
            "tadformer-cli predict --run THIS_FOLDER --input photo.jpg --output maps\n"
        }
        Export::Backbone => {
            "tadformer-cli finetune --weights THIS_FOLDER/model.safetensors --config my.toml\n"
        }
    };
    card += "```\n\n## Configuration\n\n```toml\n";
    card += &config.to_toml()?;
    card += "```\n";
    Ok(card)
}

fn heading(what: Export) -> &'static str {
    match what {
        Export::Adapter => {
            "# TADFormer adapter\n\nWhat TADFormer (CVPR 2025, arXiv 2501.04293) trained: low-rank updates, task prompts, \
             filters, norms and decoders. The frozen backbone is not in it.\n"
        }
        Export::Full => {
            "# TADFormer model\n\nBackbone, updates and decoders (CVPR 2025, arXiv 2501.04293).\n"
        }
        Export::Merged => {
            "# Merged TADFormer model\n\nBackbone and decoders, with those low-rank updates folded into the weights that no \
             task's stream shares (CVPR 2025, arXiv 2501.04293). For use; it cannot be trained further.\n"
        }
        Export::Backbone => {
            "# Swin Transformer\n\nThe backbone of a fine-tuned model under timm's names, without what fine-tuning put beside \
             it; norms, position bias tables and patch embedding are as they are after it.\n"
        }
    }
}
