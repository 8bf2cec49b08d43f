//! `cargo xtask ci`: what must hold of every commit, cheapest first.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::process::Command;

/// Check format, lints, documentation and the stated Rust version, then run the README's test command, then the tests of
/// numbers with narrower vectors and other numbers of threads
#[derive(Args)]
pub(crate) struct Arguments {}

/// The heading of the README under which the test command stands.
const HEADING: &str = "## Tests";

/// The tests of numbers, which no machine's way of adding up may decide.
const NUMBERS: &str = "cargo test --workspace --test golden* --test plain_swin --test training";

pub(crate) fn run() -> Result<()> {
    check_rust_version()?;
    step("cargo fmt --all --check", &[])?;
    step("cargo clippy --workspace --all-targets -- -D warnings", &[])?;
    step("cargo doc --workspace --no-deps", &[("RUSTDOCFLAGS", "-D warnings")])?;
    step(test_command(&read("README.md")?)?, &[])?;
    // That was with the widest vectors of this processor and a thread a core.
    for environment in [
        [("TADFORMER_SIMD", "avx2"), ("RAYON_NUM_THREADS", "1")],
        [("TADFORMER_SIMD", "baseline"), ("RAYON_NUM_THREADS", "3")],
    ] {
        step(NUMBERS, &environment)?;
    }
    Ok(())
}

/// Says whether this run shows that the stated `rust-version` compiles: its steps do where the toolchain is that version.
///
/// # Errors
/// A toolchain that is older than stated, or a README that states another version.
fn check_rust_version() -> Result<()> {
    let manifest = read("Cargo.toml")?;
    let stated = stated_version(&manifest)?;
    if !read("README.md")?.contains(&format!("Rust {stated} or later")) {
        bail!("`README.md` does not say `Rust {stated} or later`, the `rust-version` of `Cargo.toml`");
    }
    let output = Command::new("rustc").arg("--version").output().context("cannot start `rustc`")?;
    let found = String::from_utf8_lossy(&output.stdout);
    let found = found.split_whitespace().nth(1).context("`rustc --version` says no version")?.to_owned();
    if minor(&found)? < minor(stated)? {
        bail!("this is Rust {found}, and `Cargo.toml` needs {stated}");
    }
    if minor(&found)? == minor(stated)? {
        println!("── Rust {found}, the oldest that is supported: what follows shows that it compiles");
    } else {
        println!("── Rust {found}: that {stated} compiles too is not shown by this run");
    }
    Ok(())
}

/// The `rust-version` of the workspace.
fn stated_version(manifest: &str) -> Result<&str> {
    let line = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \""));
    line.and_then(|rest| rest.strip_suffix('"')).context("`Cargo.toml` has no line `rust-version = \"…\"`")
}

/// Major and minor version.
fn minor(version: &str) -> Result<(u32, u32)> {
    let mut parts = version.split(['.', '-']).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("`{version}` is no version of Rust"),
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{path}`; run this in the project's root"))
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
    fn versions_of_rust_are_compared_by_their_numbers() {
        assert_eq!(stated_version("[workspace.package]\nrust-version = \"1.94\"\n").unwrap(), "1.94");
        let message = stated_version("edition = \"2024\"").unwrap_err().to_string();
        assert!(message.contains("no line `rust-version"), "{message}");
        assert!(minor("1.94.1").unwrap() == minor("1.94").unwrap());
        assert!(minor("1.100.0-nightly").unwrap() > minor("1.94").unwrap());
        let message = minor("stable").unwrap_err().to_string();
        assert!(message.contains("`stable` is no version"), "{message}");
    }

    #[test]
    fn the_test_command_is_the_one_in_the_readme() {
        let readme = "# X\n\n## Tests\n\nRun:\n\n```sh\ncargo test --workspace\n```\n";
        assert_eq!(test_command(readme).unwrap(), "cargo test --workspace");
        assert!(test_command("# X\n").is_err());
        assert!(test_command("## Tests\n```sh\nmake test\n```").is_err());
    }
}
