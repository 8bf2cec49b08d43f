//! Relative position bias tables for another window.
//!
//! A table has one row for each displacement inside a w × w window, (2w − 1)² in all, and one column a head. For another
//! window it is resized as an image of that many channels, in one of [two ways](TableResize).

use crate::error::{Error, Result};
use crate::names::{Mapped, Naming};
use crate::state_dict::Tensor;

const NAME: &str = "relative_position_bias_table";
const A: f64 = -0.75;

/// How a position bias table is made for another window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableResize {
    /// Bicubic, a = −0.75, half-pixel centres, replicated border, no antialiasing
    /// (`torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`): the ends of a table stay its ends. So do
    /// Microsoft's code and OpenMMLab's.
    Bicubic,
    /// The known displacements are spread over the wanted ones in steps that grow by a constant factor, from 1 in the middle;
    /// in between, bilinear. Small displacements keep their biases, and so do the largest. For a smaller window the factor is
    /// 1.01, so the outer ones fall away. So does timm (without SciPy), after SimMIM and BEiT, whose own curves are cubic.
    Geometric,
}

impl Naming {
    /// What those whose names a file has do with its tables.
    pub fn table_resize(self) -> TableResize {
        match self {
            Self::Timm | Self::TimmFeatures | Self::SimMim => TableResize::Geometric,
            Self::Microsoft | Self::HuggingFace | Self::Torchvision | Self::OpenMmlab | Self::Reference => {
                TableResize::Bicubic
            }
        }
    }
}

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
    /// Resizes each position bias table whose number of rows differs from the wanted one; the others stay as they are. Without
    /// `how`, as those [do](Naming::table_resize) whose names the file has. Returns what was resized.
    ///
    /// # Errors
    /// A table whose rows are no odd square, or whose elements are no floats.
    pub fn resize_position_bias(
        &mut self,
        wanted: &[(String, Vec<usize>)],
        how: Option<TableResize>,
    ) -> Result<Vec<ResizedTable>> {
        let how = how.unwrap_or_else(|| self.naming.table_resize());
        let mut resized = Vec::new();
        for (name, shape) in wanted.iter().filter(|(name, _)| name.ends_with(NAME)) {
            let (Some(table), &[rows, heads]) = (self.tensors.get(name), &shape[..]) else { continue };
            // Another number of heads is another model: whoever takes the tensors says so, with everything else.
            if table.shape().len() != 2 || table.shape()[0] == rows || table.shape()[1] != heads {
                continue;
            }
            let Some(to) = window_of(rows) else { continue };
            let from = window_of(table.shape()[0]).unwrap_or(0);
            let table = resize_table(table, to, how)?;
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
pub fn resize_table(table: &Tensor, window: usize, how: TableResize) -> Result<Tensor> {
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
    let taps: Vec<Vec<(usize, f64)>> = match how {
        TableResize::Bicubic => (0..target).map(|at| cubic_taps(at, source, target)).collect(),
        TableResize::Geometric => geometric_taps(source / 2, target / 2),
    };
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
fn cubic_taps(at: usize, source: usize, target: usize) -> Vec<(usize, f64)> {
    let centre = (at as f64 + 0.5) * source as f64 / target as f64 - 0.5;
    let floor = centre.floor();
    let fraction = centre - floor;
    let tap = |step: f64| {
        let position = (floor + step).clamp(0.0, (source - 1) as f64);
        (position as usize, cubic((fraction - step).abs()))
    };
    [-1.0, 0.0, 1.0, 2.0].map(tap).into()
}

/// Source positions and weights of all output positions, for `2 · from + 1` and `2 · to + 1` displacements.
fn geometric_taps(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let ratio = geometric_ratio(from, to);
    let mut known = vec![0.0];
    let mut step = 1.0;
    for _ in 0..from {
        known.push(known[known.len() - 1] + step);
        step *= ratio;
    }
    // Displacements of one sign; those of the other mirror them.
    let taps = |distance: f64, place: &dyn Fn(usize) -> usize| match known.iter().position(|x| *x >= distance)
    {
        Some(0) => vec![(place(0), 1.0)],
        Some(right) => {
            let share = (distance - known[right - 1]) / (known[right] - known[right - 1]);
            vec![(place(right - 1), 1.0 - share), (place(right), share)]
        }
        None => vec![(place(from), 1.0)],
    };
    let before = (1..=to).rev().map(|at| taps(at as f64, &|index| from - index));
    before.chain((0..=to).map(|at| taps(at as f64, &|index| from + index))).collect()
}

/// The factor by which `from` steps grow so that together they are as long as `to` of the first, to 1e-6 within 1.01 to 1.5.
fn geometric_ratio(from: usize, to: usize) -> f64 {
    let (mut left, mut right, mut ratio) = (1.01, 1.5, 1.01);
    while right - left > 1e-6 {
        ratio = (left + right) / 2.0;
        let length = (1.0 - f64::powi(ratio, from as i32)) / (1.0 - ratio);
        if length > to as f64 { right = ratio } else { left = ratio }
    }
    ratio
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
            for how in [TableResize::Bicubic, TableResize::Geometric] {
                let resized = resize_table(&table, window, how).unwrap();
                assert_eq!(resized.shape(), [(2 * window - 1) * (2 * window - 1), 2]);
                assert!(resized.to_f32().iter().all(|v| (v - 0.25).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn the_same_window_gives_the_same_table() {
        let values: Vec<f32> = (0..49).map(|n| n as f32 * 0.5 - 3.0).collect();
        let table = Tensor::from_f32("t", vec![49, 1], &values).unwrap();
        assert_eq!(resize_table(&table, 4, TableResize::Bicubic).unwrap().to_f32(), values);
    }

    #[test]
    fn only_odd_squares_are_windows() {
        assert_eq!(window_of(169), Some(7));
        assert_eq!(window_of(529), Some(12));
        assert_eq!(window_of(1), Some(1));
        assert_eq!([0, 2, 16, 168].map(window_of), [None; 4]);
        let table = Tensor::from_f32("t", vec![16, 1], &[0.0; 16]).unwrap();
        let message = resize_table(&table, 7, TableResize::Geometric).unwrap_err().to_string();
        assert!(message.contains("`t`: 16 rows are no"), "{message}");
    }

    #[test]
    fn a_ramp_keeps_its_ends_and_geometrically_its_middle_too() {
        let ramp: Vec<f32> = (0..169).map(|at| (at / 13) as f32 - 6.0).collect();
        let table = Tensor::from_f32("t", vec![169, 1], &ramp).unwrap();
        let column = |how| {
            let resized = resize_table(&table, 12, how).unwrap().to_f32();
            resized.iter().step_by(23).copied().collect::<Vec<f32>>()
        };
        // timm 1.0.31 and torch 2.14.0 give these.
        for (how, ends, beside_the_middle) in
            [(TableResize::Geometric, 6.0, 1.0), (TableResize::Bicubic, 6.1, 0.549)]
        {
            let column = column(how);
            let found = [column[0], column[10], column[11], column[12], column[22]];
            let expected = [-ends, -beside_the_middle, 0.0, beside_the_middle, ends];
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-3), "{how:?}: {found:?}");
        }
    }
}
