//! Unit vectors after interpolation.

use super::vectors::{Loop, vectorize};
use crate::IGNORE;

/// What becomes of interpolated vectors: they turn with the picture, get back the length 1, and are marked where there is
/// none.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    sin: f32,
    cos: f32,
    renormalise: bool,
}

impl Turn {
    /// For a picture that turned by `degrees`: x and y of a vector at angle `atan2(x, y)` become those at that angle plus
    /// `degrees`. Vectors keep their length, or are brought to length 1.
    pub(super) fn new(degrees: f64, renormalise: bool) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Self { sin: sin as f32, cos: cos as f32, renormalise }
    }

    /// Changes vectors whose parts lie in three planes, one behind the other; the zero vector becomes [`IGNORE`].
    pub(super) fn finish(self, planes: &mut [f32]) {
        let width = planes.len() / 3;
        let (x, rest) = planes.split_at_mut(width);
        let (y, z) = rest.split_at_mut(width);
        vectorize(Vectors { turn: self, x, y, z });
    }
}

/// The planes of vectors.
struct Vectors<'a> {
    turn: Turn,
    x: &'a mut [f32],
    y: &'a mut [f32],
    z: &'a mut [f32],
}

impl Loop for Vectors<'_> {
    #[inline(always)]
    fn run(self) {
        let Turn { sin, cos, renormalise } = self.turn;
        for ((x, y), z) in self.x.iter_mut().zip(self.y).zip(self.z) {
            let vector = [*x * cos + *y * sin, *y * cos - *x * sin, *z];
            let [p, q, r] = vector;
            let length = if renormalise { (p * p + q * q + r * r).sqrt() + 2.2e-16 } else { 1.0 };
            let [p, q, r] = vector.map(|part| part / length);
            let none = (p == 0.0) & (q == 0.0) & (r == 0.0);
            [*x, *y, *z] = [p, q, r].map(|part| if none { IGNORE } else { part });
        }
    }
}
