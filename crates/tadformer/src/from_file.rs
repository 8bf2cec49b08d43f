//! Tensors of weight files as candle's: every number that a file brings into a model or an optimiser comes this way.
//!
//! A NaN spreads over whatever is computed from it, so a file that has one is refused here, before anything is built or
//! written. The numbers are looked at while they are converted.

use crate::{Error, Result};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::Path;
use tadformer_weights::StateDict;

/// Tensors listed in an error; a training that diverged spoils all of them.
const LISTED: usize = 3;

/// One tensor, `f32` in main memory.
///
/// # Errors
/// A number that is not finite.
pub(crate) fn to_candle(tensor: &tadformer_weights::Tensor) -> Result<Tensor> {
    Ok(Tensor::from_vec(tensor.to_finite_f32()?, tensor.shape(), &Device::Cpu)?)
}

/// [`to_candle`] of many tensors, by name.
///
/// # Errors
/// As [`to_candle`].
pub(crate) fn all_to_candle<'a>(
    tensors: impl IntoParallelIterator<Item = &'a tadformer_weights::Tensor>,
) -> Result<HashMap<String, Tensor>> {
    let named = |tensor: &tadformer_weights::Tensor| Ok((tensor.name().to_owned(), to_candle(tensor)?));
    tensors.into_par_iter().map(named).collect()
}

/// Makes of a refused number the error of its file: all its tensors that have such numbers, by their names there.
pub(crate) fn refused(path: &Path, file: &StateDict) -> impl FnOnce(Error) -> Error {
    move |error| {
        let Error::Weights(tadformer_weights::Error::NotFinite(refused)) = error else { return error };
        let mut found: Vec<_> =
            file.iter().as_slice().par_iter().filter_map(tadformer_weights::Tensor::not_finite).collect();
        if found.is_empty() {
            found.push(refused);
        }
        let listed: Vec<String> = found.iter().take(LISTED).map(ToString::to_string).collect();
        let more = match found.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!("; so do {more} more tensors"),
        };
        Error::file(
            path,
            format!(
                "cannot use its numbers: {}{more}. A training that diverged writes such files, and so does an overflow \
                 in half precision: take an earlier checkpoint, or the published file again",
                listed.join("; ")
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tadformer_weights::Tensor as Weight;

    #[test]
    fn the_error_names_the_file_and_its_tensors() {
        let mut file = StateDict::new();
        for (i, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            let value = if i == 0 { 1.0 } else { f32::NAN };
            file.insert(Weight::from_f32(name, vec![1, 2], &[0.0, value]).unwrap()).unwrap();
        }
        let error = all_to_candle(file.iter().as_slice()).unwrap_err();
        let message = refused(Path::new("swin.pth"), &file)(error).to_string();
        assert!(
            message.starts_with("`swin.pth`: cannot use its numbers: 1 of the 2 numbers of `b`"),
            "{message}"
        );
        assert!(message.contains("the first is NaN at [0, 1]"), "{message}");
        assert!(message.contains("; so do 1 more tensors"), "{message}");
    }

    #[test]
    fn another_error_stays_what_it_was() {
        let error = refused(Path::new("swin.pth"), &StateDict::new())(Error::Config("x".to_owned()));
        assert_eq!(error.to_string(), "configuration: x");
    }
}
