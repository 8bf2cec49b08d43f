//! `export`.

use super::saved::open;
use crate::args::{self, What};
use crate::say::out;
use anyhow::Result;
use std::process::ExitCode;
use tadformer::Export;

pub(crate) fn run(args: &args::Export) -> Result<ExitCode> {
    let what = match args.what {
        What::Adapter => Export::Adapter,
        What::Full => Export::Full,
        What::Backbone => Export::Backbone,
        What::Merged => Export::Merged,
    };
    let model = open(&args.run, args.weights.as_deref(), Vec::new())?;
    what.write(&model, &args.output)?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&args.output)? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
    }
    files.sort();
    out!("In `{}`:", args.output.display())?;
    for (name, bytes) in files {
        out!("  {name}  {:.2} MB", bytes as f64 / 1e6)?;
    }
    Ok(ExitCode::SUCCESS)
}
