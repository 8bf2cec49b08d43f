//! Elementary functions as straight-line arithmetic, so that loops over them become vector code.

use crate::simd::mul_add;

/// `e^x`, within 2 ulp for `x` in `-87..=88`; 0 below, and never infinite.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // x = n ln2 + r with |r| <= ln2/2, in two steps so that n ln2 is exact enough; e^r by its Taylor polynomial, whose
    // next term is below 1e-8; 2^n by building the exponent field.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let n = mul_add::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, clamped));
    let mut tail = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 1.0 / 2.0] {
        tail = mul_add::<FMA>(tail, r, term);
    }
    let mantissa = 1.0 + mul_add::<FMA>(r * r, tail, r);
    // After the clamp n is an integer in -126..=127.
    let power = f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23);
    if x < -87.0 { 0.0 } else { mantissa * power }
}

/// The Gaussian error function's complement pieces of `x`: `(Φ(x), φ(x))`, distribution and density of the standard
/// normal, `Φ` within 2e-7.
#[inline(always)]
pub(crate) fn normal_cdf_pdf<const FMA: bool>(x: f32) -> (f32, f32) {
    // Φ(-|x|) = φ-like factor e^{-x²/2} times erfcx(|x|/√2)/2. erfcx(z) = t P(t) with t = 1/(1 + 0.35 z); P is a
    // weighted least-squares (Lawson) minimax fit on z in 0..14, relative error 1.0e-8.
    const P: [f32; 10] = [
        0.197_469_58,
        0.197_408_2,
        0.185_708_02,
        0.161_216_73,
        0.117_593_84,
        0.139_037_17,
        -0.089_158_68,
        0.226_788_17,
        -0.177_909_09,
        0.041_846_08,
    ];
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let gauss = exp::<FMA>(-0.5 * x * x);
    let t = 1.0 / mul_add::<FMA>(z, 0.35, 1.0);
    let mut p = P[9];
    for i in (0..9).rev() {
        p = mul_add::<FMA>(p, t, P[i]);
    }
    let tail = 0.5 * gauss * (t * p);
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    const INV_SQRT_TAU: f32 = 0.398_942_3;
    (cdf, gauss * INV_SQRT_TAU)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> impl Iterator<Item = f32> {
        (-120_000..=120_000).map(|i| i as f32 * 1e-4)
    }

    #[test]
    fn exp_is_within_two_ulp() {
        for x in grid().chain((-86..=88).map(|i| i as f32)) {
            let exact = f64::from(x).exp();
            for ours in [exp::<true>(x), exp::<false>(x)] {
                assert!((f64::from(ours) / exact - 1.0).abs() < 2.4e-7, "exp({x}) = {ours}, exactly {exact}");
            }
        }
        assert_eq!([exp::<true>(-100.0), exp::<false>(-100.0)], [0.0; 2]);
        assert_eq!([exp::<true>(0.0), exp::<false>(0.0)], [1.0; 2]);
    }

    #[test]
    fn the_normal_distribution_matches_libm() {
        for x in grid() {
            let exact = 0.5 * libm::erfc(-f64::from(x) / std::f64::consts::SQRT_2);
            let density = (-0.5 * f64::from(x).powi(2)).exp() / std::f64::consts::TAU.sqrt();
            for (cdf, pdf) in [normal_cdf_pdf::<true>(x), normal_cdf_pdf::<false>(x)] {
                assert!((f64::from(cdf) - exact).abs() < 2e-7, "cdf({x}) = {cdf}, exactly {exact}");
                assert!((f64::from(pdf) - density).abs() < 1e-7, "pdf({x}) = {pdf}, exactly {density}");
            }
        }
    }
}
