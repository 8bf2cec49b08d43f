//! MATLAB level 5 `.mat` files, as MATLAB, Octave and scipy write them.
//!
//! Format: "MAT-File Format", The MathWorks, chapter 1. A file is a header of 128 bytes and a list of elements; an
//! element is a tag (type, bytes) with its payload, possibly deflated; a matrix element holds elements again. Numbers
//! stay where they are: a [`Value`] borrows from the inflated [`Document`].

mod element;
mod array;

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;

use super::{Decoded, read_bounded};
use crate::{Error, Result};
use element::{ByteOrder, Cursor, MI_COMPRESSED, MI_MATRIX, inflate};

pub use array::{CellArray, Numeric, StructArray, Value, Variable};

/// How much a file may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes after inflation, all variables together.
    pub inflated: usize,
    /// Levels of structs and cells inside each other.
    pub depth: usize,
    /// Arrays of any kind, nested ones included.
    pub arrays: usize,
    /// Dimensions of one array.
    pub dims: usize,
}

impl Default for Limits {
    /// Room for a picture of 2000 × 2000 with sixty masks, and for any nesting seen in practice.
    fn default() -> Self {
        Self { inflated: 256 << 20, depth: 16, arrays: 200_000, dims: 8 }
    }
}

/// A `.mat` file with its compressed elements inflated.
#[derive(Debug)]
pub struct Document {
    file: Vec<u8>,
    parts: Vec<Part>,
    order: ByteOrder,
    limits: Limits,
}

/// Where a top-level matrix lies.
#[derive(Debug)]
enum Part {
    /// As it stands in the file.
    Plain(Range<usize>),
    /// A part of an inflated buffer.
    Inflated(Vec<u8>, Range<usize>),
}

thread_local! {
    /// A buffer of an earlier file of this thread. Millions of bytes that are mapped, cleared and given back for every
    /// file cost as much as inflating them.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The largest buffer that a thread keeps.
const MAX_SPARE: usize = 32 << 20;

impl Drop for Document {
    fn drop(&mut self) {
        for part in self.parts.drain(..) {
            if let Part::Inflated(buffer, _) = part {
                let spare = SPARE.take();
                let larger = buffer.len() > spare.len() && buffer.len() <= MAX_SPARE;
                SPARE.set(if larger { buffer } else { spare });
            }
        }
    }
}

impl Document {
    /// Reads and inflates the file at `path`.
    ///
    /// # Errors
    /// A file that is missing, or that is not a level 5 `.mat` file within the default [`Limits`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(read_bounded(path)?, Limits::default())
            .map_err(|reason| Error::decode(path, "MATLAB 5", reason))
    }

    /// Finds and inflates the top-level elements of `file`.
    ///
    /// # Errors
    /// Why the bytes are not a level 5 `.mat` file, or which limit they break.
    pub fn parse(file: Vec<u8>, limits: Limits) -> Decoded<Self> {
        let order = header(&file)?;
        let mut cursor = Cursor::new(file.get(128..).unwrap_or_default(), order);
        let mut parts = Vec::new();
        let mut budget = limits.inflated;
        while let Some(element) = cursor.next_top_level()? {
            match element.kind {
                MI_MATRIX => {
                    // The payload lies in the file; remember where, so that the document can own both.
                    let end = 128 + cursor.position_after_payload();
                    parts.push(Part::Plain(end - element.payload.len()..end));
                }
                MI_COMPRESSED => {
                    let mut buffer = SPARE.take();
                    let matrix = inflate(element.payload, order, budget, &mut buffer)?;
                    budget -= matrix.len();
                    parts.push(Part::Inflated(buffer, matrix));
                }
                other => return Err(format!("top-level element of type {other}; expected a matrix")),
            }
            if parts.len() > limits.arrays {
                return Err(format!("more than {} variables", limits.arrays));
            }
        }
        Ok(Self { file, parts, order, limits })
    }

    /// Every variable of the file.
    ///
    /// # Errors
    /// What is wrong with the structure, or which limit it breaks.
    pub fn variables(&self) -> Decoded<Vec<Variable<'_>>> {
        let mut reader = array::Reader::new(self.order, &self.limits);
        self.parts
            .iter()
            .map(|part| match part {
                Part::Plain(range) => reader.variable(&self.file[range.clone()]),
                Part::Inflated(buffer, range) => reader.variable(&buffer[range.clone()]),
            })
            .collect()
    }

    /// The variable called `name`.
    ///
    /// # Errors
    /// As [`variables`](Self::variables), and if there is no such variable.
    pub fn variable(&self, name: &str) -> Decoded<Value<'_>> {
        let mut variables = self.variables()?;
        match variables.iter().position(|variable| variable.name == name) {
            Some(at) => Ok(variables.swap_remove(at).value),
            None => {
                let found: Vec<_> = variables.iter().take(10).map(|v| format!("`{}`", v.name)).collect();
                Err(format!("no variable `{name}`; the file has {}", found.join(", ")))
            }
        }
    }
}

/// Checks the header and says in which order the bytes of numbers stand.
fn header(file: &[u8]) -> Decoded<ByteOrder> {
    if file.starts_with(b"\x89HDF") || file.get(512..516) == Some(b"\x89HDF") {
        return Err("a version 7.3 file (HDF5); save it again with `-v7` or `-v6`".into());
    }
    let Some(mark) = file.get(124..128) else {
        return Err(format!("{} bytes; the header alone has 128", file.len()));
    };
    let (order, version) = match &mark[2..] {
        b"IM" => (ByteOrder::Little, mark[1]),
        b"MI" => (ByteOrder::Big, mark[0]),
        other => return Err(format!("byte order mark {other:02x?}; expected \"IM\" or \"MI\"")),
    };
    match version {
        1 => Ok(order),
        2 => Err("a version 7.3 file (HDF5); save it again with `-v7` or `-v6`".into()),
        other => Err(format!("version {other}; expected 1 (`-v6` or `-v7`)")),
    }
}

#[cfg(test)]
mod tests;
