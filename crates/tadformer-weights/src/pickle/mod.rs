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

/// Instructions of one pickle: an eight-block model with its optimizer takes 35,000, a Swin-L about 100,000. What they
/// build stays below 64 MiB.
pub(crate) const MAX_OPCODES: usize = 500_000;
/// Bytes of one pickle: the tensors' bytes are not in it.
pub(crate) const MAX_PICKLE_BYTES: usize = 64 * 1024 * 1024;
/// Nested containers, and marks open at once.
pub(crate) const MAX_DEPTH: usize = 200;
/// Dimensions of one tensor.
pub(crate) const MAX_RANK: usize = 16;
/// Bytes of one integer: enough for the 128-bit states of random generators.
pub(crate) const MAX_INTEGER_BYTES: usize = 32;
