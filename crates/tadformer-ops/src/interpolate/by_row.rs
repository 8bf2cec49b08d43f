//! The resize of planes an output row at a time, for functions that use a row at once and keep nothing of it.
//!
//! A row here is the row of every plane, one after the other: `channels × columns` numbers. The arithmetic is that of
//! [`interpolate_planes`](super::interpolate_planes), so its numbers are the same to the last bit.

use super::axis::Axis;
use super::cpu::{lerp, widen_row};
use crate::simd::{Kernel, vectorize};
use crate::vector::{Level, Vector};
use std::ops::Range;

/// A resize of planes, of whose outcome the top left part is wanted.
#[derive(Debug, Clone)]
pub(crate) struct RowResize {
    vertical: Axis,
    horizontal: Axis,
    channels: usize,
    /// The outcome is the source, unless it is cut.
    identity: bool,
    /// A source row is as wide as the outcome's, unless it is cut.
    same_width: bool,
}

impl RowResize {
    /// From `grid` to `size` = (rows, columns), of which the first `kept` rows and columns are wanted. All sizes are at
    /// least 1, `kept` at most `size`.
    pub(crate) fn new(
        grid: (usize, usize),
        size: (usize, usize),
        kept: (usize, usize),
        channels: usize,
    ) -> Self {
        let (mut vertical, mut horizontal) = (Axis::new(grid.0, size.0), Axis::new(grid.1, size.1));
        vertical.taps.truncate(kept.0);
        horizontal.taps.truncate(kept.1);
        Self { vertical, horizontal, channels, identity: grid == size, same_width: grid.1 == size.1 }
    }

    /// Numbers of an output row.
    pub(crate) fn row(&self) -> usize {
        self.channels * self.horizontal.taps.len()
    }

    /// Numbers of a source row.
    pub(crate) fn source_row(&self) -> usize {
        self.channels * self.horizontal.source
    }

    /// The source rows between the first and the last of which the output rows `rows` lie.
    fn sources(&self, rows: &Range<usize>) -> Range<usize> {
        match self.vertical.taps.get(rows.clone()) {
            Some([first, .., last]) => first.low..last.high + 1,
            Some([only]) => only.low..only.high + 1,
            _ => 0..0,
        }
    }
}

/// Output rows in ascending order; what two of them share is made once.
pub(crate) struct ResizedRows<'a> {
    resize: &'a RowResize,
    /// The two source rows around an output row differ in parity, which says where each is held at full width.
    held: [usize; 2],
    wide: [Vec<f32>; 2],
    source: Vec<f32>,
    row: Vec<f32>,
}

impl<'a> ResizedRows<'a> {
    pub(crate) fn new(resize: &'a RowResize) -> Self {
        let row = || vec![0f32; resize.row()];
        let source = vec![0f32; resize.source_row()];
        Self { resize, held: [usize::MAX; 2], wide: [row(), row()], source, row: row() }
    }

    /// Output row `y`; `fetch(i, row)` writes source row `i`.
    pub(crate) fn row(&mut self, y: usize, mut fetch: impl FnMut(usize, &mut [f32])) -> &[f32] {
        let Self { resize, held, wide, source, row } = self;
        let tap = resize.vertical.taps[y];
        let wanted = if resize.identity { [tap.low; 2] } else { [tap.low, tap.high] };
        for i in wanted {
            let slot = i % 2;
            if held[slot] != i {
                fetch(i, source);
                vectorize(Widen(resize, source, &mut wide[slot]));
                held[slot] = i;
            }
        }
        if resize.identity {
            return &wide[tap.low % 2];
        }
        vectorize(Between(&wide[tap.low % 2], &wide[tap.high % 2], tap.fraction, row));
        row
    }
}

/// What gradients of output rows, in ascending order, give the source rows.
pub(crate) struct RowGradients<'a> {
    resize: &'a RowResize,
    sources: Range<usize>,
    held: [Option<usize>; 2],
    wide: [Vec<f32>; 2],
    sums: Vec<f32>,
}

impl<'a> RowGradients<'a> {
    /// For gradients of the output rows `rows`.
    pub(crate) fn new(resize: &'a RowResize, rows: &Range<usize>) -> Self {
        let sources = resize.sources(rows);
        let row = || vec![0f32; resize.row()];
        let sums = vec![0f32; sources.len() * resize.source_row()];
        Self { resize, sources, held: [None; 2], wide: [row(), row()], sums }
    }

    /// Adds what the gradient `gs` of output row `y` gives.
    pub(crate) fn add(&mut self, y: usize, gs: &[f32]) {
        let tap = self.resize.vertical.taps[y];
        let both = [tap.low, tap.high];
        for &i in if tap.low == tap.high { &both[..1] } else { &both[..] } {
            let slot = i % 2;
            if self.held[slot] != Some(i) {
                self.narrow(slot);
                self.held[slot] = Some(i);
                self.wide[slot].fill(0.0);
            }
            vectorize(AddScaled(tap.weight(i), gs, &mut self.wide[slot]));
        }
    }

    /// The first source row that has a gradient, and the gradients from there on.
    pub(crate) fn finish(mut self) -> (usize, Vec<f32>) {
        self.narrow(0);
        self.narrow(1);
        (self.sources.start, self.sums)
    }

    /// A source row that no later output row lies beside.
    fn narrow(&mut self, slot: usize) {
        if let Some(source) = self.held[slot] {
            let n = self.resize.source_row();
            let to = &mut self.sums[(source - self.sources.start) * n..][..n];
            vectorize(Narrow(self.resize, &self.wide[slot], to));
        }
    }
}

struct Widen<'a>(&'a RowResize, &'a [f32], &'a mut [f32]);

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(resize, xs, ys) = self;
        let axis = &resize.horizontal;
        let planes = xs.chunks_exact(axis.source).zip(ys.chunks_exact_mut(axis.taps.len()));
        for (xs, ys) in planes {
            if resize.same_width {
                ys.copy_from_slice(&xs[..ys.len()]);
            } else {
                widen_row(axis, xs, ys);
            }
        }
    }
}

struct Between<'a>(&'a [f32], &'a [f32], f32, &'a mut [f32]);

impl Kernel for Between<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(low, high, fraction, ys) = self;
        lerp::<false>(low, high, fraction, ys);
    }
}

struct AddScaled<'a>(f32, &'a [f32], &'a mut [f32]);

impl Kernel for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(weight, gs, sums) = self;
        sums.iter_mut().zip(gs).for_each(|(sum, g)| *sum += weight * g);
    }
}

struct Narrow<'a>(&'a RowResize, &'a [f32], &'a mut [f32]);

impl Kernel for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: Level<V>) {
        let Self(resize, gs, dxs) = self;
        let axis = &resize.horizontal;
        let planes = gs.chunks_exact(axis.taps.len()).zip(dxs.chunks_exact_mut(axis.source));
        for (gs, dxs) in planes {
            if resize.same_width {
                dxs[..gs.len()].copy_from_slice(gs);
            } else {
                for (g, tap) in gs.iter().zip(&axis.taps) {
                    dxs[tap.low] += (1.0 - tap.fraction) * g;
                    dxs[tap.high] += tap.fraction * g;
                }
            }
        }
    }
}
