//! The one pixel container: planes of `f32`.

/// Planes of `f32`, one a channel, rows from the top; none by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Raster {
    /// Number of planes.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `(channels, height, width)`, row-major.
    pub data: Vec<f32>,
}

impl Raster {
    /// A raster in which every element is `value`.
    pub fn filled(channels: usize, height: usize, width: usize, value: f32) -> Self {
        Self { channels, height, width, data: vec![value; channels * height * width] }
    }

    /// The plane of channel `c`, `(height, width)`.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn plane(&self, c: usize) -> &[f32] {
        let size = self.height * self.width;
        &self.data[c * size..(c + 1) * size]
    }

    /// The plane of channel `c`, `(height, width)`, to write to.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn plane_mut(&mut self, c: usize) -> &mut [f32] {
        let size = self.height * self.width;
        &mut self.data[c * size..(c + 1) * size]
    }
}
