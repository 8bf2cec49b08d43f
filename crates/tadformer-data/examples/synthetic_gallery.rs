//! Writes panels of the synthetic data set, a sample with all its labels each, to a folder.
//!
//! `cargo run --release -p tadformer-data --example synthetic_gallery -- FOLDER [SAMPLES] [HEIGHTxWIDTH] [main|pretrain]`

use std::error::Error;
use std::path::PathBuf;

use tadformer_data::draw::{Compared, Picture, compare};
use tadformer_data::synthetic::{Domain, Split, Synthetic, SyntheticConfig, spec};
use tadformer_data::{Dataset, Task};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("name a folder to write to")?);
    let samples = args.next().map_or(Ok(12), |n| n.parse())?;
    let size = args.next().unwrap_or_else(|| "224x224".to_owned());
    let (height, width) = size.split_once('x').ok_or("a size is HEIGHTxWIDTH")?;
    let (height, width) = (height.parse()?, width.parse()?);
    let domain = match args.next().as_deref() {
        None | Some("main") => Domain::Main,
        Some("pretrain") => Domain::Pretrain,
        Some(other) => return Err(format!("unknown domain `{other}`; expected `main` or `pretrain`").into()),
    };
    std::fs::create_dir_all(&folder)?;
    let tasks: Vec<Task> = Task::all().filter(|task| spec(domain, *task).is_ok()).collect();
    let config = SyntheticConfig { seed: 1, domain, split: Split::Train, samples, height, width };
    let data = Synthetic::new(config, &tasks)?;
    for index in 0..samples {
        let sample = data.load(index)?;
        let entries: Vec<Compared<'_>> = data
            .tasks()
            .iter()
            .map(|spec| Compared { spec, prediction: None, label: sample.label(spec.task) })
            .collect();
        compare(&Picture::of_image(&sample.image)?, &entries)?
            .save_png(folder.join(format!("{}.png", sample.id)))?;
    }
    Ok(())
}
