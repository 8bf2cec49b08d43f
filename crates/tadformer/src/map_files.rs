//! The maps of a picture as files, made and written some rows at a time.

use crate::{CoarseLogits, Predictor, Result};
use rayon::prelude::*;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tadformer_data::draw::{Compared, MAX_MILLIMETRES, MapFile, Picture, Range, compare, fit};
use tadformer_data::format::npy::NpyWriter;
use tadformer_data::format::picture::Photo;
use tadformer_data::{Drawing, LabelKind, Raster, TaskSpec};
use tadformer_weights::SafetensorsWriter;

/// Longest side of a picture in the panel, pixels.
const PANEL_SIDE: usize = 640;

/// How logits are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawFormat {
    /// `NAME.safetensors`, one tensor `(b, c, h, w)` a task.
    Safetensors,
    /// `NAME_TASK.npy`, an array a task: `(c, h, w)` of a picture.
    Npy,
}

/// Where the maps of one picture go.
#[derive(Debug, Clone, Copy)]
pub struct MapFiles<'a> {
    /// Their folder.
    pub folder: &'a Path,
    /// What their names begin with.
    pub name: &'a OsStr,
    /// Whether logits are written, too, and how.
    pub raw: Option<RawFormat>,
}

impl MapFiles<'_> {
    /// Predicts `picture` and writes its maps at its size, [`MapFile`]s called `NAME_TASK.png`; for the eye `NAME_TASK_colour.png`
    /// of each quantity, and `NAME_panel.png`, which has all of them beside the picture, each within 640 × 640 pixels. Gives
    /// a sentence for everything that a file could not hold.
    ///
    /// Beside the picture and the network, memory holds some rows of each map: what is needed does not grow with the
    /// picture's height.
    ///
    /// # Errors
    /// A picture that cannot be predicted, a folder that cannot be written to.
    pub fn write(&self, predictor: &Predictor, picture: &Photo) -> Result<Vec<String>> {
        let coarse = predictor.coarse(picture)?;
        let specs = predictor.tasks();
        let size = (picture.height, picture.width);
        let ranges = self.write_panel(&coarse, specs, picture)?;
        let tensors: Vec<_> =
            specs.iter().map(|spec| (spec.task.name, vec![1, spec.outputs, size.0, size.1])).collect();
        let safetensors = match self.raw {
            Some(RawFormat::Safetensors) => {
                Some(Mutex::new(SafetensorsWriter::create(self.path(".safetensors"), &tensors)?))
            }
            Some(RawFormat::Npy) | None => None,
        };
        let write = |(index, (spec, range)): (usize, (&TaskSpec, &Range))| {
            self.write_map(&coarse, index, spec, *range, size, safetensors.as_ref())
        };
        let notes: Vec<Option<String>> =
            specs.par_iter().zip(&ranges).enumerate().map(write).collect::<Result<_>>()?;
        if let Some(file) = safetensors {
            file.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
        }
        Ok(notes.into_iter().flatten().collect())
    }

    /// Draws the panel, and gives the range of each map.
    fn write_panel(&self, coarse: &CoarseLogits, specs: &[TaskSpec], picture: &Photo) -> Result<Vec<Range>> {
        let size = fit((picture.height, picture.width), PANEL_SIDE);
        let maps: Vec<Raster> = coarse.activated(Some(size))?.into_iter().flatten().collect();
        let compared: Vec<_> = specs
            .iter()
            .zip(&maps)
            .map(|(spec, map)| Compared { spec, prediction: Some(map), label: None })
            .collect();
        compare(&Picture::thumbnail(picture, size), &compared)?.save_png(self.path("_panel.png"))?;
        Ok(maps.iter().map(Range::of).collect())
    }

    /// One task's files, all in one pass over its rows.
    fn write_map(
        &self,
        coarse: &CoarseLogits,
        index: usize,
        spec: &TaskSpec,
        range: Range,
        size: (usize, usize),
        safetensors: Option<&Mutex<SafetensorsWriter>>,
    ) -> Result<Option<String>> {
        let name = spec.task.name;
        let mut map = MapFile::create(self.path(&format!("_{name}.png")), spec, size)?;
        let mut coloured = match spec.task.drawing {
            Drawing::ColourMap => {
                Some(MapFile::coloured(self.path(&format!("_{name}_colour.png")), spec, size, range)?)
            }
            Drawing::Palette | Drawing::Grey | Drawing::Vector => None,
        };
        let mut array = match self.raw {
            Some(RawFormat::Npy) => {
                let shape = [spec.outputs, size.0, size.1];
                Some(NpyWriter::create(self.path(&format!("_{name}.npy")), &shape)?)
            }
            Some(RawFormat::Safetensors) | None => None,
        };
        coarse.each_strip(index, size, |first, logits, rows| {
            map.push(rows)?;
            if let Some(coloured) = &mut coloured {
                coloured.push(rows)?;
            }
            for channel in 0..logits.channels {
                let start = (channel * size.0 + first) * size.1;
                if let Some(array) = &mut array {
                    array.write(start, logits.plane(channel))?;
                }
                if let Some(file) = safetensors {
                    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                    file.write(name, start, logits.plane(channel))?;
                }
            }
            Ok(())
        })?;
        let beyond = map.finish()?;
        coloured.map(MapFile::finish).transpose()?;
        array.map(NpyWriter::finish).transpose()?;
        let cut = spec.task.label == LabelKind::Metres && beyond > 0;
        let farthest = f64::from(MAX_MILLIMETRES) / 1000.0;
        Ok(cut.then(|| {
            format!(
                "{beyond} pixels of `{name}` are farther than the {farthest} m that 16 bits of millimetres hold, and are \
                 written as that; `--raw npy` has them"
            )
        }))
    }

    /// The file whose name ends so.
    fn path(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(self.name);
        name.push(ending);
        self.folder.join(name)
    }
}
