//! What is seen of long work: a bar on a terminal, a line now and then elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tadformer::{Evaluation, Reporter, UpdateRecord};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of a training.
pub(crate) struct TrainingProgress {
    bar: ProgressBar,
    lines: bool,
    last_line: Option<Instant>,
    rate: f64,
    started: Option<(Instant, u64)>,
}

impl TrainingProgress {
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if quiet || !terminal { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self::on(target, !quiet && !terminal)
    }

    /// A bar on `target`, and lines on the standard error besides where there are to be `lines`.
    fn on(target: ProgressDrawTarget, lines: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {wide_msg}");
        bar.set_style(style.expect("a template that a test draws"));
        Self { bar, lines, last_line: None, rate: 0.0, started: None }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line_is_due(&mut self) -> bool {
        let due = self.lines && self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due {
            self.last_line = Some(Instant::now());
        }
        due
    }

    /// Time to the end, from the pace since the first update of this process.
    fn left(&mut self, update: u64, of: u64) -> Duration {
        let (start, first) = *self.started.get_or_insert((Instant::now(), update));
        let done = (update - first).max(1) as f64;
        start.elapsed().mul_f64((of - update - 1) as f64 / done)
    }
}

impl Reporter for TrainingProgress {
    fn update(&mut self, update: &UpdateRecord, of: u64) {
        let left = self.left(update.update, of);
        self.rate = if self.rate == 0.0 {
            update.images_per_second
        } else {
            0.9 * self.rate + 0.1 * update.images_per_second
        };
        let losses: Vec<String> =
            update.losses.iter().map(|(task, loss)| format!("{task} {loss:.3}")).collect();
        let message = format!("{} | {:.1} images/s | {} left", losses.join("  "), self.rate, in_words(left));
        self.bar.set_length(of);
        self.bar.set_prefix(format!("epoch {}", update.epoch + 1));
        self.bar.set_position(update.update + 1);
        if self.line_is_due() {
            eprintln!("epoch {} update {}/{of} | {message}", update.epoch + 1, update.update + 1);
        }
        self.bar.set_message(message);
    }

    fn scored(&mut self, done: usize, of: usize) {
        self.bar.set_message(format!("scoring {done}/{of}"));
        self.bar.tick();
    }

    fn evaluated(&mut self, epoch: usize, evaluation: &Evaluation) {
        let figures: Vec<String> = evaluation
            .headlines()
            .map(|(task, score)| format!("{task} {} {:.2}{}", score.name, score.value, score.unit))
            .collect();
        let line = format!("after epoch {epoch}: {}", figures.join(", "));
        if self.lines {
            eprintln!("{line}");
        } else {
            // Above the bar; a hidden bar prints nothing.
            self.bar.println(line);
        }
    }
}

/// A bar while weights are downloaded.
#[cfg(feature = "hub")]
#[derive(Default)]
pub(crate) struct DownloadProgress(Option<ProgressBar>);

#[cfg(feature = "hub")]
impl tadformer_weights::hub::Progress for DownloadProgress {
    fn started(&mut self, file: &str, size: Option<u64>, have: u64) {
        eprintln!("downloading {file}");
        let bar = size.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let style = ProgressStyle::with_template("{bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
        bar.set_style(style.expect("a template that a test draws"));
        bar.set_position(have);
        // What was there does not count for the speed.
        bar.reset_eta();
        self.0 = Some(bar);
    }

    fn received(&mut self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn finished(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// A bar for counted work.
pub(crate) fn counted(name: &str, of: u64) -> ProgressBar {
    let bar = ProgressBar::new(of);
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {eta} left");
    bar.set_style(style.expect("a template that a test draws"));
    bar.set_prefix(name.to_owned());
    bar
}

/// `1 h 05 min`, `4 min 10 s`, `12 s`.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let words = |s| in_words(Duration::from_secs(s));
        assert_eq!(
            (words(12), words(250), words(3900)),
            ("12 s".into(), "4 min 10 s".into(), "1 h 05 min".into())
        );
    }

    #[test]
    fn a_terminal_shows_a_bar_and_the_scores_above_it() {
        let term = indicatif::InMemoryTerm::new(6, 120);
        let mut progress = TrainingProgress::on(ProgressDrawTarget::term_like(Box::new(term.clone())), false);
        let update = UpdateRecord {
            kind: "update",
            update: 1,
            epoch: 0,
            lr: 1e-3,
            total: 2.5,
            losses: [("depth", 0.25), ("semseg", 2.25)].into(),
            unlabelled: std::collections::BTreeMap::new(),
            grad_norm: 1.0,
            seconds: 1.0,
            images_per_second: 3.0,
            waited: 0.0,
        };
        progress.update(&update, 8);
        progress.evaluated(1, &Evaluation { scores: Vec::new(), panels: Vec::new() });
        let seen = term.contents();
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines.len(), 2, "{seen}");
        assert_eq!(lines[0].trim_end(), "after epoch 1:");
        assert!(lines[1].starts_with("epoch 1 ") && lines[1].contains(" 2/8 "), "{seen}");
        assert!(lines[1].contains("depth 0.250  semseg 2.250 | 3.0 images/s | "), "{seen}");
        assert!(lines[1].trim_end().ends_with(" left"), "{seen}");
        progress.finish();
        assert_eq!(term.contents().trim_end(), "after epoch 1:", "the bar is gone at the end");
    }

    #[test]
    fn a_counting_bar_has_a_valid_template() {
        counted("test", 3).finish_and_clear();
        #[cfg(feature = "hub")]
        {
            use tadformer_weights::hub::Progress;
            let mut download = DownloadProgress::default();
            download.started("org/name/file", Some(10), 4);
            download.received(3);
            assert_eq!(download.0.as_ref().map(ProgressBar::position), Some(7));
            download.finished();
        }
    }
}
