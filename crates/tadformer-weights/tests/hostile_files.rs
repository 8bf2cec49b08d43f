//! Files that ask for more than a weight file needs: each is refused with its reason, and in little memory.
//!
//! Every case goes a little beyond a limit, where need be one that was lowered for it, and would do no other reader any harm:
//! what is named as code is the name of nothing. This binary counts what each thread allocates: a case has a thread of its own,
//! and so its own peak.

mod torch_file;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use tadformer_weights::{Checkpoint, FileLimits, StateDict};
use torch_file::{Entry, Pickle, zip};

struct Counting;

thread_local! {
    // Constant and without destructor: reading them allocates nothing.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    NOW.set(NOW.get() + bytes);
    PEAK.set(PEAK.get().max(NOW.get()));
}

// SAFETY: every call is passed on to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that reading one of these files may take beside the file itself.
const MOST: isize = 1 << 20;

/// Runs `read`; returns its result and the most memory it held at once.
fn measured<T>(read: impl FnOnce() -> T) -> (T, isize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = read();
    (result, PEAK.get() - before)
}

/// Reads a file that must be refused with `reason`, in little memory.
fn check_refused(file: Vec<u8>, reason: &str) {
    check_refused_within(&FileLimits::default(), file, reason);
}

fn check_refused_within(limits: &FileLimits, file: Vec<u8>, reason: &str) {
    let length = file.len();
    let (result, peak) = measured(|| StateDict::from_bytes_within(Path::new("evil.pth"), file, limits));
    let message = result.expect_err(reason).to_string();
    assert!(message.contains(reason), "expected `{reason}` in: {message}");
    assert!(message.contains("evil.pth"), "{message}");
    assert!(peak < MOST, "{peak} bytes for a file of {length}: {message}");
}

/// A ZIP checkpoint of this pickle and one storage `0` of four bytes.
fn checkpoint(pickle: Pickle) -> Vec<u8> {
    zip(&[Entry::stored("x/data.pkl", &pickle.end()), Entry::stored("x/data/0", &[0; 4])])
}

/// A dict with one tensor `w`, whose arguments `arguments` pushes.
fn with_tensor(arguments: impl FnOnce(Pickle) -> Pickle) -> Vec<u8> {
    let pickle = Pickle::new(2).dict().text("w").global("torch._utils", "_rebuild_tensor_v2").mark();
    checkpoint(arguments(pickle).tuple().reduce().set_item())
}

/// `storage, offset, size, stride, requires_grad, hooks` for one element of storage `0`, with this shape and stride.
fn shaped(shape: &[i32], strides: &[i32]) -> Vec<u8> {
    with_tensor(|p| p.storage("FloatStorage", "0", 1).int(0).ints(shape).ints(strides).none().none())
}

#[test]
fn the_measure_sees_what_is_held() {
    let ((), peak) = measured(|| drop(std::hint::black_box(vec![1u8; 3 << 20])));
    assert!((3 << 20..4 << 20).contains(&peak), "{peak}");
}

#[test]
fn the_same_writer_makes_files_that_are_read() {
    let dict = StateDict::from_bytes(Path::new("good.pth"), shaped(&[1], &[1])).unwrap();
    assert_eq!(dict.get("w").unwrap().to_f32(), [0.0]);
}

#[test]
fn a_name_in_a_module_that_acts_is_refused() {
    for module in ["os", "posix", "builtins", "subprocess", "__builtin__", "runpy", "os.path"] {
        for protocol in [2, 4] {
            let pickle = Pickle::new(protocol)
                .dict()
                .text("w")
                .global(module, "name_of_nothing")
                .text("an argument")
                .tuple1()
                .reduce()
                .set_item();
            check_refused(checkpoint(pickle), &format!("it asks to call `{module}.name_of_nothing`"));
        }
    }
}

#[test]
fn an_unknown_class_stays_an_unmade_object() {
    let pickle = Pickle::new(2)
        .dict()
        .text("x")
        .global("mylib.models", "Model")
        .empty_tuple()
        .new_object()
        .dict()
        .build()
        .set_item();
    let file = checkpoint(pickle);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    std::fs::write(&path, &file).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    let object = read.root().get("x").unwrap();
    assert_eq!(object.class(), Some(("mylib.models", "Model")));
    assert!(object.state().is_some());
    check_refused(file, "holds no state dict");
}

#[test]
fn short_tuples_are_refused() {
    check_refused(with_tensor(|p| p), "`_rebuild_tensor_v2` has 0 arguments");
    check_refused(with_tensor(|p| p.storage("FloatStorage", "0", 1).int(0)), "has 2 arguments");
    let pickle = Pickle::new(2).dict().text("w").text("storage").tuple1().persistent().set_item();
    check_refused(checkpoint(pickle), "does not have 5 or 6 parts");
    let pickle = Pickle::new(2).dict().text("w").empty_tuple().persistent().set_item();
    check_refused(checkpoint(pickle), "does not have 5 or 6 parts");
}

#[test]
fn what_stands_for_many_values_costs_what_its_file_costs() {
    let mut pickle = Pickle::new(2).dict().text("w").list();
    for slot in 0..4u8 {
        // [x, x] again: 2^4 lists when written out, and four here.
        pickle = pickle.put(slot).pop().list().get(slot).append().get(slot).append();
    }
    check_refused(checkpoint(pickle.set_item()), "holds no state dict");
    // A list made of a list, over and over.
    let mut pickle = Pickle::new(2).dict().list().put(0).mark();
    for _ in 0..10 {
        pickle = pickle.int(1);
    }
    pickle = pickle.appends();
    for _ in 0..6 {
        pickle = pickle.global("builtins", "list").get(0).tuple1().reduce().pop();
    }
    let limits = FileLimits { instructions: 50, ..FileLimits::default() };
    check_refused_within(&limits, checkpoint(pickle), "copies its containers over and over");
}

#[test]
fn shapes_that_leave_the_storage_are_refused() {
    check_refused(shaped(&[1, 2], &[2, 1]), "does not lie in its storage of 1 elements");
    check_refused(shaped(&[2], &[0]), "save it with `.contiguous()`");
    check_refused(shaped(&[2], &[1]), "does not lie in its storage");
    check_refused(shaped(&[-1], &[1]), "something that is no size");
    check_refused(shaped(&[1], &[]), "has 0 strides");
    check_refused(shaped(&[1; 17], &[1; 17]), "has 17 dimensions; at most 16 are read");
    check_refused(
        with_tensor(|p| p.storage("FloatStorage", "0", 1).int(1).ints(&[1]).ints(&[1]).none().none()),
        "offset 1 does not lie",
    );
}

#[test]
fn storages_that_are_not_there_are_refused() {
    let claims = |numel| {
        with_tensor(|p| p.storage("FloatStorage", "0", numel).int(0).ints(&[1]).ints(&[1]).none().none())
    };
    check_refused(claims(2), "has 4 bytes and claims 8");
    check_refused(claims(-1), "for a size");
    let other = with_tensor(|p| p.storage("FloatStorage", "9", 1).int(0).ints(&[1]).ints(&[1]).none().none());
    check_refused(other, "the storage `9` is not in the archive");
    let path =
        with_tensor(|p| p.storage("FloatStorage", "data.pkl", 1).int(0).ints(&[1]).ints(&[1]).none().none());
    check_refused(path, "is not in the archive");
    let complex =
        with_tensor(|p| p.storage("ComplexFloatStorage", "0", 1).int(0).ints(&[1]).ints(&[1]).none().none());
    check_refused(complex, "ComplexFloatStorage` are not read");
}

#[test]
fn long_values_are_refused_before_they_are_allocated() {
    // After each of these come the end of the pickle and nothing else.
    let raw = |bytes: &[u8]| checkpoint(Pickle::new(4).raw(bytes));
    check_refused(raw(b"X\x02\0\0\0"), "a value of 2 bytes is declared where 1 are left");
    check_refused(raw(b"\x8d\x02\0\0\0\0\0\0\0"), "a value of 2 bytes is declared");
    check_refused(raw(b"\x95\x02\0\0\0\0\0\0\0"), "a frame of 2 bytes does not fit");
    let mut long = b"\x8a\x21".to_vec();
    long.extend([1; 33]);
    check_refused(raw(&long), "an integer of 33 bytes; at most 32 are read");
    check_refused(raw(b"\x8b\x21\0\0\0"), "an integer of 33 bytes");
    check_refused(raw(b"C\x05abc"), "a value of 5 bytes is declared where");
    check_refused(raw(b"cmylib\nmodel"), "the name of a global does not end");
}

#[test]
fn a_pickle_beyond_its_limit_is_refused() {
    let file = checkpoint(Pickle::new(2).dict().text("a note").none().set_item());
    let limits = FileLimits { pickle_bytes: 8, ..FileLimits::default() };
    check_refused_within(&limits, file, "its pickle is larger than 8 bytes");
}

#[test]
fn deep_nesting_is_refused() {
    let limits = FileLimits { depth: 4, ..FileLimits::default() };
    let check = |bytes: &[u8], reason| {
        check_refused_within(&limits, checkpoint(Pickle::new(2).raw(bytes)), reason);
    };
    check(b"(((((", "more than 4 containers are open at once");
    check(b"N\x85\x85\x85\x85\x85\x85", "nest deeper than 4");
    check(b"]]]]]]aaaaa", "nest deeper than 4");
    check(b"N\x85\x85\x85\x85", "holds no state dict");
}

#[test]
fn endless_instructions_are_refused_in_little_memory() {
    let limits = FileLimits { instructions: 3000, ..FileLimits::default() };
    for bytes in [&b"N"[..], b"(]t", b"]", b"}"] {
        let file = checkpoint(Pickle::new(2).raw(&bytes.repeat(3001 / bytes.len() + 1)));
        let (result, peak) = measured(|| StateDict::from_bytes_within(Path::new("long.pth"), file, &limits));
        let message = result.unwrap_err().to_string();
        assert!(message.contains("more than 3000 instructions"), "{message}");
        // The default limit of 500,000 is so many that this stays below 64 MiB.
        assert!(peak < 3000 * 134, "{peak} bytes for 3000 instructions like {bytes:?}");
    }
}

#[test]
fn a_container_that_holds_itself_is_no_endless_loop() {
    let pickle = Pickle::new(2).dict().put(0).text("self").get(0).set_item();
    check_refused(checkpoint(pickle), "holds no state dict");
    let pickle = Pickle::new(2).dict().put(0).text("model").get(0).set_item();
    check_refused(checkpoint(pickle), "holds no state dict");
}

#[test]
fn a_stack_that_runs_empty_is_refused() {
    for bytes in
        [&b"."[..], b"0", b"2", b"a", b"s", b"u", b"t", b"R", b"b", b"Q", b"(N)a", b"(s", b"\x94", b"h\x07"]
    {
        let file = checkpoint(Pickle::new(2).raw(bytes));
        let message = StateDict::from_bytes(Path::new("x"), file).unwrap_err().to_string();
        assert!(message.contains("(pickle, byte "), "{bytes:?}: {message}");
    }
    check_refused(checkpoint(Pickle::new(1)), "protocol 1; 2 to 5 are read");
    check_refused(checkpoint(Pickle::new(2).raw(b"\xff")), "instruction 0xff");
}

#[test]
fn a_transposed_view_many_times_over_is_refused() {
    let mut pickle = Pickle::new(2).dict();
    for n in 0..3 {
        pickle = pickle
            .text(&format!("w{n}"))
            .global("torch._utils", "_rebuild_tensor_v2")
            .mark()
            .storage("FloatStorage", "0", 4)
            .int(0)
            .ints(&[2, 2])
            .ints(&[1, 2])
            .none()
            .none()
            .tuple()
            .reduce()
            .set_item();
    }
    let file = zip(&[Entry::stored("x/data.pkl", &pickle.end()), Entry::stored("x/data/0", &[0; 16])]);
    check_refused(file, "larger than the storages they view");
}

/// One element of storage `0`, with the flag `key` in the tensor's metadata.
fn flagged(class: &str, key: &str) -> Vec<u8> {
    with_tensor(|p| {
        let view = p.storage(class, "0", 1).int(0).ints(&[1]).ints(&[1]);
        view.none().none().dict().text(key).raw(b"\x88").set_item()
    })
}

#[test]
fn flags_that_are_not_understood_are_refused() {
    check_refused(flagged("FloatStorage", "conj"), "carries the flag `conj`");
    check_refused(flagged("IntStorage", "neg"), "a tensor of i32 carries the flag `neg`");
    check_refused(flagged("FloatStorage", "new"), "carries the flag `new`");
}

#[test]
fn archives_that_lie_about_sizes_are_refused() {
    let pickle = Pickle::new(2).dict().end();
    let with = |entry: Entry| zip(&[Entry::stored("x/data.pkl", &pickle), entry]);
    let mut lie = Entry::stored("x/data/0", &[0; 4]);
    lie.size = 5;
    check_refused(with(lie), "is stored in 4 bytes and declares 5");
    // The table of contents and the record behind it have 116 bytes.
    let mut lie = Entry::stored("x/data/0", &[0; 4]);
    (lie.size, lie.packed_size) = (200, 200);
    check_refused(with(lie), "lies outside of the file");
    let mut more = Entry::deflated("x/data.pkl", &[b'N'; 50]);
    more.size = 49;
    check_refused(zip(&[more]), "unpacks to more than the 49 bytes");
    let mut less = Entry::deflated("x/data.pkl", &[b'N'; 50]);
    less.size = 51;
    check_refused(zip(&[less]), "unpacks to 50 bytes and declares 51");
    let mut sum = Entry::stored("x/data.pkl", &pickle);
    sum.crc ^= 1;
    check_refused(zip(&[sum]), "is damaged: checksum");
}

#[test]
fn sizes_in_zip64_fields_are_read_and_checked() {
    let pickle = |claimed| {
        let arguments = Pickle::new(2).dict().text("w").global("torch._utils", "_rebuild_tensor_v2").mark();
        let arguments =
            arguments.storage("FloatStorage", "0", claimed).int(0).ints(&[1]).ints(&[1]).none().none();
        arguments.tuple().reduce().set_item().end()
    };
    let with = |claimed, storage: Entry| zip(&[Entry::stored("x/data.pkl", &pickle(claimed)), storage]);
    let good = Entry { zip64: true, ..Entry::stored("x/data/0", &[0, 0, 128, 63]) };
    let dict = StateDict::from_bytes(Path::new("big.pth"), with(1, good.clone())).unwrap();
    assert_eq!(dict.get("w").unwrap().to_f32(), [1.0]);
    let lie = Entry { size: 400, packed_size: 400, ..good };
    check_refused(with(100, lie), "lies outside of the file");
}

#[test]
fn entries_that_unpack_to_implausibly_much_are_refused() {
    let limits = FileLimits { ratio: 4, free_bytes: 64, ..FileLimits::default() };
    let one = Entry::deflated("x/data.pkl", &[0; 65]);
    assert!(one.data.len() < 65 / 4, "{}", one.data.len());
    check_refused_within(&limits, zip(std::slice::from_ref(&one)), "more than 4:1 (a zip bomb?)");
    check_refused(zip(&[one]), "pickle");
    // None is too much by itself, and together they are.
    let zeros: Vec<Entry> = (0..8).map(|n| Entry::deflated(&format!("{n}"), &[0; 600])).collect();
    let limits = FileLimits { ratio: 1, free_bytes: 600, ..FileLimits::default() };
    check_refused_within(&limits, zip(&zeros), "unpack to more than its length allows");
}

#[test]
fn overlapping_and_repeated_entries_are_refused() {
    let pickle = Pickle::new(2).dict().end();
    let one = Entry::stored("x/data.pkl", &pickle);
    check_refused(zip(&[one.clone(), one.clone()]), "two entries named `x/data.pkl`");
    // The second local header lies inside of the first entry's data.
    let inner = zip(&[Entry::stored("x/data/0", &[7; 32])]);
    let mut outer = Entry::stored("x/data.pkl", &inner);
    outer.more_central.push((Entry::stored("x/data/0", &[7; 32]), 30 + "x/data.pkl".len() as u32));
    check_refused(zip(&[outer]), "entries of the archive overlap");
    let mut renamed = Entry::stored("x/data.pkl", &pickle);
    renamed.local_name = Some("x/data.bad".to_owned());
    check_refused(zip(&[renamed]), "another name in its local header");
}

#[test]
fn too_many_entries_are_refused() {
    let entries = ["x/data.pkl", "x/data/0", "x/data/1"].map(|name| Entry::stored(name, &[]));
    let limits = FileLimits { entries: 2, ..FileLimits::default() };
    check_refused_within(&limits, zip(&entries), "claims 3 entries; at most 2 are read");
}

#[test]
fn encrypted_and_unknown_compression_are_refused() {
    let mut entry = Entry::stored("x/data.pkl", b"");
    entry.flags = 1;
    check_refused(zip(&[entry]), "is encrypted");
    let mut entry = Entry::stored("x/data.pkl", b"");
    entry.method = 93;
    check_refused(zip(&[entry]), "uses compression method 93");
}

#[test]
fn headers_of_safetensors_that_lie_are_refused() {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let tensor = |shape: &str, end: &str| {
        format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    StateDict::from_bytes(Path::new("x"), file(&tensor("[2]", "8"), 8)).unwrap();
    check_refused(file(&tensor("[2]", "8"), 4), "other than the 4 bytes of tensors that are there");
    check_refused(file(&tensor("[2]", "8"), 12), "other than the 12 bytes of tensors that are there");
    check_refused(file(&tensor("[3]", "8"), 8), "safetensors file");
    check_refused(file(&tensor("[2]", "4"), 4), "safetensors file");
    let mut long = 3u64.to_le_bytes().to_vec();
    long.extend(b"{}");
    check_refused(long, "header claims 3 bytes in a file of 10");
    check_refused(Vec::new(), "it has 0 bytes");
    check_refused(b"<!DOCTYPE html><html>Sign in</html>".to_vec(), "it is an HTML or XML page");
    check_refused(b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), "Git LFS pointer");
    check_refused(b"\x80\x04K\x01.........".to_vec(), "a bare pickle");
}
