//! A scene to pixels: one ray through every pixel's centre, and two more where a pixel shows more than one thing.

use super::bundle::Bundle;
use super::develop::develop;
use super::frame::Frame;
use super::lanes::{LANES, Lane};
use super::scene::Scene;

/// Side of the square of pixels whose rays are cast as a bundle.
const TILE: usize = 8;

const _: () = assert!(TILE * TILE == LANES);

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
    let x: Lane = std::array::from_fn(|lane| (left + lane % TILE).min(width - 1) as f32 + 0.5);
    let y: Lane = std::array::from_fn(|lane| (top + lane / TILE).min(height - 1) as f32 + 0.5);
    bundle.cast(&x, &y, pixel);
    let (depth, normals) = bundle.geometry();
    let colours = bundle.colours();
    let columns = TILE.min(width - left);
    for row in 0..TILE.min(height - top) {
        let (from, to) = (row * TILE..row * TILE + columns, (top + row) * width + left..);
        let to = to.start..to.start + columns;
        frame.keys[to.clone()].copy_from_slice(&bundle.keys()[from.clone()]);
        frame.depth[to.clone()].copy_from_slice(&depth[from.clone()]);
        for (plane, normal) in frame.normals.iter_mut().zip([&normals.x, &normals.y, &normals.z]) {
            plane[to.clone()].copy_from_slice(&normal[from.clone()]);
        }
        for (plane, colour) in
            planes(&mut frame.image.data).into_iter().zip([&colours.x, &colours.y, &colours.z])
        {
            plane[to.clone()].copy_from_slice(&colour[from.clone()]);
        }
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
    for (y, row) in keys.chunks_exact(*width).enumerate() {
        let start = y * *width;
        for (x, pair) in row.windows(2).enumerate() {
            if pair[0] != pair[1] {
                compare(start + x, start + x + 1);
            }
        }
        let below = keys[start + *width..].iter().take(*width);
        for (x, (here, below)) in row.iter().zip(below).enumerate() {
            if here != below {
                compare(start + x, start + x + *width);
            }
        }
    }
}

/// Averages the marked pixels of a block over more rays.
fn smooth_borders(bundle: &mut Bundle<'_>, (left, top): (usize, usize), pixel: f32, frame: &mut Frame) {
    let Frame { mixed, image, width, height, .. } = frame;
    let (right, bottom) = ((left + BLOCK).min(*width), (top + BLOCK).min(*height));
    let mut borders = [0; BLOCK * BLOCK];
    let mut len = 0;
    for y in top..bottom {
        for i in y * *width + left..y * *width + right {
            borders[len] = i;
            len += usize::from(mixed[i]);
        }
    }
    for pixels in borders[..len].chunks(LANES / SPREAD.len()) {
        // Lanes without a pixel repeat the last.
        let of =
            |lane: usize| (pixels[(lane / SPREAD.len()).min(pixels.len() - 1)], SPREAD[lane % SPREAD.len()]);
        let x: Lane = std::array::from_fn(|lane| {
            let (i, (dx, _)) = of(lane);
            (i % *width) as f32 + 0.5 + dx
        });
        let y: Lane = std::array::from_fn(|lane| {
            let (i, (_, dy)) = of(lane);
            (i / *width) as f32 + 0.5 + dy
        });
        bundle.cast(&x, &y, pixel);
        let colours = bundle.colours();
        for (plane, colour) in planes(&mut image.data).into_iter().zip([&colours.x, &colours.y, &colours.z]) {
            for (i, colour) in pixels.iter().zip(colour.chunks_exact(SPREAD.len())) {
                plane[*i] =
                    colour.iter().fold(plane[*i], |sum, v| sum + v) * (1.0 / (1 + SPREAD.len()) as f32);
            }
        }
    }
}
