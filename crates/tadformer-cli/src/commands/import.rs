//! `import`.

use crate::args::Import;
use crate::say::{note, out};
use anyhow::Result;
use std::process::ExitCode;
use tadformer::import;

pub(crate) fn run(args: &Import) -> Result<ExitCode> {
    let imported = import(&args.checkpoint, args.config.as_deref(), &args.set, &args.output)?;
    for note in &imported.notes {
        note!("note: {note}");
    }
    out!(
        "{} tensors, after epoch {}: the run is in `{}`.",
        imported.tensors,
        imported.epoch,
        args.output.display()
    )?;
    Ok(ExitCode::SUCCESS)
}
