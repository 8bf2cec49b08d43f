//! Start to first prediction: from the start of a process to the maps of one picture on disk.

use super::build::Programs;
use super::load::Reading;
use super::peer::python;
use super::rounds::Measured;
use super::setup::Setup;
use super::worker::{About, Step};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Times `rounds` starts of our program and, `with_python`, of the script that does the same in eager PyTorch, in turn.
///
/// Both read weights from a file and write a PNG a task and a panel; the files are in the page cache.
///
/// # Errors
/// A process that fails.
pub(crate) fn measure(
    setup: &Setup,
    programs: &Programs,
    rounds: usize,
    with_python: bool,
    processors: usize,
) -> Result<Vec<Measured>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let at = |name: &str| folder.path().join(name);
    let (run, model, picture, weights) = (at("run"), at("model"), at("picture.png"), at("weights.pth"));
    // The sizes, without the work.
    let sizes = setup.arguments().split_off(1);

    let mut prepare = Command::new(&programs.worker);
    prepare.arg("write-run").args(&sizes).arg("--output").arg(&run).arg("--picture").arg(&picture);
    finish("the run to predict with", &mut prepare)?;
    // Frozen weights of a run without a weight file are drawn again; those of a full model are read.
    let mut export = Command::new(&programs.program);
    export.args(["export", "--what", "full", "--run"]).arg(&run).arg("--output").arg(&model);
    finish("the model to predict with", &mut export)?;
    let mut ours = Command::new(&programs.program);
    ours.arg("predict").arg("--run").arg(&model).arg("--input").arg(&picture).arg("--output").arg(at("ours"));
    ours.env("RAYON_NUM_THREADS", setup.threads.to_string());
    let mut rows = vec![("ours", "`tadformer-cli predict`", ours)];
    if with_python {
        let script = |weights: &Path| {
            let mut command = python(programs, "first_prediction.py");
            command.arg("--weights").arg(weights).args(without_batch(&sizes));
            command.args(["--threads", &setup.threads.to_string()]);
            command
        };
        finish("the weights of the PyTorch script", script(&weights).arg("--make"))?;
        let mut peer = script(&weights);
        peer.arg("--input").arg(&picture).arg("--output").arg(at("peer"));
        rows.push(("eager", "the same in eager PyTorch", peer));
    }

    let mut steps = vec![Vec::with_capacity(rounds); rows.len()];
    // The first round brings files into the page cache and is not counted.
    for round in 0..=rounds {
        for ((name, _, command), steps) in rows.iter_mut().zip(&mut steps) {
            let step = time(name, command, processors)?;
            if round > 0 {
                steps.push(step);
            }
        }
    }
    let nothing = About { version: String::new(), simd: String::new(), threads: setup.threads };
    rows.iter()
        .zip(steps)
        .map(|((name, title, _), steps)| Measured::new(name, title, nothing.clone(), steps, None))
        .collect()
}

/// The script predicts one picture, so it is told no batch.
fn without_batch(sizes: &[String]) -> &[String] {
    if sizes.first().is_some_and(|word| word == "--batch") { &sizes[2..] } else { sizes }
}

fn time(name: &str, command: &mut Command, processors: usize) -> Result<Step> {
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    let before = Reading::take(child.id());
    // Its clock is read while it is still there: a process that has ended but was not waited for keeps its times.
    let process = child.id();
    let said = child.stderr.take().map(std::io::read_to_string);
    let others = before.and_then(|reading| reading.others(process, processors));
    let status = child.wait().with_context(|| format!("cannot wait for `{name}`"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        let said = said.and_then(Result::ok).unwrap_or_default();
        bail!("`{name}` failed to predict ({status}): {}", said.trim());
    }
    Ok(Step { seconds, others })
}

fn finish(what: &str, command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot prepare {what}"))?;
    if !output.status.success() {
        bail!("cannot prepare {what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_timed_to_its_end() {
        let mut command = Command::new("sh");
        assert!(time("sh", command.args(["-c", "sleep 0.05"]), 1).unwrap().seconds >= 0.05);
        let mut command = Command::new("sh");
        let error = time("sh", command.args(["-c", "echo no such run >&2; exit 1"]), 1).unwrap_err();
        assert!(error.to_string().contains("no such run"), "{error}");
    }
}
