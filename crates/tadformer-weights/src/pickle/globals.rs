//! What a pickle may name: the few functions whose meaning is known here, data classes that stay unmade, and the rest,
//! which is refused.
//!
//! The known functions are those that `torch.save` writes (`torch/_utils.py`, `torch/serialization.py`); their
//! arguments are read as facts about tensors. No function is ever called.

use crate::dtype::Dtype;
use crate::error::{Parse, Refusal, refuse};

use super::arena::{Arena, Id, Node, StorageSpec, TensorSpec};
use super::machine::Machine;

/// Modules whose functions act instead of describing data. An unknown name elsewhere stays an unmade object and would
/// do no harm either; these are refused because a file that names them was made to attack other readers.
const ACTING_MODULES: &[&str] = &[
    "asyncio",
    "bdb",
    "code",
    "codeop",
    "commands",
    "ctypes",
    "ftplib",
    "http",
    "imp",
    "importlib",
    "marshal",
    "multiprocessing",
    "nt",
    "os",
    "pdb",
    "pickle",
    "pip",
    "posix",
    "profile",
    "pty",
    "requests",
    "runpy",
    "shutil",
    "signal",
    "smtplib",
    "socket",
    "subprocess",
    "sys",
    "telnetlib",
    "threading",
    "timeit",
    "urllib",
    "webbrowser",
];

/// The names of Python's built-in module that stand for data.
const DATA_BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "unicode",
    "long",
];

/// Refuses a global that no weight file has a reason to name.
pub(super) fn check(arena: &Arena, id: Id) -> Parse<()> {
    let Some((module, name)) = arena.global(id) else { return Ok(()) };
    let root = module.split('.').next().unwrap_or(module);
    let acts = match root {
        "builtins" | "__builtin__" => !DATA_BUILTINS.contains(&name),
        root => ACTING_MODULES.contains(&root),
    };
    if acts {
        return refuse(format!(
            "it asks to call `{module}.{name}`: it is a program, not weights; do not use it anywhere"
        ));
    }
    Ok(())
}

/// What `function(*args)` would be: a tensor or container if the function is known, else an unmade object.
pub(super) fn reduce(machine: &mut Machine, function: Id, args: Id) -> Parse<Id> {
    let arena = &machine.arena;
    let Some((module, name)) = arena.global(function) else {
        return Ok(machine.object(function, args));
    };
    let Some(arguments) = arena.tuple(args) else {
        return refuse(format!(
            "`{module}.{name}` is given {} instead of a tuple of arguments",
            arena.kind(args)
        ));
    };
    let arguments: Vec<Id> = arguments.to_vec();
    match (module, name) {
        ("torch._utils", "_rebuild_tensor") => {
            expect(name, &arguments, 4, 4)?;
            tensor(machine, &arguments, None, None)
        }
        ("torch._utils", "_rebuild_tensor_v2") => {
            expect(name, &arguments, 6, 7)?;
            tensor(machine, &arguments, None, arguments.get(6))
        }
        ("torch._utils", "_rebuild_tensor_v3") => {
            expect(name, &arguments, 7, 8)?;
            let dtype = dtype_of_global(arena, arguments[6])?;
            tensor(machine, &arguments, Some(dtype), arguments.get(7))
        }
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            expect(name, &arguments, 3, 4)?;
            match arena.node(arguments[0]) {
                Node::Tensor(_) => Ok(arguments[0]),
                _ => refuse(format!("a parameter is made of {}", arena.kind(arguments[0]))),
            }
        }
        ("torch._tensor", "_rebuild_from_type_v2") => {
            expect(name, &arguments, 4, 4)?;
            reduce_inner(machine, &arguments)
        }
        ("collections", "OrderedDict") if !arguments.is_empty() => ordered_dict(machine, &arguments),
        ("collections", "OrderedDict" | "defaultdict") => Ok(machine.arena.push(Node::Dict(Vec::new()))),
        ("torch", "Size") => {
            expect(name, &arguments, 1, 1)?;
            Ok(arguments[0])
        }
        ("builtins" | "__builtin__", "set" | "frozenset" | "list" | "tuple") => {
            sequence(machine, function, args, &arguments)
        }
        ("_codecs", "encode") => latin1(machine, function, args, &arguments),
        _ => Ok(machine.object(function, args)),
    }
}

/// What `class.__new__(class, *args)` would be.
pub(super) fn new_object(machine: &mut Machine, class: Id, args: Id) -> Parse<Id> {
    match machine.arena.global(class) {
        Some(("collections", "OrderedDict")) => Ok(machine.arena.push(Node::Dict(Vec::new()))),
        Some(_) => Ok(machine.object(class, args)),
        None => refuse(format!("it makes an object of {}, which is no class", machine.arena.kind(class))),
    }
}

/// A persistent reference: PyTorch uses them for storages only, as
/// `("storage", storage class, key, device, number of elements[, view])`.
pub(super) fn persistent(machine: &mut Machine, reference: Id) -> Parse<Id> {
    let arena = &machine.arena;
    let Some(parts) = arena.tuple(reference).filter(|parts| (5..=6).contains(&parts.len())) else {
        return refuse("a reference to a storage does not have 5 or 6 parts");
    };
    if arena.str(parts[0]) != Some("storage") {
        return refuse(format!(
            "it refers to {} outside of the file; only storages are read",
            arena.kind(parts[0])
        ));
    }
    if let Some(&view) = parts.get(5)
        && !matches!(arena.node(view), Node::None)
    {
        return refuse("it holds a storage that is a view of another; save it again with a newer PyTorch");
    }
    let dtype = storage_dtype(arena, parts[1])?;
    let Some(key) = arena.str(parts[2]) else {
        return refuse(format!("a storage has {} for a key", arena.kind(parts[2])));
    };
    let Some(numel) = arena.size(parts[4]) else {
        return refuse(format!("the storage `{key}` has {} for a size", arena.kind(parts[4])));
    };
    if numel.checked_mul(dtype.map_or(1, Dtype::size)).is_none() {
        return refuse(format!("the storage `{key}` claims {numel} elements"));
    }
    let key = key.to_owned();
    let spec = StorageSpec { key, dtype, numel };
    let known = machine.storages.get(&(spec.key.clone(), numel)).copied();
    let index = match known.filter(|&index| machine.arena.storages[index as usize] == spec) {
        Some(index) => index,
        None => {
            let index = u32::try_from(machine.arena.storages.len()).expect("the opcode limit is below 2^32");
            machine.storages.insert((spec.key.clone(), numel), index);
            machine.arena.storages.push(spec);
            index
        }
    };
    Ok(machine.arena.push(Node::Storage(index)))
}

/// `None` for an untyped storage.
fn storage_dtype(arena: &Arena, class: Id) -> Parse<Option<Dtype>> {
    let Some((module, name)) = arena.global(class) else {
        return refuse(format!("a storage has {} for a class", arena.kind(class)));
    };
    let is_torch = matches!(module, "torch" | "torch.storage" | "torch.cuda");
    let dtype = match name {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "UntypedStorage" if is_torch => return Ok(None),
        _ => {
            return refuse(format!(
                "storages of `{module}.{name}` are not read (complex or quantised numbers?)"
            ));
        }
    };
    if !is_torch {
        return refuse(format!("`{module}.{name}` is no storage of PyTorch"));
    }
    Ok(Some(dtype))
}

fn dtype_of_global(arena: &Arena, id: Id) -> Parse<Dtype> {
    Ok(match arena.global(id) {
        Some(("torch", "float32")) => Dtype::F32,
        Some(("torch", "float64")) => Dtype::F64,
        Some(("torch", "float16")) => Dtype::F16,
        Some(("torch", "bfloat16")) => Dtype::BF16,
        Some(("torch", "int64")) => Dtype::I64,
        Some(("torch", "int32")) => Dtype::I32,
        Some(("torch", "int16")) => Dtype::I16,
        Some(("torch", "int8")) => Dtype::I8,
        Some(("torch", "uint64")) => Dtype::U64,
        Some(("torch", "uint32")) => Dtype::U32,
        Some(("torch", "uint16")) => Dtype::U16,
        Some(("torch", "uint8")) => Dtype::U8,
        Some(("torch", "bool")) => Dtype::Bool,
        _ => return refuse(format!("a tensor has {} for an element type", arena.kind(id))),
    })
}

/// A tensor from storage, offset, size and stride, with the flags that may follow; the view is checked to lie inside the
/// storage and not to repeat its elements, so that making it contiguous cannot need more memory than the file holds.
fn tensor(machine: &mut Machine, arguments: &[Id], dtype: Option<Dtype>, metadata: Option<&Id>) -> Parse<Id> {
    let arena = &machine.arena;
    let &Node::Storage(storage) = arena.node(arguments[0]) else {
        return refuse(format!("a tensor views {} instead of a storage", arena.kind(arguments[0])));
    };
    let spec = &arena.storages[storage as usize];
    let Some(dtype) = dtype.or(spec.dtype) else {
        return refuse(format!("a tensor views the untyped storage `{}` without an element type", spec.key));
    };
    let numel = spec.bytes() / dtype.size();
    let Some(offset) = arena.size(arguments[1]) else {
        return refuse(format!("a tensor has {} for an offset", arena.kind(arguments[1])));
    };
    let shape = sizes(arena, arguments[2], "shape", machine.limits.rank)?;
    let strides = sizes(arena, arguments[3], "strides", machine.limits.rank)?;
    if shape.len() != strides.len() {
        return refuse(format!("a tensor of shape {shape:?} has {} strides", strides.len()));
    }
    check_view(&shape, &strides, offset, numel)?;
    let negated = metadata.map_or(Ok(false), |&flags| is_negated(arena, flags, dtype))?;
    let index = u32::try_from(arena.tensors.len()).expect("the opcode limit is below 2^32");
    machine.arena.tensors.push(TensorSpec { storage, dtype, offset, shape, strides, negated });
    Ok(machine.arena.push(Node::Tensor(index)))
}

/// Checks that a view lies inside its storage of `numel` elements and does not repeat them; offset and strides are in
/// elements.
fn check_view(shape: &[usize], strides: &[usize], offset: usize, numel: usize) -> Parse<()> {
    let outside = || {
        Refusal(format!(
            "a tensor of shape {shape:?}, strides {strides:?} and offset {offset} does not lie in its storage of {numel} elements"
        ))
    };
    let elements = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side)).ok_or_else(outside)?;
    if elements == 0 {
        return Ok(());
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |last, (&side, &stride)| last.checked_add((side - 1).checked_mul(stride)?));
    if last.is_none_or(|last| last >= numel) {
        return Err(outside());
    }
    if elements > numel {
        return refuse(format!(
            "a tensor of shape {shape:?} repeats the {numel} elements of its storage; save it with `.contiguous()`"
        ));
    }
    Ok(())
}

/// Whether the tensor's numbers are those of its storage with the other sign: PyTorch keeps a negation (`_neg_view`, the
/// imaginary part of a conjugate) as a flag in the metadata of the tensor, and so does a file.
fn is_negated(arena: &Arena, metadata: Id, dtype: Dtype) -> Parse<bool> {
    let flags = match arena.node(metadata) {
        Node::None => return Ok(false),
        Node::Dict(flags) => flags,
        _ => return refuse(format!("a tensor has {} for its flags", arena.kind(metadata))),
    };
    let mut negated = false;
    for &(key, value) in flags {
        match (arena.str(key), arena.node(value)) {
            (Some("neg" | "conj"), Node::Bool(false)) => {}
            (Some("neg"), Node::Bool(true)) if dtype.is_float() => negated = true,
            (flag, _) => {
                return refuse(format!(
                    "a tensor of {dtype} carries the flag `{}`, by which its numbers are others than those stored; save it \
                     with `.resolve_conj().resolve_neg()`",
                    flag.unwrap_or("?")
                ));
            }
        }
    }
    Ok(negated)
}

fn sizes(arena: &Arena, id: Id, what: &str, most: usize) -> Parse<Vec<usize>> {
    let Some(ids) = arena.tuple(id) else {
        return refuse(format!("a tensor has {} for its {what}", arena.kind(id)));
    };
    if ids.len() > most {
        return refuse(format!("a tensor has {} dimensions; at most {most} are read", ids.len()));
    }
    let sizes: Option<Vec<usize>> = ids.iter().map(|&id| arena.size(id)).collect();
    sizes.ok_or_else(|| Refusal(format!("a tensor's {what} holds something that is no size")))
}

/// `_rebuild_from_type_v2(function, type, args, state)`: the tensor that `function` makes, its type and state dropped.
fn reduce_inner(machine: &mut Machine, arguments: &[Id]) -> Parse<Id> {
    let inner = machine.arena.global(arguments[0]);
    // One level only: the function it wraps is a plain `_rebuild_…`, and recursion is not for the file to choose.
    if matches!(inner, Some(("torch._utils", _))) {
        return reduce(machine, arguments[0], arguments[2]);
    }
    refuse(format!("a tensor subclass is made by {}", machine.arena.kind(arguments[0])))
}

/// `OrderedDict([(key, value), …])`.
fn ordered_dict(machine: &mut Machine, arguments: &[Id]) -> Parse<Id> {
    expect("OrderedDict", arguments, 1, 1)?;
    let arena = &machine.arena;
    let initial = arguments[0];
    let (Node::List(members) | Node::Set(members)) = arena.node(initial) else {
        return refuse(format!("an OrderedDict is made from {}", arena.kind(initial)));
    };
    let pair = |&id: &Id| match (arena.tuple(id), arena.node(id)) {
        (Some(&[key, value]), _) => Some((key, value)),
        (None, Node::List(ids)) => ids.as_slice().try_into().ok().map(|[key, value]: [Id; 2]| (key, value)),
        _ => None,
    };
    let Some(pairs) = members.iter().map(pair).collect::<Option<Vec<(Id, Id)>>>() else {
        return refuse("an OrderedDict is made from something that is no pair");
    };
    machine.count_copied(pairs.len())?;
    Ok(machine.arena.push(Node::Dict(pairs)))
}

fn sequence(machine: &mut Machine, function: Id, args: Id, arguments: &[Id]) -> Parse<Id> {
    let arena = &machine.arena;
    let members: Vec<Id> = match arguments {
        [] => Vec::new(),
        [from] => match arena.node(*from) {
            Node::List(ids) | Node::Set(ids) => ids.clone(),
            Node::Tuple(ids) => ids.to_vec(),
            _ => return Ok(machine.object(function, args)),
        },
        _ => return refuse(format!("a sequence is made from {} arguments", arguments.len())),
    };
    machine.count_copied(members.len())?;
    let node = match machine.arena.global(function) {
        Some((_, "list")) => Node::List(members),
        Some((_, "tuple")) => Node::Tuple(members.into()),
        _ => Node::Set(members),
    };
    Ok(machine.arena.push(node))
}

/// `encode(text, "latin1")`, by which protocol 2 writes bytes.
fn latin1(machine: &mut Machine, function: Id, args: Id, arguments: &[Id]) -> Parse<Id> {
    let arena = &machine.arena;
    if let &[text, encoding] = arguments
        && let &Node::Str(span) = arena.node(text)
        && matches!(arena.str(encoding), Some("latin1" | "latin-1"))
    {
        if arena.text(span).chars().any(|c| u32::from(c) > 0xff) {
            return refuse("bytes are written with characters beyond Latin-1");
        }
        return Ok(machine.arena.push(Node::Latin1(span)));
    }
    Ok(machine.object(function, args))
}

fn expect(name: &str, arguments: &[Id], least: usize, most: usize) -> Parse<()> {
    if (least..=most).contains(&arguments.len()) {
        return Ok(());
    }
    refuse(format!("`{name}` has {} arguments, expected {least} to {most}", arguments.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_beyond_what_can_be_counted_are_refused() {
        let refused =
            |shape: &[usize], strides: &[usize], offset| check_view(shape, strides, offset, 1).unwrap_err().0;
        let half = 1 << (usize::BITS / 2);
        assert!(refused(&[half, half], &[0, 0], 0).contains("does not lie in its storage of 1 elements"));
        assert!(refused(&[2], &[usize::MAX], 1).contains("does not lie"));
        assert!(refused(&[3], &[usize::MAX], 0).contains("does not lie"));
        assert!(refused(&[1], &[1], usize::MAX).contains("does not lie"));
        assert!(refused(&[half, half, 0], &[1, 1, 1], 0).contains("does not lie"));
        check_view(&[0, half, half], &[1, 1, 1], 7, 1).unwrap();
    }
}
