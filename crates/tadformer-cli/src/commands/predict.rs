//! `predict`.

use super::saved::open;
use crate::args::{PrecisionName, Predict};
use crate::progress::counted;
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tadformer::Predictor;
use tadformer_data::draw::{Compared, compare, draw_map};
use tadformer_data::format::picture::{self, Orientation};
use tadformer_data::{Raster, Task, TaskSpec};
use tadformer_weights::StateDict;

/// Files that a folder is searched for.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "safetensors"];

pub(crate) fn run(args: &Predict) -> Result<ExitCode> {
    let inputs = inputs(&args.input)?;
    let mut changes = args.set.clone();
    changes.extend(args.precision.map(PrecisionName::change));
    let mut predictor = open(&args.run, args.weights.as_deref(), changes)?;
    predictor.pack()?;
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make the folder `{}`", args.output.display()))?;
    let bar = counted("predicting", inputs.len() as u64);
    let mut failed = 0;
    for (path, stem) in &inputs {
        // One bad picture among many should not lose the others.
        if let Err(error) = predict(&predictor, path, stem, args) {
            failed += 1;
            bar.suspend(|| eprintln!("error: {error:#}"));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{} of {} inputs are in `{}`.", inputs.len() - failed, inputs.len(), args.output.display());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every input file with the name that its outputs get; folders are searched, names made unique.
fn inputs(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries =
                std::fs::read_dir(path).with_context(|| format!("cannot list `{}`", path.display()))?;
            let mut found = Vec::new();
            for entry in entries {
                let file = entry.with_context(|| format!("cannot list `{}`", path.display()))?.path();
                let extension = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
                if file.is_file() && EXTENSIONS.contains(&extension.as_str()) {
                    found.push(file);
                }
            }
            if found.is_empty() {
                bail!("there is no picture in `{}`; looked for .{}", path.display(), EXTENSIONS.join(", ."));
            }
            found.sort();
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    let mut named: Vec<(PathBuf, String)> = Vec::with_capacity(files.len());
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let taken = |name: &str| named.iter().any(|(_, other)| other == name);
        let name = if taken(&stem) {
            (2..).map(|i| format!("{stem}-{i}")).find(|name| !taken(name)).expect("some number is free")
        } else {
            stem
        };
        named.push((file, name));
    }
    Ok(named)
}

fn predict(predictor: &Predictor, path: &Path, stem: &str, args: &Predict) -> Result<()> {
    let is_tensor = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
    if is_tensor {
        let logits =
            predictor.logits(&image_tensor(path)?).with_context(|| format!("`{}`", path.display()))?;
        return write_raw(&args.output.join(format!("{stem}.safetensors")), &logits);
    }
    let picture = picture::read(path, Orientation::Upright)?.to_raster();
    let context = || format!("`{}`", path.display());
    let maps = if args.raw {
        let logits = predictor.predict(&picture).with_context(context)?;
        let tensors: Vec<(Task, Tensor)> = logits
            .iter()
            .map(|(task, map)| {
                let shape = (1, map.channels, map.height, map.width);
                Ok((*task, Tensor::from_slice(&map.data, shape, &Device::Cpu)?))
            })
            .collect::<Result<_>>()?;
        write_raw(&args.output.join(format!("{stem}.safetensors")), &tensors)?;
        predictor.activate(&logits)?
    } else {
        predictor.maps(&picture).with_context(context)?
    };
    let maps: Vec<(&TaskSpec, &Raster)> = predictor.tasks().iter().zip(&maps).collect();
    let panel = || -> Result<()> {
        let compared: Vec<_> =
            maps.iter().map(|(spec, map)| Compared { spec, prediction: Some(map), label: None }).collect();
        Ok(compare(&picture, &compared)?.save_png(args.output.join(format!("{stem}_panel.png")))?)
    };
    let map = |(spec, map): &(&TaskSpec, &Raster)| -> Result<()> {
        Ok(draw_map(spec, map, None)?.save_png(args.output.join(format!("{stem}_{}.png", spec.task)))?)
    };
    // The panel is as large as all maps together.
    let (panel, maps) = rayon::join(panel, || maps.par_iter().try_for_each(map));
    panel.and(maps)
}

/// The normalised images of a safetensors file.
fn image_tensor(path: &Path) -> Result<Tensor> {
    let file = StateDict::read(path)?;
    let Some(image) = file.get("image") else {
        let names: Vec<&str> = file.iter().take(5).map(tadformer_weights::Tensor::name).collect();
        bail!("`{}` has no tensor `image`, only `{}`", path.display(), names.join("`, `"));
    };
    match *image.shape() {
        [b, 3, h, w] if b * h * w > 0 => Ok(Tensor::from_vec(image.to_f32(), (b, 3, h, w), &Device::Cpu)?),
        _ => bail!("`image` of `{}` has shape {:?}, expected (b, 3, h, w)", path.display(), image.shape()),
    }
}

fn write_raw(path: &Path, logits: &[(Task, Tensor)]) -> Result<()> {
    let mut file = StateDict::new();
    for (task, tensor) in logits {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        file.insert(tadformer_weights::Tensor::from_f32(task.name, tensor.dims().to_vec(), &values)?)?;
    }
    Ok(file.write_safetensors(path)?)
}
