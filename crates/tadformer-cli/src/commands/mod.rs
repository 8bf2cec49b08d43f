//! One file a command.

pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod finetune;
pub(crate) mod params;
pub(crate) mod predict;
