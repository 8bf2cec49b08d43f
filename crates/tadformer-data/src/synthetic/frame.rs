//! A rendered scene: the picture, and exactly what each pixel's centre shows for the labels.

use super::lanes::Codes;
use crate::Raster;

/// A rendered scene. Rendering the next one into it takes no new memory but the picture's.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) height: usize,
    pub(super) width: usize,
    /// What each pixel shows: see [`Key`].
    pub(super) keys: Vec<u32>,
    /// Metres along the optical axis; infinite for the sky.
    pub(super) depth: Vec<f32>,
    /// Unit normals in camera space, one plane a coordinate; zero for the sky.
    pub(super) normals: [Vec<f32>; 3],
    /// RGB, `(3, h, w)`, whole numbers `0..=255`.
    pub(super) image: Raster,
    /// Whether a pixel differs visibly from a neighbour that shows something else.
    pub(super) mixed: Vec<bool>,
}

/// What a pixel shows, as a number that differs from that of every other piece of surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// Which surface of the surroundings, or which object.
    pub(super) instance: u16,
    /// Which face of a solid or capsule of a person.
    pub(super) piece: u8,
}

impl Key {
    pub(super) fn from_code(code: u32) -> Self {
        Self { instance: (code >> 16) as u16, piece: (code >> 8) as u8 }
    }

    /// The number; its lowest bits are free for [`mark_lit`].
    pub(super) fn code(self) -> u32 {
        u32::from(self.instance) << 16 | u32::from(self.piece) << 8
    }
}

/// Tells what is lit, a 0 or a 1 each, from what lies in the shade.
pub(super) fn mark_lit(keys: &mut Codes, lit: &Codes) {
    for (key, lit) in keys.iter_mut().zip(lit) {
        *key |= lit;
    }
}

impl Frame {
    /// Makes room for `height` by `width` pixels; what they show is left from the scene before.
    pub(super) fn resize(&mut self, height: usize, width: usize) {
        let size = height * width;
        (self.height, self.width) = (height, width);
        self.keys.resize(size, 0);
        self.depth.resize(size, f32::INFINITY);
        for plane in &mut self.normals {
            plane.resize(size, 0.0);
        }
        self.image = Raster::filled(3, height, width, 0.0);
    }

    /// What pixel `i` shows.
    pub(super) fn key(&self, i: usize) -> Key {
        Key::from_code(self.keys[i])
    }

    /// Number of pixels.
    pub(super) fn size(&self) -> usize {
        self.keys.len()
    }
}
