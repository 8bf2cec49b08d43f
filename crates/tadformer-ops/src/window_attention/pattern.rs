//! What windows of one layout have in common: bias and mask of every pair of tokens.

use std::collections::HashMap;

use crate::Windows;
use crate::small_matmul::padded;
use crate::windows::{Place, Seat};

/// What the mask adds between tokens that the cyclic shift brought together.
const MASKED: f32 = -100.0;
/// What the padding of a row gets: its exponential is 0.
const NOWHERE: f32 = -1e30;

/// A window: the tokens in it, and which layout they form.
pub(super) struct Window {
    pub(super) tokens: Vec<usize>,
    /// Places beyond the grid's edge that take part, after the tokens.
    pub(super) padding: usize,
    pub(super) pattern: usize,
}

impl Window {
    /// Places that take part.
    pub(super) fn places(&self) -> usize {
        self.tokens.len() + self.padding
    }
}

/// A layout of places in a window: its tokens, then what pads it. Inside a grid all windows have the same one.
pub(super) struct Pattern {
    places: usize,
    /// Row of the bias table for each pair of places.
    offsets: Vec<u32>,
    /// Bias and mask, `(heads, prompts + places, width)`; filled by [`Pattern::fill`].
    bias: Vec<f32>,
    masked: Vec<bool>,
}

impl Pattern {
    /// The windows of an image and their patterns, for a bias table of side `span`; with `padded`, places beyond the grid's
    /// edge take part.
    pub(super) fn of(windows: &Windows, padded: bool, span: usize) -> (Vec<Window>, Vec<Self>) {
        let mut known: HashMap<Vec<Seat>, usize> = HashMap::new();
        let mut patterns = Vec::new();
        let list = (0..windows.count())
            .map(|index| {
                let places = windows.places(index);
                let mut seats: Vec<Seat> = places.iter().map(Place::seat).collect();
                if padded {
                    seats.extend(windows.beyond(index));
                }
                if seats.iter().all(|seat| seat.region == seats[0].region) {
                    seats.iter_mut().for_each(|seat| seat.region = 0);
                }
                let padding = seats.len() - places.len();
                let pattern = *known.entry(seats).or_insert_with_key(|seats| {
                    patterns.push(Self::new(seats, span));
                    patterns.len() - 1
                });
                Window { tokens: places.iter().map(|place| place.token).collect(), padding, pattern }
            })
            .collect();
        (list, patterns)
    }

    fn new(seats: &[Seat], span: usize) -> Self {
        let middle = span / 2;
        let pairs = || seats.iter().flat_map(|from| seats.iter().map(move |to| (from, to)));
        let offset = |(from, to): (&Seat, &Seat)| {
            ((from.row + middle - to.row) * span + from.col + middle - to.col) as u32
        };
        Self {
            places: seats.len(),
            offsets: pairs().map(offset).collect(),
            masked: pairs().map(|(from, to)| from.region != to.region).collect(),
            bias: Vec::new(),
        }
    }

    /// Takes the biases of all heads from `table`, `(entries, heads)`.
    pub(super) fn fill(&mut self, table: &[f32], heads: usize, prompts: usize) {
        let (used, n) = (prompts + self.places, self.places);
        let width = padded(used);
        self.bias = vec![0f32; heads * used * width];
        for (head, bias) in self.bias.chunks_exact_mut(used * width).enumerate() {
            for (i, row) in bias.chunks_exact_mut(width).enumerate() {
                row[used..].fill(NOWHERE);
                if i < prompts {
                    continue;
                }
                let pairs = (i - prompts) * n..(i - prompts + 1) * n;
                let pairs = self.offsets[pairs.clone()].iter().zip(&self.masked[pairs]);
                for (x, (offset, masked)) in row[prompts..used].iter_mut().zip(pairs) {
                    *x = table[*offset as usize * heads + head] + if *masked { MASKED } else { 0.0 };
                }
            }
        }
    }

    /// Bias and mask of one head, `(prompts + places, width)`.
    #[inline(always)]
    pub(super) fn bias(&self, head: usize, len: usize) -> &[f32] {
        &self.bias[head * len..][..len]
    }

    /// Rows of the bias table for the pairs of place `i` with all places.
    #[inline(always)]
    pub(super) fn offsets(&self, i: usize) -> &[u32] {
        &self.offsets[i * self.places..][..self.places]
    }
}
