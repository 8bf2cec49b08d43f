//! PASCAL-Context as multi-task learning uses it: human parts of PASCAL-Part, outlines and validity from its region map.

use std::path::{Path, PathBuf};

use super::columns;
use super::label::LabelFile;
use super::thin::thin;
use crate::format::mat::{Document, StructArray, Value};
use crate::{Error, IGNORE, Raster, Result};

/// The number of the class "person".
const PERSON: f64 = 15.0;

/// Which of the six parts (1 head, 2 torso, 3 upper arm, 4 lower arm, 5 upper leg, 6 lower leg) each of the 24 parts
/// of a person in PASCAL-Part belongs to.
const PARTS: [(&str, u8); 24] = [
    ("head", 1),
    ("hair", 1),
    ("leye", 1),
    ("reye", 1),
    ("lear", 1),
    ("rear", 1),
    ("lebrow", 1),
    ("rebrow", 1),
    ("nose", 1),
    ("mouth", 1),
    ("neck", 2),
    ("torso", 2),
    ("luarm", 3),
    ("ruarm", 3),
    ("llarm", 4),
    ("rlarm", 4),
    ("lhand", 4),
    ("rhand", 4),
    ("luleg", 5),
    ("ruleg", 5),
    ("llleg", 6),
    ("rlleg", 6),
    ("lfoot", 6),
    ("rfoot", 6),
];

/// The parts of all people in a picture of `size` (without it, of the objects' own size): 0 background, then as [`PARTS`] numbers them.
///
/// Later objects and parts lie over earlier ones. A person without parts leaves nothing.
pub(super) fn human_parts(file: LabelFile<'_>, size: Option<(usize, usize)>) -> Result<Raster> {
    let document = Document::read(file.path)?;
    let decode = |reason| Error::decode(file.path, "MATLAB 5", reason);
    let anno = document.variable("anno").map_err(decode)?;
    let objects = anno.as_struct().and_then(|anno| anno.get(0, "objects"));
    let size = size.or_else(|| first_mask_size(objects?)).unwrap_or_default();
    let (height, width) = size;
    // Masks come columns first; they are merged so and turned once at the end.
    let mut merged = vec![0; height * width];
    match objects {
        Some(Value::Struct(objects)) => {
            for k in 0..objects.len() {
                merge_object(file, objects, k, size, &mut merged)?;
            }
        }
        Some(empty) if empty.is_empty() => {}
        Some(other) => {
            return Err(file.wrong(format!("`anno.objects` is {}; expected a struct array", other.kind())));
        }
        None => {
            return Err(file.wrong(format!("`anno` is {} without `objects`; expected a struct", anno.kind())));
        }
    }
    Ok(rows_first(&merged, height, width, f32::from))
}

/// Rows and columns of the first object.
fn first_mask_size(objects: &Value<'_>) -> Option<(usize, usize)> {
    match objects.as_struct()?.get(0, "mask")?.as_numeric()?.dims.as_slice() {
        &[height, width] => Some((height, width)),
        _ => None,
    }
}

fn merge_object(
    file: LabelFile<'_>,
    objects: &StructArray<'_>,
    k: usize,
    size: (usize, usize),
    merged: &mut [u8],
) -> Result<()> {
    if let Some(mask) = objects.get(k, "mask").and_then(Value::as_numeric).filter(|mask| !mask.is_empty()) {
        check_size(file, &mask.dims, size, || format!("object {k}"))?;
    }
    let class = objects.get(k, "class_ind").and_then(Value::as_scalar);
    let class = class.ok_or_else(|| file.wrong(format!("object {k} has no number in `class_ind`")))?;
    if class != PERSON {
        return Ok(());
    }
    let parts = match objects.get(k, "parts") {
        Some(Value::Struct(parts)) => parts,
        Some(empty) if empty.is_empty() => return Ok(()),
        _ => return Err(file.wrong(format!("object {k} has no struct array in `parts`"))),
    };
    for j in 0..parts.len() {
        let name = parts.get(j, "part_name").and_then(Value::as_text);
        let name = name.ok_or_else(|| file.wrong(format!("part {j} of object {k} has no `part_name`")))?;
        let Some(&(_, class)) = PARTS.iter().find(|(part, _)| *part == name) else {
            let known: Vec<_> = PARTS.iter().map(|(part, _)| *part).collect();
            return Err(file
                .wrong(format!("unknown part `{name}` of a person; expected one of {}", known.join(", "))));
        };
        let mask = parts.get(j, "mask").and_then(Value::as_numeric);
        let mask =
            mask.ok_or_else(|| file.wrong(format!("part `{name}` of object {k} has no numeric `mask`")))?;
        check_size(file, &mask.dims, size, || format!("part `{name}` of object {k}"))?;
        match mask.as_bytes() {
            Some(bytes) => paint(bytes, class, merged),
            None => {
                for (target, v) in merged.iter_mut().zip(mask.values()) {
                    if v != 0.0 {
                        *target = class;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Masks are as large as the picture.
fn check_size(
    file: LabelFile<'_>,
    found: &[usize],
    (height, width): (usize, usize),
    what: impl Fn() -> String,
) -> Result<()> {
    if found == [height, width] {
        return Ok(());
    }
    Err(file.wrong(format!(
        "the mask of {} has size {found:?}, the picture is {height} rows by {width} columns",
        what()
    )))
}

/// Writes `class` where `mask` is not zero. Masks are mostly empty, so 64 pixels are tested at once.
fn paint(mask: &[u8], class: u8, merged: &mut [u8]) {
    let write = |mask: &[u8], target: &mut [u8]| {
        for (t, &v) in target.iter_mut().zip(mask) {
            *t = if v == 0 { *t } else { class };
        }
    };
    let (blocks, rest) = mask.as_chunks::<64>();
    let (targets, last) = merged.split_at_mut(blocks.as_flattened().len());
    for (block, target) in blocks.iter().zip(targets.as_chunks_mut::<64>().0) {
        if block.iter().fold(0, |any, v| any | v) != 0 {
            write(block, target);
        }
    }
    write(rest, last);
}

/// Which of the 459 classes (0 unknown) each pixel belongs to, rows first.
#[derive(Debug)]
pub(super) struct Regions {
    pub(super) path: PathBuf,
    height: usize,
    width: usize,
    classes: Vec<u16>,
}

impl Regions {
    /// Reads `LabelMap` of a `.mat` of PASCAL-Context.
    pub(super) fn read(file: LabelFile<'_>) -> Result<Self> {
        let path: &Path = file.path;
        let document = Document::read(path)?;
        let decode = |reason| Error::decode(path, "MATLAB 5", reason);
        let map = document.variable("LabelMap").map_err(decode)?;
        let Some(map) = map.as_numeric().filter(|map| map.dims.len() == 2) else {
            return Err(file.wrong(format!("`LabelMap` is {}; expected a matrix of numbers", map.kind())));
        };
        let (height, width) = (map.dims[0], map.dims[1]);
        let columns = map.to_u16().map_err(|reason| file.wrong(format!("`LabelMap`: {reason}")))?;
        let classes = columns::rows_first(&columns, height, width, |class| class);
        Ok(Self { path: path.to_owned(), height, width, classes })
    }

    /// 1 on the thinned set of pixels where the Laplacian of the class numbers is not zero, otherwise 0.
    ///
    /// The Laplacian is `l + r + u + d − 4 c`; beyond the border the picture is mirrored about its last pixel.
    pub(super) fn edges(&self) -> Raster {
        let (height, width) = (self.height, self.width);
        let mirror = |i: usize, n: usize| -> (usize, usize) {
            let before = if i == 0 { 1.min(n - 1) } else { i - 1 };
            let after = if i + 1 == n { n.saturating_sub(2) } else { i + 1 };
            (before, after)
        };
        let laplacian = |left: u16, right: u16, up: u16, down: u16, centre: u16| {
            i32::from(left) + i32::from(right) + i32::from(up) + i32::from(down) - 4 * i32::from(centre)
        };
        let mut edge = vec![0u8; height * width];
        for (y, target) in edge.chunks_exact_mut(width.max(1)).enumerate() {
            let (up, down) = mirror(y, height);
            let row = |y: usize| &self.classes[y * width..][..width];
            let (up, here, down) = (row(up), row(y), row(down));
            for x in [0, width - 1] {
                let (left, right) = mirror(x, width);
                target[x] = u8::from(laplacian(here[left], here[right], up[x], down[x], here[x]) != 0);
            }
            // Zipped and not indexed, so that whole vectors of pixels are compared.
            let centres = here[1..].iter().zip(&up[1..]).zip(&down[1..]);
            let sides = here.iter().zip(here.get(2..).unwrap_or_default());
            for ((target, ((centre, up), down)), (left, right)) in
                target[1..].iter_mut().zip(centres).zip(sides)
            {
                *target = u8::from(laplacian(*left, *right, *up, *down, *centre) != 0);
            }
        }
        thin(&mut edge, height, width);
        Raster { channels: 1, height, width, data: edge.into_iter().map(f32::from).collect() }
    }

    /// Sets `map` to [`IGNORE`] where the class is not one of `valid`.
    pub(super) fn keep_only(&self, valid: &[u16], map: &mut Raster, file: LabelFile<'_>) -> Result<()> {
        if (map.height, map.width) != (self.height, self.width) {
            return Err(file.wrong(format!(
                "{} rows by {} columns, the region map `{}` has {} by {}",
                map.height,
                map.width,
                self.path.display(),
                self.height,
                self.width
            )));
        }
        let mut table = vec![false; 1 << 16];
        for &class in valid {
            table[usize::from(class)] = true;
        }
        let kept: Vec<bool> = self.classes.iter().map(|&class| table[usize::from(class)]).collect();
        for c in 0..map.channels {
            for (v, &keep) in map.plane_mut(c).iter_mut().zip(&kept) {
                *v = if keep { *v } else { IGNORE };
            }
        }
        Ok(())
    }
}

fn rows_first(columns: &[u8], height: usize, width: usize, value: impl Fn(u8) -> f32) -> Raster {
    let data = columns::rows_first(columns, height, width, value);
    Raster { channels: 1, height, width, data }
}

#[cfg(test)]
mod tests;
