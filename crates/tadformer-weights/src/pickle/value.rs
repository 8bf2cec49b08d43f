//! A read-only view of what a pickle holds, for those who look for a configuration or an optimizer's state.

use std::borrow::Cow;
use std::fmt;

use super::arena::{Arena, Id, Node};

/// One value of a pickled checkpoint. It refers into the file's graph, so copies cost nothing.
///
/// Objects of unknown classes were never made: [`class`](Self::class) names what the file asks for, and
/// [`get`](Self::get) and [`items`](Self::items) see what was put into it, so a pickled `yacs` configuration reads
/// like a dict.
///
/// A graph may share its parts and may hold itself: walk it to a depth that you expect.
#[derive(Clone, Copy)]
pub struct PickleValue<'a> {
    arena: &'a Arena,
    id: Id,
}

impl<'a> PickleValue<'a> {
    pub(crate) fn new(arena: &'a Arena, id: Id) -> Self {
        Self { arena, id }
    }

    pub(crate) fn tensor_index(self) -> Option<u32> {
        match self.arena.node(self.id) {
            Node::Tensor(index) => Some(*index),
            _ => None,
        }
    }

    /// Whether this is a tensor; [`Checkpoint::tensor`](crate::Checkpoint::tensor) gives its numbers.
    pub fn is_tensor(self) -> bool {
        self.tensor_index().is_some()
    }

    /// Whether this is `None`.
    pub fn is_none(self) -> bool {
        matches!(self.arena.node(self.id), Node::None)
    }

    /// The value of a `bool`.
    pub fn as_bool(self) -> Option<bool> {
        match self.arena.node(self.id) {
            Node::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of an `int` of at most 64 bits, or of a NumPy integer.
    pub fn as_i64(self) -> Option<i64> {
        match self.arena.node(self.id) {
            Node::Int(value) => Some(*value),
            _ => match self.numpy_scalar()? {
                (kind, bytes) if kind.starts_with('i') => Some(match bytes.len() {
                    1 => i64::from(bytes[0].cast_signed()),
                    2 => i64::from(i16::from_le_bytes(*bytes.first_chunk()?)),
                    4 => i64::from(i32::from_le_bytes(*bytes.first_chunk()?)),
                    8 => i64::from_le_bytes(*bytes.first_chunk()?),
                    _ => return None,
                }),
                _ => None,
            },
        }
    }

    /// The value of a `float` or `int`, or of a NumPy number.
    pub fn as_f64(self) -> Option<f64> {
        match self.arena.node(self.id) {
            Node::Float(value) => Some(*value),
            Node::Int(value) => Some(*value as f64),
            _ => match self.numpy_scalar()? {
                ("f8", bytes) => Some(f64::from_le_bytes(*bytes.first_chunk()?)),
                ("f4", bytes) => Some(f64::from(f32::from_le_bytes(*bytes.first_chunk()?))),
                _ => self.as_i64().map(|value| value as f64),
            },
        }
    }

    /// The text of a `str`.
    pub fn as_str(self) -> Option<&'a str> {
        self.arena.str(self.id)
    }

    /// The contents of `bytes` or a `bytearray`.
    pub fn as_bytes(self) -> Option<Cow<'a, [u8]>> {
        match self.arena.node(self.id) {
            Node::Bytes(span) => Some(Cow::Borrowed(self.arena.bytes(*span))),
            // The reader has checked that each character is one byte.
            Node::Latin1(span) => Some(self.arena.text(*span).chars().map(|c| c as u8).collect()),
            _ => None,
        }
    }

    /// Members of a list, tuple or set, and what was appended to an object; empty for everything else.
    pub fn members(self) -> impl ExactSizeIterator<Item = Self> {
        let ids: &'a [Id] = match self.arena.node(self.id) {
            Node::Tuple(ids) => ids,
            Node::List(ids) | Node::Set(ids) => ids,
            Node::Object(object) => &object.list,
            _ => &[],
        };
        ids.iter().map(move |&id| Self::new(self.arena, id))
    }

    /// Keys and values of a dict or of an object that is one, in the file's order; empty for everything else.
    pub fn items(self) -> impl ExactSizeIterator<Item = (Self, Self)> {
        let pairs: &'a [(Id, Id)] = match self.arena.node(self.id) {
            Node::Dict(pairs) => pairs,
            Node::Object(object) => &object.items,
            _ => &[],
        };
        pairs.iter().map(move |&(key, value)| (Self::new(self.arena, key), Self::new(self.arena, value)))
    }

    /// The value of a dict, or of an object that is one, under a text key; of several, the last, as in Python.
    pub fn get(self, key: &str) -> Option<Self> {
        let pairs = match self.arena.node(self.id) {
            Node::Dict(pairs) => pairs,
            Node::Object(object) => &object.items,
            _ => return None,
        };
        let (_, value) = pairs.iter().rev().find(|(k, _)| self.arena.str(*k) == Some(key))?;
        Some(Self::new(self.arena, *value))
    }

    /// Whether this is a dict, or an object that items were put into.
    pub fn is_dict(self) -> bool {
        match self.arena.node(self.id) {
            Node::Dict(_) => true,
            Node::Object(object) => !object.items.is_empty(),
            _ => false,
        }
    }

    /// Module and name of the class of an object that stays unmade, such as `("yacs.config", "CfgNode")`.
    pub fn class(self) -> Option<(&'a str, &'a str)> {
        match self.arena.node(self.id) {
            Node::Object(object) => self.arena.global(object.class),
            _ => None,
        }
    }

    /// The arguments that an unmade object's class would be called with: a tuple.
    pub fn args(self) -> Option<Self> {
        match self.arena.node(self.id) {
            Node::Object(object) => Some(Self::new(self.arena, object.args)),
            _ => None,
        }
    }

    /// The state of an unmade object, usually a dict of its attributes.
    pub fn state(self) -> Option<Self> {
        match self.arena.node(self.id) {
            Node::Object(object) => object.state.map(|id| Self::new(self.arena, id)),
            _ => None,
        }
    }

    /// What this is, in words: `a list`, ``an object of `yacs.config.CfgNode` ``.
    pub fn kind(self) -> String {
        self.arena.kind(self.id)
    }

    /// Type code and bytes of a little-endian NumPy scalar: `scalar(dtype("f8", …), bytes)`.
    fn numpy_scalar(self) -> Option<(&'a str, Cow<'a, [u8]>)> {
        let (module, name) = self.class()?;
        if name != "scalar" || !matches!(module, "numpy.core.multiarray" | "numpy._core.multiarray") {
            return None;
        }
        let mut args = self.args()?.members();
        let (dtype, bytes) = (args.next()?, args.next()?);
        let code = dtype.args()?.members().next()?.as_str()?;
        let bytes = bytes.as_bytes()?;
        // The state of a dtype is (version, byte order, …); "<" and "|" are little-endian and single bytes.
        let order = dtype.state().and_then(|state| state.members().nth(1)).and_then(Self::as_str);
        let size: usize = code.get(1..)?.parse().ok()?;
        (order != Some(">") && bytes.len() == size).then_some((code, bytes))
    }
}

impl fmt::Debug for PickleValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind())
    }
}
