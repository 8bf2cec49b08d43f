//! The nodes that a pickle builds, by index into one vector.

use std::ops::Range;

use crate::bytes::Bytes;
use crate::dtype::Dtype;
use crate::error::{Parse, refuse};

/// Index of a node.
pub(crate) type Id = u32;

/// A run of bytes of the pickle itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

/// One Python object. Text and bytes stay in the pickle and are referred to by [`Span`].
#[derive(Debug)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits; no weight file needs its value.
    BigInt,
    Float(f64),
    Str(Span),
    Bytes(Span),
    /// Bytes that Python 2-compatible pickles write as text: each character is one byte.
    Latin1(Span),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A function or class by name.
    Global {
        module: Span,
        name: Span,
    },
    Storage(u32),
    Tensor(u32),
    Object(Box<Object>),
}

/// An object of a class that this reader does not know: what it was made from, unmade.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) class: Id,
    pub(crate) args: Id,
    pub(crate) state: Option<Id>,
    pub(crate) list: Vec<Id>,
    pub(crate) items: Vec<(Id, Id)>,
}

/// The storage that tensors view: `numel` elements under `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorageSpec {
    pub(crate) key: String,
    /// `None` for an untyped storage, whose elements are bytes.
    pub(crate) dtype: Option<Dtype>,
    pub(crate) numel: usize,
}

impl StorageSpec {
    /// Size in bytes; its constructor has checked that it is representable.
    pub(crate) fn bytes(&self) -> usize {
        self.numel * self.dtype.map_or(1, Dtype::size)
    }
}

/// A tensor: a strided view of a storage, checked to lie inside it.
#[derive(Debug)]
pub(crate) struct TensorSpec {
    pub(crate) storage: u32,
    pub(crate) dtype: Dtype,
    /// In elements, like `strides`.
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    /// Whether its numbers are those of the storage with the other sign.
    pub(crate) negated: bool,
}

/// Everything one pickle built.
#[derive(Debug)]
pub(crate) struct Arena {
    source: Bytes,
    pub(crate) nodes: Vec<Node>,
    pub(crate) storages: Vec<StorageSpec>,
    pub(crate) tensors: Vec<TensorSpec>,
    pub(crate) root: Id,
}

impl Arena {
    /// An empty arena over the pickle's bytes, which must be fewer than 2^32.
    pub(crate) fn new(source: Bytes) -> Self {
        Self { source, nodes: Vec::new(), storages: Vec::new(), tensors: Vec::new(), root: 0 }
    }

    pub(crate) fn source(&self) -> &[u8] {
        &self.source
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        // Ids come from `push` alone.
        &self.nodes[id as usize]
    }

    pub(crate) fn push(&mut self, node: Node) -> Id {
        let id = Id::try_from(self.nodes.len()).expect("the opcode limit keeps the count far below 2^32");
        self.nodes.push(node);
        id
    }

    /// A span of the source; `range` lies inside it.
    pub(crate) fn span(range: &Range<usize>) -> Span {
        let convert = |n: usize| u32::try_from(n).expect("the limit on a pickle's bytes is below 2^32");
        Span { start: convert(range.start), length: convert(range.len()) }
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.source[start..start + span.length as usize]
    }

    /// The text of a span that was checked to be UTF-8 when it was read.
    pub(crate) fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or("(not UTF-8)")
    }

    pub(crate) fn str(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Str(span) => Some(self.text(*span)),
            _ => None,
        }
    }

    pub(crate) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(ids) => Some(ids),
            _ => None,
        }
    }

    /// A non-negative integer that fits `usize`.
    pub(crate) fn size(&self, id: Id) -> Option<usize> {
        match self.node(id) {
            Node::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// Module and name of a global.
    pub(crate) fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.node(id) {
            Node::Global { module, name } => Some((self.text(*module), self.text(*name))),
            _ => None,
        }
    }

    /// What a node is, for messages.
    pub(crate) fn kind(&self, id: Id) -> String {
        match self.node(id) {
            Node::None => "None".to_owned(),
            Node::Bool(_) => "a bool".to_owned(),
            Node::Int(value) => format!("the integer {value}"),
            Node::BigInt => "an integer beyond 64 bits".to_owned(),
            Node::Float(_) => "a float".to_owned(),
            Node::Str(_) => "a string".to_owned(),
            Node::Bytes(_) | Node::Latin1(_) => "bytes".to_owned(),
            Node::Tuple(_) => "a tuple".to_owned(),
            Node::List(_) => "a list".to_owned(),
            Node::Set(_) => "a set".to_owned(),
            Node::Dict(_) => "a dict".to_owned(),
            Node::Global { module, name } => format!("`{}.{}`", self.text(*module), self.text(*name)),
            Node::Storage(_) => "a storage".to_owned(),
            Node::Tensor(_) => "a tensor".to_owned(),
            Node::Object(object) => match self.global(object.class) {
                Some((module, name)) => format!("an object of `{module}.{name}`"),
                None => "an object".to_owned(),
            },
        }
    }

    /// Refuses a graph whose containers nest deeper than `most`; a container that holds itself counts once.
    pub(crate) fn check_depth(&self, most: usize) -> Parse<()> {
        const UNSEEN: u16 = u16::MAX;
        const OPEN: u16 = u16::MAX - 1;
        let mut height = vec![UNSEEN; self.nodes.len()];
        let mut path = vec![(self.root, 0usize)];
        while let Some((id, next)) = path.last_mut() {
            let at = *id as usize;
            height[at] = OPEN;
            if let Some(child) = self.child(*id, *next) {
                *next += 1;
                if height[child as usize] == UNSEEN {
                    if path.len() > most {
                        return too_deep(most);
                    }
                    path.push((child, 0));
                }
                continue;
            }
            let children = (0..).map_while(|n| self.child(*id, n));
            let below = children.map(|child| height[child as usize]).filter(|&h| h < OPEN).max();
            let here = below.map_or(0, |h| h + 1);
            if usize::from(here) > most {
                return too_deep(most);
            }
            height[at] = here;
            path.pop();
        }
        Ok(())
    }

    /// The `n`-th node that a container refers to.
    fn child(&self, id: Id, n: usize) -> Option<Id> {
        let of_pairs = |pairs: &[(Id, Id)], n: usize| {
            pairs.get(n / 2).map(|&(key, value)| if n.is_multiple_of(2) { key } else { value })
        };
        match self.node(id) {
            Node::Tuple(ids) => ids.get(n).copied(),
            Node::List(ids) | Node::Set(ids) => ids.get(n).copied(),
            Node::Dict(pairs) => of_pairs(pairs, n),
            Node::Object(object) => match n {
                0 => Some(object.class),
                1 => Some(object.args),
                2 => Some(object.state.unwrap_or(object.args)),
                n if n - 3 < object.list.len() => object.list.get(n - 3).copied(),
                n => of_pairs(&object.items, n - 3 - object.list.len()),
            },
            _ => None,
        }
    }
}

fn too_deep<T>(most: usize) -> Parse<T> {
    refuse(format!("its objects nest deeper than {most} levels; weight files need about ten"))
}
