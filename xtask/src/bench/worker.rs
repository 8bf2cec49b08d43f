//! A worker process: told `step`, it does one step and says how long that took (see `benches/worker/main.rs`).

use super::load::Reading;
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// What a worker says of itself when it is ready.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct About {
    /// Program and libraries with their versions.
    pub(crate) version: String,
    /// The vector instructions that its kernels were chosen for.
    pub(crate) simd: String,
    pub(crate) threads: usize,
}

/// One timed step.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Step {
    /// As the worker measured it.
    pub(crate) seconds: f64,
    /// Share of the processors that other processes used meanwhile, `0..=1`; nothing where it cannot be known.
    pub(crate) others: Option<f64>,
}

/// A running worker.
pub(crate) struct Worker {
    name: String,
    child: Child,
    out: BufReader<ChildStdout>,
    errors: File,
    pub(crate) about: About,
}

impl Worker {
    /// Starts `command` and waits until it is ready.
    ///
    /// # Errors
    /// A program that is not there, or one that ends before it is ready, with the last lines that it wrote.
    pub(crate) fn start(name: &str, mut command: Command) -> Result<Self> {
        let errors = tempfile::tempfile().context("cannot make a temporary file")?;
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().context("cannot share a temporary file")?)
            .spawn()
            .with_context(|| format!("cannot start `{program}` for `{name}`"))?;
        let out = BufReader::new(child.stdout.take().expect("the output was asked for"));
        let about = About { version: String::new(), simd: String::new(), threads: 0 };
        let mut worker = Self { name: name.to_owned(), child, out, errors, about };
        let ready = worker.line("ready")?;
        worker.about = serde_json::from_str(&ready)
            .with_context(|| format!("worker `{name}` says of itself `{ready}`, which is not understood"))?;
        Ok(worker)
    }

    /// One step.
    ///
    /// # Errors
    /// A worker that has ended, or says something else than a time.
    pub(crate) fn step(&mut self, processors: usize) -> Result<Step> {
        let process = self.child.id();
        let before = Reading::take(process);
        self.tell("step")?;
        let said = self.line("seconds")?;
        let others = before.and_then(|reading| reading.others(process, processors));
        let seconds: f64 = said.parse().with_context(|| format!("worker `{}` took `{said}`", self.name))?;
        if !(seconds.is_finite() && seconds > 0.0) {
            bail!("worker `{}` says that a step took {seconds} s", self.name);
        }
        Ok(Step { seconds, others })
    }

    /// Ends the worker and gives the most memory that it had resident, in bytes, where the system tells.
    ///
    /// # Errors
    /// A worker that has ended before.
    pub(crate) fn end(mut self) -> Result<Option<u64>> {
        self.tell("end")?;
        let peak = self.line("peak")?.parse().ok();
        self.child.wait().with_context(|| format!("cannot wait for worker `{}`", self.name))?;
        Ok(peak)
    }

    fn tell(&mut self, word: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().expect("the input was asked for and is never taken");
        if writeln!(input, "{word}").and_then(|()| input.flush()).is_err() {
            return Err(self.failure());
        }
        Ok(())
    }

    /// The rest of the next line that starts with `word`; libraries may print lines of their own before it.
    fn line(&mut self, word: &str) -> Result<String> {
        loop {
            let mut line = String::new();
            let read = self.out.read_line(&mut line);
            if read.with_context(|| format!("cannot read from worker `{}`", self.name))? == 0 {
                return Err(self.failure());
            }
            if let Some(rest) = line.trim_end().strip_prefix(word) {
                return Ok(rest.trim().to_owned());
            }
        }
    }

    /// Why the worker ended, in its own last words.
    fn failure(&mut self) -> anyhow::Error {
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let mut said = Vec::new();
        let read = self.errors.rewind().and_then(|()| self.errors.read_to_end(&mut said));
        let text = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        match lines.get(lines.len().saturating_sub(3)..) {
            Some(last) if read.is_ok() && !last.is_empty() => anyhow!("{}", last.join(" | ")),
            _ => anyhow!("worker `{}` ended without a word ({status})", self.name),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already; nothing can be done about a process that cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn start(script: &str) -> Result<Worker> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Worker::start("script", command)
    }

    const READY: &str = r#"echo 'a greeting'; echo 'ready {"version":"1","simd":"none","threads":1}'"#;

    #[test]
    fn a_worker_steps_until_it_is_ended() {
        let script = format!(
            "{READY}; while read word; do case $word in step) echo seconds 0.5;; end) echo peak 4096; exit;; esac; done"
        );
        let mut worker = start(&script).unwrap();
        assert_eq!(worker.about.simd, "none");
        assert_eq!(worker.step(1).unwrap().seconds, 0.5);
        assert_eq!(worker.step(1).unwrap().seconds, 0.5);
        assert_eq!(worker.end().unwrap(), Some(4096));
    }

    #[test]
    fn a_worker_that_dies_says_why() {
        let message = |worker: Result<Worker>| worker.err().unwrap().to_string();
        assert_eq!(message(start("echo 'no torch' >&2; exit 1")), "no torch");
        assert!(message(start("exit 3")).contains("ended without a word (exit status: 3)"));
        let mut worker = start(&format!("{READY}; read word; echo broken >&2")).unwrap();
        assert_eq!(worker.step(1).unwrap_err().to_string(), "broken");
    }

    #[test]
    fn a_step_without_a_time_is_refused() {
        let mut worker = start(&format!("{READY}; read word; echo seconds nan; read word")).unwrap();
        assert!(worker.step(1).unwrap_err().to_string().contains("NaN"));
    }
}
