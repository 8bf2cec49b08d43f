//! Elementary functions as straight-line arithmetic, so that loops over them become vector code.

use crate::simd::mul_add;
use crate::vector::Vector;

/// `e^x`, within 2 ulp for `x` in `-87..=88`; 0 below, and never infinite.
#[inline(always)]
pub(crate) fn exp<V: Vector>(x: f32) -> f32 {
    // x = n ln2 + r with |r| <= ln2/2, in two steps so that n ln2 is exact enough; e^r by its Taylor polynomial, whose
    // next term is below 1e-8; 2^n by building the exponent field.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let rounded = mul_add::<V>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add::<V>(n, -LN2_LOW, mul_add::<V>(n, -LN2_HIGH, clamped));
    let mut tail = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 1.0 / 2.0] {
        tail = mul_add::<V>(tail, r, term);
    }
    let mantissa = 1.0 + mul_add::<V>(r * r, tail, r);
    // After the clamp n is an integer in -126..=127, and the lowest bits of the rounded sum are its own.
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { mantissa * power }
}

/// `GELU(x) = x Φ(x)`, the exact (erf) form, within 2e-7 times the larger of `|x|` and 4.
#[inline(always)]
pub(crate) fn gelu<V: Vector>(x: f32) -> f32 {
    // Φ(x) − 1/2 is odd: x times a polynomial in x², here in 2 (x / 5.25)² − 1, which keeps all terms small. The polynomial
    // is a least-squares fit weighted to a minimax one (Lawson), error 1.6e-8; beyond ±5.25 Φ is 0 or 1 in `f32`.
    const LIMIT: f32 = 5.25;
    const P: [f32; 15] = [
        0.134_659_35,
        -0.067_126_82,
        0.049_645_785,
        -0.039_763_413,
        0.032_031_44,
        -0.025_041_932,
        0.018_538_648,
        -0.012_775_25,
        0.008_417_871,
        -0.005_448_52,
        0.002_892_361_5,
        -0.001_039_534_2,
        0.000_664_732_2,
        -0.000_656_583_9,
        0.000_239_950_14,
    ];
    let (near, odd) = odd_polynomial::<V, 15>(x, LIMIT, &P);
    let factor = if x > LIMIT { x } else { near };
    factor * (0.5 + odd)
}

/// `GELU'(x) = Φ(x) + x φ(x)`, within 5e-7.
#[inline(always)]
pub(crate) fn gelu_slope<V: Vector>(x: f32) -> f32 {
    // As for GELU itself: GELU' − 1/2 is odd. Error of the fit 2.4e-8.
    const P: [f32; 18] = [
        0.123_071_83,
        -0.062_281_407,
        0.049_367_223,
        -0.047_294_237,
        0.051_706_485,
        -0.059_524_443,
        0.066_754_594,
        -0.070_578_24,
        0.069_385_06,
        -0.059_359_21,
        0.043_163,
        -0.034_928_497,
        0.031_693_082,
        -0.016_220_227,
        0.001_062_144_5,
        -0.002_832_307_7,
        0.006_217_06,
        -0.002_445_362,
    ];
    0.5 + odd_polynomial::<V, 18>(x, 5.75, &P).1
}

/// `x` cut to `±limit`, and that times the polynomial `p` of `2 (x / limit)² − 1`. NaN stays NaN.
#[inline(always)]
fn odd_polynomial<V: Vector, const N: usize>(x: f32, limit: f32, p: &[f32; N]) -> (f32, f32) {
    let x = x.clamp(-limit, limit);
    let s = mul_add::<V>(x * x, 2.0 / (limit * limit), -1.0);
    let mut sum = p[N - 1];
    for i in (0..N - 1).rev() {
        sum = mul_add::<V>(sum, s, p[i]);
    }
    (x, x * sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::{Fused, Plain};

    fn grid() -> impl Iterator<Item = f32> {
        (-120_000..=120_000).map(|i| i as f32 * 1e-4)
    }

    #[test]
    fn exp_is_within_two_ulp() {
        for x in grid().chain((-86..=88).map(|i| i as f32)) {
            let exact = f64::from(x).exp();
            for ours in [exp::<Fused>(x), exp::<Plain>(x)] {
                assert!((f64::from(ours) / exact - 1.0).abs() < 2.4e-7, "exp({x}) = {ours}, exactly {exact}");
            }
        }
        assert_eq!([exp::<Fused>(-100.0), exp::<Plain>(-100.0)], [0.0; 2]);
        assert_eq!([exp::<Fused>(0.0), exp::<Plain>(0.0)], [1.0; 2]);
    }

    #[test]
    fn gelu_and_its_slope_match_libm() {
        for x in grid().chain([-1e9, -100.0, 100.0, 1e9]) {
            let exact = f64::from(x);
            let cdf = 0.5 * libm::erfc(-exact / std::f64::consts::SQRT_2);
            let density = (-0.5 * exact * exact).exp() / std::f64::consts::TAU.sqrt();
            for (gelu, slope) in
                [(gelu::<Fused>(x), gelu_slope::<Fused>(x)), (gelu::<Plain>(x), gelu_slope::<Plain>(x))]
            {
                let allowed = 2e-7 * exact.abs().max(4.0);
                assert!((f64::from(gelu) - exact * cdf).abs() < allowed, "gelu({x}) = {gelu}");
                let exact_slope = cdf + exact * density;
                assert!((f64::from(slope) - exact_slope).abs() < 5e-7, "gelu'({x}) = {slope}");
            }
        }
        assert!(gelu::<Fused>(f32::NAN).is_nan() && gelu_slope::<Fused>(f32::NAN).is_nan());
    }
}
