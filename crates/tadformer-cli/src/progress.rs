//! What is seen of long work: a bar on a terminal, a line now and then elsewhere.

use crate::say::note;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::time::{Duration, Instant};
use tadformer::{Evaluation, Reporter, UpdateRecord};

/// Between two lines where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// From this width of a terminal on there is a long bar, in columns.
const WIDE: usize = 80;

/// The lines that stand for a bar where none can be drawn: in a file, in a pipe, on a terminal that calls itself dumb.
struct Lines {
    wanted: bool,
    last: Option<Instant>,
}

impl Lines {
    /// Lines where `target` shows nothing.
    fn instead_of(target: &ProgressDrawTarget) -> Self {
        Self { wanted: target.is_hidden(), last: None }
    }

    /// Whether it is time for one; the first is due at once.
    fn due(&mut self) -> bool {
        let due = self.wanted && self.last.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

/// The progress of a training.
pub(crate) struct TrainingProgress {
    bar: ProgressBar,
    lines: Lines,
    columns: fn() -> usize,
    rate: f64,
    started: Option<(Instant, u64)>,
}

impl TrainingProgress {
    pub(crate) fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let lines = if quiet { Lines { wanted: false, last: None } } else { Lines::instead_of(&target) };
        Self::on(target, lines, columns)
    }

    /// A bar on `target`, which is `columns` wide, or lines.
    fn on(target: ProgressDrawTarget, lines: Lines, columns: fn() -> usize) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{prefix} BAR {pos}/{len}{msg}", columns()));
        Self { bar, lines, columns, rate: 0.0, started: None }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Time to the end, from the pace since the first update of this process; unknown at that one.
    fn left(&mut self, update: u64, of: u64) -> Option<Duration> {
        let (start, first) = *self.started.get_or_insert((Instant::now(), update));
        let done = update.checked_sub(first).filter(|done| *done > 0)?;
        Some(start.elapsed().mul_f64((of - update - 1) as f64 / done as f64))
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
        let losses = update.losses.iter().map(|(task, loss)| format!("{task} {loss:.3}"));
        let rate = format!("| {:.1} images/s", self.rate);
        let left = left.map(|left| format!("| {} left", in_words(left)));
        let items: Vec<String> = losses.chain([rate]).chain(left).collect();
        let (epoch, done) = (format!("epoch {}", update.epoch + 1), update.update + 1);
        let columns = (self.columns)();
        // What stands before the message: prefix, bar, position, and the blanks between them.
        let before = epoch.len() + bar_width(columns) + format!("{done}/{of}").len() + 2;
        self.bar.set_length(of);
        self.bar.set_position(done);
        self.bar.set_message(laid_out(&items, before, columns));
        if self.lines.due() {
            note!("{epoch} update {done}/{of} | {}", items.join("  "));
        }
        self.bar.set_prefix(epoch);
    }

    fn scored(&mut self, done: usize, of: usize) {
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
        self.bar.set_prefix("scoring");
        self.bar.set_message("");
        if self.lines.due() {
            note!("scoring {done}/{of}");
        }
    }

    fn evaluated(&mut self, epoch: usize, evaluation: &Evaluation) {
        let figures: Vec<String> = evaluation
            .headlines()
            .map(|(task, score)| format!("{task} {} {}", score.name, score.figure()))
            .collect();
        let line = format!("after epoch {epoch}: {}", figures.join(", "));
        if self.lines.wanted {
            note!("{line}");
        } else {
            // Above the bar; a hidden bar prints nothing.
            self.bar.println(line);
        }
    }
}

/// The progress of work that is counted.
pub(crate) struct Counted {
    bar: ProgressBar,
    lines: Lines,
}

impl Counted {
    /// `of` pieces of the work `name`.
    pub(crate) fn new(name: &str, of: u64) -> Self {
        Self::on(ProgressDrawTarget::stderr(), columns(), name, of)
    }

    fn on(target: ProgressDrawTarget, columns: usize, name: &str, of: u64) -> Self {
        let lines = Lines::instead_of(&target);
        let bar = ProgressBar::with_draw_target(Some(of), target);
        bar.set_style(style("{prefix} BAR {pos}/{len}{left}", columns));
        bar.set_prefix(name.to_owned());
        Self { bar, lines }
    }

    /// Work of another name, of `of` pieces.
    pub(crate) fn name(&self, name: String, of: u64) {
        self.bar.set_prefix(name);
        self.bar.set_length(of);
    }

    /// `done` pieces are done.
    pub(crate) fn at(&mut self, done: u64) {
        self.bar.set_position(done);
        if self.lines.due() {
            note!("{} {done}/{}", self.bar.prefix(), self.bar.length().unwrap_or_default());
        }
    }

    /// Lets `say` write to the standard error without the bar in between.
    pub(crate) fn aside(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A bar while weights are downloaded.
#[cfg(feature = "hub")]
#[derive(Default)]
pub(crate) struct DownloadProgress(Option<(ProgressBar, Lines)>);

#[cfg(feature = "hub")]
impl tadformer_weights::hub::Progress for DownloadProgress {
    fn started(&mut self, file: &str, size: Option<u64>, have: u64) {
        note!("downloading {file}");
        let target = ProgressDrawTarget::stderr();
        // That it begins has just been said.
        let lines = Lines { last: Some(Instant::now()), ..Lines::instead_of(&target) };
        let bar = ProgressBar::with_draw_target(size, target);
        bar.set_style(style("BAR {bytes}/{total_bytes} {bytes_per_sec}{left}", columns()));
        bar.set_position(have);
        // What was there does not count for the speed.
        bar.reset_eta();
        self.0 = Some((bar, lines));
    }

    fn received(&mut self, bytes: u64) {
        if let Some((bar, lines)) = &mut self.0 {
            bar.inc(bytes);
            if lines.due() {
                let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
                let of = bar.length().map(|length| format!(" of {}", megabytes(length))).unwrap_or_default();
                note!("downloaded {}{of}", megabytes(bar.position()));
            }
        }
    }

    fn note(&mut self, text: &str) {
        match &self.0 {
            Some((bar, _)) => bar.suspend(|| note!("{text}")),
            None => note!("{text}"),
        }
    }

    fn finished(&mut self) {
        if let Some((bar, _)) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// Columns of the terminal, as wide as usual where there is none.
fn columns() -> usize {
    usize::from(console::Term::stderr().size().1)
}

/// Columns of a bar on a terminal of `columns`.
fn bar_width(columns: usize) -> usize {
    if columns >= WIDE { 24 } else { 8 }
}

/// The style of `template`, in which `BAR` stands for the bar and `{left}` for the time left, once it can be told.
fn style(template: &str, columns: usize) -> ProgressStyle {
    let template = template.replace("BAR", &format!("{{bar:{}}}", bar_width(columns)));
    let left = |state: &ProgressState, out: &mut dyn Write| {
        if state.elapsed() >= Duration::from_secs(1) && state.eta() > Duration::ZERO {
            // Nothing that is drawn fails.
            let _ = write!(out, " {} left", in_words(state.eta()));
        }
    };
    ProgressStyle::with_template(&template).expect("a template that a test draws").with_key("left", left)
}

/// Items one after the other behind `before` columns of other text, in as many lines as they take at this width.
fn laid_out(items: &[String], before: usize, columns: usize) -> String {
    let mut text = String::new();
    let mut used = before;
    for item in items {
        // The terminal's last column stays free: some go to the next line with it.
        if used + 1 + item.len() < columns || used == 0 {
            let _ = write!(text, " {item}");
            used += 1 + item.len();
        } else {
            let _ = write!(text, "\n{item}");
            used = item.len();
        }
    }
    text
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
    use indicatif::InMemoryTerm;

    const NO_LINES: Lines = Lines { wanted: false, last: None };

    fn update(update: u64) -> UpdateRecord {
        UpdateRecord {
            kind: "update",
            update,
            epoch: 0,
            lr: 1e-3,
            total: 2.5,
            losses: [("depth", 0.25), ("human_parts", 1.5), ("normals", 0.75), ("semseg", 2.25)].into(),
            unlabelled: std::collections::BTreeMap::new(),
            grad_norm: 1.0,
            seconds: 1.0,
            images_per_second: 3.0,
            waited: 0.0,
        }
    }

    fn training(term: &InMemoryTerm, columns: fn() -> usize) -> TrainingProgress {
        TrainingProgress::on(ProgressDrawTarget::term_like(Box::new(term.clone())), NO_LINES, columns)
    }

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
        let term = InMemoryTerm::new(6, 160);
        let mut progress = training(&term, || 160);
        progress.update(&update(0), 8);
        assert!(!term.contents().contains("left"), "nobody knows yet: {}", term.contents());
        progress.update(&update(1), 8);
        progress.evaluated(1, &Evaluation { scores: Vec::new(), panels: Vec::new() });
        let seen = term.contents();
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines.len(), 2, "{seen}");
        assert_eq!(lines[0].trim_end(), "after epoch 1:");
        assert!(lines[1].starts_with("epoch 1 ") && lines[1].contains(" 2/8 "), "{seen}");
        assert!(
            lines[1].contains("depth 0.250 human_parts 1.500 normals 0.750 semseg 2.250 | 3.0"),
            "{seen}"
        );
        assert!(lines[1].trim_end().ends_with(" s left"), "{seen}");
        progress.finish();
        assert_eq!(term.contents().trim_end(), "after epoch 1:", "the bar is gone at the end");
    }

    #[test]
    fn a_narrow_terminal_shows_all_of_it_in_more_lines() {
        let term = InMemoryTerm::new(8, 40);
        let mut progress = training(&term, || 40);
        progress.update(&update(0), 8);
        progress.update(&update(1), 8);
        let seen = term.contents();
        for part in ["epoch 1 ", " 2/8", "depth 0.250", "semseg 2.250", "3.0 images/s", " s left"] {
            assert!(seen.contains(part), "`{part}`: {seen}");
        }
        assert!(seen.lines().all(|line| line.trim_end().chars().count() < 40), "{seen}");
        progress.finish();
        assert_eq!(term.contents().trim(), "");
    }

    #[test]
    fn the_first_evaluation_counts_its_own_samples() {
        let term = InMemoryTerm::new(6, 80);
        let mut progress = training(&term, || 80);
        progress.scored(3, 20);
        let seen = term.contents();
        assert!(seen.starts_with("scoring ") && seen.contains(" 3/20"), "{seen}");
        progress.update(&update(0), 8);
        let seen = term.contents();
        assert!(seen.starts_with("epoch 1 ") && seen.contains(" 1/8"), "{seen}");
    }

    #[test]
    fn lines_stand_for_a_bar_that_nobody_sees() {
        let mut lines = Lines::instead_of(&ProgressDrawTarget::hidden());
        assert!(lines.due(), "the first at once");
        assert!(!lines.due(), "the next after a while");
        let term = InMemoryTerm::new(6, 80);
        let seen = ProgressDrawTarget::term_like(Box::new(term.clone()));
        assert!(!Lines::instead_of(&seen).due());
        let mut progress = Counted::on(seen, 80, "counting", 7);
        progress.at(2);
        assert!(term.contents().starts_with("counting ") && term.contents().contains(" 2/7"));
        progress.finish();
    }

    #[cfg(feature = "hub")]
    #[test]
    fn a_download_goes_on_where_it_ended() {
        use tadformer_weights::hub::Progress;
        let mut download = DownloadProgress::default();
        download.started("org/name/file", Some(10), 4);
        download.received(3);
        assert_eq!(download.0.as_ref().map(|(bar, _)| bar.position()), Some(7));
        download.finished();
    }
}
