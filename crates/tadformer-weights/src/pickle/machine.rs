//! The stack machine: one opcode after the other into the arena.

use std::collections::HashMap;
use std::ops::Range;

use crate::bytes::Bytes;
use crate::error::{Parse, Refusal, refuse};
use crate::limits::FileLimits;

use super::arena::{Arena, Id, Node, Object};
use super::globals;

/// Runs one pickle at the start of `source`; returns what it built and how many bytes it took.
pub(crate) fn run(source: Bytes, limits: &FileLimits) -> Parse<(Arena, usize)> {
    let readable = source.len().min(limits.pickle_bytes).min(u32::MAX as usize);
    let source = source.slice(0..readable).expect("a prefix lies inside");
    let mut machine = Machine {
        arena: Arena::new(source),
        limits: *limits,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        storages: HashMap::new(),
        copied: 0,
    };
    match machine.run() {
        Ok(()) => Ok((machine.arena, machine.at)),
        Err(Refusal(reason)) => refuse(format!("{reason} (pickle, byte {})", machine.at)),
    }
}

pub(super) struct Machine {
    pub(super) arena: Arena,
    pub(super) limits: FileLimits,
    /// Storages by key and size, so that tensors of one storage share it.
    pub(super) storages: HashMap<(String, usize), u32>,
    /// Members copied from one container to another so far.
    copied: usize,
    at: usize,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine {
    fn run(&mut self) -> Parse<()> {
        if self.byte()? != op::PROTO {
            return refuse("it does not begin as a pickle of protocol 2 or later does");
        }
        let protocol = self.byte()?;
        if !(2..=5).contains(&protocol) {
            return refuse(format!("it is a pickle of protocol {protocol}; 2 to 5 are read"));
        }
        for _ in 0..self.limits.instructions {
            let opcode = self.byte()?;
            if opcode == op::STOP {
                self.arena.root = self.pop()?;
                return self.arena.check_depth(self.limits.depth);
            }
            self.step(opcode)?;
        }
        refuse(format!("it has more than {} instructions", self.limits.instructions))
    }

    fn step(&mut self, opcode: u8) -> Parse<()> {
        match opcode {
            op::FRAME => {
                let length = self.length8()?;
                if length > self.arena.source().len() - self.at {
                    return refuse(format!("a frame of {length} bytes does not fit the file"));
                }
            }
            op::MARK => {
                let most = self.limits.depth;
                if self.marks.len() >= most {
                    return refuse(format!("more than {most} containers are open at once"));
                }
                self.marks.push(self.stack.len());
            }
            op::POP => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            op::POP_MARK => drop(self.pop_mark()?),
            op::DUP => {
                let id = self.top()?;
                self.stack.push(id);
            }
            op::NONE => self.push(Node::None),
            op::NEWTRUE => self.push(Node::Bool(true)),
            op::NEWFALSE => self.push(Node::Bool(false)),
            op::BININT => {
                let bytes = self.array::<4>()?;
                self.push(Node::Int(i64::from(i32::from_le_bytes(bytes))));
            }
            op::BININT1 => {
                let value = self.byte()?;
                self.push(Node::Int(i64::from(value)));
            }
            op::BININT2 => {
                let bytes = self.array::<2>()?;
                self.push(Node::Int(i64::from(u16::from_le_bytes(bytes))));
            }
            op::LONG1 => {
                let length = usize::from(self.byte()?);
                self.integer(length)?;
            }
            op::LONG4 => {
                let length = self.length4()?;
                self.integer(length)?;
            }
            op::BINFLOAT => {
                let bytes = self.array::<8>()?;
                self.push(Node::Float(f64::from_be_bytes(bytes)));
            }
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING | op::SHORT_BINBYTES => {
                let length = usize::from(self.byte()?);
                self.literal(opcode, length)?;
            }
            op::BINUNICODE | op::BINSTRING | op::BINBYTES => {
                let length = self.length4()?;
                self.literal(opcode, length)?;
            }
            op::BINUNICODE8 | op::BINBYTES8 | op::BYTEARRAY8 => {
                let length = self.length8()?;
                self.literal(opcode, length)?;
            }
            op::EMPTY_TUPLE => self.push(Node::Tuple(Box::default())),
            op::TUPLE1 => self.tuple_of(1)?,
            op::TUPLE2 => self.tuple_of(2)?,
            op::TUPLE3 => self.tuple_of(3)?,
            op::TUPLE => {
                let ids = self.pop_mark()?;
                self.push(Node::Tuple(ids.into()));
            }
            op::EMPTY_LIST => self.push(Node::List(Vec::new())),
            op::LIST => {
                let ids = self.pop_mark()?;
                self.push(Node::List(ids));
            }
            op::EMPTY_SET => self.push(Node::Set(Vec::new())),
            op::FROZENSET => {
                let ids = self.pop_mark()?;
                self.push(Node::Set(ids));
            }
            op::EMPTY_DICT => self.push(Node::Dict(Vec::new())),
            op::DICT => {
                let ids = self.pop_mark()?;
                let pairs = pairs(&ids)?;
                self.push(Node::Dict(pairs));
            }
            op::APPEND => {
                let id = self.pop()?;
                self.append(&[id])?;
            }
            op::APPENDS => {
                let ids = self.pop_mark()?;
                self.append(&ids)?;
            }
            op::ADDITEMS => {
                let ids = self.pop_mark()?;
                let set = self.top()?;
                match &mut self.arena.nodes[set as usize] {
                    Node::Set(members) => members.extend(ids),
                    _ => return refuse(format!("members are added to {}", self.arena.kind(set))),
                }
            }
            op::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[(key, value)])?;
            }
            op::SETITEMS => {
                let ids = self.pop_mark()?;
                let pairs = pairs(&ids)?;
                self.set_items(&pairs)?;
            }
            op::BINPUT => {
                let slot = u32::from(self.byte()?);
                self.memoize(slot)?;
            }
            op::LONG_BINPUT => {
                let slot = u32::from_le_bytes(self.array::<4>()?);
                self.memoize(slot)?;
            }
            op::MEMOIZE => {
                let slot = u32::try_from(self.memo.len()).expect("the opcode limit keeps the memo small");
                self.memoize(slot)?;
            }
            op::BINGET => {
                let slot = u32::from(self.byte()?);
                self.recall(slot)?;
            }
            op::LONG_BINGET => {
                let slot = u32::from_le_bytes(self.array::<4>()?);
                self.recall(slot)?;
            }
            op::GLOBAL => {
                let module = self.line()?;
                let name = self.line()?;
                self.push_global(&module, &name)?;
            }
            op::STACK_GLOBAL => {
                let name = self.pop()?;
                let module = self.pop()?;
                match (self.arena.node(module), self.arena.node(name)) {
                    (&Node::Str(module), &Node::Str(name)) => self.push(Node::Global { module, name }),
                    _ => return refuse("a global is named by something that is no string"),
                }
                globals::check(&self.arena, self.top()?)?;
            }
            op::REDUCE => {
                let args = self.pop()?;
                let function = self.pop()?;
                let id = globals::reduce(self, function, args)?;
                self.stack.push(id);
            }
            op::NEWOBJ => {
                let args = self.pop()?;
                let class = self.pop()?;
                let id = globals::new_object(self, class, args)?;
                self.stack.push(id);
            }
            op::NEWOBJ_EX => {
                let _keywords = self.pop()?;
                let args = self.pop()?;
                let class = self.pop()?;
                let id = globals::new_object(self, class, args)?;
                self.stack.push(id);
            }
            op::BUILD => {
                let state = self.pop()?;
                let target = self.top()?;
                // The state of a known container (an OrderedDict's `_metadata`) says nothing about weights.
                if let Node::Object(object) = &mut self.arena.nodes[target as usize] {
                    object.state = Some(state);
                }
            }
            op::BINPERSID => {
                let reference = self.pop()?;
                let id = globals::persistent(self, reference)?;
                self.stack.push(id);
            }
            other => {
                return refuse(format!(
                    "the instruction {other:#04x} is unknown, or none that a weight file needs"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn object(&mut self, class: Id, args: Id) -> Id {
        let object = Object { class, args, state: None, list: Vec::new(), items: Vec::new() };
        self.arena.push(Node::Object(Box::new(object)))
    }

    /// A copy costs what its original did, but an original may be copied by every instruction.
    pub(super) fn count_copied(&mut self, members: usize) -> Parse<()> {
        self.copied = self.copied.saturating_add(members);
        if self.copied > self.limits.instructions {
            return refuse("it copies its containers over and over");
        }
        Ok(())
    }

    fn push(&mut self, node: Node) {
        let id = self.arena.push(node);
        self.stack.push(id);
    }

    fn push_global(&mut self, module: &Range<usize>, name: &Range<usize>) -> Parse<()> {
        self.push(Node::Global { module: Arena::span(module), name: Arena::span(name) });
        globals::check(&self.arena, self.top()?)
    }

    fn pop(&mut self) -> Parse<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(id) if self.stack.len() >= floor => Ok(id),
            _ => refuse("it takes more values than it made"),
        }
    }

    fn top(&self) -> Parse<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&id) if self.stack.len() > floor => Ok(id),
            _ => refuse("it uses a value before making one"),
        }
    }

    fn pop_mark(&mut self) -> Parse<Vec<Id>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => refuse("it closes a container that it did not open"),
        }
    }

    fn tuple_of(&mut self, length: usize) -> Parse<()> {
        let mut ids = vec![0; length];
        for id in ids.iter_mut().rev() {
            *id = self.pop()?;
        }
        self.push(Node::Tuple(ids.into()));
        Ok(())
    }

    fn append(&mut self, ids: &[Id]) -> Parse<()> {
        let list = self.top()?;
        match &mut self.arena.nodes[list as usize] {
            Node::List(members) => members.extend_from_slice(ids),
            Node::Object(object) => object.list.extend_from_slice(ids),
            _ => return refuse(format!("values are appended to {}", self.arena.kind(list))),
        }
        Ok(())
    }

    fn set_items(&mut self, pairs: &[(Id, Id)]) -> Parse<()> {
        let dict = self.top()?;
        match &mut self.arena.nodes[dict as usize] {
            Node::Dict(items) => items.extend_from_slice(pairs),
            Node::Object(object) => object.items.extend_from_slice(pairs),
            _ => return refuse(format!("items are set on {}", self.arena.kind(dict))),
        }
        Ok(())
    }

    fn memoize(&mut self, slot: u32) -> Parse<()> {
        let id = self.top()?;
        self.memo.insert(slot, id);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Parse<()> {
        match self.memo.get(&slot) {
            Some(&id) => {
                self.stack.push(id);
                Ok(())
            }
            None => refuse(format!("it recalls value {slot}, which it did not store")),
        }
    }

    fn literal(&mut self, opcode: u8, length: usize) -> Parse<()> {
        let range = self.take(length)?;
        let span = Arena::span(&range);
        let is_text = std::str::from_utf8(&self.arena.source()[range]).is_ok();
        let node = match opcode {
            op::SHORT_BINBYTES | op::BINBYTES | op::BINBYTES8 | op::BYTEARRAY8 => Node::Bytes(span),
            // Python 2's `str` may be either.
            op::SHORT_BINSTRING | op::BINSTRING if !is_text => Node::Bytes(span),
            _ if !is_text => return refuse("a string is not UTF-8"),
            _ => Node::Str(span),
        };
        self.push(node);
        Ok(())
    }

    fn integer(&mut self, length: usize) -> Parse<()> {
        let most = self.limits.integer_bytes;
        if length > most {
            return refuse(format!("an integer of {length} bytes; at most {most} are read"));
        }
        let range = self.take(length)?;
        let bytes = &self.arena.source()[range];
        let node = if length <= 8 {
            let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
            let mut full = [if negative { 0xff } else { 0 }; 8];
            full[..length].copy_from_slice(bytes);
            Node::Int(i64::from_le_bytes(full))
        } else {
            Node::BigInt
        };
        self.push(node);
        Ok(())
    }

    /// The rest of a line of text, and the newline after it is consumed.
    fn line(&mut self) -> Parse<Range<usize>> {
        let rest = &self.arena.source()[self.at..];
        // Names of Python modules and classes are short; a longer line is no name.
        let Some(length) = rest.iter().take(512).position(|&b| b == b'\n') else {
            return refuse("the name of a global does not end");
        };
        if std::str::from_utf8(&rest[..length]).is_err() {
            return refuse("the name of a global is not UTF-8");
        }
        let range = self.at..self.at + length;
        self.at += length + 1;
        Ok(range)
    }

    fn take(&mut self, length: usize) -> Parse<Range<usize>> {
        let left = self.arena.source().len() - self.at;
        if length > left {
            return refuse(format!("a value of {length} bytes is declared where {left} are left"));
        }
        let range = self.at..self.at + length;
        self.at += length;
        Ok(range)
    }

    fn array<const N: usize>(&mut self) -> Parse<[u8; N]> {
        let range = self.take(N)?;
        Ok(*self.arena.source()[range].first_chunk().expect("`take` gives N bytes"))
    }

    fn byte(&mut self) -> Parse<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn length4(&mut self) -> Parse<usize> {
        let bytes = self.array::<4>()?;
        Ok(u32::from_le_bytes(bytes) as usize)
    }

    fn length8(&mut self) -> Parse<usize> {
        let length = u64::from_le_bytes(self.array::<8>()?);
        usize::try_from(length).map_err(|_| Refusal(format!("a value of {length} bytes is declared")))
    }
}

fn pairs(ids: &[Id]) -> Parse<Vec<(Id, Id)>> {
    let (pairs, rest) = ids.as_chunks::<2>();
    if !rest.is_empty() {
        return refuse("a dict has a key without a value");
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

/// Opcodes by their names in `pickletools`.
mod op {
    pub(super) const MARK: u8 = b'(';
    pub(super) const STOP: u8 = b'.';
    pub(super) const POP: u8 = b'0';
    pub(super) const POP_MARK: u8 = b'1';
    pub(super) const DUP: u8 = b'2';
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const NONE: u8 = b'N';
    pub(super) const BINPERSID: u8 = b'Q';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const BINSTRING: u8 = b'T';
    pub(super) const SHORT_BINSTRING: u8 = b'U';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const BUILD: u8 = b'b';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const DICT: u8 = b'd';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const LIST: u8 = b'l';
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const LONG_BINPUT: u8 = b'r';
    pub(super) const SETITEM: u8 = b's';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const NEWOBJ: u8 = 0x81;
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const LONG4: u8 = 0x8b;
    pub(super) const BINBYTES: u8 = b'B';
    pub(super) const SHORT_BINBYTES: u8 = b'C';
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const BINUNICODE8: u8 = 0x8d;
    pub(super) const BINBYTES8: u8 = 0x8e;
    pub(super) const EMPTY_SET: u8 = 0x8f;
    pub(super) const ADDITEMS: u8 = 0x90;
    pub(super) const FROZENSET: u8 = 0x91;
    pub(super) const NEWOBJ_EX: u8 = 0x92;
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const FRAME: u8 = 0x95;
    pub(super) const BYTEARRAY8: u8 = 0x96;
}
