//! The loops of the bilinear resize. The resize is separable: a map is `V · x · H`, and its gradient `Vᵀ · g · Hᵀ`.
//!
//! Forward, a source row is widened once and then serves every output row between it and its neighbours. Backward, the
//! gradients of all output rows that touch a source row are added at full width and then narrowed once. Either way the
//! uneven horizontal step runs over the fewer rows, the vertical one over long contiguous rows.

use super::axis::Axis;
use crate::rows::written;
use crate::simd::{Kernel, vectorize};
use crate::vector::{Level, Vector};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Rows a task. A task widens at most two rows that a neighbouring task widens too.
pub(super) const ROWS: usize = 16;

/// A resize of `outer` maps of `h × w` points of `inner` numbers.
#[derive(Debug, Clone)]
pub(super) struct Geometry {
    vertical: Axis,
    horizontal: Axis,
    inner: usize,
}

impl Geometry {
    /// All sizes are at least 1.
    pub(super) fn new((h, w): (usize, usize), (oh, ow): (usize, usize), inner: usize) -> Self {
        Self { vertical: Axis::new(h, oh), horizontal: Axis::new(w, ow), inner }
    }

    fn source_row(&self) -> usize {
        self.horizontal.source * self.inner
    }

    pub(super) fn output_row(&self) -> usize {
        self.horizontal.taps.len() * self.inner
    }
}

/// Writes the sum of the resized `levels` to `space`, all of it; all levels give the same output size.
pub(super) fn forward(levels: &[(&Geometry, &[f32])], space: &mut [MaybeUninit<f32>]) {
    let Some(row) = levels.first().map(|(geometry, _)| geometry.output_row()) else { return };
    space.par_chunks_mut(ROWS * row).enumerate().for_each(|(task, block)| {
        let mut sum = SumRows::new(levels);
        for (i, space) in block.chunks_exact_mut(row).enumerate() {
            space.fill(MaybeUninit::new(0.0));
            // SAFETY: every number of the row was just written.
            sum.write(task * ROWS + i, unsafe { written(space) });
        }
    });
}

/// The sum of resized levels, row by row: a row stays in the cache while all levels are added, and for what is then done
/// with it.
pub(super) struct SumRows<'a> {
    levels: Vec<LevelRows<'a>>,
}

impl<'a> SumRows<'a> {
    pub(super) fn new(levels: &[(&'a Geometry, &'a [f32])]) -> Self {
        let level = |&(geometry, xs): &(&'a Geometry, &'a [f32])| LevelRows {
            geometry,
            xs,
            held: [usize::MAX; 2],
            wide: [const { Vec::new() }; 2],
        };
        Self { levels: levels.iter().map(level).collect() }
    }

    /// Writes output row `index`, counted over all maps, to `ys`. Cheapest in the order of rows.
    pub(super) fn write(&mut self, index: usize, ys: &mut [f32]) {
        for (i, level) in self.levels.iter_mut().enumerate() {
            if i == 0 {
                vectorize(ForwardRow::<false>(level, index, &mut *ys));
            } else {
                vectorize(ForwardRow::<true>(level, index, &mut *ys));
            }
        }
    }
}

/// One level, and the two source rows at their output width that were used last.
struct LevelRows<'a> {
    geometry: &'a Geometry,
    xs: &'a [f32],
    /// Which source rows they are. Neighbours differ in parity, which says where each is held.
    held: [usize; 2],
    wide: [Vec<f32>; 2],
}

/// An output row, counted over all maps.
struct ForwardRow<'r, 'a, const ADD: bool>(&'r mut LevelRows<'a>, usize, &'r mut [f32]);

impl<const ADD: bool> Kernel for ForwardRow<'_, '_, ADD> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(LevelRows { geometry: g, xs, held, wide }, index, y) = self;
        let (h, oh, row) = (g.vertical.source, g.vertical.taps.len(), g.source_row());
        let (map, tap) = (index / oh, g.vertical.taps[index % oh]);
        let (low, high) = (map * h + tap.low, map * h + tap.high);
        if g.horizontal.is_identity() {
            lerp::<ADD>(&xs[low * row..][..row], &xs[high * row..][..row], tap.fraction, y);
            return;
        }
        for source in [low, high] {
            let slot = source % 2;
            if held[slot] != source {
                wide[slot].resize(y.len(), 0f32);
                widen(g, &xs[source * row..][..row], &mut wide[slot]);
                held[slot] = source;
            }
        }
        lerp::<ADD>(&wide[low % 2], &wide[high % 2], tap.fraction, y);
    }
}

#[inline(always)]
pub(super) fn lerp<const ADD: bool>(low: &[f32], high: &[f32], fraction: f32, ys: &mut [f32]) {
    let rest = 1.0 - fraction;
    for ((y, l), h) in ys.iter_mut().zip(low).zip(high) {
        let value = l * rest + h * fraction;
        *y = if ADD { *y + value } else { value };
    }
}

/// A row of single numbers at its output width.
#[inline(always)]
pub(super) fn widen_row(axis: &Axis, xs: &[f32], ys: &mut [f32]) {
    for (y, tap) in ys.iter_mut().zip(&axis.taps) {
        *y = xs[tap.low] * (1.0 - tap.fraction) + xs[tap.high] * tap.fraction;
    }
}

#[inline(always)]
fn widen(g: &Geometry, xs: &[f32], ys: &mut [f32]) {
    let c = g.inner;
    if c == 1 {
        widen_row(&g.horizontal, xs, ys);
    } else {
        for (y, tap) in ys.chunks_exact_mut(c).zip(&g.horizontal.taps) {
            lerp::<false>(&xs[tap.low * c..][..c], &xs[tap.high * c..][..c], tap.fraction, y);
        }
    }
}

/// Writes what the output's gradient `gs` gives the source to `dxs`.
pub(super) fn backward(g: &Geometry, gs: &[f32], dxs: &mut [f32]) {
    dxs.par_chunks_mut(ROWS * g.source_row()).enumerate().for_each(|(task, block)| {
        vectorize(BackwardRows(g, gs, task * ROWS, block));
    });
}

/// The source rows from `first` on, counted over all maps.
struct BackwardRows<'a>(&'a Geometry, &'a [f32], usize, &'a mut [f32]);

impl Kernel for BackwardRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(g, gs, first, dxs) = self;
        let (h, oh, row) = (g.vertical.source, g.vertical.taps.len(), g.output_row());
        let mut wide = vec![0f32; row];
        for (i, dx) in dxs.chunks_exact_mut(g.source_row()).enumerate() {
            let (map, source) = ((first + i) / h, (first + i) % h);
            wide.fill(0.0);
            for y in g.vertical.touched_by(source) {
                let weight = g.vertical.taps[y].weight(source);
                for (sum, g) in wide.iter_mut().zip(&gs[(map * oh + y) * row..][..row]) {
                    *sum += weight * g;
                }
            }
            if g.horizontal.is_identity() {
                dx.copy_from_slice(&wide);
            } else {
                narrow(g, &wide, dx);
            }
        }
    }
}

#[inline(always)]
fn narrow(g: &Geometry, wide: &[f32], dxs: &mut [f32]) {
    let c = g.inner;
    dxs.fill(0.0);
    for (gs, tap) in wide.chunks_exact(c).zip(&g.horizontal.taps) {
        for (dx, g) in dxs[tap.low * c..][..c].iter_mut().zip(gs) {
            *dx += (1.0 - tap.fraction) * g;
        }
        for (dx, g) in dxs[tap.high * c..][..c].iter_mut().zip(gs) {
            *dx += tap.fraction * g;
        }
    }
}
