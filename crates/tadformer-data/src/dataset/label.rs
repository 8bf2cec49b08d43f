//! Label files as label maps, by the encodings that a descriptor can name.

use std::cell::RefCell;
use std::path::Path;

use super::class_png::{self, Form, Ids, Known, Taken};
use super::{bsds, cityscapes, pascal_context};
use crate::descriptor::{Encoding, Numbers};
use crate::format::label_png::{self, LabelPng, Samples};
use crate::format::npy::Npy;
use crate::format::{picture, read_bounded};
use crate::{Error, IGNORE, Raster, Result, Task};

/// The label files of one sample being read; remembers what two tasks share.
#[derive(Debug)]
pub(crate) struct LabelReader {
    /// Rows and columns of the picture, if it could be read.
    size: Option<(usize, usize)>,
    /// The last region map read: PASCAL-Context's edges and normals both need it.
    regions: Option<pascal_context::Regions>,
    /// How the last label file was stored, if it was a PNG.
    pub(crate) form: Option<Form>,
}

/// One label file and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabelFile<'a> {
    /// Its path.
    pub(super) path: &'a Path,
    /// What it labels.
    pub(super) task: Task,
    /// How many classes the task has.
    pub(super) classes: usize,
    /// The colour of each class.
    pub(super) palette: &'a [[u8; 3]],
    /// Where to say how a PNG was stored.
    pub(super) form: &'a RefCell<Option<Form>>,
}

impl LabelFile<'_> {
    /// An error that names the file and its task.
    pub(super) fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Label { path: self.path.to_owned(), task: self.task.name, reason: reason.into() }
    }

    /// An error that names a pixel, too.
    pub(super) fn wrong_pixel(
        &self,
        index: usize,
        width: usize,
        value: impl std::fmt::Display,
        expected: &str,
    ) -> Error {
        let (x, y) = (index % width.max(1), index / width.max(1));
        self.wrong(format!("pixel (x {x}, y {y}) is {value}; expected {expected}"))
    }
}

impl LabelReader {
    /// A reader of the labels of a picture of `size`; without a size, of one that could not be read.
    pub(crate) fn new(size: Option<(usize, usize)>) -> Self {
        Self { size, regions: None, form: None }
    }

    /// Rows and columns that a label map must have, if they are known.
    pub(super) fn size(&self) -> Option<(usize, usize)> {
        self.size
    }

    /// Reads `file`, encoded as `encoding` says; some encodings need a second file, the companion.
    pub(super) fn read(
        &mut self,
        file: LabelFile<'_>,
        encoding: &Encoding,
        companion: Option<&Path>,
    ) -> Result<Raster> {
        match encoding {
            Encoding::ClassIds { ids, ignore, numbers, ignore_colours } => {
                class_ids(file, ids.as_deref(), ignore, *numbers, ignore_colours)
            }
            Encoding::Binary { threshold, full } => binary(file, *threshold, *full),
            Encoding::Vectors => vectors(file),
            Encoding::Metres { scale } => metres(file, *scale),
            Encoding::Disparity { baseline, focal, .. } => {
                let stereo = match companion {
                    Some(camera) => cityscapes::Stereo::read(camera)?,
                    None => cityscapes::Stereo { baseline: *baseline, focal: *focal },
                };
                cityscapes::depth_from_disparity(file, stereo)
            }
            Encoding::PascalParts => pascal_context::human_parts(file, self.size),
            Encoding::BsdsBoundaries => bsds::boundaries(file),
            Encoding::LabelMapEdges => Ok(self.regions(file, file.path)?.edges()),
            Encoding::VectorsOnClasses { valid, .. } => {
                let mut map = vectors(file)?;
                let region_map = companion.ok_or_else(|| file.wrong("there is no region map beside it"))?;
                self.regions(file, region_map)?.keep_only(valid, &mut map, file)?;
                Ok(map)
            }
            Encoding::PanopticParts { people } => cityscapes::human_parts(file, people),
        }
    }

    fn regions(&mut self, file: LabelFile<'_>, path: &Path) -> Result<&pascal_context::Regions> {
        if self.regions.as_ref().is_none_or(|regions| regions.path != path) {
            self.regions = None;
            self.regions = Some(pascal_context::Regions::read(LabelFile { path, ..file })?);
        }
        Ok(self.regions.as_ref().expect("it was read in the lines above"))
    }
}

/// Numbers of a file, one a pixel.
enum Plane {
    Png(LabelPng),
    Npy { height: usize, width: usize, data: Vec<f32> },
}

/// A PNG or `.npy` with one number a pixel; which it is is told by its content.
fn plane(file: LabelFile<'_>) -> Result<Plane> {
    let bytes = read_bounded(file.path)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        let map = label_png::parse(&bytes).map_err(|reason| Error::decode(file.path, "label PNG", reason))?;
        return Ok(Plane::Png(map));
    }
    let array = Npy::parse(bytes).map_err(|reason| Error::decode(file.path, "NumPy array", reason))?;
    let &([height, width] | [height, width, 1] | [1, height, width]) = array.shape.as_slice() else {
        return Err(file.wrong(format!("an array of shape {:?}; expected (height, width)", array.shape)));
    };
    Ok(Plane::Npy { height, width, data: array.to_f32() })
}

/// The levels of grey that a PNG shows.
fn levels(file: LabelFile<'_>, map: LabelPng) -> Result<LabelPng> {
    file.form.replace(Some(Form::of_levels(&map)));
    map.into_levels().map_err(|reason| file.wrong(reason))
}

/// Class numbers, mapped to `0..classes` and [`IGNORE`].
fn class_ids(
    file: LabelFile<'_>,
    ids: Option<&[u32]>,
    ignore: &[u32],
    numbers: Numbers,
    ignore_colours: &[[u8; 3]],
) -> Result<Raster> {
    let table = class_table(file.classes, ids, ignore);
    let mut stretched = "";
    let expected = |stretched: &str| match ids {
        Some(ids) => format!("one of the class ids {ids:?}, or {ignore:?} for no label{stretched}"),
        None => format!("a class in 0..={}, or {ignore:?} for no label{stretched}", file.classes - 1),
    };
    // NaN marks the numbers that must not occur, so that the common path is one look-up a pixel.
    let look_up = |value: usize| table.get(value).copied().unwrap_or(f32::NAN);
    let plane = match plane(file)? {
        Plane::Png(map) => {
            let known = Known {
                numbers,
                class_of: &|id| table.get(id).copied().filter(|class| !class.is_nan()),
                ids: &|class| ids.map_or(Some(class), |ids| ids.get(class).map(|&id| id as usize)),
                palette: file.palette,
                ignore_colours,
            };
            let (ids, form) = class_png::read(map, &known).map_err(|reason| file.wrong(reason))?;
            if form.taken == Taken::StretchedGrey {
                stretched =
                    "; samples of fewer than 8 bits stand for levels of 8, unless `numbers` is \"stored\"";
            }
            file.form.replace(Some(form));
            match ids {
                Ids::Labels(map) => return Ok(map),
                Ids::Numbers(map) => Plane::Png(map),
            }
        }
        plane => plane,
    };
    let check = |data: Vec<f32>, height, width, found: &dyn Fn(usize) -> f32| match data
        .iter()
        .position(|v| v.is_nan())
    {
        Some(at) => Err(file.wrong_pixel(at, width, found(at), &expected(stretched))),
        None => Ok(Raster { channels: 1, height, width, data }),
    };
    match plane {
        Plane::Png(LabelPng { width, height, samples: Samples::U8(samples), .. }) => {
            let narrow: [f32; 256] = std::array::from_fn(look_up);
            let data = samples.iter().map(|&v| narrow[usize::from(v)]).collect();
            check(data, height, width, &|at| f32::from(samples[at]))
        }
        Plane::Png(LabelPng { width, height, samples: Samples::U16(samples), .. }) => {
            let data = samples.iter().map(|&v| look_up(usize::from(v))).collect();
            check(data, height, width, &|at| f32::from(samples[at]))
        }
        Plane::Png(_) => Err(file.wrong("pixels are colours; expected numbers")),
        Plane::Npy { height, width, data: found } => {
            // A fraction, a negative number and NaN are all no table index.
            let whole = |v: f32| (v >= 0.0 && v.fract() == 0.0).then_some(v as usize);
            let data = found.iter().map(|&v| whole(v).map_or(f32::NAN, look_up)).collect();
            check(data, height, width, &|at| found[at])
        }
    }
}

/// Class of each number in the file: [`IGNORE`] for no label, NaN for numbers that must not occur.
fn class_table(classes: usize, ids: Option<&[u32]>, ignore: &[u32]) -> Vec<f32> {
    let listed = ids.unwrap_or_default().iter().chain(ignore).copied().max().unwrap_or(0) as usize;
    let mut table = vec![f32::NAN; listed.max(classes).min(65_535) + 1];
    for class in 0..classes {
        let id = ids.map_or(class, |ids| ids[class] as usize);
        if let Some(entry) = table.get_mut(id) {
            *entry = class as f32;
        }
    }
    for &id in ignore {
        if let Some(entry) = table.get_mut(id as usize) {
            *entry = IGNORE;
        }
    }
    table
}

/// 1 where the value is more than `threshold` of `full`, otherwise 0.
fn binary(file: LabelFile<'_>, threshold: f32, full: Option<f32>) -> Result<Raster> {
    match plane(file)? {
        Plane::Png(map) => {
            let map = levels(file, map)?;
            let full = full.unwrap_or(f32::from(map.max_value()));
            let positive = |v: u16| f32::from(u8::from(f32::from(v) / full > threshold));
            let data = match map.samples {
                Samples::U8(samples) => {
                    let table: [f32; 256] = std::array::from_fn(|v| positive(v as u16));
                    samples.into_iter().map(|v| table[usize::from(v)]).collect()
                }
                Samples::U16(samples) => samples.into_iter().map(positive).collect(),
                Samples::Rgb(_) => return Err(file.wrong("pixels are colours; expected levels of grey")),
            };
            Ok(Raster { channels: 1, height: map.height, width: map.width, data })
        }
        Plane::Npy { height, width, mut data } => {
            let full = full.unwrap_or(1.0);
            if let Some(at) = data.iter().position(|v| !v.is_finite()) {
                return Err(file.wrong_pixel(at, width, data[at], "a finite number"));
            }
            for v in &mut data {
                *v = f32::from(u8::from(*v / full > threshold));
            }
            Ok(Raster { channels: 1, height, width, data })
        }
    }
}

/// Unit vectors; a zero or non-finite vector is [`IGNORE`] in all three channels.
fn vectors(file: LabelFile<'_>) -> Result<Raster> {
    let bytes = read_bounded(file.path)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        let picture = picture::parse(&bytes, picture::Orientation::AsStored)
            .map_err(|reason| Error::decode(file.path, "picture of vectors", reason))?;
        // No byte stands for zero, so every pixel has a vector.
        return Ok(picture.map_channels(|byte| (2.0 * f64::from(byte) / 255.0 - 1.0) as f32));
    }
    let array = Npy::parse(bytes).map_err(|reason| Error::decode(file.path, "NumPy array", reason))?;
    let &[height, width, 3] = array.shape.as_slice() else {
        return Err(file.wrong(format!("an array of shape {:?}; expected (height, width, 3)", array.shape)));
    };
    let mut map = Raster::filled(3, height, width, IGNORE);
    let size = height * width;
    for (i, vector) in array.to_f32().as_chunks::<3>().0.iter().enumerate() {
        if vector.iter().all(|v| v.is_finite()) && vector.iter().any(|&v| v != 0.0) {
            if let Some(&v) = vector.iter().find(|v| v.abs() > 1.5) {
                return Err(file.wrong_pixel(i, width, v, "unit vectors with components in -1..=1"));
            }
            for (c, &v) in vector.iter().enumerate() {
                map.data[c * size + i] = v;
            }
        }
    }
    Ok(map)
}

/// Distances; what is no positive distance below [`IGNORE`] metres is [`IGNORE`].
fn metres(file: LabelFile<'_>, scale: f64) -> Result<Raster> {
    let (height, width, mut data) = match plane(file)? {
        Plane::Png(map) => {
            let map = levels(file, map)?;
            let data = match map.samples {
                Samples::U8(samples) => samples.into_iter().map(f32::from).collect(),
                Samples::U16(samples) => samples.into_iter().map(f32::from).collect::<Vec<_>>(),
                Samples::Rgb(_) => return Err(file.wrong("pixels are colours; expected levels of grey")),
            };
            (map.height, map.width, data)
        }
        Plane::Npy { height, width, data } => (height, width, data),
    };
    let unit = Unit::new(scale);
    for v in &mut data {
        *v = valid_metres(unit.apply(*v));
    }
    Ok(Raster { channels: 1, height, width, data })
}

/// A scale that divides where that is exact: `v / 1000`, not `v * 0.001`.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Times(f32),
    Over(f32),
}

impl Unit {
    fn new(scale: f64) -> Self {
        let inverse = (1.0 / scale).round();
        if scale < 1.0 && (1.0 / inverse - scale).abs() < 1e-12 * scale {
            Self::Over(inverse as f32)
        } else {
            Self::Times(scale as f32)
        }
    }

    fn apply(self, value: f32) -> f32 {
        match self {
            Self::Times(scale) => value * scale,
            Self::Over(scale) => value / scale,
        }
    }
}

/// The distance itself, or [`IGNORE`] for NaN, infinity, zero, a negative one, and one of 255 m or more.
pub(super) fn valid_metres(metres: f32) -> f32 {
    if metres > 0.0 && metres < IGNORE { metres } else { IGNORE }
}

/// `map` at another size: the value of pixel `floor(i · n / o)` on either axis, as OpenCV's nearest.
pub(super) fn resize_nearest(map: &Raster, (height, width): (usize, usize)) -> Raster {
    let mut out = Raster::filled(map.channels, height, width, 0.0);
    for c in 0..map.channels {
        let source = map.plane(c);
        let target = out.plane_mut(c);
        for (y, row) in target.chunks_exact_mut(width.max(1)).enumerate() {
            let from = y * map.height / height * map.width;
            for (x, v) in row.iter_mut().enumerate() {
                *v = source[from + x * map.width / width];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
