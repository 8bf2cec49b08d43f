//! Low-rank updates, task prompts and dynamic task filters for candle models: the layers of TADFormer
//! (arXiv 2501.04293), knowing nothing of the network they sit in.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use tadformer_ops::{FrozenLinear, Mode, ParamStore, Role};
//! use tadformer_peft::{LoraConfig, TsModule};
//!
//! // A pretrained layer that computes 2x, and a rank-1 update beside it.
//! let weight = Tensor::new(&[[2f32, 0.], [0., 2.]], &Device::Cpu)?;
//! let store = ParamStore::new(0);
//! let config = LoraConfig::default().with_rank(1);
//! let layer = TsModule::new(FrozenLinear::new(&weight, None)?, &config, &store.params())?;
//!
//! // The update starts as zero, and only it trains.
//! let ys = layer.forward(&Tensor::new(&[[1f32, 3.]], &Device::Cpu)?, &mut Mode::Eval)?;
//! assert_eq!(ys.to_vec2::<f32>()?, [[2.0, 6.0]]);
//! assert_eq!(store.with_role(Role::Trainable).len(), 2);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod lora;
mod ts_module;
mod dtf;
mod ta_module;
mod prompt;
mod tpc;
mod site;

pub use dtf::{DynamicTaskFilter, FILTER_SIDE, FilterNorm};
pub use lora::{LoraConfig, LowRank};
pub use prompt::TaskPrompts;
pub use site::{Site, SiteKind};
pub use ta_module::{Filter, TaModule, Trace};
pub use tpc::{Conditioned, condition_on_prompts, unconditioned};
pub use ts_module::TsModule;
