//! A pinhole camera whose view does not depend on the size of the picture.

use super::vec3::{Basis, Ray, Vec3};

/// Where the picture is taken from.
///
/// Camera space has `x` to the right, `y` up and `z` towards the viewer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Camera {
    pub(super) position: Vec3,
    pub(super) axes: Basis,
    /// Tangent of half the angle that the shorter side of a picture spans; the longer side sees more.
    pub(super) tangent: f32,
}

/// A camera with a picture of a certain size.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) camera: Camera,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Width of a pixel at one metre, metres.
    pub(super) pixel: f32,
}

impl Camera {
    /// At `position`, turned by `yaw` about the vertical (0 looks along `-z`), looking down by `pitch`, tilted by `roll`,
    /// all radians.
    pub(super) fn new(position: Vec3, [yaw, pitch, roll]: [f32; 3], tangent: f32) -> Self {
        let level = Basis::yaw(yaw);
        let back = level.z * pitch.cos() + level.y * pitch.sin();
        let up = back.cross(level.x);
        let (s, c) = roll.sin_cos();
        let axes = Basis { x: level.x * c + up * s, y: up * c - level.x * s, z: back };
        Self { position, axes, tangent }
    }

    /// This camera with a picture of `height` by `width` pixels.
    pub(super) fn view(self, height: usize, width: usize) -> View {
        View { camera: self, height, width, pixel: 2.0 * self.tangent / height.min(width) as f32 }
    }
}

impl View {
    /// The ray through `(x, y)`, in pixels from the upper left corner, and the cosine of its angle with the optical axis.
    #[inline(always)]
    pub(super) fn ray(&self, x: f32, y: f32) -> (Ray, f32) {
        let right = (x - 0.5 * self.width as f32) * self.pixel;
        let up = (0.5 * self.height as f32 - y) * self.pixel;
        let axes = &self.camera.axes;
        let direction = axes.x * right + axes.y * up - axes.z;
        let cosine = 1.0 / direction.length();
        (Ray { origin: self.camera.position, direction: direction * cosine }, cosine)
    }
}
