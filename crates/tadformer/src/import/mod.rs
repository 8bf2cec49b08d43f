//! A training checkpoint of the published PyTorch code as a run.

mod config;
mod optimizer;
mod pickled;

use crate::checkpoint::{Checkpoint, TrainState};
use crate::complete::Complete;
use crate::config::WeightsSource;
use crate::from_file::{all_to_candle, refused};
use crate::optim::AdamW;
use crate::pretrained::Origin;
use crate::report::{Report, references_of};
use crate::{Config, Error, Override, Result, RunDir, export, folder};
use candle_core::Tensor;
use std::collections::HashMap;
use std::path::Path;
use tadformer_ops::{Entry, ParamStore, Role};
use tadformer_weights::names::{self, Naming};
use tadformer_weights::{PickleValue, StateDict};

/// The frozen weights of an imported run, in its own folder.
const BACKBONE: &str = "backbone.safetensors";

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Tensors that were taken over.
    pub tensors: usize,
    /// Epochs that the checkpoint was trained for.
    pub epoch: usize,
    /// What of the checkpoint was understood in a way that its reader should know.
    pub notes: Vec<String>,
}

/// Makes the run `output` of a training checkpoint: configuration, frozen weights, trained tensors and, where it has
/// one, the state of its optimiser, so that training can go on.
///
/// The configuration is the one pickled into the checkpoint, or the file `config` instead; `overrides` change either.
/// Nothing in the checkpoint is executed.
///
/// # Errors
/// A checkpoint that is damaged, hostile, or of another model than its configuration says; a configuration with
/// something that has no counterpart here; an `output` that is there already. Nothing is left behind then.
pub fn import(
    checkpoint: &Path,
    config: Option<&Path>,
    overrides: &[Override],
    output: &Path,
) -> Result<Imported> {
    let file = StateDict::read(checkpoint)?;
    let mapped = names::map(&file).map_err(|error| Error::file(checkpoint, error.to_string()))?;
    if mapped.naming != Naming::Reference {
        return Err(Error::file(
            checkpoint,
            "it is a backbone and no training checkpoint; train on it with `finetune --weights FILE`",
        ));
    }
    let root = file.checkpoint().map(|checkpoint| checkpoint.root());
    let mut notes = Vec::new();
    let mut config = match config {
        Some(path) => Config::read(path, overrides)?,
        None => {
            let pickled = root.and_then(|root| root.get("config")).ok_or_else(|| {
                Error::file(checkpoint, "it holds no configuration; give one with `--config FILE`")
            })?;
            let translated = config::translate(pickled, root, &mapped.tensors, &mut notes)
                .map_err(|reason| Error::file(checkpoint, format!("its configuration: {reason}")))?;
            Config::parse(&translated.to_toml()?, &checkpoint.display().to_string(), overrides)?
        }
    };
    config.data.labels = config.data.specs()?;
    let tensors = all_to_candle(mapped.tensors.iter().as_slice()).map_err(refused(checkpoint, &file))?;
    let entries = complete(checkpoint, &config, &tensors)?;
    let epoch = root.and_then(|root| root.get("epoch")).and_then(PickleValue::as_i64);
    // The checkpoint counts from 0 and is written after the epoch.
    let epoch = epoch.and_then(|epoch| usize::try_from(epoch).ok()).map_or(0, |epoch| epoch + 1);
    let moments = optimizer::moments(&file, &entries, &mut notes)
        .map_err(|reason| Error::file(checkpoint, format!("its optimizer: {reason}")))?;
    let imported = Imported { tensors: entries.len(), epoch, notes };
    folder::write(output, |folder| write(folder, config, &entries, moments, epoch))?;
    Ok(imported)
}

/// The model's tensors, each of them in the checkpoint.
fn complete(path: &Path, config: &Config, tensors: &HashMap<String, Tensor>) -> Result<Vec<Entry>> {
    let specs = config.data.specs()?;
    let complete = Complete { own: tensors.clone(), shared: HashMap::new() };
    Ok(complete.build(path, &config.model, &specs)?.1)
}

/// Fills the run's folder.
fn write(
    folder: &Path,
    mut config: Config,
    entries: &[Entry],
    moments: Option<optimizer::Moments>,
    epoch: usize,
) -> Result<()> {
    let file = folder.join(BACKBONE);
    export::write_backbone(entries, &file)?;
    let weights = WeightsSource::File(file);
    let sha256 = Origin::of(&weights)?.expect("a file has an origin").sha256;
    config.model.weights = WeightsSource::File(BACKBONE.into());
    let run = RunDir::create(folder, &config)?;
    Report::new(references_of(&config, &config.data.specs()?)?).write(&run)?;

    let values = entries.iter().map(|entry| (entry.name.clone(), entry.tensor.clone())).collect();
    let store = ParamStore::with_values(config.seed, values);
    crate::MultiTaskModel::new(&config.model, &config.data.specs()?, &store.params())?;
    let origin = Some(Origin { path: BACKBONE.to_owned(), sha256 });
    let update = moments.as_ref().map_or(0, |moments| moments.updates);
    let state = TrainState { epoch, update, batch: 0, best: None, origin };
    Checkpoint::write(&run.checkpoints().best(), &store, None, &state)?;
    if let Some(moments) = moments {
        let mut optimizer = AdamW::new(&store.with_role(Role::Trainable), config.train.adamw)?;
        optimizer.load_state(moments.state)?;
        Checkpoint::write(&run.checkpoints().last(), &store, Some(&optimizer), &state)?;
    }
    Ok(())
}
