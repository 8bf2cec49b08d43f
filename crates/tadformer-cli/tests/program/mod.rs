//! The program as a test runs it: in a folder of its own, with a time limit, and with what it said in every message.

#![allow(dead_code, reason = "each test program uses its own part")]

use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tadformer_weights::StateDict;

/// The smallest configuration that has every part.
pub(crate) const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny.toml");

/// What turns the recipe of a published data set into one of seconds.
pub(crate) const SMALL: [&str; 10] = [
    "--set",
    "model.backbone={embed_dim=16,depths=[1,1,1,1],num_heads=[1,2,4,8],window_size=4,mlp_ratio=2}",
    "--set",
    "model.decoder.channels=[6,8,10,12]",
    "--set",
    "data.size=[64,64]",
    "--rank",
    "4",
    "--batch-size",
    "2",
];

/// A folder for one test, with the program running in it.
pub(crate) struct Program {
    folder: tempfile::TempDir,
}

/// What the program said.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A folder with the run `run` of the tiny configuration.
    pub(crate) fn trained() -> Self {
        let program = Self::new();
        program.succeeds(&["finetune", "--config", TINY, "--output", "run", "--quiet"]);
        program
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of a miniature data set in the folder `name`.
    pub(crate) fn copy_of_data(&self, name: &str) {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tadformer-data/tests/data");
        copy(&data.join(name), &self.path(name));
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("`{name}`: {error}"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// The tensors of a file.
    pub(crate) fn tensors(&self, name: &str) -> StateDict {
        StateDict::read(self.path(name)).unwrap()
    }

    /// Names of what is in a folder, sorted.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Cuts a file off.
    pub(crate) fn truncate(&self, name: &str, bytes: usize) {
        let whole = self.read(name);
        assert!(bytes < whole.len(), "`{name}` has only {} bytes", whole.len());
        fs::write(self.path(name), &whole[..bytes]).unwrap();
    }

    /// The program with arguments, not yet started; no test may take longer than two minutes.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("tadformer-cli").unwrap();
        command.current_dir(self.folder.path()).env_remove("RUST_BACKTRACE").args(args);
        // A cache of the test's own, and no network unless a test says so.
        for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.path("hf")).env("HF_HUB_OFFLINE", "1");
        command.timeout(Duration::from_secs(120));
        command
    }

    /// Runs the program, which must succeed.
    #[track_caller]
    pub(crate) fn succeeds(&self, args: &[&str]) -> Said {
        let (code, said) = self.run(args);
        assert_eq!(code, Some(0), "{args:?}: {}", said.err);
        said
    }

    /// Runs the program, which must fail with a message that has all of `parts`.
    #[track_caller]
    pub(crate) fn refuses(&self, args: &[&str], parts: &[&str]) -> Said {
        let (code, said) = self.run(args);
        assert!(matches!(code, Some(1 | 2)), "{args:?}: exit code {code:?}: {}", said.err);
        assert!(said.err.contains("error: "), "{args:?}: {}", said.err);
        for part in parts {
            assert!(said.err.contains(part), "{args:?}: `{part}` is not in: {}", said.err);
        }
        said
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> (Option<i32>, Said) {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let said = Said { out: text(output.stdout), err: text(output.stderr) };
        assert!(!said.err.contains("panicked"), "{args:?}: {}", said.err);
        (output.status.code(), said)
    }
}

/// The lines of a log without the fields that tell times.
pub(crate) fn timeless(log: &str) -> Vec<Value> {
    let line = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        for field in ["seconds", "images_per_second", "waited"] {
            record.as_object_mut().unwrap().remove(field);
        }
        record
    };
    log.lines().map(line).collect()
}

/// Width and height that the header of a PNG gives.
pub(crate) fn png_size(bytes: &[u8]) -> (u32, u32) {
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}
