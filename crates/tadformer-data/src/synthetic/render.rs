//! A scene to pixels: one ray through every pixel's centre, and two more where a pixel shows more than one thing.

use super::bundle::Bundle;
use super::develop::develop;
use super::frame::Frame;
use super::lanes::{LANES, Lane};
use super::scene::Scene;

/// Side of the square of pixels whose rays are cast as a bundle.
const TILE: usize = 8;

const _: () = assert!(TILE * TILE == LANES);

/// Centres of a tile's pixels.
const COLUMN: Lane = centres(1);
const ROW: Lane = centres(TILE);

/// Coordinates of pixel centres, each `repeat` times.
const fn centres(repeat: usize) -> Lane {
    let mut lane = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        lane[i] = (i / repeat % TILE) as f32 + 0.5;
        i += 1;
    }
    lane
}

/// Side of the square of pixels whose borders are smoothed together: a tile alone has too few to fill a bundle.
const BLOCK: usize = 16;

/// Offsets, in pixels, of the rays that join the central one where a pixel shows more than one thing.
const SPREAD: [(f32, f32); 2] = [(-0.2, -0.4), (0.2, 0.4)];

/// Difference of display values below which a border needs no smoothing.
const VISIBLE: f32 = 0.04;

/// Renders `scene` at `height` by `width` pixels into `frame`.
pub(super) fn render(scene: &Scene, height: usize, width: usize, frame: &mut Frame) {
    let view = scene.camera.view(height, width);
    let mut bundle = Bundle::new(scene, view);
    frame.resize(height, width);
    for tile in squares(TILE, height, width) {
        cast_tile(&mut bundle, tile, view.pixel, frame);
    }
    mark_mixed(frame);
    for block in squares(BLOCK, height, width) {
        smooth_borders(&mut bundle, block, 0.7 * view.pixel, frame);
    }
    develop(planes(&mut frame.image.data), [height, width], scene.noise, scene.salt);
}

/// The upper left corners, `(x, y)`, of the squares of `side` pixels that cover a picture.
fn squares(side: usize, height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).step_by(side).flat_map(move |y| (0..width).step_by(side).map(move |x| (x, y)))
}

/// Red, green and blue.
fn planes(data: &mut [f32]) -> [&mut [f32]; 3] {
    let size = data.len() / 3;
    data.get_disjoint_mut([0..size, size..2 * size, 2 * size..3 * size]).expect("three planes")
}

/// Casts a ray through the centre of each pixel of a tile.
fn cast_tile(bundle: &mut Bundle<'_>, (left, top): (usize, usize), pixel: f32, frame: &mut Frame) {
    let (height, width) = (frame.height, frame.width);
    // Beyond the picture's border rays are cast in vain.
    let (last, lowest) = (width as f32 - 0.5, height as f32 - 0.5);
    let x = COLUMN.map(|column| (left as f32 + column).min(last));
    let y = ROW.map(|row| (top as f32 + row).min(lowest));
    bundle.cast(&x, &y, pixel);
    let (depth, normals) = bundle.geometry();
    let colours = bundle.colours();
    let columns = TILE.min(width - left);
    for row in 0..TILE.min(height - top) {
        let start = (top + row) * width + left;
        let to = start..start + columns;
        copy_row(&mut frame.keys[to.clone()], bundle.keys(), row);
        copy_row(&mut frame.depth[to.clone()], &depth, row);
        for (plane, normal) in frame.normals.iter_mut().zip([&normals.x, &normals.y, &normals.z]) {
            copy_row(&mut plane[to.clone()], normal, row);
        }
        let image = planes(&mut frame.image.data).into_iter();
        for (plane, colour) in image.zip([&colours.x, &colours.y, &colours.z]) {
            copy_row(&mut plane[to.clone()], colour, row);
        }
    }
}

/// Copies a row of a tile to `to`, which is shorter at the picture's border.
fn copy_row<T: Copy>(to: &mut [T], tile: &[T; LANES], row: usize) {
    let from = &tile[row * TILE..][..TILE];
    match (to.first_chunk_mut::<TILE>(), from.first_chunk()) {
        // Of a length that is known there is nothing to call.
        (Some(to), Some(from)) => *to = *from,
        _ => to.copy_from_slice(&from[..to.len()]),
    }
}

/// Marks the pixels that differ visibly from a neighbour that shows something else.
fn mark_mixed(frame: &mut Frame) {
    let Frame { keys, mixed, image, width, .. } = frame;
    let planes = planes(&mut image.data);
    mixed.clear();
    mixed.resize(keys.len(), false);
    let mut compare = |i: usize, j: usize| {
        if planes.iter().any(|plane| (plane[i] - plane[j]).abs() > VISIBLE) {
            (mixed[i], mixed[j]) = (true, true);
        }
    };
    // Neighbours to the right, then those below.
    for (y, row) in keys.chunks_exact(*width).enumerate() {
        differing(&row[..*width - 1], &row[1..], |x| compare(y * *width + x, y * *width + x + 1));
    }
    differing(&keys[..keys.len() - *width], &keys[*width..], |i| compare(i, i + *width));
}

/// Calls `found` with every place at which two rows of keys differ.
fn differing(a: &[u32], b: &[u32], mut found: impl FnMut(usize)) {
    // Most of a picture's neighbours show the same.
    const STRIDE: usize = 16;
    for (stride, (a, b)) in a.chunks(STRIDE).zip(b.chunks(STRIDE)).enumerate() {
        if a != b {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                if a != b {
                    found(stride * STRIDE + i);
                }
            }
        }
    }
}

/// Averages the marked pixels of a block over more rays.
fn smooth_borders(bundle: &mut Bundle<'_>, (left, top): (usize, usize), pixel: f32, frame: &mut Frame) {
    let Frame { mixed, image, width, height, .. } = frame;
    let (right, bottom) = ((left + BLOCK).min(*width), (top + BLOCK).min(*height));
    let mut borders = [(0, 0); BLOCK * BLOCK];
    let mut len = 0;
    for y in top..bottom {
        for (x, mixed) in (left..right).zip(&mixed[y * *width + left..]) {
            borders[len] = (x, y);
            len += usize::from(*mixed);
        }
    }
    for pixels in borders[..len].chunks(LANES / SPREAD.len()) {
        let (mut x, mut y): (Lane, Lane) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            // Lanes without a pixel repeat the last.
            let (column, row) = pixels[(lane / SPREAD.len()).min(pixels.len() - 1)];
            let (right, down) = SPREAD[lane % SPREAD.len()];
            (x[lane], y[lane]) = (column as f32 + 0.5 + right, row as f32 + 0.5 + down);
        }
        bundle.cast(&x, &y, pixel);
        let colours = bundle.colours();
        for (plane, colour) in planes(&mut image.data).into_iter().zip([&colours.x, &colours.y, &colours.z]) {
            for ((x, y), colour) in pixels.iter().zip(colour.chunks_exact(SPREAD.len())) {
                let value = &mut plane[y * *width + x];
                *value = colour.iter().fold(*value, |sum, v| sum + v) * (1.0 / (1 + SPREAD.len()) as f32);
            }
        }
    }
}
