//! Edges: the balanced loss, and the F measure at the best threshold of the data set.
//!
//! Martin, Fowlkes and Malik (TPAMI 2004) and Arbeláez et al. (TPAMI 2011), the BSDS benchmark: a predicted edge
//! pixel is right if it can be paired with a labelled one nearby; precision and recall are pooled over the
//! split at each threshold, and `odsF` is the best F measure.

mod matching;
mod thinning;

use crate::binary::{self, Label};
use crate::error::Error;
use crate::exact_sum::ExactSum;
use crate::meter::{Meter, Score, same_kind, share};
use crate::planes::Planes;
use crate::saliency::f_measure;
use matching::Counts;

const NAME: &str = "edges";

/// Thresholds 0.01, 0.02 … 0.99.
const THRESHOLDS: usize = 99;

/// Weight of edge pixels in the loss; the others have the rest.
const POSITIVE_WEIGHT: f64 = 0.95;

/// How far a predicted edge may lie from a labelled one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// A share of the image's diagonal, `0..=0.05`. BSDS takes 0.0075, which is 4.75 pixels at 448².
    Diagonal(f64),
    /// A distance in pixels, `0..=100`.
    Pixels(f64),
}

/// When a predicted and a labelled edge pixel within the tolerance count as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matching {
    /// As pairs: each pixel serves once, in as many pairs as are possible. A thick prediction pays with precision.
    OneToOne,
    /// Each on its own: a predicted pixel is right if any labelled one is near, a labelled one is found if any
    /// predicted one is near. This is the match by dilation or distance transform; it never scores below
    /// [`Matching::OneToOne`], and thick predictions get off free.
    Distance,
}

/// How predicted edges are compared with labelled ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeProtocol {
    /// How far apart a match may be.
    pub tolerance: Tolerance,
    /// What a match is.
    pub matching: Matching,
    /// Whether predictions are thinned to their ridges first, by suppressing what is no maximum across the edge.
    pub thin: bool,
}

impl EdgeProtocol {
    /// The protocol of the BSDS benchmark: thinned predictions, pairs, 0.0075 of the diagonal. Published scores on NYUDv2
    /// take 0.011 of it.
    ///
    /// It differs from the MATLAB tools in that pairs are the most possible instead of the cheapest, in the formula for
    /// the direction of an edge, and in that pixels near the border are not suppressed: expect scores close to
    /// theirs, not equal.
    pub fn bsds() -> Self {
        Self { tolerance: Tolerance::Diagonal(0.0075), matching: Matching::OneToOne, thin: true }
    }

    /// The lenient protocol: predictions as they are, matched by distance alone.
    pub fn distance(tolerance: Tolerance) -> Self {
        Self { tolerance, matching: Matching::Distance, thin: false }
    }

    fn validate(&self) -> Result<(), Error> {
        let (setting, value, expected, most) = match self.tolerance {
            Tolerance::Diagonal(value) => ("tolerance as a share of the diagonal", value, "0 to 0.05", 0.05),
            Tolerance::Pixels(value) => ("tolerance in pixels", value, "0 to 100", 100.0),
        };
        if (0.0..=most).contains(&value) {
            return Ok(());
        }
        Err(Error::Setting { meter: NAME, setting, found: value.to_string(), expected })
    }

    /// The tolerance for an image of this size, in pixels.
    fn radius(&self, height: usize, width: usize) -> f64 {
        match self.tolerance {
            Tolerance::Diagonal(part) => part * (height as f64).hypot(width as f64),
            Tolerance::Pixels(pixels) => pixels,
        }
    }
}

/// Precision and recall over the split at one threshold, all in `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgePoint {
    /// Probability above which a pixel is taken for an edge.
    pub threshold: f64,
    /// Share of the predicted edge pixels that are right; 0 if nothing is predicted.
    pub precision: f64,
    /// Share of the labelled edge pixels that are found; 0 if nothing is labelled.
    pub recall: f64,
    /// Their harmonic mean; 1 if nothing is predicted and nothing labelled.
    pub f: f64,
}

/// The meter of edge maps.
///
/// Scores: `odsF`, the F measure over the split at the best of the thresholds 0.01, 0.02 … 0.99; `oisF`, the
/// same with the best threshold for each image; `loss`, the logistic loss of the logits, weight 0.95 on
/// edges and 0.05 elsewhere, mean over labelled pixels.
///
/// Where several people drew the edges of an image, each has a plane of the label, and the counts are the benchmark's: a
/// predicted pixel is right if it is paired with an edge of anybody, and the edges of all are to be found, each one's on
/// its own. The loss takes the union of the edges.
///
/// # Shapes
/// Logits `(1, h, w)`, finite; label `(n, h, w)` for `n` annotators, 1 on edges, 0 elsewhere, 255 where not labelled (in
/// one plane is in all).
#[derive(Debug, Clone)]
pub struct Edge {
    protocol: EdgeProtocol,
    /// The thresholds as logits, ascending.
    thresholds: Vec<f64>,
    pixels: u64,
    loss: ExactSum,
    /// Counts over the split by threshold.
    pooled: [Counts; THRESHOLDS],
    /// Counts over the split, each image at its own best threshold.
    best_of_images: Counts,
}

impl Edge {
    /// A meter that compares edges by `protocol`.
    ///
    /// # Errors
    /// A tolerance out of its range.
    pub fn new(protocol: EdgeProtocol) -> Result<Self, Error> {
        protocol.validate()?;
        Ok(Self {
            protocol,
            thresholds: (0..THRESHOLDS).map(|i| binary::logit(threshold(i))).collect(),
            pixels: 0,
            loss: ExactSum::default(),
            pooled: [Counts::default(); THRESHOLDS],
            best_of_images: Counts::default(),
        })
    }

    /// How edges are compared.
    pub fn protocol(&self) -> EdgeProtocol {
        self.protocol
    }

    /// Precision and recall over the split at every threshold, ascending.
    pub fn curve(&self) -> Vec<EdgePoint> {
        let point = |(i, counts): (usize, &Counts)| EdgePoint {
            threshold: threshold(i),
            precision: share(counts.right, counts.predicted),
            recall: share(counts.found, counts.labelled),
            f: counts.f(),
        };
        self.pooled.iter().enumerate().map(point).collect()
    }

    /// The threshold behind `odsF`, the highest of equals; none as long as nothing is scored.
    pub fn best_threshold(&self) -> Option<f64> {
        (self.pixels > 0).then(|| threshold(best(&self.pooled)))
    }

    /// The number of thresholds that each pixel passes; 0 where not labelled, or where thinned away.
    fn levels(&self, logits: Planes<'_>, label: &[Label]) -> Vec<u8> {
        let level = |(&logit, label): (&f32, &Label)| match label {
            Label::Ignored => 0,
            _ => u8::try_from(binary::level(&self.thresholds, logit)).expect("there are 99 thresholds"),
        };
        let mut levels: Vec<u8> = logits.data().iter().zip(label).map(level).collect();
        if self.protocol.thin {
            thinning::suppress(logits, &mut levels);
        }
        levels
    }
}

impl Meter for Edge {
    fn update(&mut self, logits: Planes<'_>, label: Planes<'_>) -> Result<(), Error> {
        logits.expect_channels(NAME, "logits", 1)?;
        logits.expect_size_of(NAME, label)?;
        logits.expect_finite(NAME)?;
        let drawn = binary::read_all(NAME, label)?;
        let label = union(&drawn, logits.pixels());
        let labelled = label.iter().filter(|&&label| label != Label::Ignored).count();
        if labelled == 0 {
            return Ok(());
        }

        let levels = self.levels(logits, &label);
        let edge = |(&drawn, &label): (&Label, &Label)| label != Label::Ignored && drawn == Label::Positive;
        let annotators: Vec<Vec<bool>> = drawn
            .chunks_exact(logits.pixels())
            .map(|drawn| drawn.iter().zip(&label).map(edge).collect())
            .collect();
        let radius = self.protocol.radius(logits.height(), logits.width());
        let counts = matching::count(self.protocol.matching, &levels, &annotators, logits.width(), radius);

        self.pixels += labelled as u64;
        self.loss.add(balanced_loss(logits.data(), &label));
        self.best_of_images.add(&counts[best(&counts)]);
        for (pooled, counts) in self.pooled.iter_mut().zip(&counts) {
            pooled.add(counts);
        }
        Ok(())
    }

    fn scores(&self) -> Vec<Score> {
        let scored = |value: f64| if self.pixels == 0 { f64::NAN } else { value };
        vec![
            Score::percent("odsF", scored(self.pooled[best(&self.pooled)].f())),
            Score::percent("oisF", scored(self.best_of_images.f())),
            Score::error("loss", "", self.loss.value() / self.pixels as f64),
        ]
    }

    fn reset(&mut self) {
        self.pixels = 0;
        self.loss = ExactSum::default();
        self.pooled.fill(Counts::default());
        self.best_of_images = Counts::default();
    }

    fn merge(&mut self, other: &dyn Meter) -> Result<(), Error> {
        let other: &Self = same_kind(NAME, other)?;
        if other.protocol != self.protocol {
            let difference = format!("compares by {:?}, this one by {:?}", other.protocol, self.protocol);
            return Err(Error::Merge { meter: NAME, difference });
        }
        self.pixels += other.pixels;
        self.loss.merge(&other.loss);
        self.best_of_images.add(&other.best_of_images);
        for (pooled, counts) in self.pooled.iter_mut().zip(&other.pooled) {
            pooled.add(counts);
        }
        Ok(())
    }
}

/// What several labels of `pixels` pixels say together: unlabelled where one is, an edge where one has one.
fn union(drawn: &[Label], pixels: usize) -> Vec<Label> {
    let (first, others) = drawn.split_at(pixels);
    let mut union = first.to_vec();
    for other in others.chunks_exact(pixels) {
        for (all, &one) in union.iter_mut().zip(other) {
            *all = match (*all, one) {
                (Label::Ignored, _) | (_, Label::Ignored) => Label::Ignored,
                (Label::Positive, _) | (_, Label::Positive) => Label::Positive,
                _ => Label::Negative,
            };
        }
    }
    union
}

/// The `i`-th threshold as a probability.
fn threshold(i: usize) -> f64 {
    (i as f64 + 1.0) / 100.0
}

/// The index of the best F measure, the last of equals: of two maps as good, the sparser.
fn best(counts: &[Counts; THRESHOLDS]) -> usize {
    let f = counts.map(|counts| counts.f());
    (0..THRESHOLDS).fold(0, |best, i| if f[i] >= f[best] { i } else { best })
}

/// The sum over labelled pixels of the weighted logistic loss, in the form that does not overflow.
fn balanced_loss(logits: &[f32], label: &[Label]) -> f64 {
    let loss = |(&logit, label): (&f32, &Label)| {
        let x = f64::from(logit);
        let negative = x.max(0.0) + (-x.abs()).exp().ln_1p();
        match label {
            Label::Positive => POSITIVE_WEIGHT * (negative - x),
            Label::Negative => (1.0 - POSITIVE_WEIGHT) * negative,
            Label::Ignored => 0.0,
        }
    };
    logits.iter().zip(label).map(loss).sum()
}

#[cfg(test)]
mod tests;
