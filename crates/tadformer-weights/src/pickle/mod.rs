//! A restricted reader of Python pickles, protocols 2 to 5: it builds a graph of plain nodes and runs nothing.
//!
//! The opcodes are those of CPython's `pickletools`. Objects are nodes of one arena and refer to each other by index,
//! so a structure that shares its parts costs what its file costs, however large it would be written out.

mod arena;
mod globals;
mod machine;
mod value;

pub(crate) use arena::{Arena, Node, StorageSpec, TensorSpec};
pub(crate) use machine::run;
pub use value::PickleValue;
