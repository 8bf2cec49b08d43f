//! One file a command.

pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod finetune;
pub(crate) mod import;
pub(crate) mod params;
pub(crate) mod predict;
pub(crate) mod saved;
pub(crate) mod weights;
