//! `eval`.

use super::saved::open;
use crate::args::{Eval, PrecisionName};
use crate::progress::counted;
use anyhow::Result;
use std::process::ExitCode;
use tadformer::{Override, autocast, evaluate};
use tadformer_data::{Loader, Pipeline, Sampling};

pub(crate) fn run(args: &Eval) -> Result<ExitCode> {
    let mut changes = args.set.clone();
    changes
        .extend(args.root.as_ref().map(|root| Override::new("data.root", root.to_string_lossy().as_ref())));
    changes.extend(args.precision.map(PrecisionName::change));
    let predictor = open(&args.run, args.weights.as_deref(), changes)?;
    let config = predictor.config();
    let (data, train) = (&config.data, &config.train);
    let set = data.open_val(config.seed)?;
    let of = set.len();
    let [height, width] = data.size;
    let sampling = Sampling::sequential(train.batch_size.min(of.max(1)));
    let loader = Loader::new(set, Pipeline::evaluation(height, width), sampling, data.workers)?;
    let bar = counted("scoring", of as u64);
    let evaluation = autocast(config.precision, || {
        evaluate(predictor.model(), predictor.tasks(), &loader, 0, |done| bar.set_position(done as u64))
    });
    bar.finish_and_clear();
    let evaluation = evaluation?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&evaluation.records())?);
    } else {
        println!("| task | score | value |\n| --- | --- | ---: |");
        for (task, scores) in &evaluation.scores {
            for score in scores {
                println!("| {task} | {} | {:.2} {} |", score.name, score.value, score.unit);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
