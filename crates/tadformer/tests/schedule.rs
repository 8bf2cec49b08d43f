//! Learning rates of the published schedulers: `data/schedule.json`.

use serde_json::Value;
use tadformer::optim::{Decay, Schedule, ScheduleConfig};

const FILE: &str = include_str!("data/schedule.json");

#[test]
fn every_scheduler_has_the_published_rates() {
    let file: Value = serde_json::from_str(FILE).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap();
        let count = |key: &str| case[key].as_u64().unwrap() as usize;
        let config = ScheduleConfig {
            base_lr: number("base_lr"),
            warmup_lr: number("warmup_lr"),
            min_lr: number("min_lr"),
            warmup_epochs: count("warmup_epochs"),
            decay: decay(case["name"].as_str().unwrap(), &case["options"]),
        };
        let schedule = Schedule::new(config, count("epochs"), count("iters_per_epoch")).unwrap();
        assert_eq!(schedule.lr_for_update(0), number("initial_lr"));
        let points = case["lr_at"].as_array().unwrap();
        assert!(points.len() > 70);
        for point in points {
            let (t, expected) = (point[0].as_u64().unwrap(), point[1].as_f64().unwrap());
            for found in [schedule.lr_at(t), schedule.lr_for_update(t + 1)] {
                let off = (found / expected - 1.0).abs();
                assert!(
                    off < 1e-9,
                    "{} {}: {found} at {t}, expected {expected}",
                    case["name"],
                    case["options"]
                );
            }
        }
    }
}

fn decay(name: &str, options: &Value) -> Decay {
    match name {
        "cosine" => Decay::Cosine { warmup_prefix: options["WARMUP_PREFIX"].as_bool().unwrap() },
        // The published scheduler does not look at `min_lr`.
        "linear" => Decay::Linear { end_factor: Some(0.01) },
        "step" => Decay::Step {
            every_epochs: options["DECAY_EPOCHS"].as_u64().unwrap() as usize,
            rate: options["DECAY_RATE"].as_f64().unwrap(),
        },
        "multistep" => Decay::Multistep {
            epochs: options["MULTISTEPS"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e.as_u64().unwrap() as usize)
                .collect(),
            rate: options["GAMMA"].as_f64().unwrap(),
        },
        other => panic!("an unknown scheduler `{other}`"),
    }
}
