//! The geometry of shifted windows on a grid of any size.

use candle_core::{Result, bail};

/// How a token grid is cut into windows, shifted, and padded at the right and bottom where it must be.
///
/// Pure geometry: a window is a list of places on the grid, so no tensor is ever rolled, partitioned or padded. The shift is
/// that of the padded grid: first padded, then rolled. Swin Transformer (arXiv 2103.14030), section 3.2.
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
    shift: (usize, usize),
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

impl Place {
    /// Where in its window it is, and its region.
    pub(crate) fn seat(&self) -> Seat {
        Seat { row: self.row, col: self.col, region: self.region }
    }
}

/// A place in a window, whether there is a token or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Seat {
    /// Row within the window.
    pub(crate) row: usize,
    /// Column within the window.
    pub(crate) col: usize,
    /// As that of a [`Place`].
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
        Ok(Self { height, width, window: (side, side), shift: (shift, shift), rows, cols })
    }

    /// As [`new`](Self::new), but without a shift along an axis that is one window: torchvision's rule for grids that are
    /// padded up to whole windows.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn padded(height: usize, width: usize, side: usize, shift: usize) -> Result<Self> {
        let windows = Self::new(height, width, side, shift)?;
        let along = |count: usize| if count > 1 { shift } else { 0 };
        Ok(Self { shift: (along(windows.rows), along(windows.cols)), ..windows })
    }

    /// One window that is the whole grid.
    ///
    /// # Errors
    /// An empty grid.
    pub fn whole(height: usize, width: usize) -> Result<Self> {
        if height == 0 || width == 0 {
            bail!("windows: the grid {height}x{width} is empty");
        }
        Ok(Self { height, width, window: (height, width), shift: (0, 0), rows: 1, cols: 1 })
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
        let on_grid = |(seat, token): (Seat, Option<usize>)| {
            let Seat { row, col, region } = seat;
            token.map(|token| Place { token, row, col, region })
        };
        self.seats(index).filter_map(on_grid).collect()
    }

    /// The places of window `index` that hang over the grid's edge, row by row.
    pub(crate) fn beyond(&self, index: usize) -> Vec<Seat> {
        self.seats(index).filter(|(_, token)| token.is_none()).map(|(seat, _)| seat).collect()
    }

    /// Every place of window `index`, row by row, with the token there.
    fn seats(&self, index: usize) -> impl Iterator<Item = (Seat, Option<usize>)> {
        let (window_rows, window_cols) = self.window;
        let (top, left) = (index / self.cols * window_rows, index % self.cols * window_cols);
        let (padded_rows, padded_cols) = (self.rows * window_rows, self.cols * window_cols);
        (0..window_rows * window_cols).map(move |i| {
            let (row, col) = (i / window_cols, i % window_cols);
            let y = (top + row + self.shift.0) % padded_rows;
            let x = (left + col + self.shift.1) % padded_cols;
            let bands = (
                band(top + row, padded_rows, window_rows, self.shift.0),
                band(left + col, padded_cols, window_cols, self.shift.1),
            );
            let token = (y < self.height && x < self.width).then_some(y * self.width + x);
            (Seat { row, col, region: bands.0 * 3 + bands.1 }, token)
        })
    }
}

/// Which of the three bands of an axis of `size` places rolled by `shift` a place is in: before the last window, in it, or
/// rolled into it.
fn band(at: usize, size: usize, window: usize, shift: usize) -> u8 {
    if shift == 0 || at < size - window {
        0
    } else if at < size - shift {
        1
    } else {
        2
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
            for windows in [Windows::new, Windows::padded].map(|new| new(h, w, side, shift).unwrap()) {
                let mut seen = vec![0; h * w];
                for index in 0..windows.count() {
                    let places = windows.places(index);
                    places.iter().for_each(|place| seen[place.token] += 1);
                    prop_assert_eq!(places.len() + windows.beyond(index).len(), side * side);
                }
                prop_assert!(seen.iter().all(|n| *n == 1));
            }
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
    #[test]
    fn an_axis_of_one_padded_window_is_not_shifted() {
        // 3 × 9 under windows of 4: rows are one window, columns three, the last three columns of which hang over.
        let windows = Windows::padded(3, 9, 4, 2).unwrap();
        let columns =
            |index: usize| windows.places(index).iter().map(|place| place.token % 9).collect::<Vec<_>>();
        assert_eq!(windows.count(), 3);
        assert_eq!(columns(0), [2, 3, 4, 5].repeat(3));
        assert_eq!(columns(2), [0, 1].repeat(3), "rolled in from the left");
        assert!(windows.places(2).iter().all(|place| place.region % 3 == 2 && place.region / 3 == 0));
        let last_row = windows.beyond(0).iter().map(|seat| (seat.row, seat.col)).collect::<Vec<_>>();
        assert_eq!(last_row, [(3, 0), (3, 1), (3, 2), (3, 3)]);
        assert_eq!(Windows::padded(5, 9, 4, 2).unwrap(), Windows::new(5, 9, 4, 2).unwrap());
    }
}
