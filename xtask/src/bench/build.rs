//! The programs that are measured, built as users build them.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where everything is that a comparison starts.
#[derive(Debug)]
pub(crate) struct Programs {
    /// `tadformer-worker`, release build.
    pub(crate) worker: PathBuf,
    /// `tadformer-cli`, release build.
    pub(crate) program: PathBuf,
    /// For exported models.
    pub(crate) cache: PathBuf,
    /// `benches/python`.
    pub(crate) scripts: PathBuf,
    /// The Python interpreter.
    pub(crate) python: String,
}

impl Programs {
    /// Builds the release worker and program; `python` is the interpreter of the peers.
    ///
    /// # Errors
    /// A build that fails.
    pub(crate) fn build(python: &str) -> Result<Self> {
        eprintln!("building the release worker and program");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(&cargo)
            .args(["build", "--release", "--message-format=json-render-diagnostics"])
            .args(["-p", "tadformer-benches", "--bin", "tadformer-worker"])
            .args(["-p", "tadformer-cli", "--bin", "tadformer-cli"])
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start `{cargo} build`"))?;
        if !output.status.success() {
            bail!("the release build failed; its messages are above");
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let worker = executable(&messages, "tadformer-worker")?;
        let program = executable(&messages, "tadformer-cli")?;
        let cache = worker.parent().unwrap_or(Path::new(".")).join("peers");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in no folder")?;
        Ok(Self { worker, program, cache, scripts: root.join("benches/python"), python: python.to_owned() })
    }
}

/// Where cargo put the binary `name`.
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    artifacts
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo did not say where it put `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_where_cargo_says() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"a\"},\"executable\":null}\n",
            "not json\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"a\"},\"executable\":\"x/a\"}\n"
        );
        assert_eq!(executable(messages, "a").unwrap(), Path::new("x/a"));
        assert!(executable(messages, "b").is_err());
    }
}
