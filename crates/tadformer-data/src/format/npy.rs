//! NumPy `.npy` arrays of numbers.
//!
//! Format: NEP 1, versions 1 to 3; either byte order, either memory order, half to double precision, integers and
//! booleans. An array of objects is a Python pickle, which can run code when it is read: it is always refused.

mod writer;

pub use writer::NpyWriter;

use std::path::Path;

use super::{Decoded, read_bounded};
use crate::{Error, Result};

/// The longest header that is read. NumPy itself stops at 10,000 characters.
const MAX_HEADER: usize = 16 << 10;

/// The most dimensions that an array may have.
const MAX_DIMS: usize = 8;

/// An array of numbers.
#[derive(Debug, Clone)]
pub struct Npy {
    /// Its sizes, outermost first.
    pub shape: Vec<usize>,
    kind: Kind,
    big_endian: bool,
    fortran_order: bool,
    file: Vec<u8>,
    data_start: usize,
}

/// The type of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Signed(usize),
    Unsigned(usize),
    Float(usize),
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Signed(size) | Self::Unsigned(size) | Self::Float(size) => size,
        }
    }
}

impl Npy {
    /// Reads the array at `path`.
    ///
    /// # Errors
    /// A file that is missing, or that is no array of numbers.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(read_bounded(path)?).map_err(|reason| Error::decode(path, "NumPy array", reason))
    }

    /// Understands the header of `file` and keeps its data.
    ///
    /// # Errors
    /// Why the bytes are no array of numbers, or by how much they are too few or too many.
    pub fn parse(file: Vec<u8>) -> Decoded<Self> {
        let (text, data_start) = header_text(&file)?;
        let header = Header::parse(text)?;
        let (kind, big_endian) = element_type(&header.descr)?;
        let wanted = data_bytes(&header.shape, kind)?;
        let held = file.len() - data_start;
        if held != wanted {
            return Err(format!(
                "shape {:?} of `{}` needs {wanted} bytes, the file holds {held}",
                header.shape, header.descr
            ));
        }
        let Header { shape, fortran_order, .. } = header;
        Ok(Self { shape, kind, big_endian, fortran_order, file, data_start })
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(&self) -> bool {
        matches!(self.kind, Kind::Float(_))
    }

    /// The elements as `f32`, last dimension fastest; doubles and wide integers are rounded.
    pub fn to_f32(&self) -> Vec<f32> {
        let data = &self.file[self.data_start..];
        let little = !self.big_endian;
        let values: Vec<f32> = match self.kind {
            Kind::Bool | Kind::Unsigned(1) => data.iter().map(|&b| f32::from(b)).collect(),
            Kind::Float(4) if little => data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Kind::Float(8) if little => {
                data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect()
            }
            kind => {
                data.chunks_exact(kind.bytes()).map(|bytes| number(kind, self.big_endian, bytes)).collect()
            }
        };
        if self.fortran_order && self.shape.len() > 1 { rows_first(&self.shape, &values) } else { values }
    }
}

/// One number of at most eight bytes.
fn number(kind: Kind, big_endian: bool, bytes: &[u8]) -> f32 {
    let mut le = [0; 8];
    let size = bytes.len();
    le[..size].copy_from_slice(bytes);
    if big_endian {
        le[..size].reverse();
    }
    let [a, b, c, d, ..] = le;
    match kind {
        Kind::Bool => f32::from(a),
        Kind::Float(2) => half(u16::from_le_bytes([a, b])),
        Kind::Float(4) => f32::from_le_bytes([a, b, c, d]),
        Kind::Float(_) => f64::from_le_bytes(le) as f32,
        Kind::Unsigned(_) => u64::from_le_bytes(le) as f32,
        Kind::Signed(_) => {
            // Shift the sign bit to the top and back, which fills the bytes above with it.
            let unused = 64 - 8 * size as u32;
            ((i64::from_le_bytes(le) << unused) >> unused) as f32
        }
    }
}

/// IEEE 754 half precision to single, exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let mantissa = f32::from(bits & 0x3ff);
    match (bits >> 10) & 0x1f {
        0 => sign * mantissa * 2f32.powi(-24),
        31 if mantissa == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        exponent => sign * (1024.0 + mantissa) * 2f32.powi(i32::from(exponent) - 25),
    }
}

/// Turns values whose first dimension is fastest into values whose last one is.
fn rows_first(shape: &[usize], values: &[f32]) -> Vec<f32> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for &side in shape {
        strides.push(stride);
        stride *= side;
    }
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[at]);
        for dim in (0..shape.len()).rev() {
            index[dim] += 1;
            at += strides[dim];
            if index[dim] < shape[dim] {
                break;
            }
            at -= strides[dim] * shape[dim];
            index[dim] = 0;
        }
    }
    out
}

/// The header's text, and where the data starts.
fn header_text(file: &[u8]) -> Decoded<(&str, usize)> {
    if !file.starts_with(b"\x93NUMPY") {
        return Err(format!("this is {}; expected a NumPy array", super::picture::content(file)));
    }
    let cut = || "the file is cut short inside its header".to_owned();
    let (length, start) = match file.get(6).ok_or_else(cut)? {
        1 => {
            let b = file.get(8..10).ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes([b[0], b[1]])), 10)
        }
        2 | 3 => {
            let b = file.get(8..12).ok_or_else(cut)?;
            (u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize, 12)
        }
        other => return Err(format!("format version {other}; expected 1, 2 or 3")),
    };
    if length > MAX_HEADER {
        return Err(format!("a header of {length} bytes; the limit is {MAX_HEADER}"));
    }
    let text = file.get(start..start + length).ok_or_else(cut)?;
    let text = std::str::from_utf8(text).map_err(|_| "the header is no text".to_owned())?;
    Ok((text, start + length))
}

/// How many bytes the elements of an array take.
fn data_bytes(shape: &[usize], kind: Kind) -> Decoded<usize> {
    let bytes = shape.iter().try_fold(kind.bytes(), |bytes, &side| bytes.checked_mul(side));
    bytes.ok_or_else(|| format!("the shape {shape:?} overflows"))
}

/// `<f4` and the like.
fn element_type(descr: &str) -> Decoded<(Kind, bool)> {
    let (order, kind) = descr.split_at_checked(1).unwrap_or_default();
    let big_endian = match order {
        "<" | "|" => false,
        "=" => cfg!(target_endian = "big"),
        ">" => true,
        _ => return Err(unsupported(descr)),
    };
    let kind = match kind {
        "b1" => Kind::Bool,
        "u1" => Kind::Unsigned(1),
        "u2" => Kind::Unsigned(2),
        "u4" => Kind::Unsigned(4),
        "u8" => Kind::Unsigned(8),
        "i1" => Kind::Signed(1),
        "i2" => Kind::Signed(2),
        "i4" => Kind::Signed(4),
        "i8" => Kind::Signed(8),
        "f2" => Kind::Float(2),
        "f4" => Kind::Float(4),
        "f8" => Kind::Float(8),
        _ => return Err(unsupported(descr)),
    };
    Ok((kind, big_endian))
}

fn unsupported(descr: &str) -> String {
    if descr.contains('O') {
        "elements are Python objects, which can run code when read and are never accepted; save the array again \
         with a numeric dtype (`array.astype('float32')`)"
            .into()
    } else {
        format!("elements of type `{descr}`; expected integers, booleans or f2, f4, f8")
    }
}

/// The three entries of the header.
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
    fn parse(text: &str) -> Decoded<Self> {
        let mut rest = Literal(text.trim());
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        rest.expect('{')?;
        while !rest.accept('}') {
            let key = rest.string()?;
            rest.expect(':')?;
            match key {
                "descr" if rest.starts_with('[') => {
                    return Err("elements are records of several fields; expected one number each".into());
                }
                "descr" => descr = Some(rest.string()?.to_owned()),
                "fortran_order" => fortran_order = Some(rest.boolean()?),
                "shape" => shape = Some(rest.tuple()?),
                other => return Err(format!("unknown header entry `{other}`")),
            }
            if !rest.accept(',') {
                rest.expect('}')?;
                break;
            }
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Self { descr, fortran_order, shape }),
            _ => Err("the header lacks `descr`, `fortran_order` or `shape`".into()),
        }
    }
}

/// What is left to read of a Python literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn starts_with(&self, c: char) -> bool {
        self.0.trim_start().starts_with(c)
    }

    fn accept(&mut self, c: char) -> bool {
        match self.0.trim_start().strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Decoded<()> {
        if self.accept(c) { Ok(()) } else { Err(self.wrong(&format!("`{c}`"))) }
    }

    fn string(&mut self) -> Decoded<&'a str> {
        let text = self.0.trim_start();
        let quoted = text.strip_prefix('\'').map(|t| (t, '\'')).or(text.strip_prefix('"').map(|t| (t, '"')));
        let Some((inside, (end, quote))) =
            quoted.and_then(|(inside, quote)| Some((inside, (inside.find(quote)?, quote))))
        else {
            return Err(self.wrong("a string"));
        };
        self.0 = &inside[end + quote.len_utf8()..];
        Ok(&inside[..end])
    }

    fn boolean(&mut self) -> Decoded<bool> {
        let text = self.0.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = text.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err(self.wrong("True or False"))
    }

    fn tuple(&mut self) -> Decoded<Vec<usize>> {
        self.expect('(')?;
        let mut sizes = Vec::new();
        while !self.accept(')') {
            let text = self.0.trim_start();
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let size = text[..digits].parse().map_err(|_| self.wrong("a size"))?;
            sizes.push(size);
            if sizes.len() > MAX_DIMS {
                return Err(format!("more than {MAX_DIMS} dimensions"));
            }
            // Python 2 wrote sizes as `3L`.
            self.0 = text[digits..].strip_prefix('L').unwrap_or(&text[digits..]);
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(sizes)
    }

    fn wrong(&self, expected: &str) -> String {
        let found: String = self.0.trim_start().chars().take(12).collect();
        format!("header: found `{found}`, expected {expected}")
    }
}

#[cfg(test)]
mod tests;
