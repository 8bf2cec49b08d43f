//! The published code's configuration as ours.

use super::pickled::{Pickled, Result};
use crate::Config;
use crate::config::{AdaptationConfig, BackboneConfig, DataConfig, ModelConfig, TrainConfig};
use crate::optim::{AdamWConfig, Decay, ScheduleConfig};
use tadformer_backbone::{Skip, SwinConfig};
use tadformer_data::{Descriptor, dataset};
use tadformer_decoders::DecoderConfig;
use tadformer_ops::Precision;
use tadformer_peft::Filter;
use tadformer_weights::{PickleValue, StateDict};

/// Images an update for which our learning rates are written.
const REFERENCE_BATCH: f64 = 512.0;

/// Where the published linear schedule ends, as a factor of the base rate: a constant of its code, whatever `MIN_LR` says.
const LINEAR_END: f64 = 0.01;

/// Translates `pickled`; `root` is the whole checkpoint, and the shapes of `tensors` decide where the configuration leaves
/// something open. What its reader should know is added to `notes`.
pub(super) fn translate(
    pickled: PickleValue<'_>,
    root: Option<PickleValue<'_>>,
    tensors: &StateDict,
    notes: &mut Vec<String>,
) -> Result<Config> {
    let theirs = Pickled(pickled);
    if theirs.text("MODEL.TYPE")? != "swin" {
        return Err(format!("`MODEL.TYPE` is `{}`, expected `swin`", theirs.text("MODEL.TYPE")?));
    }
    let data = data(theirs, notes)?;
    Ok(Config {
        precision: Precision::F32,
        seed: theirs.size("SEED").unwrap_or(0) as u64,
        model: model(theirs, tensors, &data)?,
        train: train(theirs, root)?,
        data,
    })
}

fn model(theirs: Pickled<'_>, tensors: &StateDict, data: &DataConfig) -> Result<ModelConfig> {
    let swin = |key: &str| format!("MODEL.SWIN.{key}");
    let ratio = theirs.number(&swin("MLP_RATIO"))?;
    if ratio.fract() != 0.0 || !(1.0..=16.0).contains(&ratio) {
        return Err(format!("`MODEL.SWIN.MLP_RATIO` is {ratio}, expected 1 to 16 without a fraction"));
    }
    let sizes = SwinConfig {
        embed_dim: theirs.size(&swin("EMBED_DIM"))?,
        depths: theirs.four(&swin("DEPTHS"))?,
        num_heads: theirs.four(&swin("NUM_HEADS"))?,
        window_size: theirs.size(&swin("WINDOW_SIZE"))?,
        patch_size: theirs.size(&swin("PATCH_SIZE"))?,
        mlp_ratio: ratio as usize,
        image_size: theirs.size("DATA.IMG_SIZE")?,
        ..SwinConfig::tiny()
    };
    let named =
        SwinConfig::names().into_iter().find(|name| SwinConfig::from_name(name).as_ref() == Some(&sizes));
    let drop_path_rate = theirs.number("MODEL.DROP_PATH_RATE")?;
    Ok(ModelConfig {
        drop_path_rate,
        backbone: named.map_or(BackboneConfig::Sizes(sizes), |name| BackboneConfig::Named(name.to_owned())),
        adaptation: adaptation(theirs, tensors)?,
        decoder: decoder(theirs, &data.tasks)?,
        ..ModelConfig::default()
    })
}

/// `MODEL.TADMTL`: what the method adds.
fn adaptation(theirs: Pickled<'_>, tensors: &StateDict) -> Result<AdaptationConfig> {
    let own = |key: &str| format!("MODEL.TADMTL.{key}");
    for (key, expected) in [
        ("ENABLED", true),
        ("QKV_ENABLED", true),
        ("PROJ_ENABLED", true),
        ("FC1_ENABLED", true),
        ("FC2_ENABLED", true),
        ("DOWNSAMPLER_ENABLED", false),
        ("TRAINABLE_SCALE_SHARED", false),
        ("TRAINABLE_SCALE_PER_TASK", false),
        ("SPLIT_QKV", false),
    ] {
        if theirs.flag(&own(key)).unwrap_or(expected) != expected {
            return Err(format!(
                "`{}` is {}, and only {expected} has a counterpart here",
                own(key),
                !expected
            ));
        }
    }
    let factor = tensors.iter().find(|tensor| tensor.name().ends_with(".lora_shared_A"));
    let rank = factor.and_then(|tensor| tensor.shape().first().copied());
    let rank = rank.ok_or("there is no low-rank update (`lora_shared_A`) among its tensors")?;
    let scale = theirs.same(&own("SHARED_SCALE"))?;
    let of_tasks = theirs.same(&own("TASK_SCALE")).unwrap_or(scale);
    if of_tasks != scale {
        return Err(format!(
            "`TASK_SCALE` is {of_tasks} and `SHARED_SCALE` {scale}: here they are one number"
        ));
    }
    let gating = theirs.flag(&own("ABLATION.STAGEWISEGATING")).unwrap_or(true);
    let skip = match theirs.flag(&own("ABLATION.SKIPCONNECTION")).unwrap_or(true) {
        true if gating => Skip::Gated,
        true => Skip::Average,
        false => Skip::None,
    };
    Ok(AdaptationConfig {
        rank,
        scale,
        dropout: theirs.same(&own("DROPOUT"))?,
        prompts_per_task: theirs.size(&own("TPC.PROMPT_CFG.PERTASK_LEN"))?,
        filter: if theirs.flag(&own("DTF.ENABLED"))? { Filter::Dynamic } else { Filter::None },
        condition: theirs.flag(&own("TPC.ENABLED"))?,
        skip,
    })
}

fn decoder(theirs: Pickled<'_>, tasks: &[String]) -> Result<DecoderConfig> {
    let heads: Vec<&str> =
        tasks.iter().map(|task| theirs.text(&format!("MODEL.DECODER_HEAD.{task}"))).collect::<Result<_>>()?;
    match heads.split_first() {
        Some((first, rest)) if rest.iter().any(|other| other != first) => {
            Err(format!("`MODEL.DECODER_HEAD` has {heads:?}: here every task has the same head"))
        }
        Some((&"hrnet", _)) => Ok(DecoderConfig::Hrnet { channels: theirs.four("MODEL.DECODER_CHANNELS")? }),
        _ => Err(format!(
            "`MODEL.DECODER_HEAD` is {heads:?}; only checkpoints with `hrnet` heads are imported"
        )),
    }
}

/// Tasks, size, and the data set that labels these tasks with as many classes.
fn data(theirs: Pickled<'_>, notes: &mut Vec<String>) -> Result<DataConfig> {
    let tasks: Vec<String> = theirs.texts("TASKS")?.into_iter().map(str::to_owned).collect();
    let outputs: Vec<usize> = tasks
        .iter()
        .map(|task| theirs.size(&format!("TASKS_CONFIG.ALL_TASKS.NUM_OUTPUT.{task}")))
        .collect::<Result<_>>()?;
    let side = theirs.size("DATA.IMG_SIZE")?;
    let said = theirs.text("DATA.DATASET").unwrap_or("").to_lowercase();
    let fits = |set: &&Descriptor| {
        let labelled = set.task_specs();
        tasks.iter().zip(&outputs).all(|(task, outputs)| {
            labelled.iter().any(|spec| spec.task.name == task && spec.outputs == *outputs)
        })
    };
    // `PASCALContext`, `NYUD`: the names differ by a hyphen at most.
    let is_said = |set: &&Descriptor| set.name.replace('-', "") == said;
    let fitting: Vec<_> = dataset::list().iter().filter(fits).collect();
    let set = fitting.iter().copied().find(|set| is_said(set)).or(fitting.first().copied()).ok_or_else(|| {
        format!("no known data set labels {tasks:?} with {outputs:?} outputs; give a configuration with `--config FILE`")
    })?;
    if !is_said(&set) {
        notes.push(format!(
            "the checkpoint calls its data set `{said}`, which does not label these tasks so; `{}` does and was taken",
            set.name
        ));
    }
    Ok(DataConfig { name: set.name.clone(), tasks, size: [side, side], ..DataConfig::default() })
}

fn train(theirs: Pickled<'_>, root: Option<PickleValue<'_>>) -> Result<TrainConfig> {
    let batch_size = theirs.size("DATA.BATCH_SIZE")?.max(1);
    let accumulation = theirs.size("TRAIN.ACCUMULATION_STEPS").unwrap_or(1).max(1);
    let base_lr = theirs.number("TRAIN.BASE_LR")?;
    // The rate that the optimiser began with is the real one; the configuration's may be from before or after scaling.
    let began_with = root
        .and_then(|root| {
            root.get("optimizer")?.get("param_groups")?.members().next()?.get("initial_lr")?.as_f64()
        })
        .unwrap_or(base_lr);
    let factor = if base_lr > 0.0 { began_with / base_lr } else { 1.0 };
    let factor = factor * REFERENCE_BATCH / (batch_size * accumulation) as f64;
    let (beta1, beta2) = betas(theirs);
    Ok(TrainConfig {
        epochs: theirs.size("TRAIN.EPOCHS")?,
        batch_size,
        accumulation,
        clip_norm: theirs.number("TRAIN.CLIP_GRAD")?,
        schedule: ScheduleConfig {
            base_lr: base_lr * factor,
            warmup_lr: theirs.number("TRAIN.WARMUP_LR")? * factor,
            min_lr: theirs.number("TRAIN.MIN_LR")? * factor,
            warmup_epochs: theirs.size("TRAIN.WARMUP_EPOCHS")?,
            decay: decay(theirs)?,
        },
        adamw: AdamWConfig {
            beta1,
            beta2,
            eps: theirs.number("TRAIN.OPTIMIZER.EPS")?,
            weight_decay: theirs.number("TRAIN.WEIGHT_DECAY")?,
        },
        ..TrainConfig::default()
    })
}

fn betas(theirs: Pickled<'_>) -> (f64, f64) {
    let AdamWConfig { beta1, beta2, .. } = AdamWConfig::default();
    let mut found = theirs.find("TRAIN.OPTIMIZER.BETAS").into_iter().flat_map(PickleValue::members);
    let mut next = |otherwise| found.next().and_then(PickleValue::as_f64).unwrap_or(otherwise);
    (next(beta1), next(beta2))
}

fn decay(theirs: Pickled<'_>) -> Result<Decay> {
    let own = |key: &str| format!("TRAIN.LR_SCHEDULER.{key}");
    Ok(match theirs.text(&own("NAME"))? {
        "cosine" => Decay::Cosine { warmup_prefix: theirs.flag(&own("WARMUP_PREFIX")).unwrap_or(true) },
        "linear" => Decay::Linear { end_factor: Some(LINEAR_END) },
        "step" => Decay::Step {
            every_epochs: theirs.size(&own("DECAY_EPOCHS"))?,
            rate: theirs.number(&own("DECAY_RATE"))?,
        },
        "multistep" => Decay::Multistep {
            epochs: theirs.sizes(&own("MULTISTEPS"))?,
            rate: theirs.number(&own("GAMMA"))?,
        },
        other => {
            return Err(format!("`TRAIN.LR_SCHEDULER.NAME` is `{other}`, which has no counterpart here"));
        }
    })
}
