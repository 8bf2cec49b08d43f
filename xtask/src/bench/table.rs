//! A comparison as a Markdown table.

use super::machine::Machine;
use super::rounds::{Measured, QUIET};
use super::setup::{Setup, What};
use super::statistics::Summary;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A comparison of one kind of work.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    /// Its block in the document: `predict`, `train` or `start`.
    pub(crate) name: &'static str,
    pub(crate) setup: Setup,
    /// Ours first.
    pub(crate) rows: Vec<Measured>,
    /// Peers that could not be measured, and why.
    pub(crate) left_out: Vec<(String, String)>,
    /// Products of 1024×1024 matrices in the same rounds, 10⁹ operations a second.
    pub(crate) products: Option<Summary>,
}

/// 10⁹ operations an image in the matrix products that the model cannot do without, after every exact saving of
/// arithmetic; known for the paper's setting alone.
fn least_products(setup: &Setup) -> Option<f64> {
    let usual = Setup { batch: setup.batch, ..Setup::usual(setup.what, setup.threads) };
    (*setup == usual).then_some(match setup.what {
        What::Predict => 56.0,
        What::Train => 159.4,
    })
}

impl Comparison {
    /// The table, with what must be known to read it.
    pub(crate) fn markdown(&self, machine: &Machine) -> String {
        let mut text = String::new();
        let unit = self.setup.batch as f64;
        let title = if self.name == "start" { "start to first prediction" } else { self.setup.what.name() };
        let sizes = self.setup.sizes();
        line(&mut text, &format!("{title}: {sizes}."));
        line(&mut text, "");
        line(
            &mut text,
            "| | s an image, median | against ours | quartiles | min – max | peak MiB | of ours | steps |",
        );
        line(&mut text, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        let ours = self.rows.first();
        for row in &self.rows {
            line(&mut text, &self.row(row, ours, unit));
        }
        if let (Some(products), Some(least), Some(ours)) = (&self.products, least_products(&self.setup), ours)
        {
            let floor = least / products.median;
            line(
                &mut text,
                &format!(
                    "| floor: {least} GFLOP of products at {:.0} GFLOP/s | {floor:.3} | {:.2} | | | | | {} |",
                    products.median,
                    floor * unit / ours.summary.median,
                    products.count
                ),
            );
        }
        line(&mut text, "");
        for (title, reason) in &self.left_out {
            line(&mut text, &format!("- Not measured: {title}: {reason}."));
        }
        if self.rows.iter().any(|row| !row.quiet) {
            line(
                &mut text,
                &format!(
                    "- \\* other processes used more than {:.0} % of the processors in nearly every step: these figures \
                     are of a busy machine, and only their ratios mean something.",
                    100.0 * QUIET
                ),
            );
        }
        line(&mut text, &format!("- Machine: {}.", machine.describe()));
        let versions: BTreeSet<String> = self
            .rows
            .iter()
            .filter(|row| !row.about.version.is_empty())
            .map(|row| format!("{} ({}, {} threads)", row.about.version, row.about.simd, row.about.threads))
            .collect();
        if !versions.is_empty() {
            line(&mut text, &format!("- Programs: {}.", versions.into_iter().collect::<Vec<_>>().join("; ")));
        }
        text
    }

    fn row(&self, row: &Measured, ours: Option<&Measured>, unit: f64) -> String {
        let Summary { median, min, max, quartiles: [low, high], count } = row.summary;
        let ratio = ours.map_or(f64::NAN, |ours| median / ours.summary.median);
        let mebibytes = row.peak.map_or("–".to_owned(), |bytes| (bytes >> 20).to_string());
        let share = match (row.peak, ours.and_then(|ours| ours.peak)) {
            (Some(peak), Some(ours)) if ours > 0 => format!("{:.2}", peak as f64 / ours as f64),
            _ => "–".to_owned(),
        };
        let mark = if row.quiet { "" } else { " \\*" };
        format!(
            "| {}{mark} | {:.3} | {ratio:.2} | {:.3} – {:.3} | {:.3} – {:.3} | {mebibytes} | {share} | {count} of {} |",
            row.title,
            median / unit,
            low / unit,
            high / unit,
            min / unit,
            max / unit,
            row.steps.len()
        )
    }
}

fn line(text: &mut String, content: &str) {
    writeln!(text, "{content}").expect("a string takes every line");
}

#[cfg(test)]
mod tests {
    use super::super::worker::{About, Step};
    use super::*;

    fn row(name: &str, seconds: f64, peak: u64) -> Measured {
        let about = About { version: format!("{name} 1"), simd: "avx2".to_owned(), threads: 2 };
        let steps = vec![Step { seconds, others: Some(0.0) }; 3];
        Measured::new(name, name, about, steps, Some(peak << 20)).unwrap()
    }

    #[test]
    fn ratios_are_against_ours_and_times_an_image() {
        let comparison = Comparison {
            name: "train",
            setup: Setup::usual(What::Train, 2),
            rows: vec![row("ours", 1.0, 100), row("eager", 4.0, 500)],
            left_out: vec![("OpenVINO".to_owned(), "it has no bf16 here".to_owned())],
            products: Summary::of(&[400.0]),
        };
        let text = comparison.markdown(&Machine::this());
        assert!(
            text.starts_with("train: Swin-T, 448x448, batch 2, rank 64, 4 tasks, 2 threads.\n"),
            "{text}"
        );
        assert!(
            text.contains("| eager | 2.000 | 4.00 | 2.000 – 2.000 | 2.000 – 2.000 | 500 | 5.00 | 3 of 3 |"),
            "{text}"
        );
        assert!(text.contains("| floor: 159.4 GFLOP of products at 400 GFLOP/s | 0.399 | 0.80 |"), "{text}");
        assert!(text.contains("- Not measured: OpenVINO: it has no bf16 here."), "{text}");
        assert!(!text.contains("\\*"), "{text}");
    }

    #[test]
    fn the_floor_is_known_for_the_papers_setting_alone() {
        let usual = Setup::usual(What::Predict, 2);
        assert_eq!(least_products(&usual), Some(56.0));
        assert_eq!(least_products(&Setup { size: 224, ..usual.clone() }), None);
        assert_eq!(least_products(&Setup { batch: 4, threads: 8, ..usual }), Some(56.0));
    }
}
