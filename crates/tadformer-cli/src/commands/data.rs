//! `data list`, `data check`, `data show`.

use super::config::resolve;
use crate::args::{Data, DataCheck, DataShow};
use crate::progress::Counted;
use crate::say::out;
use anyhow::{Context, Result};
use std::process::ExitCode;
use tadformer_data::draw::{Compared, Picture, compare};
use tadformer_data::{
    Pipeline, Sample, Task, TaskSpec, augmentation_stream, check, dataset, denormalize, did_you_mean,
};

pub(crate) fn run(command: &Data) -> Result<ExitCode> {
    match command {
        Data::List => list(),
        Data::Check(args) => check_set(args),
        Data::Show(args) => show(args),
    }
}

fn list() -> Result<ExitCode> {
    for set in dataset::list() {
        let tasks: Vec<_> = set.tasks.iter().map(|task| task.task.as_str()).collect();
        out!("{}: {}\n  tasks: {}", set.name, set.title, tasks.join(", "))?;
        for (what, text) in [("licence", &set.licence), ("obtain", &set.obtain)] {
            if !text.is_empty() {
                out!("  {what}: {}", text.trim().replace('\n', "\n    "))?;
            }
        }
        for sum in &set.checksums {
            out!("  {} of {}: {}", sum.function, sum.file, sum.value)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check_set(args: &DataCheck) -> Result<ExitCode> {
    let descriptor = dataset::descriptor(&args.data, &args.root)?;
    let tasks: Vec<Task> = args
        .tasks
        .iter()
        .map(|name| {
            let known = || {
                let (known, nearest) = (Task::names(), did_you_mean(name, Task::names()));
                format!("`--tasks {name}`: expected some of `{}`{nearest}", known.join("`, `"))
            };
            Task::from_name(name).with_context(known)
        })
        .collect::<Result<_>>()?;
    let splits: Vec<&str> = args.splits.iter().map(String::as_str).collect();
    let mut progress = Counted::new("checking", 0);
    let report = check::check(&descriptor, &args.root, &splits, &tasks, args.list, |split, done, of| {
        progress.name(format!("checking {split}"), of as u64);
        progress.at(done as u64);
    });
    progress.finish();
    let report = report?;
    if args.json {
        out!("{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        out!("{report}")?;
    }
    Ok(if report.problem_count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(args: &DataShow) -> Result<ExitCode> {
    let (config, _) = resolve(&args.config, "quickstart")?;
    let set = config.data.open_train(config.seed)?;
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make the folder `{}`", args.output.display()))?;
    let [height, width] = config.data.size;
    let pipeline = Pipeline::training(config.data.train_augmentation(), height, width);
    for index in 0..args.samples.min(set.len()) {
        let sample = set.load(index)?;
        let mut rng = augmentation_stream(config.seed, 0, index);
        let mut augmented = pipeline.apply(sample.clone(), &mut rng)?;
        denormalize(&mut augmented.image);
        let name: String = sample.id.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        for (kind, sample) in [("as_stored", &sample), ("augmented", &augmented)] {
            draw(sample, set.tasks())?.save_png(args.output.join(format!("{name}_{kind}.png")))?;
        }
    }
    out!("{} samples are in `{}`.", args.samples.min(set.len()), args.output.display())?;
    Ok(ExitCode::SUCCESS)
}

fn draw(sample: &Sample, specs: &[TaskSpec]) -> Result<Picture> {
    let compared: Vec<Compared<'_>> = specs
        .iter()
        .filter_map(|spec| Some(Compared { spec, prediction: None, label: Some(sample.label(spec.task)?) }))
        .collect();
    Ok(compare(&Picture::of_image(&sample.image)?, &compared)?)
}
