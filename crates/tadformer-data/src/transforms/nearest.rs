//! Label maps whose pixels are taken and never mixed.

use super::resize;
use super::scale_rotate::{Grid, OUTSIDE};
use crate::Raster;

/// Which source pixel each output pixel shows.
pub(super) struct Nearest<'a> {
    grid: Option<&'a Grid>,
    /// Source rows and columns.
    from: (usize, usize),
    flip: bool,
    /// The row and the column of the warped picture that each row and column of the result takes.
    rows: Vec<usize>,
    columns: Vec<usize>,
}

impl<'a> Nearest<'a> {
    /// A flip, then the warp of `grid` if there is one, then a resize of `from` to `to` (height, width).
    pub(super) fn new(grid: Option<&'a Grid>, from: (usize, usize), to: (usize, usize), flip: bool) -> Self {
        let (rows, columns) = (resize::nearest(from.0, to.0), resize::nearest(from.1, to.1));
        Self { grid, from, flip, rows, columns }
    }

    /// The maps (one channel, all of the source's size) as they are shown, 0 where they are not.
    pub(super) fn take(&self, maps: Vec<Raster>) -> Vec<Raster> {
        let (height, width) = (self.rows.len(), self.columns.len());
        if maps.is_empty() || (self.grid.is_none() && !self.flip && (height, width) == self.from) {
            return maps;
        }
        let mut taken: Vec<_> = maps.iter().map(|_| Vec::with_capacity(height * width)).collect();
        let mut indices = vec![OUTSIDE; width];
        let grid = self.grid.map(|grid| (grid, grid.columns_at(&self.columns)));
        let mirrored = |x: usize| if self.flip { self.from.1 - 1 - x } else { x };
        let mut shown = None;
        for &y in &self.rows {
            if shown == Some(y) {
                // A magnified picture shows a row more than once.
                taken.iter_mut().for_each(|map: &mut Vec<f32>| map.extend_from_within(map.len() - width..));
                continue;
            }
            match &grid {
                Some((grid, columns)) => grid.nearest_row(y, columns, self.flip, &mut indices),
                None => {
                    for (index, &x) in indices.iter_mut().zip(&self.columns) {
                        *index = (y * self.from.1 + mirrored(x)) as u32;
                    }
                }
            }
            for (map, source) in taken.iter_mut().zip(&maps) {
                // No plane is so large that the index of the outside lies in it.
                let pixel = |&i: &u32| source.data.get(i as usize).copied().unwrap_or(0.0);
                map.extend(indices.iter().map(pixel));
            }
            shown = Some(y);
        }
        let raster = |data| Raster { channels: 1, height, width, data };
        taken.into_iter().map(raster).collect()
    }
}
