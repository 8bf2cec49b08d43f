use super::*;

/// A `.npy` file of the given version.
fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}   \n")
}

fn values(bytes: Vec<u8>) -> Vec<f32> {
    Npy::parse(bytes).unwrap().to_f32()
}

fn refusal(bytes: Vec<u8>) -> String {
    Npy::parse(bytes).expect_err("the file must be refused")
}

#[test]
fn every_version_of_the_format_is_read() {
    for version in [1, 2, 3] {
        let bytes = npy(version, &header("<f4", "False", "(2,)"), &[0, 0, 128, 63, 0, 0, 0, 64]);
        let array = Npy::parse(bytes).unwrap();
        assert_eq!((array.shape.as_slice(), array.is_float()), (&[2][..], true));
        assert_eq!(array.to_f32(), [1.0, 2.0]);
    }
    assert!(refusal(npy(4, &header("<f4", "False", "(0,)"), &[])).contains("version 4"));
}

#[test]
fn every_numeric_type_is_read_in_either_byte_order() {
    let cases: [(&str, Vec<u8>, f32); 12] = [
        ("|b1", vec![1], 1.0),
        ("|u1", vec![200], 200.0),
        ("|i1", vec![0xfe], -2.0),
        ("<u2", vec![2, 1], 258.0),
        (">u2", vec![1, 2], 258.0),
        ("<i2", vec![0xfd, 0xff], -3.0),
        (">i4", vec![0xff, 0xff, 0xff, 0xfc], -4.0),
        ("<i8", (-5i64).to_le_bytes().to_vec(), -5.0),
        (">u8", 6u64.to_be_bytes().to_vec(), 6.0),
        (">f4", 1.5f32.to_be_bytes().to_vec(), 1.5),
        (">f8", 0.1f64.to_be_bytes().to_vec(), 0.1),
        ("<f8", (-0.1f64).to_le_bytes().to_vec(), -0.1),
    ];
    for (descr, data, expected) in cases {
        assert_eq!(values(npy(1, &header(descr, "False", "(1,)"), &data)), [expected], "{descr}");
    }
}

#[test]
fn half_precision_is_exact() {
    let cases = [
        (0x0000u16, 0.0),
        (0x3c00, 1.0),
        (0xc000, -2.0),
        (0x3555, 0.333_251_95),
        (0x0001, 5.960_464_5e-8),
        (0x7bff, 65504.0),
        (0x7c00, f32::INFINITY),
        (0xfc00, f32::NEG_INFINITY),
    ];
    for (bits, expected) in cases {
        assert_eq!(values(npy(1, &header("<f2", "False", "(1,)"), &bits.to_le_bytes())), [expected]);
        assert_eq!(values(npy(1, &header(">f2", "False", "(1,)"), &bits.to_be_bytes())), [expected]);
    }
    assert!(values(npy(1, &header("<f2", "False", "(1,)"), &0x7e00u16.to_le_bytes()))[0].is_nan());
}

#[test]
fn fortran_order_is_turned_round() {
    // a[i][j][k] = 100 i + 10 j + k, first index fastest.
    let (a, b, c) = (2, 3, 2);
    let mut data = Vec::new();
    for k in 0..c {
        for j in 0..b {
            data.extend((0..a).map(|i| (100 * i + 10 * j + k) as u8));
        }
    }
    let found = values(npy(1, &header("|u1", "True", "(2, 3, 2)"), &data));
    let expected: Vec<f32> =
        (0..a * b * c).map(|n| (100 * (n / 6) + 10 * (n / 2 % 3) + n % 2) as f32).collect();
    assert_eq!(found, expected);
    assert_eq!(values(npy(1, &header("|u1", "True", "(0, 3)"), &[])), [0f32; 0]);
}

#[test]
fn arrays_of_objects_are_always_refused() {
    for descr in ["|O", "O", "<O8"] {
        let reason = refusal(npy(1, &header(descr, "False", "(1,)"), b"\x80\x04."));
        assert!(reason.contains("never accepted"), "{reason}");
    }
}

#[test]
fn other_types_are_named() {
    for descr in ["<c8", "<U4", "|S3", "<M8[ns]", "", "é4", "<f3"] {
        assert!(refusal(npy(1, &header(descr, "False", "(1,)"), &[0; 16])).contains("expected"), "{descr}");
    }
    let record = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }";
    assert!(refusal(npy(1, record, &[0; 4])).contains("records"));
}

#[test]
fn sizes_must_agree_with_the_bytes() {
    let short = refusal(npy(1, &header("<f8", "False", "(3, 3)"), &[0; 64]));
    assert!(short.contains("needs 72 bytes") && short.contains("holds 64"), "{short}");
    let half = 1 << (usize::BITS / 2);
    assert!(data_bytes(&[half, half], Kind::Bool).unwrap_err().contains("overflows"));
    assert!(data_bytes(&[usize::MAX], Kind::Float(8)).unwrap_err().contains("overflows"));
    let long = refusal(npy(1, &header("|u1", "False", "(2,)"), &[0; 3]));
    assert!(long.contains("needs 2 bytes") && long.contains("holds 3"), "{long}");
    assert!(
        refusal(npy(1, &header("|u1", "False", "(1, 1, 1, 1, 1, 1, 1, 1, 1)"), &[0])).contains("dimensions")
    );
    let mut lie = npy(2, &header("|u1", "False", "(1,)"), &[0]);
    lie[8..12].copy_from_slice(&(16 * 1024 + 1u32).to_le_bytes());
    assert!(refusal(lie).contains("header of"));
}

#[test]
fn broken_headers_are_explained() {
    for text in
        ["", "{}", "{'descr': '<f4'}", "[1]", "{'shape': (1,), 'descr': '<f4', 'fortran_order': maybe}"]
    {
        assert!(refusal(npy(1, text, &[])).contains("header"), "{text}");
    }
    assert!(refusal(b"\x93NUMPY".to_vec()).contains("cut short"));
    assert!(refusal(b"GIF89a".to_vec()).contains("GIF"));
}

#[test]
fn a_scalar_and_python_2_sizes_are_read() {
    assert_eq!(values(npy(1, &header("|u1", "False", "()"), &[9])), [9.0]);
    assert_eq!(values(npy(1, &header("|u1", "False", "(2L,)"), &[9, 8])), [9.0, 8.0]);
}
