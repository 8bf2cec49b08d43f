//! Periodic functions of one coordinate; `width` is that of a pixel, in periods.

use super::noise::floor;

/// How much of a pattern is left: all below half a period, none from one on.
#[inline(always)]
pub(super) fn fade(width: f32) -> f32 {
    (2.0 - 2.0 * width).clamp(0.0, 1.0)
}

/// Signed distance to the middle of the unit cell, `-0.5..0.5`.
#[inline(always)]
pub(super) fn centre(v: f32) -> f32 {
    v - floor(v).0 - 0.5
}

/// 1 where `v` is positive, blended over `width`.
#[inline(always)]
pub(super) fn ramp(v: f32, width: f32) -> f32 {
    (v / width.max(1e-4) + 0.5).clamp(0.0, 1.0)
}

/// 1 on a share `duty` of every unit, 0 elsewhere.
#[inline(always)]
pub(super) fn stripe(v: f32, duty: f32, width: f32) -> f32 {
    let sharp = ramp(0.5 * duty - centre(v).abs(), width);
    duty + fade(width) * (sharp - duty)
}

/// 1 on a line of `thickness` at every integer.
#[inline(always)]
pub(super) fn line(v: f32, thickness: f32, width: f32) -> f32 {
    stripe(v + 0.5, thickness, width)
}

/// The sine of `v` radians to 4e-6, the same on every machine.
#[inline(always)]
pub(super) fn sine(v: f32) -> f32 {
    use std::f32::consts::TAU;
    // The part of a turn, -0.5..0.5, then its mirror image on the rising quarters, -0.25..=0.25.
    let turn = centre(v * (1.0 / TAU) + 0.5);
    let folded = if turn.abs() > 0.25 { 0.5f32.copysign(turn) - turn } else { turn };
    let x = folded * TAU;
    let s = x * x;
    x * (1.0 + s * (-1.0 / 6.0 + s * (1.0 / 120.0 + s * (-1.0 / 5040.0 + s * (1.0 / 362_880.0)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_that_of_the_library() {
        for i in -3000..3000 {
            let v = i as f32 * 0.01;
            assert!((sine(v) - v.sin()).abs() < 1e-5, "{v}: {}", sine(v));
        }
    }

    #[test]
    fn stripes_keep_about_their_share_at_every_width() {
        for width in [0.0, 0.1, 0.4, 0.8, 3.0] {
            let mean = (0..1000).map(|i| stripe(i as f32 * 0.001, 0.3, width)).sum::<f32>() / 1000.0;
            assert!((mean - 0.3).abs() < 0.05, "{mean} at {width}");
        }
    }
}
