//! Whatever the bytes, the readers return, and what they allocate is bounded by what they are given.
//!
//! Valid files are damaged at random: bytes changed, runs cut out, doubled or zeroed, the end cut off. `PROPTEST_CASES`
//! raises the number of tries.

mod tree;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::Config;
use tadformer_data::Descriptor;
use tadformer_data::format::mat::{Document, Limits};
use tadformer_data::format::npy::Npy;
use tadformer_data::format::picture::Orientation;
use tadformer_data::format::{label_png, picture, tiff_ids};
use tiff::encoder::{TiffEncoder, colortype};

/// Counts what the current thread holds and has held at most.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // At the end of a thread its counters are gone before its last allocations are.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`, which is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` holds at once, in bytes.
fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before) as usize
}

/// A kind of file: valid ones, its reader, and how many bytes it may hold for each byte of the file.
struct Reader {
    valid: Vec<Vec<u8>>,
    read: fn(&[u8]),
    ratio: usize,
}

/// What every reader may hold besides.
const FIXED: usize = 2 << 20;

fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(tree::data(folder)).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|e| e == ending));
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn mat() -> Reader {
    let folders = ["mat", "pascal_mini/human_parts", "pascal_mini/pascal-context/trainval"];
    Reader {
        valid: folders.iter().flat_map(|folder| files(folder, "mat")).collect(),
        read: |bytes| {
            if let Ok(document) = Document::parse(bytes.to_vec(), Limits::default()) {
                let _ = document.variables();
            }
        },
        // Deflate's best, and the values that describe what was inflated.
        ratio: 1032 * 16,
    }
}

fn npy() -> Reader {
    Reader {
        valid: ["depth", "edge", "normals"]
            .iter()
            .flat_map(|f| files(&format!("nyud_mini/{f}"), "npy"))
            .collect(),
        read: |bytes| {
            if let Ok(array) = Npy::parse(bytes.to_vec()) {
                array.to_f32();
            }
        },
        ratio: 16,
    }
}

fn label() -> Reader {
    Reader {
        valid: ["pascal_mini/semseg/VOC12", "pascal_mini/sal_distill", "nyud_mini/segmentation"]
            .iter()
            .flat_map(|folder| files(folder, "png"))
            .collect(),
        read: |bytes| drop(label_png::parse(bytes)),
        // A one-bit sample becomes a byte.
        ratio: 1032 * 10,
    }
}

fn pictures() -> Reader {
    let jpegs = ["pictures", "pascal_mini/JPEGImages"].iter().flat_map(|folder| files(folder, "jpg"));
    Reader {
        valid: jpegs.chain(files("pascal_mini/normals_distill", "png")).collect(),
        read: |bytes| drop(picture::parse(bytes, Orientation::Upright)),
        // At most 1032 pixels for a byte; three bytes each, twice while they are turned, and the decoder's planes.
        ratio: 1032 * 24,
    }
}

fn tiffs() -> Reader {
    let ids: Vec<u32> = (0..400).map(|i| i * 24_001).collect();
    let mut bytes = std::io::Cursor::new(Vec::new());
    TiffEncoder::new(&mut bytes).unwrap().write_image::<colortype::Gray32>(20, 20, &ids).unwrap();
    // A byte of a strip becomes an id of four bytes.
    Reader { valid: vec![bytes.into_inner()], read: |bytes| drop(tiff_ids::parse(bytes)), ratio: 4096 * 6 }
}

/// One change of a file; places are shares of its length.
#[derive(Debug, Clone)]
enum Damage {
    Set(f64, u8),
    Word(f64, u32),
    Zero(f64, usize),
    Cut(f64, usize),
    Double(f64, usize),
    Truncate(f64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || 0.0..1.0f64;
    let word = prop_oneof![Just(u32::MAX), Just(1 << 31), Just(0x7fff_ffff), any::<u32>()];
    prop_oneof![
        6 => (place(), any::<u8>()).prop_map(|(at, v)| Damage::Set(at, v)),
        3 => (place(), word).prop_map(|(at, v)| Damage::Word(at, v)),
        1 => (place(), 1..64usize).prop_map(|(at, n)| Damage::Zero(at, n)),
        1 => (place(), 1..64usize).prop_map(|(at, n)| Damage::Cut(at, n)),
        1 => (place(), 1..64usize).prop_map(|(at, n)| Damage::Double(at, n)),
        1 => place().prop_map(Damage::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let len = bytes.len();
    let run = |at: f64, n: usize| {
        let start = (at * len as f64) as usize;
        start..(start + n).min(len)
    };
    match *damage {
        Damage::Set(at, v) => bytes[run(at, 1)].fill(v),
        Damage::Word(at, v) => {
            let run = run(at, 4);
            let size = run.len();
            bytes[run].copy_from_slice(&v.to_le_bytes()[..size]);
        }
        Damage::Zero(at, n) => bytes[run(at, n)].fill(0),
        Damage::Cut(at, n) => drop(bytes.drain(run(at, n))),
        Damage::Double(at, n) => {
            let run = run(at, n);
            let copy = bytes[run.clone()].to_vec();
            bytes.splice(run.start..run.start, copy);
        }
        Damage::Truncate(at) => bytes.truncate((at * len as f64) as usize),
    }
}

/// Writes the right check sums into the chunks of a PNG, so that the damage gets past them.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().unwrap()) as usize)
    {
        let end = at + 8 + length.min(bytes.len());
        if end + 4 > bytes.len() {
            break;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

fn config(default: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Damages the reader's files; half of the damage falls on the first 256 bytes, where the headers are.
fn survives(reader: &Reader, cases: u32) {
    for valid in &reader.valid {
        (reader.read)(valid);
    }
    let strategy = (0..reader.valid.len(), prop::collection::vec((damage(), any::<bool>()), 1..6));
    proptest::test_runner::TestRunner::new(config(cases))
        .run(&strategy, |(file, changes)| {
            let mut bytes = reader.valid[file].clone();
            for (change, at_the_head) in &changes {
                if *at_the_head && bytes.len() > 256 {
                    let mut head = bytes[..256].to_vec();
                    apply(&mut head, change);
                    bytes.splice(..256, head);
                } else if !bytes.is_empty() {
                    apply(&mut bytes, change);
                }
            }
            if bytes.starts_with(b"\x89PNG") {
                mend_png(&mut bytes);
            }
            let held = peak(|| (reader.read)(&bytes));
            let allowed = FIXED + reader.ratio * bytes.len();
            prop_assert!(
                held <= allowed,
                "{held} bytes held for a file of {}, {allowed} are allowed",
                bytes.len()
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn damaged_mat_files_are_survived() {
    survives(&mat(), 400);
}

#[test]
fn damaged_npy_files_are_survived() {
    survives(&npy(), 300);
}

#[test]
fn damaged_label_pngs_are_survived() {
    survives(&label(), 300);
}

#[test]
fn damaged_pictures_are_survived() {
    survives(&pictures(), 300);
}

#[test]
fn damaged_tiffs_are_survived() {
    survives(&tiffs(), 300);
}

#[test]
fn random_bytes_are_survived_by_every_reader() {
    let heads: [&[u8]; 6] =
        [b"", b"\x93NUMPY\x01\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*"];
    let readers = [mat(), npy(), label(), pictures(), tiffs()];
    proptest!(config(100), |(head in 0..heads.len(), tail in prop::collection::vec(any::<u8>(), 0..600))| {
        let bytes = [heads[head], &tail].concat();
        for reader in &readers {
            let held = peak(|| (reader.read)(&bytes));
            prop_assert!(held <= FIXED + reader.ratio * bytes.len());
        }
    });
}

#[test]
fn damaged_descriptors_are_survived() {
    let texts: Vec<String> =
        Descriptor::known().iter().map(|known| toml::to_string(known).unwrap()).collect();
    let changes = prop::collection::vec(damage(), 1..5);
    proptest!(config(100), |(which in 0..texts.len(), changes in changes)| {
        let mut bytes = texts[which].clone().into_bytes();
        for change in &changes {
            if !bytes.is_empty() {
                apply(&mut bytes, change);
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let held = peak(|| drop(Descriptor::parse(&text, Path::new("dataset.toml"))));
        prop_assert!(held <= FIXED + 200 * text.len());
    });
}

#[test]
fn a_kilobyte_that_claims_megabytes_is_refused_without_allocating_them() {
    // `.npy`: the shape alone.
    let array = tree::npy_of("<f8", "(125000,)", &[0; 900]);
    // PNG: a header of 8193 × 8193 pixels, a little more than may be.
    let mut png = tree::grey(4, 4, &[0; 16]);
    png[16..24].copy_from_slice(&[0, 0, 0x20, 1, 0, 0, 0x20, 1]);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    // TIFF: width and length.
    let mut tiff = tiffs().valid.remove(0);
    for tag in [[0x00, 0x01, 0x04, 0x00], [0x01, 0x01, 0x04, 0x00]] {
        let at =
            tiff.windows(4).position(|w| w == tag).expect("the encoder writes width and length as longs");
        tiff[at + 8..at + 12].copy_from_slice(&1800u32.to_le_bytes());
    }
    // MATLAB: a matrix of 300 × 400 doubles.
    let mut mat = files("mat", "mat").remove(1);
    let at = mat.windows(8).position(|w| w == [2, 0, 0, 0, 2, 0, 0, 0]).expect("the first matrix is 2 × 2");
    mat[at..at + 8].copy_from_slice(&[0x2c, 1, 0, 0, 0x90, 1, 0, 0]);

    let held = peak(|| {
        assert!(Npy::parse(array).unwrap_err().contains("1000000 bytes"));
        assert!(label_png::parse(&png).unwrap_err().contains("limit"));
        assert!(picture::parse(&png, Orientation::AsStored).unwrap_err().contains("limit"));
        assert!(tiff_ids::parse(&tiff).unwrap_err().contains("1800×1800 pixels cannot come from"));
        let document = Document::parse(mat, Limits::default()).unwrap();
        assert!(document.variables().unwrap_err().contains("960000 bytes"));
    });
    assert!(held < 1 << 18, "{held} bytes were held");
}
