//! What the program says: results on the standard output, everything else on the standard error.
//!
//! `println!` and `eprintln!` panic where nothing can be written. A full disk behind `> file` must be said and must fail the
//! command; a reader that has gone (`… | head`) ends it quietly; and a terminal that was closed must not end a training.

use anyhow::{Context, Result};
use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// `println!` for the result of a command, `out!("…")?`: see [`write_result`].
macro_rules! out {
    ($($text:tt)*) => { $crate::say::write_result(format_args!($($text)*)) };
}

/// `eprintln!` for everything else, `note!("…")`: see [`write_note`].
macro_rules! note {
    ($($text:tt)*) => { $crate::say::write_note(format_args!($($text)*)) };
}

pub(crate) use {note, out};

/// Writes a result and a line end to the standard output.
///
/// # Errors
/// A disk that is full. If nobody reads on, the process ends here.
pub(crate) fn write_result(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => end_as_if_by_a_closed_pipe(),
        written => written.context("cannot write to the standard output"),
    }
}

/// Writes a line to the standard error; if nobody can read it, nobody does.
pub(crate) fn write_note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Ends the process as `… | head` ends other programs when nobody reads on: by the signal, without a word.
///
/// The signal is ignored until then: a reader of the standard error that goes away must not end a training.
pub(crate) fn end_as_if_by_a_closed_pipe() -> ! {
    #[cfg(unix)]
    // SAFETY: sets the default action of a signal, and sends it to this process.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::raise(libc::SIGPIPE);
    }
    std::process::exit(1)
}

/// Writes an error with all its causes. What is quoted in it may be a whole file in one line, and is shortened.
pub(crate) fn error(error: &anyhow::Error) {
    note!("error: {}", shortened(&format!("{error:#}")));
}

/// Most characters of a quotation in an error.
const MOST: usize = 1000;

/// How many of them are left at either end of a longer one.
const ENDS: usize = 200;

/// `text` with the middle of what is quoted in it, between backticks, left out where that is very long.
fn shortened(text: &str) -> String {
    let shorten = |(i, part): (usize, &str)| {
        let count = part.chars().count();
        if i % 2 == 0 || count <= MOST {
            return part.to_owned();
        }
        let start: String = part.chars().take(ENDS).collect();
        let end: String = part.chars().skip(count - ENDS).collect();
        format!("{start}… {} characters …{end}", count - 2 * ENDS)
    };
    text.split('`').enumerate().map(shorten).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_quotations_are_shortened_and_lists_are_not() {
        let long = "x".repeat(100_000);
        let short = shortened(&format!("line `{long}` of `file.toml`"));
        assert!(short.len() < 500, "{short}");
        assert!(short.contains("x… 99600 characters …x") && short.ends_with("of `file.toml`"), "{short}");
        let list = "`a/name`, ".repeat(5000);
        assert_eq!(shortened(&list), list);
    }
}
