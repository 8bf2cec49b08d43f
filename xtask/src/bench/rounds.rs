//! Steps of several workers in turn, so that whatever slows the machine slows them all.

use super::machine::available_memory;
use super::statistics::Summary;
use super::worker::{About, Step, Worker};
use anyhow::{Result, bail};
use serde::Serialize;

/// Steps during which others used more of the processors than this are set aside, if enough are left.
pub(crate) const QUIET: f64 = 0.06;
/// Fewer quiet steps than this make no median of their own.
const ENOUGH: usize = 3;
/// Another worker is not started with less memory to spare than this, in bytes.
const SPARE: u64 = 2 << 30;

/// What was measured of one worker.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) about: About,
    pub(crate) steps: Vec<Step>,
    /// Of the quiet steps, or of all where there are too few.
    pub(crate) summary: Summary,
    /// Whether the summary is of quiet steps alone.
    pub(crate) quiet: bool,
    /// The most memory that it had resident, in bytes.
    pub(crate) peak: Option<u64>,
}

impl Measured {
    /// Sums up what a worker did.
    ///
    /// # Errors
    /// No step.
    pub(crate) fn new(
        name: &str,
        title: &str,
        about: About,
        steps: Vec<Step>,
        peak: Option<u64>,
    ) -> Result<Self> {
        let seconds = |keep: fn(&Step) -> bool| -> Vec<f64> {
            steps.iter().filter(|step| keep(step)).map(|step| step.seconds).collect()
        };
        let undisturbed = seconds(|step| step.others.is_some_and(|others| others <= QUIET));
        let quiet = undisturbed.len() >= ENOUGH;
        let Some(summary) = Summary::of(&if quiet { undisturbed } else { seconds(|_| true) }) else {
            bail!("worker `{name}` made no step; ask for at least one round");
        };
        let (name, title) = (name.to_owned(), title.to_owned());
        Ok(Self { name, title, about, steps, summary, quiet, peak })
    }
}

/// Makes every worker step once to warm up.
///
/// # Errors
/// A machine without memory to spare; a worker that fails.
pub(crate) fn warm_up(worker: &mut Worker, processors: usize) -> Result<()> {
    if let Some(bytes) = available_memory()
        && bytes < SPARE
    {
        bail!(
            "only {} MiB of memory are left, and all workers of a comparison are alive together; compare fewer with \
             `--peers`, or with a smaller `--batch`",
            bytes >> 20
        );
    }
    worker.step(processors)?;
    Ok(())
}

/// Steps A B C A B C …; the steps of each worker in order.
///
/// # Errors
/// A worker that fails.
pub(crate) fn alternate(
    workers: &mut [Worker],
    rounds: usize,
    processors: usize,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Vec<Step>>> {
    let mut steps: Vec<Vec<Step>> = workers.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        for (worker, steps) in workers.iter_mut().zip(&mut steps) {
            steps.push(worker.step(processors)?);
        }
        progress(round + 1);
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(steps: &[(f64, Option<f64>)]) -> Result<Measured> {
        let about = About { version: String::new(), simd: String::new(), threads: 1 };
        let steps =
            steps.iter().map(|(seconds, others)| Step { seconds: *seconds, others: *others }).collect();
        Measured::new("a", "A", about, steps, None)
    }

    #[test]
    fn disturbed_steps_do_not_count_while_quiet_ones_are_enough() {
        let quiet = [(1.0, Some(0.0)), (9.0, Some(0.5)), (2.0, Some(0.01)), (3.0, Some(0.06))];
        let found = measured(&quiet).unwrap();
        assert!(found.quiet);
        assert_eq!((found.summary.median, found.summary.count), (2.0, 3));
        let busy = measured(&quiet[..3]).unwrap();
        assert!(!busy.quiet);
        assert_eq!((busy.summary.median, busy.summary.count), (2.0, 3));
        assert!(!measured(&[(1.0, None), (1.0, None), (1.0, None)]).unwrap().quiet);
        assert!(measured(&[]).is_err());
    }
}
