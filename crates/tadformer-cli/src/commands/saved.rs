//! Opening a trained model.

use super::weights;
use anyhow::Result;
use std::path::Path;
use tadformer::{Override, Predictor, SavedModel};

/// The model in `folder` with changes of its configuration, on the `weights` given or on its own.
pub(crate) fn open(folder: &Path, weights: Option<&str>, mut changes: Vec<Override>) -> Result<Predictor> {
    changes.extend(weights.map(|weights| Override::flag("--weights", "model.weights", weights)));
    weights::fetch(&SavedModel::config_of(folder, &changes)?)?;
    Ok(Predictor::open(folder, &changes)?)
}
