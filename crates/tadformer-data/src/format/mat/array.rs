//! Matrix elements: numbers, text, structs and cells.

use super::super::Decoded;
use super::Limits;
use super::element::{ByteOrder, Cursor, Element, MI_MATRIX};

/// A named value of a file.
#[derive(Debug, Clone)]
pub struct Variable<'a> {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub value: Value<'a>,
}

/// A MATLAB value.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// Numbers or logicals.
    Numeric(Numeric<'a>),
    /// Characters, in storage order (a row of them is a string).
    Text(String),
    /// An array of structs.
    Struct(StructArray<'a>),
    /// An array of values of any kind.
    Cell(CellArray<'a>),
    /// A kind this reader steps over: "sparse", "object", "function handle" or "opaque".
    Skipped(&'static str),
}

impl<'a> Value<'a> {
    /// The struct array, if it is one.
    pub fn as_struct(&self) -> Option<&StructArray<'a>> {
        match self {
            Self::Struct(array) => Some(array),
            _ => None,
        }
    }

    /// The numbers, if it holds numbers.
    pub fn as_numeric(&self) -> Option<&Numeric<'a>> {
        match self {
            Self::Numeric(array) => Some(array),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The single number, if it holds exactly one.
    pub fn as_scalar(&self) -> Option<f64> {
        self.as_numeric().filter(|n| n.len() == 1).and_then(|n| n.get(0))
    }

    /// Whether it has no elements: `[]`, `''`, `{}` or an empty struct array.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Numeric(array) => array.is_empty(),
            Self::Text(text) => text.is_empty(),
            Self::Struct(array) => array.len() == 0,
            Self::Cell(array) => array.values.is_empty(),
            Self::Skipped(_) => false,
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Numeric(_) => "numeric",
            Self::Text(_) => "text",
            Self::Struct(_) => "struct",
            Self::Cell(_) => "cell",
            Self::Skipped(kind) => kind,
        }
    }
}

/// How numbers are stored, which may be narrower than their class: MATLAB stores doubles that fit as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storage {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
}

impl Storage {
    fn from_type(kind: u32) -> Option<Self> {
        Some(match kind {
            1 => Self::I8,
            2 => Self::U8,
            3 => Self::I16,
            4 => Self::U16,
            5 => Self::I32,
            6 => Self::U32,
            7 => Self::F32,
            9 => Self::F64,
            12 => Self::I64,
            13 => Self::U64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }
}

/// An array of numbers, columns first.
#[derive(Debug, Clone)]
pub struct Numeric<'a> {
    /// Its sizes, at least two.
    pub dims: Vec<usize>,
    /// Whether MATLAB calls it logical.
    pub logical: bool,
    storage: Storage,
    order: ByteOrder,
    bytes: &'a [u8],
}

impl<'a> Numeric<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.storage.bytes()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The element at `index`, columns first; integers beyond 2⁵³ are rounded.
    pub fn get(&self, index: usize) -> Option<f64> {
        let size = self.storage.bytes();
        let at = index.checked_mul(size)?;
        self.bytes.get(at..at + size).map(|bytes| number(self.storage, self.order, bytes))
    }

    /// Every element, columns first.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.bytes.chunks_exact(self.storage.bytes()).map(|bytes| number(self.storage, self.order, bytes))
    }

    /// The elements themselves if each is stored in one unsigned byte.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        (self.storage == Storage::U8).then_some(self.bytes)
    }

    /// Every element as `u16`, columns first.
    ///
    /// # Errors
    /// The first element that is no whole number in `0..=65535`.
    pub fn to_u16(&self) -> Decoded<Vec<u16>> {
        match (self.storage, self.order) {
            (Storage::U8, _) => Ok(self.bytes.iter().map(|&b| u16::from(b)).collect()),
            (Storage::U16, ByteOrder::Little) => {
                Ok(self.bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b)).collect())
            }
            _ => self
                .values()
                .enumerate()
                .map(|(i, v)| {
                    let whole = v as u16;
                    (f64::from(whole) == v)
                        .then_some(whole)
                        .ok_or_else(|| format!("element {i} is {v}; expected a whole number in 0..=65535"))
                })
                .collect(),
        }
    }
}

/// One number. `bytes` has the size of its storage.
fn number(storage: Storage, order: ByteOrder, bytes: &[u8]) -> f64 {
    let mut le = [0; 8];
    le[..bytes.len()].copy_from_slice(bytes);
    if order == ByteOrder::Big {
        le[..bytes.len()].reverse();
    }
    let [a, b, c, d, ..] = le;
    match storage {
        Storage::I8 => f64::from(a as i8),
        Storage::U8 => f64::from(a),
        Storage::I16 => f64::from(i16::from_le_bytes([a, b])),
        Storage::U16 => f64::from(u16::from_le_bytes([a, b])),
        Storage::I32 => f64::from(i32::from_le_bytes([a, b, c, d])),
        Storage::U32 => f64::from(u32::from_le_bytes([a, b, c, d])),
        Storage::F32 => f64::from(f32::from_le_bytes([a, b, c, d])),
        Storage::F64 => f64::from_le_bytes(le),
        Storage::I64 => i64::from_le_bytes(le) as f64,
        Storage::U64 => u64::from_le_bytes(le) as f64,
    }
}

/// An array of structs that share their field names.
#[derive(Debug, Clone)]
pub struct StructArray<'a> {
    /// Its sizes, at least two.
    pub dims: Vec<usize>,
    /// The names of the fields.
    pub fields: Vec<String>,
    /// Struct by struct, columns first, the fields of each in order.
    values: Vec<Value<'a>>,
    len: usize,
}

impl<'a> StructArray<'a> {
    /// Number of structs.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The field called `field` of the struct at `index`.
    pub fn get(&self, index: usize, field: &str) -> Option<&Value<'a>> {
        let column = self.fields.iter().position(|name| name == field)?;
        if index >= self.len {
            return None;
        }
        self.values.get(index * self.fields.len() + column)
    }
}

/// An array of values of any kind.
#[derive(Debug, Clone)]
pub struct CellArray<'a> {
    /// Its sizes, at least two.
    pub dims: Vec<usize>,
    /// The values, columns first.
    pub values: Vec<Value<'a>>,
}

/// Reads matrices and counts what they cost.
pub(super) struct Reader<'l> {
    order: ByteOrder,
    limits: &'l Limits,
    arrays: usize,
}

impl<'l> Reader<'l> {
    pub(super) fn new(order: ByteOrder, limits: &'l Limits) -> Self {
        Self { order, limits, arrays: 0 }
    }

    /// A top-level matrix from its payload.
    pub(super) fn variable<'a>(&mut self, payload: &'a [u8]) -> Decoded<Variable<'a>> {
        let (name, value) = self.matrix(payload, 0)?;
        Ok(Variable { name, value })
    }

    fn matrix<'a>(&mut self, payload: &'a [u8], depth: usize) -> Decoded<(String, Value<'a>)> {
        self.arrays += 1;
        if self.arrays > self.limits.arrays {
            return Err(format!("more than {} arrays", self.limits.arrays));
        }
        if depth > self.limits.depth {
            return Err(format!("nested more than {} levels deep", self.limits.depth));
        }
        if payload.is_empty() {
            // An unset field or cell is a matrix without any content.
            let empty = Numeric {
                dims: vec![0, 0],
                logical: false,
                storage: Storage::F64,
                order: self.order,
                bytes: &[],
            };
            return Ok((String::new(), Value::Numeric(empty)));
        }
        let mut cursor = Cursor::new(payload, self.order);
        let flags = self.words(cursor.next_inner("array flags")?, "array flags")?;
        let &[flags, ..] = flags.as_slice() else {
            return Err("array flags are empty".into());
        };
        let class = flags & 0xff;
        let logical = flags & 0x0200 != 0;
        match class {
            // The one kind without dimensions and a name at their usual places.
            17 => return Ok((String::new(), Value::Skipped("opaque"))),
            1..=16 => {}
            other => return Err(format!("array class {other} does not exist")),
        }
        let dims = self.dims(cursor.next_inner("dimensions")?)?;
        let count = elements(&dims)?;
        let name = ascii(cursor.next_inner("array name")?.payload);
        let value = match class {
            3 => Value::Skipped("object"),
            5 => Value::Skipped("sparse"),
            16 => Value::Skipped("function handle"),
            1 => {
                let values = self.nested(&mut cursor, count, depth)?;
                Value::Cell(CellArray { dims, values })
            }
            2 => self.structs(&mut cursor, dims, count, depth)?,
            4 => Value::Text(self.text(cursor.next_inner("characters")?, count)?),
            _ => {
                let element = cursor.next_inner("numbers")?;
                let storage = Storage::from_type(element.kind)
                    .ok_or_else(|| format!("numbers stored as type {}", element.kind))?;
                let wanted = count.checked_mul(storage.bytes()).ok_or("dimensions overflow")?;
                let bytes = element.payload.get(..wanted).ok_or_else(|| {
                    let held = element.payload.len();
                    format!("`{name}` of size {dims:?} needs {wanted} bytes, the file holds {held}")
                })?;
                Value::Numeric(Numeric { dims, logical, storage, order: self.order, bytes })
            }
        };
        Ok((name, value))
    }

    fn structs<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
        dims: Vec<usize>,
        len: usize,
        depth: usize,
    ) -> Decoded<Value<'a>> {
        let width = self.words(cursor.next_inner("field name length")?, "field name length")?;
        let &[width, ..] = width.as_slice() else {
            return Err("the field name length is empty".into());
        };
        let names = cursor.next_inner("field names")?.payload;
        let fields: Vec<String> = match width as usize {
            0 => Vec::new(),
            width => names.chunks_exact(width).map(ascii).collect(),
        };
        let count = len.checked_mul(fields.len()).ok_or("dimensions overflow")?;
        let values = self.nested(cursor, count, depth)?;
        Ok(Value::Struct(StructArray { dims, fields, values, len }))
    }

    /// `count` matrices in a row.
    fn nested<'a>(&mut self, cursor: &mut Cursor<'a>, count: usize, depth: usize) -> Decoded<Vec<Value<'a>>> {
        // Each has a tag of eight bytes at least, so a count that lies is found before anything is allocated.
        if count > cursor.remaining() / 8 {
            return Err(format!("{count} nested values cannot lie in {} bytes", cursor.remaining()));
        }
        let mut values = Vec::with_capacity(count.min(self.limits.arrays - self.arrays + 1));
        for _ in 0..count {
            let element = cursor.next_inner("nested value")?;
            if element.kind != MI_MATRIX {
                return Err(format!("a nested element of type {}; expected a matrix", element.kind));
            }
            values.push(self.matrix(element.payload, depth + 1)?.1);
        }
        Ok(values)
    }

    fn dims(&self, element: Element<'_>) -> Decoded<Vec<usize>> {
        let words = self.words(element, "dimensions")?;
        if words.len() < 2 || words.len() > self.limits.dims {
            return Err(format!("{} dimensions; expected 2 to {}", words.len(), self.limits.dims));
        }
        words
            .into_iter()
            .map(|d| i32::try_from(d).map(|d| d as usize).map_err(|_| "a dimension is negative".to_owned()))
            .collect()
    }

    /// The payload of a list of 32-bit integers.
    fn words(&self, element: Element<'_>, what: &str) -> Decoded<Vec<u32>> {
        if !matches!(element.kind, 5 | 6) {
            return Err(format!("{what} of type {}; expected 32-bit integers", element.kind));
        }
        if element.payload.len() > 4 * self.limits.dims.max(2) {
            return Err(format!("{what} of {} bytes", element.payload.len()));
        }
        Ok(element.payload.as_chunks().0.iter().map(|&b| self.order.u32(b)).collect())
    }

    fn text(&self, element: Element<'_>, count: usize) -> Decoded<String> {
        let Element { kind, payload } = element;
        let text: String = match kind {
            1 | 2 | 16 => String::from_utf8_lossy(payload).into_owned(),
            4 | 17 => {
                let units = payload.as_chunks().0.iter().map(|&b| match self.order {
                    ByteOrder::Little => u16::from_le_bytes(b),
                    ByteOrder::Big => u16::from_be_bytes(b),
                });
                char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
            6 | 18 => payload
                .as_chunks()
                .0
                .iter()
                .map(|&b| char::from_u32(self.order.u32(b)).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
            other => return Err(format!("characters stored as type {other}")),
        };
        // An empty text may carry padding.
        Ok(if count == 0 { String::new() } else { text })
    }
}

/// Text up to the first zero byte.
fn ascii(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// How many elements an array of these sides has.
pub(super) fn elements(dims: &[usize]) -> Decoded<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| "dimensions overflow".into())
}
