//! One direction of the bilinear resize: where output positions lie between source positions.

use std::ops::Range;

/// Where an output position lies between two source positions: `(1 − fraction) · low + fraction · high`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) fraction: f32,
}

impl Tap {
    /// What the source position `source`, one of the two, contributes.
    #[inline(always)]
    pub(super) fn weight(self, source: usize) -> f32 {
        let low = if self.low == source { 1.0 - self.fraction } else { 0.0 };
        let high = if self.high == source { self.fraction } else { 0.0 };
        low + high
    }
}

/// One direction of the resize.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) source: usize,
    /// One for each output position; both ends never decrease.
    pub(super) taps: Vec<Tap>,
}

impl Axis {
    /// Half-pixel centres: output `o` lies at `max((o + 0.5) · source / output − 0.5, 0)`, and the last source position
    /// is its own neighbour.
    pub(super) fn new(source: usize, output: usize) -> Self {
        let scale = source as f64 / output as f64;
        let taps = (0..output)
            .map(|o| {
                let at = ((o as f64 + 0.5) * scale - 0.5).max(0.0);
                let low = (at as usize).min(source - 1);
                Tap { low, high: (low + 1).min(source - 1), fraction: (at - low as f64) as f32 }
            })
            .collect();
        Self { source, taps }
    }

    pub(super) fn is_identity(&self) -> bool {
        self.source == self.taps.len()
    }

    /// The outputs that the position `source` contributes to.
    pub(super) fn touched_by(&self, source: usize) -> Range<usize> {
        let start = self.taps.partition_point(|tap| tap.high < source);
        start..self.taps.partition_point(|tap| tap.low <= source)
    }
}
