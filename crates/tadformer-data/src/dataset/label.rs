//! Label files as label maps, by the encodings that a descriptor can name.

use std::cell::RefCell;
use std::path::Path;

use super::census::{Census, Why};
use super::class_png::{self, Form, Ids, Known, Taken};
use super::orientation::Sides;
use super::quantity::{metres, vectors};
use super::{bsds, cityscapes, pascal_context};
use crate::descriptor::{Encoding, Numbers, VectorsEncoding, ignored_ids};
use crate::format::label_png::{self, LabelPng, Samples};
use crate::format::npy::Npy;
use crate::format::read_bounded;
use crate::{Error, IGNORE, Raster, Result, Task};

/// The label files of one sample being read; remembers what two tasks share.
#[derive(Debug)]
pub(crate) struct LabelReader {
    /// The picture's, if it could be read.
    sides: Option<Sides>,
    /// The last region map read: PASCAL-Context's edges and normals both need it.
    regions: Option<pascal_context::Regions>,
    /// How the last label file was stored, if it was a PNG.
    pub(crate) form: Option<Form>,
    /// What the last file held, if that is wanted.
    census: Option<Census>,
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
    /// A reader of the labels of a picture with these sides; without them, of one that was not or could not be read.
    pub(crate) fn new(sides: Option<Sides>) -> Self {
        Self { sides, regions: None, form: None, census: None }
    }

    /// As [`new`](Self::new), and what each file holds is [kept](Self::take_census).
    pub(crate) fn counting(sides: Option<Sides>) -> Self {
        Self { census: Some(Census::default()), ..Self::new(sides) }
    }

    /// What the files read since the last call hold.
    pub(crate) fn take_census(&mut self) -> Census {
        self.census.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The sides that a label map must have, if they are known.
    pub(super) fn sides(&self) -> Option<Sides> {
        self.sides
    }

    /// Reads `file`, encoded as `encoding` says; some encodings need a second file, the companion.
    pub(super) fn read(
        &mut self,
        file: LabelFile<'_>,
        encoding: &Encoding,
        companion: Option<&Path>,
    ) -> Result<Raster> {
        let map = match encoding {
            Encoding::ClassIds { ids, ignore, numbers, ignore_colours } => {
                let ignored = ignored_ids(ids.as_deref(), ignore.as_deref());
                let read =
                    ClassIds { ids: ids.as_deref(), ignore: &ignored, numbers: *numbers, ignore_colours };
                return class_ids(file, &read, self.census.as_mut());
            }
            Encoding::Binary { threshold, full, ignore } => {
                return binary(file, *threshold, *full, ignore, self.census.as_mut());
            }
            Encoding::Vectors(encoding) => return vectors(file, encoding, self.census.as_mut()),
            Encoding::Metres(encoding) => return metres(file, encoding, self.census.as_mut()),
            Encoding::Disparity { baseline, focal, .. } => {
                let stereo = match companion {
                    Some(camera) => cityscapes::Stereo::read(camera)?,
                    None => cityscapes::Stereo { baseline: *baseline, focal: *focal },
                };
                cityscapes::depth_from_disparity(file, stereo)
            }
            Encoding::PascalParts => pascal_context::human_parts(file, self.sides.map(|sides| sides.size)),
            Encoding::BsdsBoundaries => bsds::boundaries(file),
            Encoding::LabelMapEdges => Ok(self.regions(file, file.path)?.edges()),
            Encoding::VectorsOnClasses { valid, .. } => {
                let mut map = vectors(file, &VectorsEncoding::default(), None)?;
                let region_map = companion.ok_or_else(|| file.wrong("there is no region map beside it"))?;
                self.regions(file, region_map)?.keep_only(valid, &mut map, file)?;
                Ok(map)
            }
            Encoding::PanopticParts { people } => cityscapes::human_parts(file, people),
        }?;
        if let Some(census) = &mut self.census {
            let pixels = map.plane(0).iter().filter(|&&v| v == IGNORE).count();
            census.unlabelled(Why::Format, pixels as u64);
        }
        Ok(map)
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
pub(super) enum Plane {
    Png(LabelPng),
    Npy { height: usize, width: usize, data: Vec<f32> },
}

/// A PNG or `.npy` with one number a pixel; which it is is told by its content.
pub(super) fn plane(file: LabelFile<'_>) -> Result<Plane> {
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
pub(super) fn levels(file: LabelFile<'_>, map: LabelPng) -> Result<LabelPng> {
    file.form.replace(Some(Form::of_levels(&map)));
    map.into_levels().map_err(|reason| file.wrong(reason))
}

/// What the numbers of a class map are.
struct ClassIds<'a> {
    /// The number of each class, where it is not the class itself.
    ids: Option<&'a [i32]>,
    /// Numbers without a label.
    ignore: &'a [i32],
    /// What of a PNG they are.
    numbers: Numbers,
    /// Colours without a label.
    ignore_colours: &'a [[u8; 3]],
}

/// Class numbers, mapped to `0..classes` and [`IGNORE`].
fn class_ids(file: LabelFile<'_>, read: &ClassIds<'_>, census: Option<&mut Census>) -> Result<Raster> {
    let &ClassIds { ids, ignore, numbers, ignore_colours } = read;
    let table = ClassTable::new(file.classes, ids, ignore);
    let mut stretched = "";
    let expected = |stretched: &str| match ids {
        Some(ids) => format!("one of the class ids {ids:?}, or {ignore:?} for no label{stretched}"),
        None => format!("a class in 0..={}, or {ignore:?} for no label{stretched}", file.classes - 1),
    };
    let plane = match plane(file)? {
        Plane::Png(map) => {
            let class = |id: usize| i32::try_from(id).map_or(f32::NAN, |id| table.class(id));
            let id = |class: usize| match ids {
                Some(ids) => usize::try_from(*ids.get(class)?).ok(),
                None => Some(class),
            };
            let known = Known {
                numbers,
                class_of: &|id| Some(class(id)).filter(|class| !class.is_nan()),
                ids: &id,
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
                Ids::Labels(map) => {
                    if let Some(census) = census {
                        let ignored = map.data.iter().filter(|&&v| v == IGNORE).count();
                        census.unlabelled(Why::IgnoredColour, ignored as u64);
                    }
                    return Ok(map);
                }
                Ids::Numbers(map) => Plane::Png(map),
            }
        }
        plane => plane,
    };
    // NaN marks the numbers that must not occur, so that the common path is one look-up a pixel.
    let check = |data: Vec<f32>, height, width, found: &dyn Fn(usize) -> f32| {
        if let Some(at) = data.iter().position(|v| v.is_nan()) {
            return Err(file.wrong_pixel(at, width, found(at), &expected(stretched)));
        }
        if let Some(census) = census {
            count(&data, found, census);
        }
        Ok(Raster { channels: 1, height, width, data })
    };
    match plane {
        Plane::Png(LabelPng { width, height, samples: Samples::U8(samples), .. }) => {
            let narrow: [f32; 256] = std::array::from_fn(|id| table.class(id as i32));
            let data = samples.iter().map(|&v| narrow[usize::from(v)]).collect();
            check(data, height, width, &|at| f32::from(samples[at]))
        }
        Plane::Png(LabelPng { width, height, samples: Samples::U16(samples), .. }) => {
            let data = samples.iter().map(|&v| table.class(i32::from(v))).collect();
            check(data, height, width, &|at| f32::from(samples[at]))
        }
        Plane::Png(_) => Err(file.wrong("pixels are colours; expected numbers")),
        Plane::Npy { height, width, data: found } => {
            // A fraction and NaN are no class number; what is beyond every number becomes the last of them.
            let class = |&v: &f32| if v.fract() == 0.0 { table.class(v as i32) } else { f32::NAN };
            let data = found.iter().map(class).collect();
            check(data, height, width, &|at| found[at])
        }
    }
}

/// Counts the numbers of a map, and those that mean "no label".
fn count(data: &[f32], found: &dyn Fn(usize) -> f32, census: &mut Census) {
    for (at, &label) in data.iter().enumerate() {
        census.number(found(at));
        if label == IGNORE {
            census.unlabelled(Why::Ignored(found(at)), 1);
        }
    }
}

/// The class of each number that may stand in a file.
struct ClassTable {
    /// The smallest number in the table.
    low: i32,
    /// Class of each number from there on: [`IGNORE`] for no label, NaN for numbers that must not occur.
    classes: Vec<f32>,
}

impl ClassTable {
    fn new(classes: usize, ids: Option<&[i32]>, ignore: &[i32]) -> Self {
        let id = |class: usize| ids.map_or(class as i32, |ids| ids[class]);
        let listed = || (0..classes).map(id).chain(ignore.iter().copied());
        let low = listed().min().unwrap_or(0);
        let high = listed().max().unwrap_or(0);
        // A descriptor's ids have at most 16 bits and a sign.
        let mut table = Self { low, classes: vec![f32::NAN; high.abs_diff(low) as usize + 1] };
        for class in 0..classes {
            table.set(id(class), class as f32);
        }
        for &id in ignore {
            table.set(id, IGNORE);
        }
        table
    }

    fn set(&mut self, id: i32, class: f32) {
        self.classes[id.abs_diff(self.low) as usize] = class;
    }

    fn class(&self, id: i32) -> f32 {
        let at = i64::from(id) - i64::from(self.low);
        usize::try_from(at).ok().and_then(|at| self.classes.get(at)).copied().unwrap_or(f32::NAN)
    }
}

/// 1 where the value is more than `threshold` of `full`, otherwise 0; the numbers of `ignore` are [`IGNORE`].
fn binary(
    file: LabelFile<'_>,
    threshold: f32,
    full: Option<f32>,
    ignore: &[f64],
    census: Option<&mut Census>,
) -> Result<Raster> {
    let ignore: Vec<f32> = ignore.iter().map(|&number| number as f32).collect();
    let label = |v: f32, full: f32| match ignore.contains(&v) {
        true => IGNORE,
        false => f32::from(u8::from(v / full > threshold)),
    };
    let counted = |data: Vec<f32>, height, width, found: &dyn Fn(usize) -> f32| {
        if let Some(census) = census {
            count(&data, found, census);
        }
        Ok(Raster { channels: 1, height, width, data })
    };
    match plane(file)? {
        Plane::Png(map) => {
            let map = levels(file, map)?;
            let full = full.unwrap_or(f32::from(map.max_value()));
            let (height, width) = (map.height, map.width);
            match map.samples {
                Samples::U8(samples) => {
                    let table: [f32; 256] = std::array::from_fn(|v| label(v as f32, full));
                    let data = samples.iter().map(|&v| table[usize::from(v)]).collect();
                    counted(data, height, width, &|at| f32::from(samples[at]))
                }
                Samples::U16(samples) => {
                    let data = samples.iter().map(|&v| label(f32::from(v), full)).collect();
                    counted(data, height, width, &|at| f32::from(samples[at]))
                }
                Samples::Rgb(_) => Err(file.wrong("pixels are colours; expected levels of grey")),
            }
        }
        Plane::Npy { height, width, data: found } => {
            let full = full.unwrap_or(1.0);
            if let Some(at) = found.iter().position(|v| !v.is_finite()) {
                return Err(file.wrong_pixel(at, width, found[at], "a finite number"));
            }
            let data = found.iter().map(|&v| label(v, full)).collect();
            counted(data, height, width, &|at| found[at])
        }
    }
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
