//! `params`.

use super::config::resolve;
use super::finetune::grouped;
use crate::args::Params;
use crate::say::out;
use anyhow::Result;
use std::process::ExitCode;
use tadformer::{GROUPS, ParameterCount, SavedModel};

pub(crate) fn run(args: &Params) -> Result<ExitCode> {
    let config = match &args.run {
        Some(run) => SavedModel::config_of(run, &args.config.set)?,
        None => resolve(&args.config, "pascal-context")?.0,
    };
    let count = ParameterCount::of_model(&config.model, &config.data.specs()?)?;
    if args.json {
        out!("{}", serde_json::to_string_pretty(&count)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    out!("| group | trainable |\n| --- | ---: |")?;
    for group in GROUPS {
        if let Some(numbers) = count.groups.get(group) {
            out!("| {group} | {} |", grouped(*numbers))?;
        }
    }
    let share = 100.0 * count.trainable as f64 / count.total as f64;
    out!("| **trainable** | **{}** |", grouped(count.trainable))?;
    out!("| all | {} |\n\n{share:.1} % of the parameters train.", grouped(count.total))?;
    Ok(ExitCode::SUCCESS)
}
