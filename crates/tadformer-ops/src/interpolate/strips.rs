//! Resized maps a strip of rows at a time, for what is made of them at once: classes, probabilities, directions.

use super::{OP, ResizedRows, RowResize};
use crate::host::read;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

/// Most rows of a strip. Neighbouring strips make at most two source rows of every step twice.
const ROWS: usize = 32;

/// Most bytes of all strips that [`each_resized_strip`] makes at once, unless a single row is more.
const WAVE: usize = 16 << 20;

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
    let chain = Chain::new(tokens, steps)?;
    let tokens = tokens.contiguous()?;
    let values = read(OP, &tokens)?;
    let values = &*values;
    let strips: Vec<_> =
        (0..chain.images).flat_map(|image| chain.strips(image, 0..chain.rows, ROWS)).collect();
    strips.into_par_iter().map(|(image, rows)| f(chain.strip(values, image, rows))).collect()
}

/// As [`resized_strips`], for an outcome that is too large to be kept: what `f` makes of the strips goes to `take`, image
/// by image, from the top down, and only some strips exist at a time (together at most 16 MiB, or one row).
///
/// # Errors
/// As there, and those of `take`, after which no more strips are made.
pub fn each_resized_strip<T: Send>(
    tokens: &Tensor,
    steps: &[ResizeStep],
    f: impl Fn(Strip) -> Result<T> + Sync,
    take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    in_waves(tokens, steps, WAVE, f, take)
}

/// [`each_resized_strip`] with at most `most` bytes of strips at a time, or one row.
pub(super) fn in_waves<T: Send>(
    tokens: &Tensor,
    steps: &[ResizeStep],
    most: usize,
    f: impl Fn(Strip) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let chain = Chain::new(tokens, steps)?;
    let tokens = tokens.contiguous()?;
    let values = read(OP, &tokens)?;
    let values = &*values;
    let threads = rayon::current_num_threads();
    let row_bytes = chain.channels * chain.columns * size_of::<f32>();
    let wave = (most / row_bytes).clamp(1, threads * ROWS);
    for image in 0..chain.images {
        for first in (0..chain.rows).step_by(wave) {
            let rows = first..(first + wave).min(chain.rows);
            let strips: Vec<_> = chain.strips(image, rows, wave.div_ceil(threads)).collect();
            let made: Vec<Result<T>> =
                strips.into_par_iter().map(|(image, rows)| f(chain.strip(values, image, rows))).collect();
            for strip in made {
                take(strip?)?;
            }
        }
    }
    Ok(())
}

/// The steps from the tokens of some images to their maps.
struct Chain {
    resizes: Vec<RowResize>,
    images: usize,
    /// Numbers of an image's tokens.
    image: usize,
    channels: usize,
    rows: usize,
    columns: usize,
}

impl Chain {
    fn new(tokens: &Tensor, steps: &[ResizeStep]) -> Result<Self> {
        let (b, h, w, c) = tokens.dims4()?;
        let mut resizes = Vec::with_capacity(steps.len());
        let mut grid = (h, w);
        for ResizeStep { size, kept } in steps.iter().copied() {
            let sides = [c, grid.0, grid.1, size.0, size.1, kept.0, kept.1];
            if sides.contains(&0) || kept.0 > size.0 || kept.1 > size.1 {
                bail!("{OP}: cannot resize {grid:?} of {:?} to {size:?} and keep {kept:?}", tokens.dims());
            }
            let most = isize::MAX as usize / size_of::<f32>() / c;
            if size.0.checked_mul(size.1).is_none_or(|area| area > most) {
                bail!("{OP}: maps of {c} channels at {size:?} do not fit the memory of any machine");
            }
            resizes.push(RowResize::new(grid, size, kept, c));
            grid = kept;
        }
        if resizes.is_empty() {
            bail!("{OP}: there is no step to take {:?} through", tokens.dims());
        }
        let (rows, columns) = grid;
        Ok(Self { resizes, images: b, image: h * w * c, channels: c, rows, columns })
    }

    /// `rows` of an image in strips of at most `most` rows.
    fn strips(
        &self,
        image: usize,
        rows: Range<usize>,
        most: usize,
    ) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let end = rows.end;
        rows.step_by(most).map(move |first| (image, first..(first + most).min(end)))
    }

    /// Some rows of an image, made from the tokens of all.
    fn strip(&self, tokens: &[f32], image: usize, rows: Range<usize>) -> Strip {
        let Self { channels, columns, .. } = *self;
        let tokens = &tokens[image * self.image..][..self.image];
        let mut chain: Vec<ResizedRows<'_>> = self.resizes.iter().map(ResizedRows::new).collect();
        let (first, count) = (rows.start, rows.len());
        let mut planes = vec![0f32; channels * count * columns];
        for y in 0..count {
            let row = resized_row(&mut chain, first + y, tokens, channels);
            for (plane, row) in planes.chunks_exact_mut(count * columns).zip(row.chunks_exact(columns)) {
                plane[y * columns..][..columns].copy_from_slice(row);
            }
        }
        Strip { image, first, rows: count, planes }
    }
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
