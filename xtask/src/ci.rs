//! `cargo xtask ci`: what must hold of every commit, cheapest first.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::process::Command;

/// Check format, lints and documentation, then run the README's test command, then the golden tests with narrower vectors
#[derive(Args)]
pub(crate) struct Arguments {}

/// The heading of the README under which the test command stands.
const HEADING: &str = "## Tests";

pub(crate) fn run() -> Result<()> {
    step("cargo fmt --all --check", &[])?;
    step("cargo clippy --workspace --all-targets -- -D warnings", &[])?;
    step("cargo doc --workspace --no-deps", &[("RUSTDOCFLAGS", "-D warnings")])?;
    let readme = std::fs::read_to_string("README.md")
        .context("cannot read `README.md`; run this in the project's root")?;
    step(test_command(&readme)?, &[])?;
    // That was with the widest vectors of this processor; the published numbers must come from the narrower ones too.
    for level in ["avx2", "baseline"] {
        step("cargo test --workspace --test golden*", &[("TADFORMER_SIMD", level)])?;
    }
    Ok(())
}

fn step(command: &str, environment: &[(&str, &str)]) -> Result<()> {
    let settings: String = environment.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    println!("── {settings}{command}");
    let mut words = command.split_whitespace();
    let program = words.next().context("an empty command")?;
    let status = Command::new(program)
        .args(words)
        .envs(environment.iter().copied())
        .status()
        .with_context(|| format!("cannot start `{command}`"))?;
    if !status.success() {
        bail!("`{command}` failed");
    }
    Ok(())
}

/// The first line of the first code block under [`HEADING`].
fn test_command(readme: &str) -> Result<&str> {
    let section = readme.split_once(HEADING).map(|(_, section)| section);
    let block = section.and_then(|section| section.split_once("```")).map(|(_, block)| block);
    let command = block.and_then(|block| block.lines().nth(1)).map(str::trim);
    command
        .filter(|line| line.starts_with("cargo "))
        .with_context(|| format!("`README.md` has no `cargo …` line in a code block under `{HEADING}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_command_is_the_one_in_the_readme() {
        let readme = "# X\n\n## Tests\n\nRun:\n\n```sh\ncargo test --workspace\n```\n";
        assert_eq!(test_command(readme).unwrap(), "cargo test --workspace");
        assert!(test_command("# X\n").is_err());
        assert!(test_command("## Tests\n```sh\nmake test\n```").is_err());
    }
}
