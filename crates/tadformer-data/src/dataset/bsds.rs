//! The Berkeley segmentation data set: the outlines that several people drew of one picture.

use super::columns::rows_first;
use super::label::LabelFile;
use crate::annotators::{MAX_ANNOTATORS, drawn_by};
use crate::format::mat::{Document, Value};
use crate::{Error, Raster, Result};

/// The `Boundaries` in the cells of `groundTruth`, an annotator each: see [`annotators`](crate::annotators).
pub(super) fn boundaries(file: LabelFile<'_>) -> Result<Raster> {
    let document = Document::read(file.path)?;
    let truth =
        document.variable("groundTruth").map_err(|reason| Error::decode(file.path, "MATLAB 5", reason))?;
    let Value::Cell(cells) = &truth else {
        return Err(file.wrong(format!(
            "`groundTruth` is {}; expected a cell array with a struct for each annotator",
            truth.kind()
        )));
    };
    if !(1..=MAX_ANNOTATORS).contains(&cells.values.len()) {
        return Err(file.wrong(format!(
            "`groundTruth` has {} annotators; expected 1 to {MAX_ANNOTATORS}",
            cells.values.len()
        )));
    }
    let mut size = None;
    let mut who: Vec<u16> = Vec::new();
    for (k, cell) in cells.values.iter().enumerate() {
        let drawn = cell.as_struct().and_then(|annotation| annotation.get(0, "Boundaries"));
        let drawn = drawn.and_then(Value::as_numeric).filter(|drawn| drawn.dims.len() == 2);
        let Some(drawn) = drawn else {
            return Err(
                file.wrong(format!("cell {} of `groundTruth` has no matrix of numbers `Boundaries`", k + 1))
            );
        };
        let expected = size.get_or_insert_with(|| drawn.dims.clone());
        if drawn.dims != *expected {
            return Err(file.wrong(format!(
                "`Boundaries` of cell {} of `groundTruth` has size {:?}, that of cell 1 {expected:?}",
                k + 1,
                drawn.dims
            )));
        }
        who.resize(drawn.len(), 0);
        for (who, v) in who.iter_mut().zip(drawn.values()) {
            *who |= u16::from(v != 0.0) << k;
        }
    }
    let &[height, width] = size.as_deref().unwrap_or_default() else {
        return Err(file.wrong("`groundTruth` is empty"));
    };
    Ok(Raster { channels: 1, height, width, data: rows_first(&who, height, width, drawn_by) })
}
