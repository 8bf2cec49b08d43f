//! Cityscapes: depth from disparity, and the parts of people from Panoptic Parts.

use std::path::Path;

use serde::Deserialize;

use super::label::LabelFile;
use super::quantity::valid_metres;
use crate::format::label_png::{self, Samples};
use crate::format::{read_bounded, tiff_ids};
use crate::{Error, IGNORE, Raster, Result};

/// What turns disparity into depth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stereo {
    /// Distance between the two cameras in metres.
    pub(super) baseline: f64,
    /// Focal length in pixels.
    pub(super) focal: f64,
}

impl Stereo {
    /// Reads a camera file of Cityscapes: JSON with `extrinsic.baseline` and `intrinsic.fx`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Camera {
            extrinsic: Extrinsic,
            intrinsic: Intrinsic,
        }
        #[derive(Deserialize)]
        struct Extrinsic {
            baseline: f64,
        }
        #[derive(Deserialize)]
        struct Intrinsic {
            fx: f64,
        }
        let wrong = |reason: String| Error::decode(path, "camera file", reason);
        let camera: Camera =
            serde_json::from_slice(&read_bounded(path)?).map_err(|e| wrong(e.to_string()))?;
        let stereo = Self { baseline: camera.extrinsic.baseline, focal: camera.intrinsic.fx };
        if stereo.baseline > 0.0 && stereo.focal > 0.0 {
            return Ok(stereo);
        }
        Err(wrong(format!("baseline {} and fx {}; expected more than 0", stereo.baseline, stereo.focal)))
    }
}

/// Depth in metres, `baseline · focal / d` with `d = (v − 1) / 256` pixels; 0 has no measurement, and neither has a
/// disparity of nothing.
pub(super) fn depth_from_disparity(file: LabelFile<'_>, stereo: Stereo) -> Result<Raster> {
    let map = label_png::read(file.path)?;
    let samples = match map.samples {
        Samples::U16(samples) => samples,
        // Nothing measured: a lossless optimiser leaves no more than a bit of 16 zeros.
        Samples::U8(samples) if map.palette.is_none() && samples.iter().all(|&v| v == 0) => {
            vec![0; samples.len()]
        }
        _ => return Err(file.wrong(format!("{} bits a pixel; disparities have 16", map.bits))),
    };
    let product = stereo.baseline * stereo.focal * 256.0;
    let depth = |v: u16| match v {
        0 | 1 => IGNORE,
        _ => valid_metres((product / f64::from(v - 1)) as f32).unwrap_or(IGNORE),
    };
    let data = samples.into_iter().map(depth).collect();
    Ok(Raster { channels: 1, height: map.height, width: map.width, data })
}

/// The parts of people: 0 everything else, 1 torso, 2 head, 3 arms, 4 legs; [`IGNORE`] on a person whose part nobody
/// named.
///
/// Panoptic Parts writes `class`, `class·1000 + instance` or `class·100000 + instance·100 + part` into each pixel
/// (Part-aware Panoptic Segmentation, arXiv 2106.06351).
pub(super) fn human_parts(file: LabelFile<'_>, people: &[u32]) -> Result<Raster> {
    let map = tiff_ids::read(file.path)?;
    let mut data = Vec::with_capacity(map.ids.len());
    for (at, &id) in map.ids.iter().enumerate() {
        let (class, part) = match id {
            0..=99 => (id, 0),
            100..=99_999 => (id / 1000, 0),
            100_000..=9_999_999 => (id / 100_000, id % 100),
            _ => return Err(file.wrong_pixel(at, map.width, id, "an id of at most seven digits")),
        };
        data.push(match (people.contains(&class), part) {
            (false, _) => 0.0,
            (true, 0) => IGNORE,
            (true, 1..=4) => part as f32,
            (true, _) => return Err(file.wrong_pixel(at, map.width, id, "part 0 to 4 of a person")),
        });
    }
    Ok(Raster { channels: 1, height: map.height, width: map.width, data })
}
