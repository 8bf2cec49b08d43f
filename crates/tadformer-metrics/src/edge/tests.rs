use super::*;

const SIDE: usize = 40;

fn update(meter: &mut Edge, logits: &[f32], label: &[f32]) -> Result<(), Error> {
    let view = |data| Planes::new(data, 1, logits.len() / SIDE, SIDE).expect("sizes fit");
    meter.update(view(logits), view(label))
}

fn values(meter: &Edge) -> Vec<f64> {
    meter.scores().iter().map(|score| score.value).collect()
}

/// A map that is `on` in the given columns and `off` elsewhere.
fn columns(columns: &[usize], on: f32, off: f32) -> Vec<f32> {
    (0..SIDE * SIDE).map(|i| if columns.contains(&(i % SIDE)) { on } else { off }).collect()
}

fn meter(tolerance: f64, matching: Matching) -> Edge {
    let tolerance = Tolerance::Pixels(tolerance);
    Edge::new(EdgeProtocol { tolerance, matching, thin: false }).expect("a small tolerance")
}

#[test]
fn a_shifted_edge_counts_within_the_tolerance_only() {
    let (logits, label) = (columns(&[12], 4.0, -9.0), columns(&[10], 1.0, 0.0));
    for matching in [Matching::OneToOne, Matching::Distance] {
        let mut near = meter(2.0, matching);
        update(&mut near, &logits, &label).expect("image fits");
        assert_eq!(values(&near)[..2], [100.0, 100.0]);
        let mut far = meter(1.9, matching);
        update(&mut far, &logits, &label).expect("image fits");
        assert_eq!(values(&far)[..2], [0.0, 0.0]);
    }
}

#[test]
fn a_thick_prediction_pays_only_when_pixels_serve_once() {
    let (logits, label) = (columns(&[9, 10, 11], 4.0, -9.0), columns(&[10], 1.0, 0.0));
    let mut lenient = meter(1.0, Matching::Distance);
    update(&mut lenient, &logits, &label).expect("image fits");
    assert_eq!(values(&lenient)[0], 100.0);
    let mut strict = meter(1.0, Matching::OneToOne);
    update(&mut strict, &logits, &label).expect("image fits");
    assert!((values(&strict)[0] - 50.0).abs() < 1e-12, "{:?}", values(&strict));
    let point = strict.curve()[49];
    assert_eq!((point.threshold, point.precision, point.recall), (0.5, 1.0 / 3.0, 1.0));
}

#[test]
fn thinning_saves_a_soft_prediction() {
    let label = columns(&[10], 1.0, 0.0);
    let soft: Vec<f32> = (0..SIDE * SIDE).map(|i| 3.0 - ((i % SIDE) as f32 - 10.0).powi(2)).collect();
    let mut thin = Edge::new(EdgeProtocol::bsds()).expect("the benchmark's settings");
    update(&mut thin, &soft, &label).expect("image fits");
    assert_eq!(values(&thin)[0], 100.0);
}

#[test]
fn each_image_may_take_its_own_threshold_for_ois_only() {
    // The first image is right above 0.73, the second up to 0.27: no threshold serves both.
    let label = columns(&[10], 1.0, 0.0);
    let (mut loud, mut quiet) = (columns(&[10], 2.0, -9.0), columns(&[10], -1.0, -9.0));
    for row in loud.chunks_exact_mut(SIDE) {
        row[30] = 1.0;
    }
    for row in quiet.chunks_exact_mut(SIDE) {
        row[30] = -2.0;
    }
    let mut meter = meter(0.0, Matching::OneToOne);
    update(&mut meter, &loud, &label).expect("image fits");
    update(&mut meter, &quiet, &label).expect("image fits");
    let values = values(&meter);
    assert_eq!(values[1], 100.0);
    // From 0.12 to 0.26 both edges are found, and the loud image's false one: F = 2·(2/3)/(2/3 + 1).
    assert!((values[0] - 80.0).abs() < 1e-12, "{values:?}");
    assert_eq!(meter.best_threshold(), Some(0.26));
}

#[test]
fn the_loss_is_the_weighted_logistic_loss() {
    let mut meter = meter(0.0, Matching::Distance);
    let mut logits = vec![-200.0; SIDE];
    let mut label = vec![0.0; SIDE];
    (logits[0], label[0]) = (1.5, 1.0);
    (logits[1], label[1]) = (0.5, 0.0);
    (logits[2], label[2]) = (-300.0, 1.0);
    (logits[3], label[3]) = (7.0, 255.0);
    update(&mut meter, &logits, &label).expect("image fits");
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let expected = -0.95 * sigmoid(1.5).ln() - 0.05 * (1.0 - sigmoid(0.5)).ln() + 0.95 * 300.0;
    assert!((values(&meter)[2] - expected / (SIDE as f64 - 1.0)).abs() < 1e-12, "{:?}", values(&meter));
}

#[test]
fn unlabelled_pixels_are_neither_predicted_nor_labelled() {
    let mut meter = meter(0.0, Matching::OneToOne);
    let label = columns(&[10], 255.0, 0.0);
    update(&mut meter, &columns(&[10], 5.0, -9.0), &label).expect("image fits");
    assert_eq!(values(&meter)[0], 100.0);
    let mut unlabelled = meter.clone();
    unlabelled.reset();
    update(&mut unlabelled, &label, &vec![255.0; SIDE * SIDE]).expect("image fits");
    assert!(values(&unlabelled).iter().all(|value| value.is_nan()));
    assert_eq!(unlabelled.best_threshold(), None);
}

#[test]
fn settings_and_values_without_meaning_are_refused() {
    for tolerance in [Tolerance::Pixels(-1.0), Tolerance::Pixels(f64::NAN), Tolerance::Diagonal(0.5)] {
        let error = Edge::new(EdgeProtocol::distance(tolerance)).expect_err("no tolerance");
        assert!(error.to_string().contains("tolerance"), "{error}");
    }
    let mut meter = meter(1.0, Matching::OneToOne);
    let error = update(&mut meter, &[f32::INFINITY; SIDE], &[0.0; SIDE]).expect_err("infinite");
    assert!(matches!(error, Error::Logit { value: f32::INFINITY, .. }), "{error}");
    let error = update(&mut meter, &[0.0; SIDE], &[3.0; SIDE]).expect_err("no edge label");
    assert!(matches!(error, Error::Label { value: 3.0, .. }), "{error}");
    let other = Edge::new(EdgeProtocol::bsds()).expect("the benchmark's settings");
    let error = meter.merge(&other).expect_err("another protocol");
    assert!(error.to_string().contains("compares by"), "{error}");
}

#[test]
fn several_annotators_share_the_right_pixels_and_each_has_edges_to_find() {
    // Two people drew column 10, one of them column 30 as well; columns 10 and 20 are predicted.
    let (one, two) = (columns(&[10], 1.0, 0.0), columns(&[10, 30], 1.0, 0.0));
    let both = [one, two].concat();
    let logits = columns(&[10, 20], 4.0, -9.0);
    for matching in [Matching::OneToOne, Matching::Distance] {
        let mut meter = meter(0.0, matching);
        let label = Planes::new(&both, 2, SIDE, SIDE).expect("sizes fit");
        meter.update(Planes::new(&logits, 1, SIDE, SIDE).expect("sizes fit"), label).expect("image fits");
        let point = meter.curve()[49];
        // Half of what is predicted is right for somebody; of three labelled columns two are found.
        assert_eq!((point.precision, point.recall), (0.5, 2.0 / 3.0), "{matching:?}");
    }
}

#[test]
fn a_pixel_that_one_annotator_left_out_is_left_out() {
    let (one, two) = (columns(&[10], 255.0, 0.0), columns(&[10], 1.0, 0.0));
    let mut meter = meter(0.0, Matching::OneToOne);
    let both = [one, two].concat();
    let label = Planes::new(&both, 2, SIDE, SIDE).expect("sizes fit");
    let logits = columns(&[10], 4.0, -9.0);
    meter.update(Planes::new(&logits, 1, SIDE, SIDE).expect("sizes fit"), label).expect("image fits");
    assert_eq!(values(&meter)[0], 100.0, "nothing predicted, nothing labelled");
}
