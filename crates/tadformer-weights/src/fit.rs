//! A file's tensors against those a model wants: all of them fit, or none is loaded and every difference is listed.

use std::collections::HashMap;
use std::fmt;

use crate::names::Mapped;
use crate::state_dict::{StateDict, Tensor};
use crate::variant::Variant;

/// The wanted tensors, in the wanted order, each of the wanted shape and of a floating-point type.
#[derive(Debug, Clone)]
pub struct Fitted {
    tensors: Vec<Tensor>,
}

impl Fitted {
    /// The tensors, in the order in which they were wanted.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensors, in the order in which they were wanted.
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.tensors
    }
}

/// A tensor that is in the file and in the model, but is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    /// Its name.
    pub name: String,
    /// What the file holds: element type and shape.
    pub found: String,
    /// What the model wants.
    pub expected: String,
}

/// Everything in which a file and a model differ. Its text lists all of it and guesses at the cause.
#[derive(Debug, Clone, Default)]
pub struct Mismatch {
    /// Wanted and not in the file, in the wanted order.
    pub missing: Vec<String>,
    /// In the file and not wanted, in the file's order.
    pub unexpected: Vec<String>,
    /// In both, of another shape or of a type that is no float.
    pub differing: Vec<Differing>,
    /// What the two seem to be, if they are different models.
    pub hint: Option<String>,
}

/// Takes the `wanted` tensors (name and shape) out of a mapped file.
///
/// # Errors
/// [`Mismatch`] if any is missing, differs in shape, or is not of floats, or if the file has others besides; nothing
/// is taken then. Position bias tables of another window are a difference: see [`Mapped::resize_position_bias`].
pub fn fit(mapped: &Mapped, wanted: &[(String, Vec<usize>)]) -> Result<Fitted, Box<Mismatch>> {
    let mut mismatch = Mismatch::default();
    let mut tensors = Vec::with_capacity(wanted.len());
    for (name, shape) in wanted {
        match mapped.tensors.get(name) {
            None => mismatch.missing.push(name.clone()),
            Some(tensor) if tensor.shape() != shape || !tensor.dtype().is_float() => {
                mismatch.differing.push(Differing {
                    name: name.clone(),
                    found: format!("{} {:?}", tensor.dtype(), tensor.shape()),
                    expected: format!("floats {shape:?}"),
                });
            }
            Some(tensor) => tensors.push(tensor.clone()),
        }
    }
    let names: HashMap<&str, &[usize]> =
        wanted.iter().map(|(name, shape)| (name.as_str(), &shape[..])).collect();
    let others = mapped.tensors.iter().map(Tensor::name).filter(|name| !names.contains_key(name));
    mismatch.unexpected = others.map(str::to_owned).collect();
    if mismatch.missing.is_empty() && mismatch.unexpected.is_empty() && mismatch.differing.is_empty() {
        return Ok(Fitted { tensors });
    }
    mismatch.hint = hint(&mapped.tensors, wanted);
    Err(Box::new(mismatch))
}

fn hint(file: &StateDict, wanted: &[(String, Vec<usize>)]) -> Option<String> {
    let found = Variant::of(file.iter().map(|tensor| (tensor.name(), tensor.shape())))?;
    let model = Variant::of(wanted.iter().map(|(name, shape)| (name.as_str(), &shape[..])))?;
    let same_but_window = Variant { window: model.window, ..found.clone() } == model;
    if found == model {
        None
    } else if same_but_window {
        Some(format!(
            "the file is for another window: it holds {found}, the model is {model}; its position bias tables can be resized"
        ))
    } else {
        let ask = found.name().map_or_else(String::new, |name| format!("; is the model `{name}`?"));
        Some(format!("the file holds {found}, the model is {model}{ask}"))
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (missing, unexpected, differing) =
            (self.missing.len(), self.unexpected.len(), self.differing.len());
        write!(
            f,
            "the weights do not fit the model, nothing was loaded: {missing} missing, {unexpected} unexpected, {differing} differing"
        )?;
        if let Some(hint) = &self.hint {
            write!(f, "\n{hint}")?;
        }
        for name in &self.missing {
            write!(f, "\n  missing     {name}")?;
        }
        for name in &self.unexpected {
            write!(f, "\n  unexpected  {name}")?;
        }
        for Differing { name, found, expected } in &self.differing {
            write!(f, "\n  differing   {name}: found {found}, expected {expected}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}
