//! The learning rate as a function of the update: linear warm-up, then a decay.

use super::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Images an update for which the rates of a [`ScheduleConfig`] hold.
const REFERENCE_BATCH: f64 = 512.0;

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// Half a cosine from `base_lr` down to `min_lr` at the end of the run.
    Cosine {
        /// Whether the cosine starts after the warm-up (`true`), or at update 0 with its beginning hidden by the warm-up.
        #[serde(default = "yes")]
        warmup_prefix: bool,
    },
    /// A straight line from `base_lr` at the end of the warm-up to `min_lr` at the end of the run.
    Linear {
        /// Where the line ends instead of `min_lr`, as a factor of `base_lr`, `0..=1`: `end_factor` of PyTorch's
        /// `LinearLR`. The published code's line ends at 0.01 whatever its `MIN_LR` is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end_factor: Option<f64>,
    },
    /// `rate` times less after every `every_epochs` epochs, counted from the end of the warm-up.
    Step {
        /// Epochs between two drops, at least 1.
        every_epochs: usize,
        /// Factor of a drop, above 0 and at most 1.
        rate: f64,
    },
    /// `rate` times less at the beginning of each of some epochs.
    Multistep {
        /// The epochs, counted from the start of the run, rising.
        epochs: Vec<usize>,
        /// Factor of a drop, above 0 and at most 1.
        rate: f64,
    },
}

fn yes() -> bool {
    true
}

/// Learning rates of a run, for updates of 512 images; the default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Rate at the end of the warm-up.
    pub base_lr: f64,
    /// Rate at the beginning of the warm-up.
    pub warmup_lr: f64,
    /// Rate at the end of the run (cosine and linear decay).
    pub min_lr: f64,
    /// Length of the warm-up in epochs; 0 for none.
    pub warmup_epochs: usize,
    /// How the rate falls.
    pub decay: Decay,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            base_lr: 5e-4,
            warmup_lr: 5e-7,
            min_lr: 5e-6,
            warmup_epochs: 20,
            decay: Decay::Cosine { warmup_prefix: true },
        }
    }
}

impl ScheduleConfig {
    /// These rates for updates of `images`: batch × accumulated batches × processes. All three rates grow in proportion
    /// (the linear scaling rule, arXiv 1706.02677).
    #[must_use]
    pub fn scaled_to(&self, images: usize) -> Self {
        let factor = images as f64 / REFERENCE_BATCH;
        Self {
            base_lr: self.base_lr * factor,
            warmup_lr: self.warmup_lr * factor,
            min_lr: self.min_lr * factor,
            ..self.clone()
        }
    }

    /// What is wrong with these settings for a run of `epochs`; empty if nothing is.
    pub fn problems(&self, epochs: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let rates = [("base_lr", self.base_lr), ("warmup_lr", self.warmup_lr), ("min_lr", self.min_lr)];
        for (name, rate) in rates {
            if !(rate.is_finite() && rate >= 0.0) {
                problems.push(format!("`{name}` is {rate}, expected a finite number of at least 0"));
            }
        }
        if self.warmup_epochs >= epochs {
            problems.push(format!(
                "`warmup_epochs` is {}, expected fewer than the {epochs} epochs of the run",
                self.warmup_epochs
            ));
        }
        match &self.decay {
            Decay::Cosine { .. } | Decay::Linear { end_factor: None } => {}
            Decay::Linear { end_factor: Some(factor) } => {
                if !(0.0..=1.0).contains(factor) {
                    problems.push(format!("`decay.end_factor` is {factor}, expected 0 to 1"));
                }
            }
            Decay::Step { every_epochs, rate } => {
                if *every_epochs == 0 {
                    problems.push("`decay.every_epochs` is 0, expected at least 1".to_owned());
                }
                problems.extend(drop_problem(*rate));
            }
            Decay::Multistep { epochs, rate } => {
                if !epochs.is_sorted_by(|a, b| a < b) {
                    problems.push(format!("`decay.epochs` is {epochs:?}, expected rising epochs"));
                }
                problems.extend(drop_problem(*rate));
            }
        }
        problems
    }
}

fn drop_problem(rate: f64) -> Option<String> {
    let fine = rate > 0.0 && rate <= 1.0;
    (!fine).then(|| format!("`decay.rate` is {rate}, expected more than 0 and at most 1"))
}

/// The learning rate of every update of one run.
///
/// ```
/// use tadformer::optim::{Schedule, ScheduleConfig};
///
/// // 32 images an update, 156 updates an epoch.
/// let schedule = Schedule::new(ScheduleConfig::default().scaled_to(32), 300, 156).unwrap();
/// assert_eq!(schedule.lr_for_update(0), 3.125e-8);
/// assert_eq!(schedule.lr_at(20 * 156), 3.125e-5);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    updates_per_epoch: u64,
    /// Updates of the whole run.
    updates: u64,
}

impl Schedule {
    /// The schedule of a run of `epochs` × `updates_per_epoch` updates with the rates of `config` as they are: scale them
    /// [first](ScheduleConfig::scaled_to).
    ///
    /// # Errors
    /// [`Error::Config`] with all problems of the settings.
    pub fn new(config: ScheduleConfig, epochs: usize, updates_per_epoch: usize) -> Result<Self> {
        let mut problems = config.problems(epochs);
        if updates_per_epoch == 0 {
            problems.push(
                "an epoch has no update, expected at least 1: is a batch larger than the data set?".into(),
            );
        }
        let updates = (epochs as u64).checked_mul(updates_per_epoch as u64);
        match updates {
            Some(updates) if problems.is_empty() => {
                Ok(Self { config, updates_per_epoch: updates_per_epoch as u64, updates })
            }
            Some(_) => Err(Error::Config { problems }),
            None => {
                problems
                    .push(format!("{epochs} epochs of {updates_per_epoch} updates are too many to count"));
                Err(Error::Config { problems })
            }
        }
    }

    /// The number of updates of the run.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The rate of the update `step`, counted from 0 over the whole run.
    ///
    /// The rate is set *after* an update from that update's number, as in the published code: update 0 runs with the
    /// initial rate, update `s` with `lr_at(s − 1)`.
    pub fn lr_for_update(&self, step: u64) -> f64 {
        match step.checked_sub(1) {
            Some(previous) => self.lr_at(previous),
            None if self.config.warmup_epochs > 0 => self.config.warmup_lr,
            None => self.config.base_lr,
        }
    }

    /// The schedule's curve at `t` updates.
    ///
    /// With `n` updates in the run, `w` of them warm-up, and rates `b`ase, `m`in and `i`nitial:
    /// - `t < w`: `i + (b − i) t/w`
    /// - cosine: `m + (b − m)(1 + cos(π (t − w)/(n − w)))/2`, or without prefix `… cos(π t/n) …`; `m` from `n` on
    /// - linear: `b − (b − e)(t − w)/(n − w)` with `e` = `end_factor · b`, or `m` without a factor, going on after `n` down
    ///   to 0
    /// - step: `b · rate^⌊(t − w)/every⌋`
    /// - multistep: `b · rate^(number of listed epochs begun)`
    pub fn lr_at(&self, t: u64) -> f64 {
        let ScheduleConfig { base_lr, warmup_lr, min_lr, warmup_epochs, decay } = &self.config;
        let warmup = *warmup_epochs as u64 * self.updates_per_epoch;
        if t < warmup {
            return warmup_lr + (base_lr - warmup_lr) * (t as f64 / warmup as f64);
        }
        let share = |t: u64, n: u64| t as f64 / n as f64;
        match decay {
            Decay::Cosine { .. } if t >= self.updates => *min_lr,
            Decay::Cosine { warmup_prefix } => {
                let skipped = if *warmup_prefix { warmup } else { 0 };
                let share = share(t - skipped, self.updates - skipped);
                min_lr + (base_lr - min_lr) * 0.5 * (1.0 + (PI * share).cos())
            }
            Decay::Linear { end_factor } => {
                let end = end_factor.map_or(*min_lr, |factor| factor * base_lr);
                let share = share(t - warmup, self.updates - warmup);
                (base_lr - (base_lr - end) * share).max(0.0)
            }
            Decay::Step { every_epochs, rate } => {
                let drops = (t - warmup) / self.updates_per_epoch / *every_epochs as u64;
                base_lr * rate.powf(drops as f64)
            }
            Decay::Multistep { epochs, rate } => {
                let epoch = t / self.updates_per_epoch;
                let drops = epochs.iter().filter(|begun| **begun as u64 <= epoch).count();
                base_lr * rate.powf(drops as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_updates_share_the_initial_rate() {
        let config = ScheduleConfig {
            base_lr: 2e-4,
            warmup_lr: 2e-7,
            min_lr: 2e-6,
            warmup_epochs: 1,
            ..Default::default()
        };
        let schedule = Schedule::new(config, 4, 5).unwrap();
        // The rates of the published 20-step trajectory.
        let expected = [2e-7, 2e-7, 4.016e-5, 8.012e-5, 1.2008e-4, 1.6004e-4, 2e-4, 1.9783661247264677e-4];
        for (step, expected) in expected.into_iter().enumerate() {
            let found = schedule.lr_for_update(step as u64);
            assert!((found / expected - 1.0).abs() < 1e-12, "update {step}: {found}, expected {expected}");
        }
        assert!((schedule.lr_for_update(19) / 1.0558999693382503e-5 - 1.0).abs() < 1e-9);
        assert_eq!(schedule.updates(), 20);
    }

    #[test]
    fn without_warm_up_the_first_update_has_the_base_rate() {
        let config = ScheduleConfig { warmup_epochs: 0, ..Default::default() };
        assert_eq!(Schedule::new(config, 3, 5).unwrap().lr_for_update(0), 5e-4);
    }

    #[test]
    fn a_line_never_falls_below_zero() {
        let config = ScheduleConfig { decay: Decay::Linear { end_factor: None }, ..Default::default() };
        assert_eq!(Schedule::new(config, 30, 5).unwrap().lr_at(100_000), 0.0);
    }

    #[test]
    fn a_line_ends_at_the_smallest_rate_or_at_a_share_of_the_base_rate() {
        // 2 epochs of warm-up among 10 of 5 updates; rates by hand, for 512 and for 128 images.
        let lines = [
            (None, 1.0, [8e-4, 7.85e-4, 5e-4, 2e-4]),
            (Some(0.01), 1.0, [8e-4, 7.802e-4, 4.04e-4, 8e-6]),
            (Some(0.01), 0.25, [2e-4, 1.9505e-4, 1.01e-4, 2e-6]),
            (Some(0.0), 1.0, [8e-4, 7.8e-4, 4e-4, 0.0]),
        ];
        for (end_factor, share, expected) in lines {
            let config = ScheduleConfig {
                base_lr: 8e-4,
                warmup_lr: 8e-7,
                min_lr: 2e-4,
                warmup_epochs: 2,
                decay: Decay::Linear { end_factor },
            };
            let config = config.scaled_to((512.0 * share) as usize);
            let schedule = Schedule::new(config, 10, 5).unwrap();
            for (t, expected) in [10, 11, 30, 50].into_iter().zip(expected) {
                let found = schedule.lr_at(t);
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{end_factor:?} at {t}: {found}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn rates_grow_with_the_images_of_an_update() {
        let scaled = ScheduleConfig::default().scaled_to(32);
        assert_eq!((scaled.base_lr, scaled.warmup_lr, scaled.min_lr), (3.125e-5, 3.125e-8, 3.125e-7));
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let config = ScheduleConfig {
            base_lr: f64::NAN,
            warmup_epochs: 300,
            decay: Decay::Multistep { epochs: vec![5, 3], rate: 1.5 },
            ..Default::default()
        };
        let message = Schedule::new(config, 300, 0).unwrap_err().to_string();
        for part in
            ["`base_lr` is NaN", "`warmup_epochs` is 300", "[5, 3]", "`decay.rate` is 1.5", "no update"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let read = |text: &str| toml::from_str::<ScheduleConfig>(text);
        let step =
            read("warmup_epochs = 2\ndecay = { kind = \"step\", every_epochs = 30, rate = 0.1 }").unwrap();
        assert_eq!(step.decay, Decay::Step { every_epochs: 30, rate: 0.1 });
        assert_eq!(step.base_lr, 5e-4);
        assert_eq!(read(&toml::to_string(&step).unwrap()).unwrap(), step);
        for (text, named) in [
            ("warm_up = 2", "unknown field `warm_up`"),
            ("decay = { kind = \"linear\", rate = 2 }", "unknown field `rate`"),
            ("decay = { kind = \"cosign\" }", "unknown variant `cosign`"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(named), "{text}: {message}");
        }
    }
}
