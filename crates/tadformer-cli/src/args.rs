//! The arguments.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use tadformer::{Override, Precision, RawFormat};

/// TADFormer: one frozen vision backbone, many dense tasks.
///
/// Fine-tunes a Swin Transformer for several dense tasks at once by training a tenth of its parameters.
#[derive(Debug, Parser)]
#[command(name = "tadformer-cli", version, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a multi-task model and show what came out
    #[command(after_help = "Examples:
  tadformer-cli finetune
      the quickstart: six tasks on synthetic scenes, about five minutes on two cores
  tadformer-cli finetune --data pascal-context --root PASCAL_MT --weights swin-tiny --rank 16
      the paper's recipe with its smallest rank
  tadformer-cli finetune --config my.toml --set train.schedule.base_lr=1e-3 --output runs/higher-rate
  tadformer-cli finetune --from runs/imported --root PASCAL_MT --epochs 20
      further, from the weights of another run or of an exported adapter
  tadformer-cli finetune --resume runs/quickstart-001")]
    Finetune(Finetune),
    /// Score the model of a run on its validation split
    #[command(after_help = "Examples:
  tadformer-cli eval --run runs/quickstart-001
  tadformer-cli eval --run runs/quickstart-001 --json
  tadformer-cli eval --run runs/quickstart-001 --precision bf16
  tadformer-cli eval --run runs/pascal-context-001 --root /other/place/PASCAL_MT")]
    Eval(Eval),
    /// Predict every task's map for pictures of any size
    #[command(after_help = "Examples:
  tadformer-cli predict --run runs/quickstart-001 --input photo.jpg --output maps
  tadformer-cli predict --run runs/quickstart-001 --input holiday/ more/*.png --output maps --raw npy
      the maps as labels (palette, millimetres, …), and the logits as NumPy arrays")]
    Predict(Predict),
    /// Make a run of a training checkpoint of the published PyTorch code
    #[command(after_help = "Examples:
  tadformer-cli import ckpt_epoch_299.pth --output runs/imported
      the configuration is the one in the checkpoint
  tadformer-cli import model.pth --config my.toml --output runs/imported
      a checkpoint that holds no configuration
  tadformer-cli eval --run runs/imported --root PASCAL_MT")]
    Import(Import),
    /// Write a trained model as a folder for others
    #[command(after_help = "Examples:
  tadformer-cli export --run runs/pascal-context-001 --what adapter --output adapter
      what was trained, in the folder layout of Hugging Face PEFT, with a model card
  tadformer-cli export --run runs/pascal-context-001 --what backbone --output backbone
  tadformer-cli predict --run adapter --weights backbone/model.safetensors --input photo.jpg --output maps
  tadformer-cli export --run runs/pascal-context-001 --what merged --output merged
      for use alone: the same maps, sooner
  tadformer-cli predict --run merged --input photo.jpg --output maps")]
    Export(Export),
    /// Count a model's parameters by group
    #[command(after_help = "Examples:
  tadformer-cli params --backbone swin-tiny --rank 64 --tasks semseg,normals,sal,human_parts
  tadformer-cli params --run runs/quickstart-001 --json")]
    Params(Params),
    /// List, check and show data sets
    #[command(subcommand)]
    Data(Data),
}

/// Where a configuration comes from, and what is changed in it.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file; without it, the one that comes with the data set, or the quickstart's
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Change one setting of the configuration (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<Override>,
    /// Data set: synthetic, pascal-context, nyud, cityscapes, bsds500, or folder
    #[arg(long, value_name = "NAME")]
    pub(crate) data: Option<String>,
    /// Folder of the data set
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: Option<PathBuf>,
    /// Tasks to learn: semseg, human_parts, sal, normals, edge, depth
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    pub(crate) tasks: Vec<String>,
    /// Backbone: swin-tiny, swin-small, swin-base or swin-large
    #[arg(long, value_name = "NAME")]
    pub(crate) backbone: Option<String>,
    /// Pretrained weights of the backbone: a name such as swin-tiny (from the Hugging Face cache, downloaded if it is not
    /// there), a file, embedded (the quickstart's), or none
    #[arg(long, value_name = "WEIGHTS")]
    pub(crate) weights: Option<String>,
    /// Rank of the low-rank updates
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub(crate) rank: Option<i64>,
    /// Passes over the training split; a warm-up is shortened in proportion
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) epochs: Option<i64>,
    /// Samples a batch
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) batch_size: Option<i64>,
    /// Seed of everything random, 0 or more
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) seed: Option<i64>,
}

impl ConfigArgs {
    /// Whether anything but `--set` is given.
    pub(crate) fn changes_more_than_settings(&self) -> bool {
        let Self { config, set: _, data, root, tasks, backbone, weights, rank, epochs, batch_size, seed } =
            self;
        let texts = [data, backbone, weights].into_iter().any(Option::is_some);
        let numbers = [rank, epochs, batch_size, seed].into_iter().any(Option::is_some);
        texts || numbers || config.is_some() || root.is_some() || !tasks.is_empty()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Finetune {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Folder of the run; without it, the next free `runs/NAME-NNN`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output: Option<PathBuf>,
    /// Begin with the trained weights of another run or of an exported adapter; its configuration holds unless changed.
    /// With other tasks, classes or ranks, what fits is taken over and the rest drawn; both are listed
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from: Option<PathBuf>,
    /// Refuse a model given to `--from` that does not fit whole
    #[arg(long, requires = "from")]
    pub(crate) strict: bool,
    /// Go on with a run that was stopped
    #[arg(long, value_name = "RUN", conflicts_with_all = ["output", "from"])]
    pub(crate) resume: Option<PathBuf>,
    /// Say nothing but errors and the final table
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// A `Precision` on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PrecisionName {
    /// Not at all
    F32,
    /// To bf16; sums stay f32
    Bf16,
}

impl PrecisionName {
    /// The change of a configuration that it stands for.
    pub(crate) fn change(self) -> Override {
        let precision = match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        };
        Override::flag("--precision", "precision", precision.name())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// Folder of a run, or of an exported adapter, full or merged model
    #[arg(long, value_name = "FOLDER")]
    pub(crate) run: PathBuf,
    /// The frozen weights under it, if they are elsewhere than its configuration says
    #[arg(long, value_name = "WEIGHTS")]
    pub(crate) weights: Option<String>,
    /// Folder of the data set, if it has moved
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: Option<PathBuf>,
    /// What operands of the linear layers' products are rounded to; without it, as the run was trained
    #[arg(long, value_enum)]
    pub(crate) precision: Option<PrecisionName>,
    /// Change one setting of the run's configuration (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<Override>,
    /// Print the scores as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A `RawFormat` on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RawName {
    /// One file an input
    Safetensors,
    /// One file a task and input
    Npy,
}

impl RawName {
    /// What it stands for.
    pub(crate) fn format(self) -> RawFormat {
        match self {
            Self::Safetensors => RawFormat::Safetensors,
            Self::Npy => RawFormat::Npy,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// Folder of a run, or of an exported adapter, full or merged model
    #[arg(long, value_name = "FOLDER")]
    pub(crate) run: PathBuf,
    /// The frozen weights under it, if they are elsewhere than its configuration says
    #[arg(long, value_name = "WEIGHTS")]
    pub(crate) weights: Option<String>,
    /// Pictures (JPEG, PNG), folders of them, or safetensors files with a normalised `image` tensor (b, 3, h, w)
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,
    /// Folder for the maps
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// Also write the logits: one tensor (b, c, h, w) a task in NAME.safetensors, or one array (c, h, w) a task in
    /// NAME_TASK.npy
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, default_missing_value = "safetensors")]
    pub(crate) raw: Option<RawName>,
    /// What operands of the linear layers' products are rounded to; without it, as the run was trained
    #[arg(long, value_enum)]
    pub(crate) precision: Option<PrecisionName>,
    /// Change one setting of the run's configuration (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<Override>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The checkpoint (.pth); nothing in it is executed
    #[arg(value_name = "CKPT")]
    pub(crate) checkpoint: PathBuf,
    /// Configuration (TOML) to use instead of the one in the checkpoint
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Change one setting of the configuration (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<Override>,
    /// Folder for the run
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Folder of a run, or of an exported adapter or full model
    #[arg(long, value_name = "FOLDER")]
    pub(crate) run: PathBuf,
    /// The frozen weights under it, if they are elsewhere than its configuration says
    #[arg(long, value_name = "WEIGHTS")]
    pub(crate) weights: Option<String>,
    /// What of it
    #[arg(long, value_enum)]
    pub(crate) what: What,
    /// Folder to write
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
}

/// What to export.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum What {
    /// What was trained, without the frozen backbone
    Adapter,
    /// Every tensor
    Full,
    /// The plain Swin Transformer, under timm's names
    Backbone,
    /// Every tensor, updates folded into frozen weights where that changes nothing; for use, not for training
    Merged,
}

#[derive(Debug, Args)]
pub(crate) struct Params {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Folder of a run or of an exported model, instead of a configuration
    #[arg(long, value_name = "RUN", conflicts_with = "config")]
    pub(crate) run: Option<PathBuf>,
    /// Print the counts as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// What data sets are known, their licence, and how to get them
    List,
    /// Read every file of a data set and report everything that is wrong
    Check(DataCheck),
    /// Draw samples with their labels
    Show(DataShow),
}

#[derive(Debug, Args)]
pub(crate) struct DataCheck {
    /// Data set: pascal-context, nyud, cityscapes, bsds500, or folder
    #[arg(long, value_name = "NAME")]
    pub(crate) data: String,
    /// Its folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: PathBuf,
    /// Splits to check; all without it
    #[arg(long, value_name = "SPLIT", value_delimiter = ',')]
    pub(crate) splits: Vec<String>,
    /// Tasks to check; all without it
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    pub(crate) tasks: Vec<String>,
    /// Problems listed a split
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) list: usize,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DataShow {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Samples to draw
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) samples: usize,
    /// Folder for the pictures
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
}
