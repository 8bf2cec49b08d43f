//! A data set in a temporary folder, and the files to fill it with.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};

use image::ImageEncoder;
use image::codecs::jpeg::JpegEncoder;
use png::{BitDepth, ColorType};
use tadformer_data::{Result, Task, dataset};

/// A folder that is removed at the end of the test.
pub(crate) struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A copy of a miniature of `tests/data`.
    pub(crate) fn copy_of(name: &str) -> Self {
        let tree = Self::new();
        copy(&data(name), tree.root());
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// A `dataset.toml` with the given ids in `train.txt`, pictures `images/{id}.jpg`, and the given tasks.
    pub(crate) fn describe(&self, ids: &str, tasks: &str) -> &Self {
        let head = "name = \"mine\"\ntitle = \"mine\"\n[image]\nfiles = [\"images/{id}.jpg\"]\n\
                    [splits]\ntrain = { list = \"train.txt\" }\n";
        self.write("train.txt", ids).write("dataset.toml", format!("{head}{tasks}"))
    }
}

/// A task of three classes in `labels/{id}.png`.
pub(crate) const SEMSEG: &str = "[[tasks]]\ntask = \"semseg\"\nclasses = [\"a\", \"b\", \"c\"]\n\
                          palette = [[0, 0, 0], [1, 1, 1], [2, 2, 2]]\n[[tasks.sources]]\n\
                          file = \"labels/{id}.png\"\nencoding = { kind = \"class-ids\" }\n";

/// Depth in metres in `depth/{id}.npy`.
pub(crate) const DEPTH: &str = "[[tasks]]\ntask = \"depth\"\n[[tasks.sources]]\nfile = \"depth/{id}.npy\"\n\
                         encoding = { kind = \"metres\" }\n";

/// Normals in `normals/{id}.npy`.
pub(crate) const NORMALS: &str = "[[tasks]]\ntask = \"normals\"\n[[tasks.sources]]\nfile = \"normals/{id}.npy\"\n\
                           encoding = { kind = \"vectors\" }\n";

/// Opens the split `train` of a folder with the tasks of these names.
pub(crate) fn open(root: &Path, tasks: &[&str]) -> Result<Box<dyn tadformer_data::Dataset>> {
    dataset::open("folder", root, "train", &self::tasks(tasks))
}

/// The tasks of these names.
pub(crate) fn tasks(names: &[&str]) -> Vec<Task> {
    names.iter().map(|name| Task::from_name(name).unwrap()).collect()
}

/// The error of a result that must be one, with its causes.
pub(crate) fn refusal<T>(result: Result<T>) -> String {
    let error = result.err().expect("an error");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// A folder of `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A JPEG of this size.
pub(crate) fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i % 253) as u8).collect();
    let mut bytes = Vec::new();
    JpegEncoder::new(&mut bytes).write_image(&rgb, width, height, image::ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// The same with an orientation tag (EXIF 2.3, tag 274).
pub(crate) fn turned_jpeg(width: u32, height: u32, tag: u8) -> Vec<u8> {
    let plain = jpeg(width, height);
    // One entry of a little-endian TIFF directory: tag 274, type SHORT, one value.
    let exif =
        [b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[tag, 0, 0, 0], &[0; 4]]
            .concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&plain[..2], &[0xff, 0xe1], &length, &exif, &plain[2..]].concat()
}

/// A grey PNG of 16 bits.
pub(crate) fn grey16(width: u32, height: u32, samples: &[u16]) -> Vec<u8> {
    let bytes: Vec<u8> = samples.iter().flat_map(|v| v.to_be_bytes()).collect();
    png(width, height, ColorType::Grayscale, BitDepth::Sixteen, &bytes)
}

/// A PNG of any kind.
pub(crate) fn png(width: u32, height: u32, color: ColorType, depth: BitDepth, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == ColorType::Indexed {
        encoder.set_palette(vec![100; 3 << depth as usize]);
    }
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
    bytes
}

/// A palette PNG of eight bits.
pub(crate) fn palette(width: u32, height: u32, colours: &[[u8; 3]], samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(colours.concat());
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
    bytes
}

/// An eight-bit grey PNG.
pub(crate) fn grey(width: u32, height: u32, samples: &[u8]) -> Vec<u8> {
    png(width, height, ColorType::Grayscale, BitDepth::Eight, samples)
}

/// A `.npy` of `f32`.
pub(crate) fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    npy_of("<f4", shape, &data)
}

/// A `.npy` of any type.
pub(crate) fn npy_of(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// A level 5 `.mat` file of `matrix`.
pub(crate) fn mat(matrix: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b' '; 124];
    bytes.extend(b"\x00\x01IM");
    bytes.extend(matrix);
    bytes
}

/// A matrix of a `.mat` file: `class` 1 is a cell, 2 a struct, 9 bytes; `content` is what stands behind its name.
pub(crate) fn mat_matrix(class: u32, dims: [u32; 2], name: &str, content: &[u8]) -> Vec<u8> {
    let words = |words: [u32; 2]| words.map(u32::to_le_bytes).concat();
    let parts = [
        mat_element(6, &words([class, 0])),
        mat_element(5, &words(dims)),
        mat_element(1, name.as_bytes()),
        content.to_vec(),
    ];
    mat_element(14, &parts.concat())
}

/// An element of a `.mat` file: tag, payload, padding.
pub(crate) fn mat_element(kind: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [kind, payload.len() as u32].map(u32::to_le_bytes).concat();
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
