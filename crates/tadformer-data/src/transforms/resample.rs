//! Warp and resize in one pass over a sample: no map of the size between the two is ever written.

use std::ops::Range;

use super::Draw;
use super::cubic::{LANES, interleave, lane_groups, split};
use super::ignore::each_vector;
use super::resize::{self, CubicResize};
use super::scale_rotate::{CubicWarp, Grid, OUTSIDE};
use crate::{LabelKind, Raster, Sample};

/// Turns and magnifies a sample as drawn, then brings it to `size` (height, width), or leaves its size.
///
/// Picture and normals are interpolated with cubic convolution, every other label takes the nearest pixel. Normals turn
/// with the picture, and a resize brings them back to length 1; depths are divided by the scale, as if the camera had come
/// nearer. Unlabelled normals and depths must be 0.
pub(super) fn resample(sample: &mut Sample, draw: &Draw, size: Option<[usize; 2]>) {
    let from = (sample.image.height, sample.image.width);
    let to = size.map_or(from, |[height, width]| (height, width));
    let warps = draw.degrees != 0.0 || draw.scale != 1.0;
    if warps || to != from {
        let grid = warps.then(|| Grid::new(from.0, from.1, draw.degrees, draw.scale));
        let mut cubic = Cubic::new(grid.as_ref(), from, to);
        sample.image = cubic.resample(&sample.image);
        let mut indices = None;
        for (task, map) in &mut sample.labels {
            *map = match task.label {
                LabelKind::UnitVector => cubic.resample(map),
                LabelKind::Classes | LabelKind::Binary | LabelKind::Metres => {
                    take(map, to, indices.get_or_insert_with(|| nearest_indices(grid.as_ref(), from, to)))
                }
            };
        }
    }
    for (task, map) in &mut sample.labels {
        match task.label {
            LabelKind::UnitVector => turn(map, draw.degrees, size.is_some()),
            LabelKind::Metres if draw.scale != 1.0 => {
                for depth in &mut map.data {
                    *depth /= draw.scale as f32;
                }
            }
            LabelKind::Classes | LabelKind::Binary | LabelKind::Metres => {}
        }
    }
}

/// A warp and a resize by cubic convolution, either of them optional.
struct Cubic<'a> {
    warp: Option<CubicWarp<'a>>,
    resize: Option<CubicResize>,
    to: (usize, usize),
}

impl<'a> Cubic<'a> {
    fn new(grid: Option<&'a Grid>, from: (usize, usize), to: (usize, usize)) -> Self {
        let resize = (from != to).then(|| CubicResize::new(from, to));
        Self { warp: grid.map(CubicWarp::new), resize, to }
    }

    fn resample(&mut self, source: &Raster) -> Raster {
        let (height, width) = self.to;
        let mut out = Raster::filled(source.channels, height, width, 0.0);
        for channels in lane_groups(source) {
            match &mut self.warp {
                Some(warp) => {
                    warp.load(source, channels.clone());
                    let warp = &*warp;
                    stretched(&mut self.resize, |y, row| warp.row(y, row), &mut out, channels);
                }
                None => {
                    let row = |y: usize, row: &mut [_]| interleave(source, channels.clone(), y, row);
                    stretched(&mut self.resize, row, &mut out, channels.clone());
                }
            }
        }
        out
    }
}

/// Writes rows to the given channels of `out`, resized if there is a resize.
fn stretched(
    resize: &mut Option<CubicResize>,
    source: impl Fn(usize, &mut [super::cubic::Pixel]),
    out: &mut Raster,
    channels: Range<usize>,
) {
    if let Some(resize) = resize {
        resize.run(source, |y, row| split(row, out, channels.clone(), y));
    } else {
        let mut row = vec![[0.0; LANES]; out.width];
        for y in 0..out.height {
            source(y, &mut row);
            split(&row, out, channels.clone(), y);
        }
    }
}

/// The source index of each output pixel, [`OUTSIDE`] where there is none.
fn nearest_indices(grid: Option<&Grid>, from: (usize, usize), to: (usize, usize)) -> Vec<u32> {
    let rows = resize::nearest(from.0, to.0);
    let columns = resize::nearest(from.1, to.1);
    let mut indices = Vec::with_capacity(to.0 * to.1);
    for y in rows {
        match grid {
            Some(grid) => indices.extend(grid.nearest_row(y, &columns)),
            None => indices.extend(columns.iter().map(|x| (y * from.1 + x) as u32)),
        }
    }
    indices
}

/// The map of size `to` whose pixels are those of `source` at `indices`, 0 where there is none.
fn take(source: &Raster, to: (usize, usize), indices: &[u32]) -> Raster {
    let mut data = Vec::with_capacity(source.channels * indices.len());
    for c in 0..source.channels {
        let plane = source.plane(c);
        // No plane is so large that the index of the outside lies in it.
        debug_assert!(plane.len() < OUTSIDE as usize);
        data.extend(indices.iter().map(|&i| plane.get(i as usize).copied().unwrap_or(0.0)));
    }
    Raster { channels: source.channels, height: to.0, width: to.1, data }
}

/// Turns vectors in the picture's plane with a picture that turned by `degrees` (x and y of a vector at angle `atan2(x, y)`
/// become those at that angle plus `degrees`), and brings them to length 1 if asked to; the zero vector stays.
fn turn(map: &mut Raster, degrees: f64, renormalise: bool) {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (sin, cos) = (sin as f32, cos as f32);
    if degrees != 0.0 {
        each_vector(map, |[x, y, _]| (*x, *y) = (*x * cos + *y * sin, *y * cos - *x * sin));
    }
    if renormalise {
        each_vector(map, |[x, y, z]| {
            let length = (*x * *x + *y * *y + *z * *z).sqrt() + 2.2e-16;
            (*x, *y, *z) = (*x / length, *y / length, *z / length);
        });
    }
}
