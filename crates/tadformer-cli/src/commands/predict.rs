//! `predict`.

use super::saved::open;
use crate::args::{PrecisionName, Predict, RawName};
use crate::progress::Counted;
use crate::say::{self, note, out};
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tadformer::{MapFiles, Predictor, RawFormat};
use tadformer_data::Task;
use tadformer_data::format::npy::NpyWriter;
use tadformer_data::format::picture::{self, Orientation};
use tadformer_weights::{SafetensorsWriter, StateDict};

/// Files of tensors, which a folder is searched for beside pictures.
const TENSORS: &str = "safetensors";

pub(crate) fn run(args: &Predict) -> Result<ExitCode> {
    let inputs = inputs(&args.input)?;
    let mut changes = args.set.clone();
    changes.extend(args.precision.map(PrecisionName::change));
    let mut predictor = open(&args.run, args.weights.as_deref(), changes)?;
    predictor.pack()?;
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make the folder `{}`", args.output.display()))?;
    let mut progress = Counted::new("predicting", inputs.len() as u64);
    let mut failed = 0;
    for (done, (path, name)) in inputs.iter().enumerate() {
        // One bad picture among many should not lose the others.
        match predict(&predictor, path, name, args) {
            Ok(notes) => progress.aside(|| {
                notes.iter().for_each(|text| note!("note: `{}`: {text}", path.display()));
            }),
            Err(error) => {
                failed += 1;
                progress.aside(|| say::error(&error));
            }
        }
        progress.at(done as u64 + 1);
    }
    progress.finish();
    out!("{} of {} inputs are in `{}`.", inputs.len() - failed, inputs.len(), args.output.display())?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every input file with the name that its outputs get; folders are searched, names made unique.
fn inputs(paths: &[PathBuf]) -> Result<Vec<(PathBuf, OsString)>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries =
                std::fs::read_dir(path).with_context(|| format!("cannot list `{}`", path.display()))?;
            let mut found = Vec::new();
            let mut passed = Vec::new();
            for entry in entries {
                let file = entry.with_context(|| format!("cannot list `{}`", path.display()))?.path();
                let extension = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
                if !file.is_file() {
                    continue;
                }
                let wanted = extension == TENSORS || picture::EXTENSIONS.contains(&extension.as_str());
                let list = if wanted { &mut found } else { &mut passed };
                list.push(file);
            }
            if found.is_empty() {
                bail!(
                    "there is no picture in `{}`; looked for .{}, .{TENSORS}",
                    path.display(),
                    picture::EXTENSIONS.join(", .")
                );
            }
            if let Some(first) = passed.iter().min() {
                let name = first.file_name().unwrap_or_default().display();
                note!(
                    "note: {} other files in `{}` were passed over, the first of them `{name}`",
                    passed.len(),
                    path.display()
                );
            }
            found.sort();
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    let mut named: Vec<(PathBuf, OsString)> = Vec::with_capacity(files.len());
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_owned();
        let taken = |name: &OsStr| named.iter().any(|(_, other)| other == name);
        let numbered = |i: u32| {
            let mut name = stem.clone();
            name.push(format!("-{i}"));
            name
        };
        let name = if taken(&stem) {
            (2..).map(numbered).find(|name| !taken(name)).expect("some number is free")
        } else {
            stem
        };
        named.push((file, name));
    }
    Ok(named)
}

/// Writes what belongs to one input, and gives a sentence for everything that a file could not hold.
fn predict(predictor: &Predictor, path: &Path, name: &OsStr, args: &Predict) -> Result<Vec<String>> {
    let raw = args.raw.map(RawName::format);
    let context = || format!("`{}`", path.display());
    let is_tensor = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
    if is_tensor {
        let logits = predictor.logits(&image_tensor(path)?).with_context(context)?;
        write_logits(&args.output, name, raw.unwrap_or(RawFormat::Safetensors), &logits)?;
        return Ok(Vec::new());
    }
    let picture = picture::read(path, Orientation::Upright)?;
    MapFiles { folder: &args.output, name, raw }.write(predictor, &picture).with_context(context)
}

/// The normalised images of a safetensors file.
fn image_tensor(path: &Path) -> Result<Tensor> {
    let file = StateDict::read(path)?;
    let Some(image) = file.get("image") else {
        let names: Vec<&str> = file.iter().take(5).map(tadformer_weights::Tensor::name).collect();
        bail!("`{}` has no tensor `image`, only `{}`", path.display(), names.join("`, `"));
    };
    let shape = match *image.shape() {
        [b, 3, h, w] if ![b, h, w].contains(&0) => (b, 3, h, w),
        _ => bail!("`image` of `{}` has shape {:?}, expected (b, 3, h, w)", path.display(), image.shape()),
    };
    let values = image.to_finite_f32().with_context(|| format!("cannot predict `{}`", path.display()))?;
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Logits `(b, c, h, w)` as they are.
fn write_logits(folder: &Path, name: &OsStr, format: RawFormat, logits: &[(Task, Tensor)]) -> Result<()> {
    let path = |ending: &str| {
        let mut name = name.to_owned();
        name.push(ending);
        folder.join(name)
    };
    let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    match format {
        RawFormat::Safetensors => {
            let tensors: Vec<_> =
                logits.iter().map(|(task, tensor)| (task.name, tensor.dims().to_vec())).collect();
            let mut file = SafetensorsWriter::create(path(".safetensors"), &tensors)?;
            for (task, tensor) in logits {
                file.write(task.name, 0, &values(tensor)?)?;
            }
            file.finish()?;
        }
        RawFormat::Npy => {
            for (task, tensor) in logits {
                let mut file = NpyWriter::create(path(&format!("_{}.npy", task.name)), tensor.dims())?;
                file.write(0, &values(tensor)?)?;
                file.finish()?;
            }
        }
    }
    Ok(())
}
