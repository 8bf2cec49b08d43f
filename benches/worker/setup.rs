//! What is measured, in the words that every worker understands.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use clap::{Args, ValueEnum};
use tadformer::config::{AdaptationConfig, DataConfig, ModelConfig, TrainConfig};
use tadformer::{Config, Override, Precision, Session};
use tadformer_benches::normal;
use tadformer_data::{IGNORE, LabelKind, Task, TaskSpec};
use tadformer_ops::Rng;

/// Swin-T with HRNet heads at some size.
#[derive(Args)]
pub(crate) struct Setup {
    /// Images a step
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Rows and columns of an image
    #[arg(long, default_value_t = 448)]
    size: usize,
    /// Rank of the low-rank updates
    #[arg(long, default_value_t = 64)]
    rank: usize,
    /// Tasks of PASCAL-Context
    #[arg(long, value_delimiter = ',', default_value = "semseg,normals,sal,human_parts")]
    tasks: Vec<String>,
    /// Stages of the backbone whose blocks run again in the backward, for example `0,1`
    #[arg(long, value_delimiter = ',')]
    grad_checkpointing: Vec<usize>,
    /// What operands of the linear layers' products are rounded to
    #[arg(long, value_enum, default_value_t = PrecisionName::F32)]
    precision: PrecisionName,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    F32,
    Bf16,
}

impl Setup {
    /// The paper's recipe with these sizes: drop path 0.2, dropout 0.05 on the low-rank updates.
    pub(crate) fn config(&self) -> Result<Config> {
        let adaptation = AdaptationConfig { rank: self.rank, ..AdaptationConfig::default() };
        let data = DataConfig {
            name: "pascal-context".to_owned(),
            tasks: self.tasks.clone(),
            size: [self.size; 2],
            ..DataConfig::default()
        };
        let model = ModelConfig { adaptation, ..ModelConfig::default() };
        let train =
            TrainConfig { grad_checkpointing: self.grad_checkpointing.clone(), ..TrainConfig::default() };
        let config = Config { model, data, train, precision: self.precision(), ..Config::default() };
        // Reading it back checks every value.
        let none: [Override; 0] = [];
        Ok(Config::parse(&config.to_toml()?, "the worker's arguments", &none)?)
    }

    /// The precision that the work is done in.
    pub(crate) fn precision(&self) -> Precision {
        match self.precision {
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Bf16 => Precision::Bf16,
        }
    }

    pub(crate) fn session(&self) -> Result<Session> {
        Session::fresh(self.config()?).context("cannot build the model")
    }

    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Normalised images `(b, 3, size, size)`, the same in every run.
    pub(crate) fn images(&self) -> Result<Tensor> {
        Ok(normal("image", &[self.batch, 3, self.size, self.size])?)
    }

    /// Labels of every task, the same in every run; an eighth of the pixels is ignored where a task allows it.
    pub(crate) fn labels(&self, specs: &[TaskSpec]) -> Result<Vec<(Task, Tensor)>> {
        specs.iter().map(|spec| Ok((spec.task, self.label(spec)?))).collect()
    }

    fn label(&self, spec: &TaskSpec) -> Result<Tensor> {
        let (channels, area) = (spec.task.label_channels(), self.size * self.size);
        let mut rng = Rng::named(0, spec.task.name, 1);
        let mut values = vec![0f32; self.batch * channels * area];
        for sample in values.chunks_exact_mut(channels * area) {
            for pixel in 0..area {
                let mut set = |channel: usize, value: f64| sample[channel * area + pixel] = value as f32;
                let ignored = rng.bernoulli(0.125);
                match spec.task.label {
                    LabelKind::Binary => set(0, f64::from(u8::from(rng.bernoulli(0.5)))),
                    _ if ignored => (0..channels).for_each(|channel| set(channel, f64::from(IGNORE))),
                    LabelKind::Classes => set(0, rng.below(spec.outputs) as f64),
                    LabelKind::Metres => set(0, rng.range(0.5, 5.5)),
                    LabelKind::UnitVector => {
                        let vector = [rng.normal(), rng.normal(), rng.normal()];
                        let norm = vector.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
                        vector.iter().enumerate().for_each(|(channel, v)| set(channel, v / norm));
                    }
                }
            }
        }
        let shape = (self.batch, channels, self.size, self.size);
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}
