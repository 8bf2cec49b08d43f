//! Relative position bias tables for another window.
//!
//! A table has one row for each displacement inside a w × w window, (2w − 1)² in all, and one column a head. For another
//! window it is resized as an image of that many channels: bicubic, a = −0.75, half-pixel centres, replicated border, no
//! antialiasing (`torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`).

use crate::error::{Error, Result};
use crate::names::Mapped;
use crate::state_dict::Tensor;

const NAME: &str = "relative_position_bias_table";
const A: f64 = -0.75;

/// A table that was resized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizedTable {
    /// Its name.
    pub name: String,
    /// Side of the window it was trained for, in tokens.
    pub from: usize,
    /// Side of the window it now fits.
    pub to: usize,
}

impl Mapped {
    /// Resizes each position bias table whose number of rows differs from the wanted one; the others stay as they are.
    /// Returns what was resized.
    ///
    /// # Errors
    /// A table whose rows are no odd square, or whose elements are no floats.
    pub fn resize_position_bias(&mut self, wanted: &[(String, Vec<usize>)]) -> Result<Vec<ResizedTable>> {
        let mut resized = Vec::new();
        for (name, shape) in wanted.iter().filter(|(name, _)| name.ends_with(NAME)) {
            let (Some(table), &[rows, heads]) = (self.tensors.get(name), &shape[..]) else { continue };
            // Another number of heads is another model: whoever takes the tensors says so, with everything else.
            if table.shape().len() != 2 || table.shape()[0] == rows || table.shape()[1] != heads {
                continue;
            }
            let Some(to) = window_of(rows) else { continue };
            let from = window_of(table.shape()[0]).unwrap_or(0);
            let table = resize_table(table, to)?;
            self.tensors.replace(table);
            resized.push(ResizedTable { name: name.clone(), from, to });
        }
        Ok(resized)
    }
}

/// A table of shape `((2w − 1)², heads)` resized to `((2·window − 1)², heads)`, as `f32`.
///
/// # Errors
/// Its rows are no odd square, its elements are no floats, or `window` is 0.
pub fn resize_table(table: &Tensor, window: usize) -> Result<Tensor> {
    let refused = |reason: String| Err(Error::tensor("resize the position bias table", table.name(), reason));
    let &[rows, heads] = table.shape() else {
        return refused(format!("its shape {:?} is not (displacements, heads)", table.shape()));
    };
    if !table.dtype().is_float() {
        return refused(format!("its elements are {}, expected floats", table.dtype()));
    }
    let Some(from) = window_of(rows) else {
        return refused(format!("{rows} rows are no (2w − 1)² of any window w"));
    };
    if window == 0 || window > 1024 {
        return refused(format!("a window of {window} tokens is outside of 1..=1024"));
    }
    let (source, target) = (2 * from - 1, 2 * window - 1);
    let values = table.to_f32();
    let taps: Vec<[(usize, f64); 4]> = (0..target).map(|at| taps(at, source, target)).collect();
    let mut out = Vec::with_capacity(target * target * heads);
    for row_taps in &taps {
        for column_taps in &taps {
            for head in 0..heads {
                let mut sum = 0.0;
                for &(row, row_weight) in row_taps {
                    for &(column, weight) in column_taps {
                        sum +=
                            row_weight * weight * f64::from(values[(row * source + column) * heads + head]);
                    }
                }
                out.push(sum as f32);
            }
        }
    }
    Tensor::from_f32(table.name(), vec![target * target, heads], &out)
}

/// The window w of which `rows` is (2w − 1)².
pub(crate) fn window_of(rows: usize) -> Option<usize> {
    let side = rows.isqrt();
    (side * side == rows && side % 2 == 1).then_some(side.div_ceil(2))
}

/// Source positions and weights of the output position `at`.
fn taps(at: usize, source: usize, target: usize) -> [(usize, f64); 4] {
    let centre = (at as f64 + 0.5) * source as f64 / target as f64 - 0.5;
    let floor = centre.floor();
    let fraction = centre - floor;
    [-1.0, 0.0, 1.0, 2.0].map(|step| {
        let position = (floor + step).clamp(0.0, (source - 1) as f64);
        (position as usize, cubic((fraction - step).abs()))
    })
}

/// Keys' cubic convolution kernel at distance `x` ≥ 0.
fn cubic(x: f64) -> f64 {
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_table_stays_constant() {
        let table = Tensor::from_f32("t", vec![49, 2], &[0.25; 98]).unwrap();
        for window in [1, 2, 3, 7, 12] {
            let resized = resize_table(&table, window).unwrap();
            assert_eq!(resized.shape(), [(2 * window - 1) * (2 * window - 1), 2]);
            assert!(resized.to_f32().iter().all(|v| (v - 0.25).abs() < 1e-6));
        }
    }

    #[test]
    fn the_same_window_gives_the_same_table() {
        let values: Vec<f32> = (0..49).map(|n| n as f32 * 0.5 - 3.0).collect();
        let table = Tensor::from_f32("t", vec![49, 1], &values).unwrap();
        assert_eq!(resize_table(&table, 4).unwrap().to_f32(), values);
    }

    #[test]
    fn only_odd_squares_are_windows() {
        assert_eq!(window_of(169), Some(7));
        assert_eq!(window_of(529), Some(12));
        assert_eq!(window_of(1), Some(1));
        assert_eq!([0, 2, 16, 168].map(window_of), [None; 4]);
        let table = Tensor::from_f32("t", vec![16, 1], &[0.0; 16]).unwrap();
        let message = resize_table(&table, 7).unwrap_err().to_string();
        assert!(message.contains("`t`: 16 rows are no"), "{message}");
    }
}
