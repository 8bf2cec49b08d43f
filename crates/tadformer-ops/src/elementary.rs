//! Elementary functions as straight-line arithmetic, so that loops over them become vector code.

/// `e^x`, within 2 ulp for `x` in `-87..=88`; 0 below, and never infinite.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // x = n ln2 + r with |r| <= ln2/2, in two steps so that n ln2 is exact enough; e^r by its Taylor polynomial, whose
    // next term is below 1e-8; 2^n by building the exponent field.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let tail = 1.0 / 2.0
        + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)))));
    let mantissa = 1.0 + (r + r * r * tail);
    // After the clamp n is an integer in -126..=127.
    let power = f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23);
    if x < -87.0 { 0.0 } else { mantissa * power }
}

/// The Gaussian error function's complement pieces of `x`: `(Φ(x), φ(x))`, distribution and density of the standard
/// normal, `Φ` within 2e-7.
#[inline(always)]
pub(crate) fn normal_cdf_pdf(x: f32) -> (f32, f32) {
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
    let gauss = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.35 * z);
    let mut p = P[9];
    for i in (0..9).rev() {
        p = p * t + P[i];
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
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / exact - 1.0).abs() < 2.4e-7, "exp({x}) = {ours}, exactly {exact}");
        }
        assert_eq!(exp(-100.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn the_normal_distribution_matches_libm() {
        for x in grid() {
            let (cdf, pdf) = normal_cdf_pdf(x);
            let exact = 0.5 * libm::erfc(-f64::from(x) / std::f64::consts::SQRT_2);
            assert!((f64::from(cdf) - exact).abs() < 2e-7, "cdf({x}) = {cdf}, exactly {exact}");
            let density = (-0.5 * f64::from(x).powi(2)).exp() / std::f64::consts::TAU.sqrt();
            assert!((f64::from(pdf) - density).abs() < 1e-7, "pdf({x}) = {pdf}, exactly {density}");
        }
    }
}
