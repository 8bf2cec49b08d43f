//! What `bf16` products cost in accuracy: a Swin-T's maps in both precisions.
//!
//! ```sh
//! cargo run --release --package tadformer --example bf16_error
//! ```
//!
//! The weights are the ones of the golden tests: a formula of their names, with every low-rank update at work.

use candle_core::{D, DType, Tensor};
use tadformer::config::ModelConfig;
use tadformer::{MultiTaskModel, autocast};
use tadformer_data::{EDGE_TOLERANCE, Task, TaskSpec};
use tadformer_ops::testing::{GoldenStore, named_tensor};
use tadformer_ops::{Mode, Precision, no_grad, simd_level};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let tasks = [("semseg", 21), ("normals", 3), ("sal", 1), ("human_parts", 7)];
    let specs: Vec<TaskSpec> = tasks
        .into_iter()
        .filter_map(|(name, outputs)| {
            let task = Task::from_name(name)?;
            Some(TaskSpec {
                task,
                outputs,
                classes: Vec::new(),
                palette: Vec::new(),
                edge_tolerance: EDGE_TOLERANCE,
            })
        })
        .collect();
    println!("Swin-T, rank 64, {}:\n", simd_level().name());
    println!(
        "| size | task | error, of the norm | largest, of the largest logit | pixels of another class |"
    );
    println!("| ---: | --- | ---: | ---: | ---: |");
    for size in [224, 448] {
        let store = GoldenStore::new();
        let model = MultiTaskModel::new(&ModelConfig::default(), &specs, &store.params())?;
        let image = named_tensor("input:image", (1, 3, size, size), 0.0, 1.732_050_8)?;
        let maps =
            |precision: Precision| autocast(precision, || no_grad(|| model.forward(&image, &mut Mode::Eval)));
        let (exact, rounded) = (maps(Precision::F32)?, maps(Precision::Bf16)?);
        for ((task, exact), (_, rounded)) in exact.iter().zip(&rounded) {
            let off = (rounded - exact)?;
            let error = number(&off.sqr()?.sum_all()?)?.sqrt() / number(&exact.sqr()?.sum_all()?)?.sqrt();
            let largest = largest(&off)? / largest(exact)?;
            let classes = if exact.dims()[1] > 3 {
                let differ = exact.argmax(1)?.ne(&rounded.argmax(1)?)?.to_dtype(DType::F32)?;
                format!("{:.2} %", 100.0 * number(&differ.mean_all()?)?)
            } else {
                String::new()
            };
            println!("| {size} | {task} | {error:.1e} | {largest:.1e} | {classes} |");
        }
    }
    Ok(())
}

fn number(x: &Tensor) -> Result<f32> {
    Ok(x.to_scalar()?)
}

fn largest(x: &Tensor) -> Result<f32> {
    number(&x.flatten_all()?.abs()?.max(D::Minus1)?)
}
