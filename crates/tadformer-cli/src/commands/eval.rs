//! `eval`.

use super::config::utf8;
use super::saved::open;
use crate::args::{Eval, PrecisionName};
use crate::progress::Counted;
use crate::say::out;
use anyhow::Result;
use std::process::ExitCode;
use tadformer::{Override, autocast, evaluate};
use tadformer_data::{Loader, Pipeline, Sampling};

pub(crate) fn run(args: &Eval) -> Result<ExitCode> {
    let mut changes = args.set.clone();
    if let Some(root) = &args.root {
        changes.push(Override::flag("--root", "data.root", utf8("--root", root)?));
    }
    changes.extend(args.precision.map(PrecisionName::change));
    let predictor = open(&args.run, args.weights.as_deref(), changes)?;
    let config = predictor.config();
    let (data, train) = (&config.data, &config.train);
    let set = data.open_val(config.seed)?;
    let of = set.len();
    let [height, width] = data.size;
    let sampling = Sampling::sequential(train.batch_size.min(of.max(1)));
    let loader = Loader::new(set, Pipeline::evaluation(height, width), sampling, data.workers)?;
    let mut progress = Counted::new("scoring", of as u64);
    let evaluation = autocast(config.precision, || {
        evaluate(predictor.model(), predictor.tasks(), &loader, 0, |done| progress.at(done as u64))
    });
    progress.finish();
    let evaluation = evaluation?;
    if args.json {
        out!("{}", serde_json::to_string_pretty(&evaluation.records())?)?;
    } else {
        out!("| task | score | value |\n| --- | --- | ---: |")?;
        for (task, scores) in &evaluation.scores {
            for score in scores {
                out!("| {task} | {} | {} |", score.name, score.figure())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
