//! Cubic convolution as OpenCV has it: a = −0.75, four taps a direction.
//!
//! Rows are worked on as pixels of four lanes, three of them in use, so that the four taps of a row are one run of numbers
//! that whole vectors multiply. Only products and sums are used, in one fixed order: every machine gets the same bits.

/// One pixel: red, green and blue or the three parts of a vector, then 0.
pub(super) type Pixel = [f32; LANES];

/// Numbers of a pixel: what is interpolated has three channels.
pub(super) const LANES: usize = 4;

/// Weights of the taps at −1, 0, 1 and 2 for a position that lies `t` in `0.0..1.0` after tap 0; their sum is 1.
pub(super) fn weights(t: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let before = t + 1.0;
    let after = 1.0 - t;
    let w0 = ((A * before - 5.0 * A) * before + 8.0 * A) * before - 4.0 * A;
    let w1 = ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let w2 = ((A + 2.0) * after - (A + 3.0)) * after * after + 1.0;
    [w0, w1, w2, 1.0 - w0 - w1 - w2]
}

/// Four pixels in a row, as numbers: what one row gives to an output pixel.
pub(super) type Taps = [f32; 4 * LANES];

/// Each weight as often as a pixel has lanes, to be multiplied with [`Taps`].
pub(super) fn spread(weights: [f32; 4]) -> Taps {
    std::array::from_fn(|i| weights[i / LANES])
}

/// Two pixels whose sum is an output pixel.
///
/// Loops write the pair beside the pixel, although nobody reads it again: the compiler makes vectors as wide as what is
/// written, and eight numbers at once take half the instructions of four.
pub(super) type Pair = [f32; 2 * LANES];

/// The sum of the first and the third of four pixels, and of the second and the fourth; `value` gives their numbers.
#[inline(always)]
pub(super) fn pair(value: impl Fn(usize) -> f32) -> Pair {
    std::array::from_fn(|i| value(i) + value(2 * LANES + i))
}

/// The sum of a pair.
#[inline(always)]
pub(super) fn fold(pair: &Pair) -> Pixel {
    std::array::from_fn(|lane| pair[lane] + pair[LANES + lane])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_a_whole_position_takes_its_own_tap() {
        assert_eq!(weights(0.0), [0.0, 1.0, 0.0, 0.0]);
        for i in 0..32 {
            let sum: f32 = weights(i as f32 / 32.0).iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{i}/32: {sum}");
        }
        // The published values of the kernel half way between two taps: a/8 and 1/2 − a/8.
        let half = weights(0.5);
        for (found, expected) in half.iter().zip([-0.09375, 0.59375, 0.59375, -0.09375]) {
            assert!((found - expected).abs() < 1e-6, "{half:?}");
        }
    }
}
