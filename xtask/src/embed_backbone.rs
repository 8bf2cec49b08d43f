//! `cargo xtask embed-backbone`: the backbone of a run as the small file inside the program.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tadformer_weights::names::{Naming, unmap};
use tadformer_weights::{Dtype, StateDict, Tensor};

/// What the file may weigh: 2 MB.
const MOST_BYTES: u64 = 2_000_000;

/// Write the backbone of a fully trained run in half precision, for the program to carry
///
/// Takes the run's best checkpoint, leaves out decoders and optimiser, and gives the tensors timm's names.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "crates/tadformer/assets/swin-embedded.safetensors")]
    output: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let checkpoint = arguments.run.join("checkpoints").join("best.safetensors");
    let backbone = halved(&unmap(&backbone(&StateDict::read(&checkpoint)?, &checkpoint)?, Naming::Timm)?)?;
    backbone.write_safetensors(&arguments.output)?;
    let path = arguments.output.display();
    let bytes =
        std::fs::metadata(&arguments.output).with_context(|| format!("cannot look at `{path}`"))?.len();
    if bytes > MOST_BYTES {
        bail!("`{path}` has {bytes} bytes, expected at most {MOST_BYTES}; train a smaller backbone");
    }
    println!("{} tensors, {bytes} bytes, in `{path}`", backbone.len());
    Ok(())
}

/// The backbone's tensors alone.
fn backbone(checkpoint: &StateDict, path: &Path) -> Result<StateDict> {
    let mut dict = StateDict::new();
    for tensor in checkpoint.iter().filter(|tensor| tensor.name().starts_with("backbone.")) {
        if tensor.name().contains("lora_") || tensor.name().contains("prompt") {
            bail!(
                "`{}` has the update `{}` on its backbone; only a run with `model.method = \"full\"` has a whole backbone",
                path.display(),
                tensor.name()
            );
        }
        dict.insert(tensor.clone())?;
    }
    if dict.get("backbone.patch_embed.proj.weight").is_none() {
        bail!("`{}` has no `backbone.patch_embed.proj.weight`; was its backbone frozen?", path.display());
    }
    Ok(dict)
}

/// Every number rounded to the nearest of half precision; none may become infinite.
fn halved(dict: &StateDict) -> Result<StateDict> {
    let mut halves = StateDict::new();
    for tensor in dict {
        let mut bytes = Vec::with_capacity(tensor.bytes().len() / 2);
        for value in tensor.to_f32() {
            let half = half::f16::from_f32(value);
            if !half.is_finite() {
                bail!("`{}` has the value {value}, which half precision cannot hold", tensor.name());
            }
            bytes.extend(half.to_le_bytes());
        }
        halves.insert(Tensor::new(tensor.name(), Dtype::F16, tensor.shape().to_vec(), bytes)?)?;
    }
    Ok(halves)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(tensors: &[(&str, f32)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
        let mut dict = StateDict::new();
        for (name, value) in tensors {
            dict.insert(Tensor::from_f32(*name, vec![1], &[*value]).unwrap()).unwrap();
        }
        dict.write_safetensors(folder.path().join("checkpoints/best.safetensors")).unwrap();
        folder
    }

    fn embed(folder: &tempfile::TempDir) -> Result<StateDict> {
        let output = folder.path().join("embedded.safetensors");
        run(&Arguments { run: folder.path().to_owned(), output: output.clone() })?;
        Ok(StateDict::read(output)?)
    }

    #[test]
    fn a_backbone_is_written_in_half_precision_under_published_names() {
        let folder = run_with(&[
            ("backbone.patch_embed.proj.weight", 0.1),
            ("backbone.layers.0.blocks.0.attn.qkv.linear.weight", 0.5),
            ("backbone.layers.0.downsample.norm.weight", 2.0),
            ("decoders.decoders.depth.weight", 3.0),
            ("optimizer.backbone.patch_embed.proj.weight.m", 4.0),
        ]);
        let dict = embed(&folder).unwrap();
        let mut names: Vec<_> = dict.iter().map(Tensor::name).collect();
        names.sort_unstable();
        let expected = [
            "layers.0.blocks.0.attn.qkv.weight",
            "layers.1.downsample.norm.weight",
            "patch_embed.proj.weight",
        ];
        assert_eq!(names, expected);
        let weight = dict.get("patch_embed.proj.weight").unwrap();
        assert_eq!((weight.dtype(), weight.to_f32()), (Dtype::F16, vec![half::f16::from_f32(0.1).to_f32()]));
    }

    #[test]
    fn a_run_without_a_whole_backbone_is_refused() {
        let message = |tensors: &[(&str, f32)]| embed(&run_with(tensors)).unwrap_err().to_string();
        assert!(message(&[("decoders.x", 1.0)]).contains("was its backbone frozen"));
        let patch = ("backbone.patch_embed.proj.weight", 1.0);
        assert!(message(&[patch, ("backbone.task_prompts", 1.0)]).contains("model.method"));
        assert!(message(&[("backbone.patch_embed.proj.weight", 1e6)]).contains("half precision"));
    }
}
