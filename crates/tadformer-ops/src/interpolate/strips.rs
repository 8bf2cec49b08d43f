//! Resized maps a strip of rows at a time, for what is made of them at once: classes, probabilities, directions.

use super::{OP, ResizedRows, RowResize};
use crate::host::read;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Rows of a strip. Neighbouring strips make at most two source rows of every step twice.
const ROWS: usize = 32;

/// One of the resizes that lead from tokens to a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeStep {
    /// Rows and columns to resize to.
    pub size: (usize, usize),
    /// How many of the first rows and columns of that go on; the others are never made.
    pub kept: (usize, usize),
}

/// Rows of one image's resized map.
#[derive(Debug, Clone)]
pub struct Strip {
    /// The image within the batch.
    pub image: usize,
    /// The first row.
    pub first: usize,
    /// How many rows.
    pub rows: usize,
    /// `(channels, rows, columns)`.
    pub planes: Vec<f32>,
}

/// Takes tokens through all `steps`, each the resize of [`interpolate_planes`](super::interpolate_planes) to the last bit, and
/// calls `f` with every strip of the outcome. What `f` gives comes back image by image, from the top down.
///
/// Neither the outcome nor what lies between two steps ever exists whole. There is no backward.
///
/// # Shapes
/// - `tokens` `(b, h, w, c)`
/// - a strip `(c, rows, columns)`
///
/// # Errors
/// No step, a tensor of another rank, an empty side, more kept than there is; and those of `f`.
pub fn resized_strips<T: Send>(
    tokens: &Tensor,
    steps: &[ResizeStep],
    f: impl Fn(Strip) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (b, h, w, c) = tokens.dims4()?;
    let mut resizes = Vec::with_capacity(steps.len());
    let mut grid = (h, w);
    for ResizeStep { size, kept } in steps.iter().copied() {
        let sides = [b, c, grid.0, grid.1, size.0, size.1, kept.0, kept.1];
        if sides.contains(&0) || kept.0 > size.0 || kept.1 > size.1 {
            bail!("{OP}: cannot resize {grid:?} of {:?} to {size:?} and keep {kept:?}", tokens.dims());
        }
        resizes.push(RowResize::new(grid, size, kept, c));
        grid = kept;
    }
    if resizes.is_empty() {
        bail!("{OP}: there is no step to take {:?} through", tokens.dims());
    }
    let (rows, columns) = grid;
    let tokens = tokens.contiguous()?;
    let values = read(OP, &tokens)?;
    let values = &*values;
    let strips: Vec<(usize, usize)> =
        (0..b).flat_map(|image| (0..rows).step_by(ROWS).map(move |first| (image, first))).collect();
    strips
        .into_par_iter()
        .map(|(image, first)| {
            let image_tokens = &values[image * h * w * c..][..h * w * c];
            let mut chain: Vec<ResizedRows<'_>> = resizes.iter().map(ResizedRows::new).collect();
            let count = ROWS.min(rows - first);
            let mut planes = vec![0f32; c * count * columns];
            for y in 0..count {
                let row = resized_row(&mut chain, first + y, image_tokens, c);
                for (plane, row) in planes.chunks_exact_mut(count * columns).zip(row.chunks_exact(columns)) {
                    plane[y * columns..][..columns].copy_from_slice(row);
                }
            }
            f(Strip { image, first, rows: count, planes })
        })
        .collect()
}

/// Row `y` after the last step of `chain`.
fn resized_row<'c>(chain: &'c mut [ResizedRows<'_>], y: usize, tokens: &[f32], channels: usize) -> &'c [f32] {
    let (last, before) = chain.split_last_mut().expect("there is a step");
    last.row(y, |source, row| {
        if before.is_empty() {
            token_row(tokens, channels, source, row);
        } else {
            row.copy_from_slice(resized_row(before, source, tokens, channels));
        }
    })
}

/// Row `y` of a grid of tokens as a row of each channel.
pub(crate) fn token_row(tokens: &[f32], channels: usize, y: usize, row: &mut [f32]) {
    let columns = row.len() / channels;
    let tokens = &tokens[y * row.len()..][..row.len()];
    for (channel, plane) in row.chunks_exact_mut(columns).enumerate() {
        plane.iter_mut().zip(tokens.chunks_exact(channels)).for_each(|(x, token)| *x = token[channel]);
    }
}
