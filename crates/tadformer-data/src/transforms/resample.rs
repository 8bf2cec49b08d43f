//! Flip, warp and resize in one pass over a sample: no map of the size between is ever written.

use super::Draw;
use super::cubic::{LANES, Pixel};
use super::ignore;
use super::nearest::Nearest;
use super::normals::Turn;
use super::planes::{Source, Writer, split};
use super::resize::CubicResize;
use super::scale_rotate::{CubicWarp, Grid};
use crate::format::picture::Photo;
use crate::{LabelKind, Raster, Sample};

/// Flips, turns and magnifies a sample as drawn, then brings it to `size` (height, width), or leaves its size.
///
/// Picture and normals are interpolated with cubic convolution, every other label takes the nearest pixel. Normals turn
/// with the picture, and a resize brings them back to length 1; depths are divided by the scale, as if the camera had come
/// nearer. Both hold [`IGNORE`](crate::IGNORE) where they have no label, before and after.
///
/// `levels` is called with each row of the interpolated picture, one plane behind the other.
pub(super) fn resample(
    sample: Sample,
    draw: &Draw,
    size: Option<[usize; 2]>,
    levels: impl Fn(&mut [f32]),
) -> Sample {
    let from = (sample.image.height, sample.image.width);
    let to = size.map_or(from, |[height, width]| (height, width));
    let warps = draw.degrees != 0.0 || draw.scale != 1.0;
    let grid = warps.then(|| Grid::new(from.0, from.1, draw.degrees, draw.scale));

    let mut cubic = Cubic::new(grid.as_ref(), from, to);
    let picture = Source { raster: &sample.image, vectors: false, flip: draw.flip };
    let image = cubic.resample(&picture, levels);
    // Freed memory is still in the cache when the next map asks for some.
    drop(sample.image);

    let turn = Turn::new(draw.degrees, size.is_some());
    let mut labels = Vec::with_capacity(sample.labels.len());
    let mut others = Vec::with_capacity(sample.labels.len());
    for (task, map) in sample.labels {
        if task.label == LabelKind::UnitVector {
            let vectors = Source { raster: &map, vectors: true, flip: draw.flip };
            labels.push((task, cubic.resample(&vectors, |row| turn.finish(row))));
        } else {
            labels.push((task, Raster::default()));
            others.push(map);
        }
    }
    let taken = Nearest::new(grid.as_ref(), from, to, draw.flip).take(others);
    let waiting = labels.iter_mut().filter(|(task, _)| task.label != LabelKind::UnitVector);
    for ((task, label), mut map) in waiting.zip(taken) {
        if task.label == LabelKind::Metres {
            ignore::nearer(&mut map.data, draw.scale as f32);
        }
        *label = map;
    }
    Sample { id: sample.id, image, labels }
}

/// The picture alone, straight from its bytes: what [`resample`] makes of it without any random change.
pub(super) fn resample_photo(
    photo: &Photo,
    [height, width]: [usize; 2],
    levels: impl Fn(&mut [f32]),
) -> Raster {
    let (from, to) = ((photo.height, photo.width), (height, width));
    let mut resize = (from != to).then(|| CubicResize::new(from, to));
    let mut out = Writer::new(height, width);
    let source = |y: usize, row: &mut [Pixel]| {
        let bytes = photo.rgb[3 * y * photo.width..].as_chunks::<3>().0;
        for (pixel, rgb) in row.iter_mut().zip(bytes) {
            let [r, g, b] = rgb.map(f32::from);
            *pixel = [r, g, b, 0.0];
        }
    };
    resized(&mut resize, to, source, |row| {
        levels(row);
        out.push(row);
    });
    out.finish()
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

    /// `source` in its new shape; `finish` changes each row, one plane behind the other, before it is written.
    fn resample(&mut self, source: &Source<'_>, finish: impl Fn(&mut [f32])) -> Raster {
        let mut out = Writer::new(self.to.0, self.to.1);
        let emit = |row: &mut [f32]| {
            finish(row);
            out.push(row);
        };
        match &mut self.warp {
            Some(warp) => {
                warp.load(source);
                resized(&mut self.resize, self.to, |y, row| warp.row(y, row), emit);
            }
            None => resized(&mut self.resize, self.to, |y, row| source.row(y, row), emit),
        }
        out.finish()
    }
}

/// Hands the rows of a picture of size `to` to `emit`, resized if there is a resize.
fn resized(
    resize: &mut Option<CubicResize>,
    to: (usize, usize),
    mut source: impl FnMut(usize, &mut [Pixel]),
    mut emit: impl FnMut(&mut [f32]),
) {
    if let Some(resize) = resize {
        return resize.run(source, emit);
    }
    let (mut pixels, mut planes) = (vec![[0.0; LANES]; to.1], vec![0.0; 3 * to.1]);
    for y in 0..to.0 {
        source(y, &mut pixels);
        split(&pixels, &mut planes);
        emit(&mut planes);
    }
}
