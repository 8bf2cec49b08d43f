//! What other processes did to the processor during a step, from `/proc`.

use std::time::Instant;

/// Clock ticks a second in `/proc`: 100 on every Linux that userland sees.
const TICKS: f64 = 100.0;

/// A reading of the clocks: of all processors together, and of one process.
pub(crate) struct Reading {
    busy: f64,
    own: f64,
    at: Instant,
}

impl Reading {
    /// The clocks now; nothing off Linux.
    pub(crate) fn take(process: u32) -> Option<Self> {
        let all = std::fs::read_to_string("/proc/stat").ok()?;
        let one = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        Some(Self { busy: busy(&all)?, own: own(&one)?, at: Instant::now() })
    }

    /// The share of `processors` that others used since this reading, `0..=1`.
    pub(crate) fn others(&self, process: u32, processors: usize) -> Option<f64> {
        let now = Self::take(process)?;
        let elapsed = now.at.duration_since(self.at).as_secs_f64();
        let used = (now.busy - self.busy) - (now.own - self.own);
        Some((used / (elapsed * processors as f64).max(1.0 / TICKS)).clamp(0.0, 1.0))
    }
}

/// Seconds of work (and of time stolen by the hypervisor) on the first line of `/proc/stat`.
fn busy(text: &str) -> Option<f64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user time
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((ticks.iter().take(8).sum::<f64>() - idle) / TICKS)
}

/// Seconds of work in `/proc/PID/stat`; the name before them may hold spaces and brackets.
fn own(text: &str) -> Option<f64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_no_work() {
        let text = "cpu  100 10 20 5000 300 1 2 7 50 0\ncpu0 1 2 3\n";
        assert_eq!(busy(text), Some(1.4));
        assert_eq!(busy("intr 1 2"), None);
    }

    #[test]
    fn a_process_may_be_called_anything() {
        let text = "42 (a) b) (c) S 1 42 42 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 1 0 7";
        assert_eq!(own(text), Some(2.0));
    }

    #[test]
    fn what_a_process_does_itself_is_not_the_load_of_others() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let this = std::process::id();
        let reading = Reading::take(this).unwrap();
        let others = reading.others(this, 1).unwrap();
        assert!((0.0..=1.0).contains(&others), "{others}");
    }
}
