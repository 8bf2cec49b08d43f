//! Whom we are compared with, and how each is started.

use super::build::Programs;
use super::setup::{Setup, What};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One row of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// On the command line.
    pub(crate) name: &'static str,
    /// In the table.
    pub(crate) title: &'static str,
    engine: Engine,
    precision: &'static str,
    /// Whether glibc is told to keep freed memory.
    keeps_memory: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Ours,
    Torch,
    TimmPeft,
    OpenVino,
}

const fn peer(name: &'static str, title: &'static str, engine: Engine, precision: &'static str) -> Peer {
    Peer { name, title, engine, precision, keeps_memory: false }
}

/// The row that every comparison has.
pub(crate) const OURS: Peer = peer("ours", "ours, f32", Engine::Ours, "f32");

/// The rows that a comparison may have, in the order of the table.
pub(crate) const PEERS: [Peer; 7] = [
    peer("ours-bf16", "ours, bf16 products", Engine::Ours, "bf16"),
    peer("eager", "PyTorch eager, f32", Engine::Torch, "f32"),
    Peer {
        keeps_memory: true,
        ..peer("eager-malloc", "the same, malloc keeps memory", Engine::Torch, "f32")
    },
    peer("eager-bf16", "PyTorch bf16 autocast", Engine::Torch, "bf16"),
    peer("timm-peft", "timm + PEFT LoRA, f32 (a lesser model)", Engine::TimmPeft, "f32"),
    peer("openvino", "OpenVINO export, f32", Engine::OpenVino, "f32"),
    peer("openvino-bf16", "OpenVINO export, bf16", Engine::OpenVino, "bf16"),
];

/// glibc keeps what is freed: fewer page faults, a fair and stronger PyTorch.
const KEEP_MEMORY: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "8589934592"),
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
    ("MALLOC_TOP_PAD_", "268435456"),
];

const REQUIREMENTS: &str = "benches/python/requirements.txt";

impl Peer {
    /// The peers of these names; all for no names; none for `ours` alone.
    ///
    /// # Errors
    /// A name that no peer has.
    pub(crate) fn named(names: &[String]) -> Result<Vec<Self>> {
        if names.is_empty() {
            return Ok(PEERS.to_vec());
        }
        for name in names {
            if *name != OURS.name && PEERS.iter().all(|peer| peer.name != name) {
                let known: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
                bail!("no peer is called `{name}`; known are ours, {}", known.join(", "));
            }
        }
        Ok(PEERS.into_iter().filter(|peer| names.iter().any(|name| name == peer.name)).collect())
    }

    /// Whether it is a Python program.
    pub(crate) fn in_python(self) -> bool {
        self.engine != Engine::Ours
    }

    /// Whether the peer can do this at all.
    pub(crate) fn does(self, what: What) -> bool {
        what == What::Predict || self.engine != Engine::OpenVino
    }

    /// The command of its worker.
    ///
    /// # Errors
    /// A model that cannot be exported.
    pub(crate) fn command(self, setup: &Setup, programs: &Programs) -> Result<Command> {
        let threads = setup.threads.to_string();
        let mut command = match self.engine {
            Engine::Ours => Command::new(&programs.worker),
            Engine::Torch | Engine::TimmPeft | Engine::OpenVino => {
                let mut command = python(programs, "worker.py");
                command.env("OMP_NUM_THREADS", &threads);
                command
            }
        };
        command.args(setup.arguments()).args(["--precision", self.precision]);
        match self.engine {
            Engine::Ours => command.env("RAYON_NUM_THREADS", &threads),
            Engine::Torch => command.args(["--engine", "torch", "--threads", &threads]),
            Engine::TimmPeft => command.args(["--engine", "timm-peft", "--threads", &threads]),
            Engine::OpenVino => {
                let file = exported(setup, programs)?;
                command.args(["--engine", "openvino", "--threads", &threads, "--exported"]).arg(file)
            }
        };
        if self.keeps_memory {
            command.envs(KEEP_MEMORY);
        }
        Ok(command)
    }
}

/// A script of `benches/python`.
pub(crate) fn python(programs: &Programs, script: &str) -> Command {
    let mut command = Command::new(&programs.python);
    command.arg(programs.scripts.join(script));
    command
}

/// The peers of those names, and the programs that they and ours are, ready to start.
///
/// # Errors
/// An unknown name, a build that fails, or a Python without what the peers need.
pub(crate) fn prepare(names: &[String], python: &str) -> Result<(Vec<Peer>, Programs)> {
    let peers = Peer::named(names)?;
    let programs = Programs::build(python)?;
    if peers.iter().any(|peer| peer.in_python()) {
        check_python(&programs)?;
    }
    Ok((peers, programs))
}

/// Checks that Python and PyTorch are there.
///
/// # Errors
/// What is missing, and what to do about it.
fn check_python(programs: &Programs) -> Result<()> {
    let python = &programs.python;
    let advice = format!(
        "install what the peers need with `{python} -m pip install -r {REQUIREMENTS}`, name another Python with \
         `--python`, or measure without peers: `--peers ours`"
    );
    let output = Command::new(python)
        .args(["-c", "import torch"])
        .output()
        .with_context(|| format!("cannot start `{python}`; {advice}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{python}` cannot import PyTorch ({}); {advice}", said.lines().last().unwrap_or("no message"));
    }
    Ok(())
}

/// The exported model, made if it is not there or older than the model's source.
fn exported(setup: &Setup, programs: &Programs) -> Result<PathBuf> {
    let Setup { batch, size, rank, tasks, .. } = setup;
    let name = format!("openvino-b{batch}-{size}-r{rank}-{}.xml", tasks.join("+"));
    let file = programs.cache.join(name);
    if newer(&file, &programs.scripts.join("tadformer_torch.py")) {
        return Ok(file);
    }
    eprintln!("exporting the model to `{}`, which takes minutes", file.display());
    std::fs::create_dir_all(&programs.cache)
        .with_context(|| format!("cannot make the folder `{}`", programs.cache.display()))?;
    let output = python(programs, "export_openvino.py")
        .arg(&file)
        .args(setup.arguments())
        .args(["--threads", &setup.threads.to_string()])
        .output()
        .context("cannot start the export")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the export failed: {}", said.lines().last().unwrap_or("no message"));
    }
    Ok(file)
}

fn newer(file: &Path, than: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    matches!((changed(file), changed(than)), (Ok(file), Ok(than)) if file >= than)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(given: &[&str]) -> Result<Vec<&'static str>> {
        let given: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
        Ok(Peer::named(&given)?.iter().map(|peer| peer.name).collect())
    }

    #[test]
    fn peers_are_named_all_or_none() {
        assert_eq!(names(&[]).unwrap().len(), PEERS.len());
        assert_eq!(names(&["openvino", "eager"]).unwrap(), ["eager", "openvino"]);
        assert!(names(&["ours"]).unwrap().is_empty());
        let ours = Peer::named(&["ours-bf16".to_owned()]).unwrap();
        assert!(!ours[0].in_python() && PEERS.iter().filter(|peer| !peer.in_python()).count() == 1);
        let message = names(&["eagre"]).unwrap_err().to_string();
        assert!(message.contains("`eagre`") && message.contains("eager-malloc"), "{message}");
    }

    #[test]
    fn a_missing_python_is_explained() {
        let programs = Programs {
            worker: PathBuf::new(),
            program: PathBuf::new(),
            cache: PathBuf::new(),
            scripts: PathBuf::new(),
            python: "no-such-python".to_owned(),
        };
        let message = check_python(&programs).unwrap_err().to_string();
        assert!(
            message.contains("no-such-python") && message.contains("pip install -r benches"),
            "{message}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_not_newer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(newer(file.path(), file.path()));
        assert!(!newer(Path::new("no such file"), file.path()));
    }
}
