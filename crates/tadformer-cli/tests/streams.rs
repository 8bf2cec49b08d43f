//! What the program does when nobody can read what it says, and what it never says.

mod program;

use program::{Program, TINY};
use std::process::Stdio;

#[cfg(target_os = "linux")]
fn full() -> Stdio {
    Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap())
}

/// The program with arguments, its output going elsewhere.
fn command(program: &Program, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("tadformer-cli"));
    command.current_dir(program.path("")).args(args);
    command
}

#[cfg(target_os = "linux")]
#[test]
fn a_training_whose_progress_cannot_be_written_goes_on() {
    let program = Program::new();
    let args = ["finetune", "--config", TINY, "--output", "run"];
    let said = command(&program, &args).stderr(full()).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert!(String::from_utf8(said.stdout).unwrap().contains("| semseg |"));
    assert!(program.path("run/checkpoints/last.safetensors").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_fails_its_command_with_a_word() {
    let program = Program::new();
    for args in [
        &["params", "--config", TINY, "--json"][..],
        &["data", "list"],
        &["finetune", "--help"],
        &["finetune", "--config", TINY, "--output", "run", "--quiet"],
        &["eval", "--run", "run"],
        &["predict", "--run", "run", "--input", "run/panels", "--output", "maps"],
        &["export", "--run", "run", "--what", "adapter", "--output", "adapter"],
        &["data", "show", "--config", TINY, "--samples", "1", "--output", "shown"],
    ] {
        let said = command(&program, args).stdout(full()).output().unwrap();
        let err = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(1), "{args:?}: {err}");
        assert!(err.contains("error: cannot write to the standard output: No space left"), "{args:?}: {err}");
    }
    // What was done before is done.
    assert!(program.path("run/checkpoints/last.safetensors").exists());
    assert!(program.path("adapter/adapter_config.json").exists());
}

#[cfg(unix)]
#[test]
fn a_reader_that_is_gone_ends_the_program_without_a_word() {
    use std::os::unix::process::ExitStatusExt;
    let program = Program::new();
    for args in [&["data", "list"][..], &["--help"], &["params", "--config", TINY]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = command(&program, args).stdout(writer).output().unwrap();
        assert_eq!(said.status.signal(), Some(libc::SIGPIPE), "{args:?}: {said:?}");
        assert!(said.stderr.is_empty(), "{args:?}: {said:?}");
    }
    // A reader of the progress alone takes nothing with it.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let args = ["finetune", "--config", TINY, "--output", "run"];
    let said = command(&program, &args).stderr(writer).output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

#[test]
fn errors_have_no_backtrace() {
    let program = Program::new();
    for args in [
        &["finetune", "--config", TINY, "--set", "train.epochs=many"][..],
        &["predict", "--run", "nowhere", "--input", "x.png", "--output", "maps"],
        &["finetune", "--config", TINY, "--set", "data.size=[32,32]", "--weights", "nowhere.pth"],
    ] {
        let said = command(&program, args).env("RUST_BACKTRACE", "1").output().unwrap();
        let err = String::from_utf8(said.stderr).unwrap();
        assert!(!said.status.success() && err.starts_with("error: "), "{args:?}: {err}");
        assert!(!err.contains("0: ") && !err.contains("stack backtrace"), "{args:?}: {err}");
    }
}

#[test]
fn progress_without_a_bar_is_told_in_lines() {
    let program = Program::new();
    let said = program.succeeds(&["finetune", "--config", TINY, "--output", "run"]);
    let lines: Vec<&str> = said.err.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("scoring 1/4")), "{}", said.err);
    let evaluated = lines.iter().find(|line| line.starts_with("after epoch 0: ")).unwrap();
    // A unit stands apart from its number.
    assert!(
        evaluated.contains(" degrees") && evaluated.contains(" %") && evaluated.contains(" m"),
        "{evaluated}"
    );
    let glued = |pair: &[char]| pair[0].is_ascii_digit() && (pair[1].is_ascii_alphabetic() || pair[1] == '%');
    assert!(!evaluated.chars().collect::<Vec<_>>().windows(2).any(glued), "{evaluated}");
    assert!(!said.err.contains("0 s left |") && !said.err.contains("0/0"), "{}", said.err);
    std::fs::create_dir(program.path("pictures")).unwrap();
    tadformer_data::draw::Picture::filled(9, 9, [1; 3]).save_png(program.path("pictures/a.png")).unwrap();
    let said = program.succeeds(&["predict", "--run", "run", "--input", "pictures", "--output", "maps"]);
    assert_eq!(said.err, "predicting 1/1\n");
    let table = program.succeeds(&["eval", "--run", "run"]).out;
    assert!(table.contains(" degrees |"), "{table}");
}
