//! Every score of the published meters, from the same predictions and labels.
//!
//! Counts are compared exactly, scores to 1e-5 relative. Where the published meters have a quirk, the test's name says so, and the
//! quirk is put together here from what the project's meters offer.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tadformer_metrics::{
    Depth, Direction, Edge, EdgeProtocol, MeanIou, Meter, Normals, Planes, Saliency, Tolerance, delta_m,
};

const CASES: [&str; 3] = ["PASCALContext", "NYUD", "PASCALContext_lastbatch1"];
const PASCAL: [&str; 2] = ["PASCALContext", "PASCALContext_lastbatch1"];
const TOLERANCE: f64 = 1e-5;

struct Golden {
    bytes: Vec<u8>,
    scores: Value,
}

/// One image of a task.
struct Image {
    logits: Vec<f32>,
    label: Vec<f32>,
    /// The position of the image in its batch, and the batch's number of images.
    batch: (usize, usize),
}

const HEIGHT: usize = 24;
const WIDTH: usize = 20;

impl Golden {
    fn load() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let bytes =
            std::fs::read(folder.join("metrics.safetensors")).expect("the inputs are in the repository");
        let text = std::fs::read(folder.join("metrics.json")).expect("the scores are in the repository");
        Self { bytes, scores: serde_json::from_slice(&text).expect("the scores are JSON") }
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.bytes).expect("the inputs are a safetensors file");
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let values = match tensor.dtype() {
            Dtype::U8 => tensor.data().iter().copied().map(f32::from).collect(),
            Dtype::F32 => {
                let floats = tensor.data().chunks_exact(4);
                floats.map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
            }
            other => panic!("{name}: unexpected type {other:?}"),
        };
        (tensor.shape().to_vec(), values)
    }

    /// The images of both batches of a case, in order.
    fn images(&self, case: &str, task: &str) -> Vec<Image> {
        let mut images = Vec::new();
        for batch in 0..2 {
            let (shape, logits) = self.tensor(&format!("{case}/batch{batch}/logits/{task}"));
            let (_, label) = self.tensor(&format!("{case}/batch{batch}/label/{task}"));
            assert_eq!(shape[2..], [HEIGHT, WIDTH]);
            let chunk =
                |data: &[f32], i: usize| data.chunks_exact(data.len() / shape[0]).nth(i).map(<[f32]>::to_vec);
            for i in 0..shape[0] {
                images.push(Image {
                    logits: chunk(&logits, i).expect("the batch has that many images"),
                    label: chunk(&label, i).expect("the batch has that many images"),
                    batch: (i, shape[0]),
                });
            }
        }
        images
    }

    fn scored<M: Meter>(&self, case: &str, task: &str, mut meter: M) -> M {
        for image in self.images(case, task) {
            update(&mut meter, &image.logits, &image.label);
        }
        meter
    }

    fn value(&self, pointer: &str) -> &Value {
        self.scores.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"))
    }

    fn number(&self, pointer: &str) -> f64 {
        self.value(pointer).as_f64().unwrap_or_else(|| panic!("{pointer} is no number"))
    }

    fn numbers(&self, pointer: &str) -> Vec<f64> {
        let array = self.value(pointer).as_array().unwrap_or_else(|| panic!("{pointer} is no list"));
        array.iter().map(|v| v.as_f64().expect("a list of numbers")).collect()
    }

    #[track_caller]
    fn check(&self, found: f64, pointer: &str) {
        assert_close(found, self.number(pointer), pointer);
    }
}

fn planes(data: &[f32]) -> Planes<'_> {
    Planes::new(data, data.len() / (HEIGHT * WIDTH), HEIGHT, WIDTH).expect("an image of 24x20")
}

fn update(meter: &mut dyn Meter, logits: &[f32], label: &[f32]) {
    meter.update(planes(logits), planes(label)).expect("a good image");
}

#[track_caller]
fn assert_close(found: f64, expected: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs().max(1e-12);
    assert!(error <= TOLERANCE, "{what}: found {found}, expected {expected}, {error:.2e} off");
}

#[track_caller]
fn score(meter: &dyn Meter, name: &str) -> f64 {
    let scores = meter.scores();
    scores.iter().find(|score| score.name == name).unwrap_or_else(|| panic!("no score {name}")).value
}

/// The score in percent as a share.
fn share(meter: &dyn Meter, name: &str) -> f64 {
    score(meter, name) / 100.0
}

fn sigmoid(logits: &[f32]) -> Vec<f32> {
    logits.iter().map(|&x| 1.0 / (1.0 + (-x).exp())).collect()
}

#[test]
fn class_counts_are_exact_and_so_is_the_mean_iou() {
    let golden = Golden::load();
    let tasks = [
        ("PASCALContext", "semseg", 21),
        ("PASCALContext", "human_parts", 7),
        ("PASCALContext_lastbatch1", "semseg", 21),
        ("PASCALContext_lastbatch1", "human_parts", 7),
        ("NYUD", "semseg", 40),
    ];
    for (case, task, classes) in tasks {
        let meter = golden.scored(case, task, MeanIou::new(classes).expect("a number of classes"));
        let at = |name: &str| format!("/{case}/{task}/{name}");
        let counts = meter.class_counts();
        for (name, found) in [
            ("counts/tp", counts.iter().map(|c| c.true_positives as f64).collect::<Vec<_>>()),
            ("counts/fp", counts.iter().map(|c| c.false_positives as f64).collect()),
            ("counts/fn", counts.iter().map(|c| c.false_negatives as f64).collect()),
        ] {
            assert_eq!(found, golden.numbers(&at(name)), "{case} {task} {name}");
        }
        for (c, (counts, expected)) in
            counts.iter().zip(golden.numbers(&at("jaccards_all_categs"))).enumerate()
        {
            assert_close(counts.iou(), expected, &format!("{case} {task} class {c}"));
        }
        golden.check(share(&meter, "mIoU"), &at("mIoU"));
    }
}

#[test]
fn classes_taken_elsewhere_count_like_logits() {
    let golden = Golden::load();
    for (case, classes) in [("PASCALContext", 21), ("NYUD", 40), ("PASCALContext_lastbatch1", 21)] {
        let mut from_logits = MeanIou::new(classes).expect("a number of classes");
        let mut from_classes = from_logits.clone();
        let (shape, predicted) = golden.tensor(&format!("{case}/batch0/classes/semseg"));
        for (image, predicted) in
            golden.images(case, "semseg").iter().take(shape[0]).zip(predicted.chunks(HEIGHT * WIDTH))
        {
            update(&mut from_logits, &image.logits, &image.label);
            let predicted: Vec<u8> = predicted.iter().map(|&class| class as u8).collect();
            from_classes.update_classes(&predicted, planes(&image.label)).expect("a good image");
        }
        assert_eq!(from_logits, from_classes, "{case}");
        assert!(from_classes.class_counts().iter().any(|class| class.true_positives > 0));
    }
}

/// Compares what the saliency meter averages over images with the published state.
#[track_caller]
fn check_saliency_averages(golden: &Golden, case: &str, meter: &Saliency) {
    let state = |name: &str| golden.numbers(&format!("/{case}/sal/state/{name}"));
    let averages = meter.averages();
    for (name, found) in [
        ("thresholds", averages.iter().map(|at| at.threshold).collect::<Vec<_>>()),
        ("mIoUs", averages.iter().map(|at| at.iou).collect()),
        ("mPrec", averages.iter().map(|at| at.precision).collect()),
        ("mRec", averages.iter().map(|at| at.recall).collect()),
        (
            "F",
            averages.iter().map(|at| 2.0 * at.precision * at.recall / (at.precision + at.recall)).collect(),
        ),
    ] {
        let expected = state(name);
        assert_eq!(found.len(), expected.len(), "{case} {name}");
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_close(*found, expected, &format!("{case} {name} at threshold {i}"));
        }
    }
    golden.check(share(meter, "mIoU"), &format!("/{case}/sal/mIoU"));
    golden.check(share(meter, "maxF"), &format!("/{case}/sal/maxF"));
}

/// Compares the IoU of each map with the published list.
fn check_jaccards(golden: &Golden, case: &str, number: usize, map: &Saliency) {
    let expected = golden.numbers(&format!("/{case}/sal/state/all_jaccards/{number}"));
    for (average, expected) in map.averages().iter().zip(expected) {
        assert_close(average.iou, expected, &format!("{case} image {number} at {}", average.threshold));
    }
}

#[test]
fn saliency_is_averaged_over_images() {
    let golden = Golden::load();
    let case = "PASCALContext";
    let mut meter = Saliency::new();
    for (number, image) in golden.images(case, "sal").iter().enumerate() {
        let mut alone = Saliency::new();
        update(&mut alone, &image.logits, &image.label);
        check_jaccards(&golden, case, number, &alone);
        meter.merge(&alone).expect("the same kind of meter");
    }
    check_saliency_averages(&golden, case, &meter);
}

#[test]
fn quirk_saliency_of_a_batch_of_one_is_scored_row_by_row() {
    let golden = Golden::load();
    let case = "PASCALContext_lastbatch1";
    let mut meter = Saliency::new();
    let mut number = 0;
    for image in golden.images(case, "sal") {
        let rows = if image.batch.1 == 1 { HEIGHT } else { 1 };
        let size = image.logits.len() / rows;
        for (logits, label) in image.logits.chunks_exact(size).zip(image.label.chunks_exact(size)) {
            let view = |data| Planes::new(data, 1, HEIGHT / rows, WIDTH).expect("rows of 20");
            let mut alone = Saliency::new();
            alone.update(view(logits), view(label)).expect("a good map");
            check_jaccards(&golden, case, number, &alone);
            meter.merge(&alone).expect("the same kind of meter");
            number += 1;
        }
    }
    check_saliency_averages(&golden, case, &meter);
    // The images as such score otherwise: what is wrong is asserted as wrong.
    let by_image = golden.scored(case, "sal", Saliency::new());
    assert!((share(&by_image, "mIoU") - golden.number(&format!("/{case}/sal/mIoU"))).abs() > 1e-3);
}

#[test]
fn quirk_pooled_saliency_takes_a_second_sigmoid() {
    let golden = Golden::load();
    for case in PASCAL {
        let mut meter = Saliency::new();
        for image in golden.images(case, "sal") {
            update(&mut meter, &sigmoid(&image.logits), &image.label);
        }
        let counts = meter.counts();
        let state = |name: &str| golden.numbers(&format!("/{case}/sal/state/{name}"));
        let found: Vec<f64> = counts.iter().map(|c| c.true_positives as f64).collect();
        assert_eq!(found, state("beta_tp"), "{case}");
        let found: Vec<f64> = counts.iter().map(|c| c.predicted as f64).collect();
        assert_eq!(found, state("beta_pred"), "{case}");
        let found: Vec<f64> = counts.iter().map(|c| c.labelled as f64).collect();
        assert_eq!(found, state("beta_actual"), "{case}");
        for (counts, expected) in counts.iter().zip(state("beta_thresholds")) {
            assert_close(counts.threshold, expected, case);
        }
        golden.check(share(&meter, "maxF pooled"), &format!("/{case}/sal/Beta maxF"));
        // With one sigmoid, as it should be, the figure is another.
        let right = golden.scored(case, "sal", Saliency::new());
        assert!(share(&right, "maxF pooled") > share(&meter, "maxF pooled") + 0.01, "{case}");
    }
}

#[test]
fn normals_have_mean_median_rms_and_shares() {
    let golden = Golden::load();
    for case in CASES {
        let meter = golden.scored(case, "normals", Normals::new());
        let extra = |name: &str| format!("/{case}/normals_extra_not_in_reference/{name}");
        assert_eq!(meter.pixels() as f64, golden.number(&extra("n")), "{case}");
        for (name, pointer) in
            [("mean", "mean"), ("mean", "mean_acos_variant"), ("median", "median"), ("rms", "rms")]
        {
            golden.check(score(&meter, name), &extra(pointer));
        }
        for (name, key) in [("within 11.25", "11_25"), ("within 22.5", "22_5"), ("within 30", "30")] {
            golden.check(score(&meter, name), &extra(&format!("within_{key}")));
        }
        for (name, key) in [
            ("mean", "mean"),
            ("mean", "mean_v2"),
            ("mean", "v1_internal/mean"),
            ("within 11.25", "v1_internal/11.25"),
            ("within 22.5", "v1_internal/22.5"),
            ("within 30", "v1_internal/30"),
        ] {
            golden.check(score(&meter, name), &format!("/{case}/normals/{key}"));
        }
    }
}

#[test]
fn quirk_the_rmse_of_normals_is_the_mean() {
    let golden = Golden::load();
    for case in CASES {
        let meter = golden.scored(case, "normals", Normals::new());
        for key in ["rmse", "rmse_v2", "v1_internal/rmse"] {
            golden.check(score(&meter, "mean"), &format!("/{case}/normals/{key}"));
        }
        assert!(score(&meter, "rms") > score(&meter, "mean") + 3.0, "{case}: the true figure is larger");
    }
}

#[test]
fn depth_has_rmse_and_log_rmse() {
    let golden = Golden::load();
    let meter = golden.scored("NYUD", "depth", Depth::new());
    golden.check(score(&meter, "rmse"), "/NYUD/depth/rmse");
    golden.check(score(&meter, "log rmse"), "/NYUD/depth/log_rmse");
}

fn within_a_pixel() -> Edge {
    Edge::new(EdgeProtocol::distance(Tolerance::Pixels(1.0))).expect("a small tolerance")
}

#[test]
fn quirk_the_edge_loss_is_fed_with_probabilities() {
    let golden = Golden::load();
    for case in CASES {
        let mut meter = within_a_pixel();
        for image in golden.images(case, "edge") {
            update(&mut meter, &sigmoid(&image.logits), &image.label);
        }
        golden.check(score(&meter, "loss"), &format!("/{case}/edge/loss"));
        let right = golden.scored(case, "edge", within_a_pixel());
        assert!(
            (score(&right, "loss") - score(&meter, "loss")).abs() > 1e-3,
            "{case}: logits give another loss"
        );
    }
}

#[test]
fn edges_match_by_distance_up_to_a_pixel() {
    let golden = Golden::load();
    for case in CASES {
        let meter = golden.scored(case, "edge", within_a_pixel());
        let at = |name: &str| format!("/{case}/edge_dilation_eval_of_fork/{name}");
        golden.check(share(&meter, "odsF"), &at("odsF"));
        golden.check(meter.best_threshold().expect("images were scored"), &at("best_threshold"));
    }
}

#[test]
fn quirk_ois_is_the_mean_of_images_and_ap_a_sum_of_steps() {
    let golden = Golden::load();
    for case in CASES {
        let at = |name: &str| format!("/{case}/edge_dilation_eval_of_fork/{name}");
        let images = golden.images(case, "edge");
        assert_eq!(images.len() as f64, golden.number(&at("num_images")));
        let best_of_image = |image: &Image| {
            let mut alone = within_a_pixel();
            update(&mut alone, &image.logits, &image.label);
            share(&alone, "odsF")
        };
        let mean = images.iter().map(best_of_image).sum::<f64>() / images.len() as f64;
        golden.check(mean, &at("oisF"));

        let curve = golden.scored(case, "edge", within_a_pixel()).curve();
        let mut recall = 0.0;
        let mut area = 0.0;
        for point in curve.iter().rev() {
            area += point.precision * (point.recall - recall);
            recall = point.recall;
        }
        golden.check(area, &at("ap"));
    }
}

#[test]
fn the_multi_task_gain_is_the_published_one() {
    let golden = Golden::load();
    let cases = golden.value("/multi_task_delta/cases").as_array().expect("a list of cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let tasks = case["tasks"].as_array().expect("a list of tasks");
        let figures: Vec<_> = tasks
            .iter()
            .map(|task| {
                let (key, direction) = match task.as_str().expect("a name") {
                    "semseg" => ("semseg_miou", Direction::HigherIsBetter),
                    "human" => ("human_miou", Direction::HigherIsBetter),
                    "saliency" => ("saliency_miou", Direction::HigherIsBetter),
                    "edge" => ("edge_odsf", Direction::HigherIsBetter),
                    "normals" => ("normals_mean", Direction::LowerIsBetter),
                    "depth" => ("depth_rmse", Direction::LowerIsBetter),
                    other => panic!("unknown task {other}"),
                };
                let figure = |of: &str| case[of][key].as_f64().expect("a number");
                (figure("current"), figure("single_task"), direction)
            })
            .collect();
        assert_close(delta_m(&figures), case["delta_m_percent"].as_f64().expect("a number"), "delta m");
    }
}
