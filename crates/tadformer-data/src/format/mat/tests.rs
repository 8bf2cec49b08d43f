use std::io::Write;

use super::*;

/// A level 5 element: tag, payload, padding.
fn element(kind: u32, payload: &[u8], big: bool) -> Vec<u8> {
    let mut bytes = [word(kind, big), word(payload.len() as u32, big)].concat();
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn word(value: u32, big: bool) -> [u8; 4] {
    if big { value.to_be_bytes() } else { value.to_le_bytes() }
}

/// A matrix of `class` with the given elements behind its name.
fn matrix(class: u32, dims: &[u32], name: &str, content: &[u8], big: bool) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&d| word(d, big)).collect();
    let mut payload = element(6, &[word(class, big), word(0, big)].concat(), big);
    payload.extend(element(5, &dims, big));
    payload.extend(element(1, name.as_bytes(), big));
    payload.extend_from_slice(content);
    element(14, &payload, big)
}

fn file(header: &str, elements: &[u8], big: bool) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(124, b' ');
    bytes.extend_from_slice(if big { b"\x01\x00MI" } else { b"\x00\x01IM" });
    bytes.extend_from_slice(elements);
    bytes
}

fn compressed(element: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(element).unwrap();
    let payload = encoder.finish().unwrap();
    let mut bytes = [15u32.to_le_bytes(), (payload.len() as u32).to_le_bytes()].concat();
    bytes.extend(payload);
    bytes
}

fn open(bytes: Vec<u8>) -> Decoded<Document> {
    Document::parse(bytes, Limits::default())
}

/// The reason for which `bytes` are refused, by either stage.
fn refusal(bytes: Vec<u8>) -> String {
    match open(bytes) {
        Err(reason) => reason,
        Ok(document) => document.variables().expect_err("the file must be refused"),
    }
}

fn fixture(name: &str) -> Document {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mat").join(name);
    Document::read(&path).unwrap()
}

#[test]
fn every_kind_that_scipy_writes_is_read_compressed_or_not() {
    for name in ["scipy_plain.mat", "scipy_compressed.mat"] {
        let document = fixture(name);
        let value = |name: &str| document.variable(name).unwrap();
        let numbers = |name: &str| value(name).as_numeric().unwrap().values().collect::<Vec<_>>();
        assert_eq!(numbers("doubles"), [1.5, 1e300, -2.0, 0.0]);
        assert_eq!(numbers("singles"), [0.25, 3.0]);
        assert_eq!(numbers("longs"), [-(2f64.powi(40)), 2f64.powi(40)]);
        assert_eq!(value("bytes").as_numeric().unwrap().as_bytes(), Some(&[0, 255][..]));
        assert!(value("logical").as_numeric().unwrap().logical);
        assert_eq!(numbers("logical"), [1.0, 0.0, 1.0]);
        assert_eq!(value("text").as_text(), Some("Grüße"));
        assert_eq!(numbers("complex"), [1.0]);
        assert_eq!(value("sparse").kind(), "sparse");
        assert!(value("empty").is_empty());
        let Value::Cell(cell) = value("cell") else { panic!("a cell is {}", value("cell").kind()) };
        let Value::Numeric(first) = &cell.values[0] else { panic!("a matrix in a cell") };
        assert_eq!((first.dims.as_slice(), first.get(1), first.get(6)), (&[2, 3][..], Some(3.0), None));
        assert_eq!(cell.values[1].as_text(), Some("text in a cell"));
        let objects = value("objects");
        let objects = objects.as_struct().unwrap();
        assert_eq!(
            (objects.len(), objects.fields.as_slice()),
            (2, &["name".to_owned(), "mask".to_owned()][..])
        );
        assert_eq!(objects.get(0, "name").unwrap().as_text(), Some("first"));
        assert_eq!(
            objects.get(0, "mask").unwrap().as_numeric().unwrap().to_u16().unwrap()[..4],
            [1, 0, 0, 0]
        );
        assert!(objects.get(1, "mask").unwrap().is_empty() && objects.get(1, "name").unwrap().is_empty());
        assert!(objects.get(2, "mask").is_none() && objects.get(0, "other").is_none());
        let error = document.variable("absent").unwrap_err();
        assert!(error.contains("`absent`") && error.contains("`doubles`"), "{error}");
    }
}

#[test]
fn header_texts_of_matlab_scipy_and_octave_are_alike() {
    let numbers = matrix(9, &[1, 2], "x", &element(2, &[7, 8], false), false);
    for header in
        ["MATLAB 5.0 MAT-file, Platform: GLNXA64", "MATLAB 5.0 MAT-file Platform: posix", "Octave", ""]
    {
        let document = open(file(header, &numbers, false)).unwrap();
        // Doubles that fit are stored as bytes.
        let value = document.variable("x").unwrap();
        assert_eq!(value.as_numeric().unwrap().values().collect::<Vec<_>>(), [7.0, 8.0]);
    }
}

#[test]
fn big_endian_files_give_the_same_numbers() {
    for (kind, payload, expected) in [
        (4, vec![0x01, 0x02], 258.0),
        (3, vec![0xff, 0xfe], -2.0),
        (5, vec![0xff, 0xff, 0xff, 0xfd], -3.0),
        (7, 1.25f32.to_be_bytes().to_vec(), 1.25),
        (9, 2.5f64.to_be_bytes().to_vec(), 2.5),
        (13, 9u64.to_be_bytes().to_vec(), 9.0),
    ] {
        let numbers = matrix(6, &[1, 1], "x", &element(kind, &payload, true), true);
        let document = open(file("MATLAB", &numbers, true)).unwrap();
        assert_eq!(document.variable("x").unwrap().as_scalar(), Some(expected));
    }
}

#[test]
fn other_versions_are_refused_with_the_remedy() {
    let mut new = file("MATLAB 7.3", &[], false);
    new[124..126].copy_from_slice(&[0, 2]);
    assert!(refusal(new).contains("-v7"));
    assert!(refusal(b"\x89HDF\r\n\x1a\n".to_vec()).contains("7.3"));
    let mut mark = file("MATLAB", &[], false);
    mark[126..128].copy_from_slice(b"XX");
    assert!(refusal(mark).contains("byte order"));
    assert!(refusal(vec![0; 10]).contains("128"));
    assert!(refusal(Vec::new()).contains("128"));
}

#[test]
fn claimed_sizes_are_checked_before_anything_is_allocated() {
    // Each claims a little more than there is: a cell, an element of 16 bytes, a struct of two entries.
    let half = 1 << (usize::BITS / 2);
    assert!(array::elements(&[half, half]).unwrap_err().contains("overflow"));
    let cells = matrix(1, &[1, 1], "x", &[], false);
    assert!(refusal(file("", &cells, false)).contains("cannot lie"));
    let mut long = element(14, &[0; 8], false);
    long[4..8].copy_from_slice(&16u32.to_le_bytes());
    assert!(refusal(file("", &long, false)).contains("cut short"));
    let mut fields = element(5, &4u32.to_le_bytes(), false);
    fields.extend(element(1, b"a\0\0\0", false));
    let structs = matrix(2, &[1, 2], "x", &fields, false);
    assert!(refusal(file("", &structs, false)).contains("cannot lie"));
    let negative = matrix(6, &[1, 0xffff_ffff], "x", &element(9, &[0; 8], false), false);
    assert!(refusal(file("", &negative, false)).contains("negative"));
    let short = matrix(6, &[1, 2], "x", &element(9, &[0; 8], false), false);
    assert!(refusal(file("", &short, false)).contains("needs 16 bytes"));
}

#[test]
fn a_small_file_that_inflates_without_end_is_refused() {
    // Eight kilobytes of zeros: honest, but beyond a small limit.
    let numbers = matrix(9, &[1, 8192], "x", &element(2, &[0; 8192], false), false);
    let bytes = file("", &compressed(&numbers), false);
    assert!(bytes.len() < 512);
    let limits = Limits { inflated: 8000, ..Limits::default() };
    assert!(Document::parse(bytes.clone(), limits).unwrap_err().contains("limit"));
    open(bytes).unwrap().variable("x").unwrap();
    // A matrix that claims 1 MB inside 100 compressed bytes: a lie.
    let mut lie = matrix(9, &[1, 8], "x", &element(2, &[0; 8], false), false);
    lie[4..8].copy_from_slice(&1_000_000u32.to_le_bytes());
    assert!(refusal(file("", &compressed(&lie), false)).contains("cannot come from"));
}

#[test]
fn cells_in_cells_without_end_are_refused() {
    let mut nested = matrix(6, &[1, 1], "", &element(2, &[1], false), false);
    for _ in 0..=Limits::default().depth {
        nested = matrix(1, &[1, 1], "", &nested, false);
    }
    assert!(refusal(file("", &nested, false)).contains("levels deep"));
}

#[test]
fn more_arrays_than_allowed_are_refused() {
    let empty = element(14, &[], false);
    let cells = matrix(1, &[1, 5], "x", &empty.repeat(5), false);
    let limits = Limits { arrays: 5, ..Limits::default() };
    let document = Document::parse(file("", &cells, false), limits).unwrap();
    assert!(document.variables().unwrap_err().contains("more than 5 arrays"));
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_lacks_its_variable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mat/scipy_compressed.mat");
    let whole = std::fs::read(path).unwrap();
    for cut in (0..whole.len()).step_by(7) {
        match open(whole[..cut].to_vec()).and_then(|d| d.variables().map(|v| v.len())) {
            Ok(variables) => assert!(variables < 11, "cut at {cut}"),
            Err(reason) => assert!(
                ["cut short", "128", "inflated", "deflate"].iter().any(|said| reason.contains(said)),
                "cut at {cut}: {reason}"
            ),
        }
    }
}
