//! The command itself, as processes that are killed and that compete, against the bad Hub of `tadformer-weights`.

#[path = "../../crates/tadformer-weights/tests/hub_server/mod.rs"]
mod hub_server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hub_server::{COMMIT, Fault, Server, sha256};

/// 300 kB that no two positions of which look alike.
fn weights() -> Vec<u8> {
    (0..75_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn command(server: &Server, home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["download-weights", "swin-tiny"]);
    for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", home).env("HF_ENDPOINT", server.address());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn repo(home: &Path) -> PathBuf {
    home.join("hub/models--timm--swin_tiny_patch4_window7_224.ms_in1k")
}

/// The command succeeded, said where the file is, and the file is right.
fn check_arrived(output: &Output, home: &Path) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    let path = repo(home).join("snapshots").join(COMMIT).join("model.safetensors");
    assert_eq!(out.trim_end(), format!("swin-tiny  {}", path.display()));
    assert_eq!(std::fs::read(path).unwrap(), weights());
}

#[test]
fn a_killed_download_leaves_nothing_under_its_name_and_is_resumed() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(weights(), &[Fault::Drip]);
    let mut child = command(&server, home.path()).spawn().unwrap();
    let part = repo(home.path()).join("blobs").join(format!("{}.tadformer.part", sha256(&weights())));
    let since = Instant::now();
    while std::fs::metadata(&part).map_or(0, |found| found.len()) < 2048 {
        assert!(since.elapsed() < Duration::from_secs(60), "the transfer did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = std::fs::metadata(&part).unwrap().len();
    assert!(left < 300_000, "killed midway");
    assert!(!repo(home.path()).join("snapshots").exists());
    check_arrived(&command(&server, home.path()).output().unwrap(), home.path());
    assert!(server.requests().iter().any(|request| request.range == Some(format!("bytes={left}-"))));
}

#[test]
fn two_processes_make_one_transfer() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(weights(), &[Fault::Slow]);
    let children = [(); 2].map(|()| command(&server, home.path()).spawn().unwrap());
    for child in children {
        check_arrived(&child.wait_with_output().unwrap(), home.path());
    }
    assert_eq!(server.requests().iter().filter(|request| request.method == "GET").count(), 1);
}

#[test]
fn a_refusal_is_printed_and_ends_with_a_failure() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(weights(), &[Fault::WrongBytes]);
    let output = command(&server, home.path()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(
        message.contains("`swin-tiny` were not downloaded") && message.contains("its SHA-256 is"),
        "{message}"
    );
    assert!(!repo(home.path()).join("snapshots").exists());
}
