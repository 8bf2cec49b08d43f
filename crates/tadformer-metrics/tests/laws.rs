//! What holds for every meter and any images.

use proptest::prelude::*;
use tadformer_metrics::{
    Depth, Direction, Edge, EdgeProtocol, Error, Matching, MeanIou, Meter, Normals, Planes, Saliency, Score,
    Tolerance,
};

const CLASSES: usize = 4;
const HEIGHT: usize = 5;
const WIDTH: usize = 6;
const PIXELS: usize = HEIGHT * WIDTH;

/// A meter, and how an image for it looks.
#[derive(Debug, Clone, Copy)]
enum Kind {
    MeanIou,
    Saliency,
    Normals,
    Depth,
    EdgePairs,
    EdgeDistance,
}

const KINDS: [Kind; 6] =
    [Kind::MeanIou, Kind::Saliency, Kind::Normals, Kind::Depth, Kind::EdgePairs, Kind::EdgeDistance];

#[derive(Debug, Clone)]
struct Image {
    logits: Vec<f32>,
    label: Vec<f32>,
}

impl Kind {
    fn meter(self) -> Box<dyn Meter> {
        let edge = |protocol| Edge::new(protocol).expect("a valid tolerance");
        match self {
            Self::MeanIou => Box::new(MeanIou::new(CLASSES).expect("a number of classes")),
            Self::Saliency => Box::new(Saliency::new()),
            Self::Normals => Box::new(Normals::new()),
            Self::Depth => Box::new(Depth::new()),
            Self::EdgePairs => Box::new(edge(EdgeProtocol {
                tolerance: Tolerance::Pixels(1.5),
                matching: Matching::OneToOne,
                thin: true,
            })),
            Self::EdgeDistance => Box::new(edge(EdgeProtocol::distance(Tolerance::Pixels(1.0)))),
        }
    }

    /// Channels of logits and label.
    fn channels(self) -> (usize, usize) {
        match self {
            Self::MeanIou => (CLASSES, 1),
            Self::Normals => (3, 3),
            _ => (1, 1),
        }
    }

    /// The label of a pixel from a seed, none where not labelled.
    fn label(self, seed: u32) -> Option<[f32; 3]> {
        if seed % 7 == 6 {
            return None;
        }
        let value = match self {
            Self::MeanIou => seed % CLASSES as u32,
            Self::Depth => 1 + seed % 9,
            _ => seed % 2,
        };
        Some(match self {
            Self::Normals => {
                let (sin, cos) = (seed as f32).sin_cos();
                [0.6 * sin, 0.6 * cos, 0.8]
            }
            _ => [value as f32; 3],
        })
    }

    /// What a network that knows the label would give, channel by channel.
    fn perfect(self, label: [f32; 3], channel: usize) -> f32 {
        match self {
            Self::MeanIou => f32::from(u8::from(label[0] as usize == channel)),
            Self::Normals => 3.0 * label[channel],
            Self::Depth => label[0],
            _ => 16.0 * label[0] - 8.0,
        }
    }

    fn image(self, seeds: &[u32], logit: impl Fn(usize, usize, Option<[f32; 3]>) -> f32) -> Image {
        let (logits, labels) = self.channels();
        let labelled: Vec<_> = seeds.iter().map(|&seed| self.label(seed)).collect();
        let planar = |channels: usize, f: &dyn Fn(usize, usize) -> f32| {
            (0..channels * PIXELS).map(|i| f(i / PIXELS, i % PIXELS)).collect()
        };
        Image {
            logits: planar(logits, &|c, i| logit(c, i, labelled[i])),
            label: planar(labels, &|c, i| labelled[i].map_or(255.0, |label| label[c])),
        }
    }
}

fn update(meter: &mut dyn Meter, image: &Image) -> Result<(), Error> {
    let view = |data: &[f32]| data.len() / PIXELS;
    meter.update(
        Planes::new(&image.logits, view(&image.logits), HEIGHT, WIDTH)?,
        Planes::new(&image.label, view(&image.label), HEIGHT, WIDTH)?,
    )
}

/// Scores with the bits of their values, so that NaN equals NaN and the last digit counts.
fn bits(meter: &dyn Meter) -> Vec<(&'static str, u64)> {
    meter.scores().iter().map(|score| (score.name, score.value.to_bits())).collect()
}

fn seeds() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(0u32..1000, PIXELS)
}

/// Images of any quality for a kind.
fn images(kind: Kind) -> impl Strategy<Value = Vec<Image>> {
    let image = (seeds(), proptest::collection::vec(-5.0f32..5.0, CLASSES * PIXELS))
        .prop_map(move |(seeds, logits)| kind.image(&seeds, |c, i, _| logits[c * PIXELS + i]));
    proptest::collection::vec(image, 0..6)
}

fn any_images() -> impl Strategy<Value = (Kind, Vec<Image>)> {
    proptest::sample::select(KINDS.to_vec()).prop_flat_map(|kind| (Just(kind), images(kind)))
}

/// The best value that a score can have.
fn best(score: &Score) -> f64 {
    match score.direction {
        Direction::HigherIsBetter => 100.0,
        Direction::LowerIsBetter => 0.0,
    }
}

proptest! {
    #[test]
    fn a_perfect_prediction_has_the_best_scores(
        kind in proptest::sample::select(KINDS.to_vec()),
        seeds in proptest::collection::vec(seeds(), 1..4),
    ) {
        let mut meter = kind.meter();
        for seeds in &seeds {
            let image = kind.image(seeds, |c, _, label| label.map_or(1.0, |label| kind.perfect(label, c)));
            update(meter.as_mut(), &image).expect("a good image");
        }
        for score in meter.scores() {
            match score.name {
                // The mean over all classes counts absent ones as 0, and the logistic loss has no zero.
                "mIoU" if matches!(kind, Kind::MeanIou) => prop_assert!(score.value <= 100.0),
                "loss" => prop_assert!(score.value < 1e-3, "{score}"),
                // The median is as fine as its histogram.
                "median" => prop_assert!(score.value <= 1.3e-4, "{score}"),
                _ => prop_assert!((score.value - best(&score)).abs() < 1e-5, "{:?} {score}", kind),
            }
        }
    }

    #[test]
    fn no_score_is_better_than_the_best((kind, images) in any_images()) {
        let mut meter = kind.meter();
        for image in &images {
            update(meter.as_mut(), image).expect("a good image");
        }
        for score in meter.scores() {
            prop_assert!(!score.direction.is_better(score.value, best(&score)), "{score}");
            prop_assert!(score.unit != "%" || score.value.is_nan() || score.value >= 0.0, "{score}");
        }
    }

    #[test]
    fn the_order_of_images_does_not_matter((kind, images) in any_images()) {
        let (mut forward, mut backward) = (kind.meter(), kind.meter());
        for image in &images {
            update(forward.as_mut(), image).expect("a good image");
        }
        for image in images.iter().rev() {
            update(backward.as_mut(), image).expect("a good image");
        }
        prop_assert_eq!(bits(forward.as_ref()), bits(backward.as_ref()));
    }

    #[test]
    fn merging_equals_scoring_one_after_the_other((kind, images) in any_images(), parts in 1usize..4) {
        let mut serial = kind.meter();
        let mut split: Vec<_> = (0..parts).map(|_| kind.meter()).collect();
        for (number, image) in images.iter().enumerate() {
            update(serial.as_mut(), image).expect("a good image");
            update(split[number % parts].as_mut(), image).expect("a good image");
        }
        let mut merged = kind.meter();
        for part in &split {
            merged.merge(part.as_ref()).expect("the same kind of meter");
        }
        prop_assert_eq!(bits(serial.as_ref()), bits(merged.as_ref()));
    }

    #[test]
    fn a_reset_forgets_everything((kind, images) in any_images()) {
        let mut meter = kind.meter();
        for image in &images {
            update(meter.as_mut(), image).expect("a good image");
        }
        meter.reset();
        prop_assert_eq!(bits(meter.as_ref()), bits(kind.meter().as_ref()));
    }

    #[test]
    fn what_is_refused_changes_nothing((kind, images) in any_images(), at in 0..PIXELS, bad in 0..2usize) {
        let mut meter = kind.meter();
        for image in &images {
            let mut broken = image.clone();
            if bad == 0 {
                broken.logits[at] = f32::NAN;
            } else {
                broken.label[at] = -77.0;
            }
            let refused = update(meter.as_mut(), &broken);
            let expected = match &refused {
                Err(Error::Logit { value, .. }) => bad == 0 && value.is_nan(),
                Err(Error::Label { value, .. }) => bad == 1 && *value == -77.0,
                _ => false,
            };
            prop_assert!(expected, "{:?}", refused);
            prop_assert_eq!(bits(meter.as_ref()), bits(kind.meter().as_ref()));
        }
    }
}

#[test]
fn meters_of_different_kinds_do_not_merge() {
    for (a, first) in KINDS.iter().enumerate() {
        for (b, second) in KINDS.iter().enumerate() {
            let merged = first.meter().merge(second.meter().as_ref());
            assert_eq!(merged.is_ok(), a == b, "{first:?} and {second:?}: {merged:?}");
        }
    }
    let mut three = MeanIou::new(3).expect("three classes");
    let error = three.merge(&MeanIou::new(4).expect("four classes")).expect_err("other classes");
    assert_eq!(
        error.to_string(),
        "cannot merge into the meter of mean IoU: the other has 4 classes, this one 3"
    );
}

#[test]
fn sizes_and_channels_that_do_not_fit_are_refused() {
    let data = vec![0.0; 8 * PIXELS];
    let view = |c, h, w| Planes::new(&data[..c * h * w], c, h, w).expect("sizes fit");
    for kind in KINDS {
        let (logits, label) = kind.channels();
        let mut meter = kind.meter();
        let good = meter.update(view(logits, 3, 4), view(label, 3, 4));
        assert!(good.is_ok(), "{kind:?}: {good:?}");
        let error = meter.update(view(logits, 3, 4), view(label, 4, 3)).expect_err("turned");
        assert!(matches!(error, Error::Size { prediction: (3, 4), label: (4, 3), .. }), "{kind:?}: {error}");
        let error = meter.update(view(logits + 1, 3, 4), view(label, 3, 4)).expect_err("a channel too many");
        assert!(matches!(error, Error::Channels { what: "logits", .. }), "{kind:?}: {error}");
        let more = meter.update(view(logits, 3, 4), view(label + 1, 3, 4));
        if matches!(kind, Kind::EdgePairs | Kind::EdgeDistance) {
            assert!(more.is_ok(), "{kind:?}: a channel an annotator: {more:?}");
        } else {
            let error = more.expect_err("a channel too many");
            assert!(matches!(error, Error::Channels { what: "label", .. }), "{kind:?}: {error}");
        }
    }
}

#[test]
fn every_meter_puts_its_headline_first_and_names_units() {
    for (kind, name, unit, direction) in [
        (Kind::MeanIou, "mIoU", "%", Direction::HigherIsBetter),
        (Kind::Saliency, "mIoU", "%", Direction::HigherIsBetter),
        (Kind::Normals, "mean", "degrees", Direction::LowerIsBetter),
        (Kind::Depth, "rmse", "m", Direction::LowerIsBetter),
        (Kind::EdgePairs, "odsF", "%", Direction::HigherIsBetter),
    ] {
        let scores = kind.meter().scores();
        assert_eq!((scores[0].name, scores[0].unit, scores[0].direction), (name, unit, direction));
        assert!(scores.iter().all(|score| score.value.is_nan()), "{kind:?} has scored nothing");
    }
}
