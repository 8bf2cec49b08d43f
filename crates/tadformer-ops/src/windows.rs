//! The geometry of shifted windows on a grid of any size.

use candle_core::{Result, bail};

/// How a token grid is cut into windows, shifted, and padded at the right and bottom where it must be.
///
/// Pure geometry: a window is a list of places on the grid, so no tensor is ever rolled, partitioned or padded. Swin
/// Transformer (arXiv 2103.14030), section 3.2.
///
/// ```
/// use tadformer_ops::Windows;
/// assert_eq!(Windows::new(56, 56, 7, 3)?.count(), 64);
/// assert_eq!(Windows::new(10, 15, 7, 0)?.count(), 2 * 3);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    height: usize,
    width: usize,
    window: (usize, usize),
    shift: usize,
    rows: usize,
    cols: usize,
}

/// A token in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Row-major index of the token on the grid.
    pub(crate) token: usize,
    /// Row within the window.
    pub(crate) row: usize,
    /// Column within the window.
    pub(crate) col: usize,
    /// Tokens of different regions came to lie in one window only by the cyclic shift.
    pub(crate) region: u8,
}

impl Windows {
    /// Windows of `side × side` over `height × width` tokens, shifted up and left by `shift`.
    ///
    /// # Errors
    /// An empty grid or window, or a shift that is not smaller than the window.
    pub fn new(height: usize, width: usize, side: usize, shift: usize) -> Result<Self> {
        if height == 0 || width == 0 || side == 0 || shift >= side {
            bail!("windows: no windows of side {side} and shift {shift} on a grid of {height}x{width}");
        }
        let (rows, cols) = (height.div_ceil(side), width.div_ceil(side));
        Ok(Self { height, width, window: (side, side), shift, rows, cols })
    }

    /// One window that is the whole grid.
    ///
    /// # Errors
    /// An empty grid.
    pub fn whole(height: usize, width: usize) -> Result<Self> {
        if height == 0 || width == 0 {
            bail!("windows: the grid {height}x{width} is empty");
        }
        Ok(Self { height, width, window: (height, width), shift: 0, rows: 1, cols: 1 })
    }

    /// Rows and columns of the grid.
    pub fn grid(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Rows and columns of a window.
    pub fn window(&self) -> (usize, usize) {
        self.window
    }

    /// Number of windows of one image.
    pub fn count(&self) -> usize {
        self.rows * self.cols
    }

    /// The tokens of window `index`, row by row; places that hang over the grid's edge are left out.
    pub(crate) fn places(&self, index: usize) -> Vec<Place> {
        let (window_rows, window_cols) = self.window;
        let (top, left) = (index / self.cols * window_rows, index % self.cols * window_cols);
        let (padded_rows, padded_cols) = (self.rows * window_rows, self.cols * window_cols);
        let mut places = Vec::with_capacity(window_rows * window_cols);
        for row in 0..window_rows {
            let y = (top + row + self.shift) % padded_rows;
            for col in 0..window_cols {
                let x = (left + col + self.shift) % padded_cols;
                if y < self.height && x < self.width {
                    let bands = (
                        self.band(top + row, padded_rows, window_rows),
                        self.band(left + col, padded_cols, window_cols),
                    );
                    places.push(Place { token: y * self.width + x, row, col, region: bands.0 * 3 + bands.1 });
                }
            }
        }
        places
    }

    /// Which of the three bands of the rolled axis a place is in: before the last window, in it, or rolled into it.
    fn band(&self, at: usize, size: usize, window: usize) -> u8 {
        if self.shift == 0 || at < size - window {
            0
        } else if at < size - self.shift {
            1
        } else {
            2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_is_in_exactly_one_window(h in 1usize..20, w in 1usize..20, side in 1usize..8, shift in 0usize..8) {
            prop_assume!(shift < side);
            let windows = Windows::new(h, w, side, shift).unwrap();
            let mut seen = vec![0; h * w];
            for index in 0..windows.count() {
                windows.places(index).iter().for_each(|place| seen[place.token] += 1);
            }
            prop_assert!(seen.iter().all(|n| *n == 1));
        }

        #[test]
        fn tokens_of_one_region_are_where_they_were(h in 1usize..20, w in 1usize..20, side in 2usize..8) {
            // Two tokens of one window and one region are as far apart on the grid as in the window.
            let windows = Windows::new(h, w, side, side / 2).unwrap();
            for index in 0..windows.count() {
                let places = windows.places(index);
                for a in &places {
                    for b in places.iter().filter(|b| b.region == a.region) {
                        prop_assert_eq!((a.token / w).wrapping_sub(b.token / w), a.row.wrapping_sub(b.row));
                        prop_assert_eq!((a.token % w).wrapping_sub(b.token % w), a.col.wrapping_sub(b.col));
                    }
                }
            }
        }
    }
}
