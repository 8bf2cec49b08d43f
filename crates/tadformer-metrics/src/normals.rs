//! Surface normals: the angle between prediction and label.
//!
//! Eigen and Fergus (ICCV 2015): mean and median angle, and the share of pixels below 11.25°, 22.5°
//! and 30°. The angle of unit vectors is `2·atan(|p − g| / |p + g|)`, which stays exact at 0° and 180°,
//! where the arc cosine of the inner product loses half of the digits.

use crate::error::Error;
use crate::exact_sum::ExactSum;
use crate::meter::{Meter, Score, same_kind};
use crate::planes::{IGNORE, Planes};

const NAME: &str = "normals";

/// The shares' bounds in degrees.
const WITHIN: [f64; 3] = [11.25, 22.5, 30.0];

/// Bins a degree of the histogram behind the median.
const BINS_PER_DEGREE: usize = 4096;
const BINS: usize = 180 * BINS_PER_DEGREE;

/// A label this short has no direction: a hole in the ground truth that nobody marked.
const SHORTEST_LABEL: f64 = 1e-6;

/// The meter of surface normals.
///
/// Scores: `mean`, the mean angle, which the multi-task literature prints under the name "rmse";
/// `median`; `rms`, the root of the mean square angle, which is larger than the mean; and the percentages of
/// pixels with an angle below 11.25°, 22.5° and 30°.
///
/// The median comes from a histogram with bins of 1/4096°, 5.9 MB once the first pixel is scored, whatever the
/// number of images: it is off by at most 1/8192° (0.00012°).
///
/// # Shapes
/// Logits `(3, h, w)`, of any length: they are normalised here, and a zero vector is 90° off everything. Label
/// `(3, h, w)`, unit vectors; pixels with 255 in all three channels or a vector of length 0 are not scored.
#[derive(Debug, Clone, Default)]
pub struct Normals {
    pixels: u64,
    angle: ExactSum,
    square: ExactSum,
    within: [u64; WITHIN.len()],
    /// Pixels by angle in units of `1 / BINS_PER_DEGREE` degrees; empty before the first pixel.
    histogram: Vec<u64>,
}

impl Normals {
    /// A meter that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of pixels scored.
    pub fn pixels(&self) -> u64 {
        self.pixels
    }

    /// The median angle in degrees: with an even number of pixels the mean of the middle two.
    fn median(&self) -> f64 {
        let (lower, upper) = ((self.pixels - 1) / 2, self.pixels / 2);
        (self.ranked(lower) + self.ranked(upper)) / 2.0
    }

    /// The angle with `rank` angles before it, as the centre of its bin.
    fn ranked(&self, rank: u64) -> f64 {
        let mut seen = 0;
        let bin = self.histogram.iter().position(|&count| {
            seen += count;
            seen > rank
        });
        let bin = bin.expect("the rank is below the number of pixels, all of which are in the histogram");
        (bin as f64 + 0.5) / BINS_PER_DEGREE as f64
    }
}

impl Meter for Normals {
    fn update(&mut self, logits: Planes<'_>, label: Planes<'_>) -> Result<(), Error> {
        logits.expect_channels(NAME, "logits", 3)?;
        label.expect_channels(NAME, "label", 3)?;
        logits.expect_size_of(NAME, label)?;
        logits.expect_finite(NAME)?;

        // Nothing is counted before the whole label has been read: it may still be refused.
        let (mut sum, mut sum_of_squares) = (0.0, 0.0);
        let mut within = [0; WITHIN.len()];
        let mut bins = Vec::with_capacity(label.pixels());
        for pixel in 0..label.pixels() {
            let Some(direction) = labelled(label, pixel)? else { continue };
            let degrees = angle(unit(vector(logits, pixel)), direction).to_degrees();
            sum += degrees;
            sum_of_squares += degrees * degrees;
            for (count, bound) in within.iter_mut().zip(WITHIN) {
                *count += u64::from(degrees < bound);
            }
            bins.push((degrees * BINS_PER_DEGREE as f64) as u32);
        }

        if !bins.is_empty() && self.histogram.is_empty() {
            self.histogram = vec![0; BINS];
        }
        for &bin in &bins {
            self.histogram[(bin as usize).min(BINS - 1)] += 1;
        }
        for (count, more) in self.within.iter_mut().zip(within) {
            *count += more;
        }
        self.angle.add(sum);
        self.square.add(sum_of_squares);
        self.pixels += bins.len() as u64;
        Ok(())
    }

    fn scores(&self) -> Vec<Score> {
        let pixels = self.pixels as f64;
        let median = if self.pixels == 0 { f64::NAN } else { self.median() };
        let within = |i: usize| self.within[i] as f64 / pixels;
        vec![
            Score::error("mean", "degrees", self.angle.value() / pixels),
            Score::error("median", "degrees", median),
            Score::error("rms", "degrees", (self.square.value() / pixels).sqrt()),
            Score::percent("within 11.25", within(0)),
            Score::percent("within 22.5", within(1)),
            Score::percent("within 30", within(2)),
        ]
    }

    fn reset(&mut self) {
        *self = Self::new();
    }

    fn merge(&mut self, other: &dyn Meter) -> Result<(), Error> {
        let other: &Self = same_kind(NAME, other)?;
        self.pixels += other.pixels;
        self.angle.merge(&other.angle);
        self.square.merge(&other.square);
        for (count, more) in self.within.iter_mut().zip(other.within) {
            *count += more;
        }
        if self.histogram.is_empty() {
            self.histogram.clone_from(&other.histogram);
        } else {
            for (count, more) in self.histogram.iter_mut().zip(&other.histogram) {
                *count += more;
            }
        }
        Ok(())
    }
}

/// The unit vector of a pixel's label, none where it is not labelled.
fn labelled(label: Planes<'_>, pixel: usize) -> Result<Option<[f64; 3]>, Error> {
    let raw = vector(label, pixel);
    if raw == [f64::from(IGNORE); 3] {
        return Ok(None);
    }
    // A unit vector leaves [-1, 1] by rounding or interpolation only; 255 in some channels does by far.
    if let Some(channel) = raw.iter().position(|v| v.is_nan() || v.abs() > 2.0) {
        let at = channel * label.pixels() + pixel;
        let expected = "a component of a unit vector, or 255 in all channels of an unlabelled pixel";
        return Err(Error::Label {
            meter: NAME,
            value: label.data()[at],
            place: label.place(at),
            expected: expected.to_owned(),
        });
    }
    Ok((square(raw).sqrt() >= SHORTEST_LABEL).then(|| unit(raw)))
}

/// The three channels of a pixel.
fn vector(planes: Planes<'_>, pixel: usize) -> [f64; 3] {
    std::array::from_fn(|channel| f64::from(planes.data()[channel * planes.pixels() + pixel]))
}

/// The vector of length 1 in the same direction; 0 stays 0.
///
/// Squares of finite f32 neither overflow nor vanish in f64.
fn unit(v: [f64; 3]) -> [f64; 3] {
    let norm = square(v).sqrt();
    if norm == 0.0 {
        return v;
    }
    let scale = 1.0 / norm;
    v.map(|component| component * scale)
}

/// The squared length.
fn square([x, y, z]: [f64; 3]) -> f64 {
    x * x + y * y + z * z
}

/// The angle between two unit vectors in radians, `0..=π`; opposite ones divide by 0, and infinity has an arc tangent.
fn angle(p: [f64; 3], g: [f64; 3]) -> f64 {
    let difference = std::array::from_fn(|i| p[i] - g[i]);
    let sum = std::array::from_fn(|i| p[i] + g[i]);
    2.0 * (square(difference) / square(sum)).sqrt().atan()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores pixels given as `(prediction, label)`.
    fn scored(pixels: &[([f32; 3], [f32; 3])]) -> Result<Normals, Error> {
        let planar = |pick: &dyn Fn(usize) -> [f32; 3]| -> Vec<f32> {
            (0..3).flat_map(|c| (0..pixels.len()).map(move |i| (c, i))).map(|(c, i)| pick(i)[c]).collect()
        };
        let (logits, label) = (planar(&|i| pixels[i].0), planar(&|i| pixels[i].1));
        let view = |data| Planes::new(data, 3, 1, pixels.len()).expect("sizes fit");
        let mut meter = Normals::new();
        meter.update(view(&logits), view(&label))?;
        Ok(meter)
    }

    fn tilted(degrees: f32) -> [f32; 3] {
        let (sin, cos) = degrees.to_radians().sin_cos();
        [sin, 0.0, cos]
    }

    const UP: [f32; 3] = [0.0, 0.0, 1.0];

    #[test]
    fn figures_follow_the_definition() {
        let pixels =
            [(tilted(10.0), UP), (tilted(20.0).map(|v| 7.0 * v), UP), (tilted(60.0), UP), (UP, [255.0; 3])];
        let meter = scored(&pixels).expect("image fits");
        let values: Vec<f64> = meter.scores().iter().map(|score| score.value).collect();
        let third = 100.0 / 3.0;
        let expected = [30.0, 20.0, (4100.0f64 / 3.0).sqrt(), third, 2.0 * third, 2.0 * third];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 2e-4, "{values:?}");
        }
        assert_eq!(meter.pixels(), 3);
    }

    #[test]
    fn an_even_number_of_pixels_has_the_mean_of_the_middle_two_as_median() {
        let pixels = [5.0, 90.0, 10.0, 20.0].map(|degrees| (tilted(degrees), UP));
        let median = scored(&pixels).expect("image fits").scores()[1].value;
        assert!((median - 15.0).abs() < 2e-4, "{median}");
    }

    #[test]
    fn opposite_and_missing_predictions_have_an_angle() {
        let opposite = scored(&[([0.0, 0.0, -3.0], UP)]).expect("image fits");
        assert_eq!(opposite.scores()[0].value, 180.0);
        let zero = scored(&[([0.0; 3], UP)]).expect("image fits");
        assert_eq!(zero.scores()[0].value, 90.0);
        let huge = scored(&[([0.0, 0.0, f32::MAX], UP), ([0.0, 0.0, 1e-45], UP)]).expect("image fits");
        assert_eq!(huge.scores()[0].value, 0.0);
    }

    #[test]
    fn a_label_without_direction_is_not_scored() {
        let meter = scored(&[(UP, [0.0; 3]), (UP, [255.0; 3])]).expect("image fits");
        assert_eq!(meter.pixels(), 0);
        assert!(meter.scores().iter().all(|score| score.value.is_nan()));
    }

    #[test]
    fn half_ignored_labels_and_infinite_logits_are_refused() {
        let error = scored(&[(UP, UP), (UP, [0.0, 255.0, 0.0])]).expect_err("half a label");
        assert!(error.to_string().contains("the label at channel 1, row 0, column 1 is 255"), "{error}");
        let error = scored(&[(UP, [f32::NAN, 0.0, 1.0])]).expect_err("no direction");
        assert!(error.to_string().contains("the label at channel 0, row 0, column 0 is NaN"), "{error}");
        let error = scored(&[([0.0, f32::INFINITY, 0.0], UP)]).expect_err("infinite");
        assert!(error.to_string().contains("the logit at channel 1, row 0, column 0 is inf"), "{error}");
    }
}
