//! What windows of one layout have in common: bias and mask of every pair of tokens.

use std::collections::HashMap;

use crate::Windows;
use crate::small_matmul::padded;
use crate::windows::Place;

/// What the mask adds between tokens that the cyclic shift brought together.
const MASKED: f32 = -100.0;
/// What the padding of a row gets: its exponential is 0.
const NOWHERE: f32 = -1e30;

/// A window: the tokens in it, and which layout they form.
pub(super) struct Window {
    pub(super) tokens: Vec<usize>,
    pub(super) pattern: usize,
}

/// A layout of tokens in a window. Inside a grid all windows have the same one.
pub(super) struct Pattern {
    tokens: usize,
    /// Row of the bias table for each pair of tokens.
    offsets: Vec<u32>,
    /// Bias and mask, `(heads, prompts + tokens, width)`; filled by [`Pattern::fill`].
    bias: Vec<f32>,
    masked: Vec<bool>,
}

impl Pattern {
    /// The windows of an image and their patterns, for a bias table of side `span`.
    pub(super) fn of(windows: &Windows, span: usize) -> (Vec<Window>, Vec<Self>) {
        let mut known: HashMap<Vec<(usize, usize, u8)>, usize> = HashMap::new();
        let mut patterns = Vec::new();
        let list = (0..windows.count())
            .map(|index| {
                let places = windows.places(index);
                let mixed = places.iter().any(|place| place.region != places[0].region);
                let key = places.iter().map(|p| (p.row, p.col, if mixed { p.region } else { 0 })).collect();
                let pattern = *known.entry(key).or_insert_with(|| {
                    patterns.push(Self::new(&places, span));
                    patterns.len() - 1
                });
                Window { tokens: places.iter().map(|place| place.token).collect(), pattern }
            })
            .collect();
        (list, patterns)
    }

    fn new(places: &[Place], span: usize) -> Self {
        let middle = span / 2;
        let pairs = || places.iter().flat_map(|from| places.iter().map(move |to| (from, to)));
        let offset = |(from, to): (&Place, &Place)| {
            ((from.row + middle - to.row) * span + from.col + middle - to.col) as u32
        };
        Self {
            tokens: places.len(),
            offsets: pairs().map(offset).collect(),
            masked: pairs().map(|(from, to)| from.region != to.region).collect(),
            bias: Vec::new(),
        }
    }

    /// Takes the biases of all heads from `table`, `(entries, heads)`.
    pub(super) fn fill(&mut self, table: &[f32], heads: usize, prompts: usize) {
        let (used, n) = (prompts + self.tokens, self.tokens);
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

    /// Bias and mask of one head, `(prompts + tokens, width)`.
    #[inline(always)]
    pub(super) fn bias(&self, head: usize, len: usize) -> &[f32] {
        &self.bias[head * len..][..len]
    }

    /// Rows of the bias table for the pairs of token `i` with all tokens.
    #[inline(always)]
    pub(super) fn offsets(&self, i: usize) -> &[u32] {
        &self.offsets[i * self.tokens..][..self.tokens]
    }
}
