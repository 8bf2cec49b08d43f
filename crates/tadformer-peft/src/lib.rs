#![doc = include_str!("../README.md")]

mod lora;
mod ts_module;
mod lora_linear;
mod peft_folder;
mod variables;
mod dtf;
mod ta_module;
mod prompt;
mod tpc;
mod site;

pub use dtf::{DynamicTaskFilter, FILTER_SIDE, FilterNorm};
pub use lora::{LoraConfig, LowRank};
pub use lora_linear::LoraLinear;
pub use peft_folder::LoraAdapter;
pub use prompt::TaskPrompts;
pub use site::{Site, SiteKind};
pub use ta_module::{Filter, TaModule, Trace};
pub use tpc::{Conditioned, condition_on_prompts, unconditioned};
pub use ts_module::TsModule;
pub use variables::variables;

// What building and training these layers takes, so that a user of this crate needs no other of ours.
pub use tadformer_ops::{
    Around, Before, Entry, FrozenLinear, Init, LayerNorm, Linear, Mode, ParamStore, Params, Residual, Rng,
    Role, Source, Windows, dropout, gelu, layer_norm, no_grad, residual, split,
};
