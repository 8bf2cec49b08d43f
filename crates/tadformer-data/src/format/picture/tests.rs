use std::io::Write;

use image::ImageEncoder;
use image::codecs::jpeg::JpegEncoder;
use png::{BitDepth, ColorType};

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures").join(name)).unwrap()
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i / 3 % 251) as u8).collect();
    JpegEncoder::new(&mut bytes).write_image(&rgb, width, height, image::ExtendedColorType::Rgb8).unwrap();
    bytes
}

fn png(width: u32, height: u32, color: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == ColorType::Indexed {
        encoder.set_palette(vec![10, 20, 30, 40, 50, 60]);
    }
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    bytes
}

/// The colours in the middles of the four quadrants: top left, top right, bottom left, bottom right.
fn quadrants(picture: &Photo) -> [[u8; 3]; 4] {
    let (w, h) = (picture.width, picture.height);
    [(w / 4, h / 4), (3 * w / 4, h / 4), (w / 4, 3 * h / 4), (3 * w / 4, 3 * h / 4)].map(|(x, y)| {
        let at = 3 * (y * w + x);
        [picture.rgb[at], picture.rgb[at + 1], picture.rgb[at + 2]]
    })
}

fn assert_near(found: [[u8; 3]; 4], expected: [[u8; 3]; 4], tolerance: u8) {
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!(a.abs_diff(*b) <= tolerance, "{found:?}, expected {expected:?}");
    }
}

const RED: [u8; 3] = [200, 30, 30];
const GREEN: [u8; 3] = [30, 200, 30];
const BLUE: [u8; 3] = [30, 30, 200];
const GREY: [u8; 3] = [120, 120, 120];

#[test]
fn progressive_grey_and_cmyk_jpegs_become_rgb() {
    let read = |name| parse(&fixture(name), Orientation::AsStored).unwrap();
    assert_near(quadrants(&read("progressive.jpg")), [RED, GREEN, BLUE, GREY], 3);
    assert_near(quadrants(&read("cmyk.jpg")), [RED, GREEN, BLUE, GREY], 6);
    // ITU-R 601 luma of the four colours.
    assert_near(quadrants(&read("grey.jpg")), [[81; 3], [130; 3], [49; 3], [120; 3]], 3);
}

#[test]
fn orientation_tags_are_applied_only_when_asked_for() {
    // Where the stored quadrants come to lie when each orientation is set upright (EXIF 2.3, tag 274).
    let upright = [
        [RED, GREEN, BLUE, GREY],
        [GREEN, RED, GREY, BLUE],
        [GREY, BLUE, GREEN, RED],
        [BLUE, GREY, RED, GREEN],
        [RED, BLUE, GREEN, GREY],
        [BLUE, RED, GREY, GREEN],
        [GREY, GREEN, BLUE, RED],
        [GREEN, GREY, RED, BLUE],
    ];
    for (i, expected) in upright.into_iter().enumerate() {
        let bytes = fixture(&format!("exif_{}.jpg", i + 1));
        let stored = parse(&bytes, Orientation::AsStored).unwrap();
        assert_eq!((stored.width, stored.height, usize::from(stored.tag)), (32, 24, i + 1));
        assert_near(quadrants(&stored), [RED, GREEN, BLUE, GREY], 3);
        let turned = parse(&bytes, Orientation::Upright).unwrap();
        assert_eq!((turned.width, turned.height), if i < 4 { (32, 24) } else { (24, 32) });
        assert_near(quadrants(&turned), expected, 3);
    }
}

#[test]
fn every_kind_of_png_becomes_rgb() {
    let read = |bytes: Vec<u8>| parse(&bytes, Orientation::AsStored).unwrap().rgb;
    assert_eq!(
        read(png(2, 1, ColorType::Grayscale, BitDepth::One, &[0b0100_0000])),
        [0, 0, 0, 255, 255, 255]
    );
    assert_eq!(read(png(1, 1, ColorType::Grayscale, BitDepth::Sixteen, &[0x80, 0x80])), [128; 3]);
    assert_eq!(read(png(1, 1, ColorType::GrayscaleAlpha, BitDepth::Eight, &[7, 0])), [7; 3]);
    assert_eq!(read(png(1, 1, ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 0])), [1, 2, 3]);
    assert_eq!(read(png(1, 1, ColorType::Rgb, BitDepth::Sixteen, &[1, 1, 2, 2, 255, 255])), [1, 2, 255]);
    assert_eq!(read(png(2, 1, ColorType::Indexed, BitDepth::One, &[0b0100_0000])), [10, 20, 30, 40, 50, 60]);
}

#[test]
fn the_content_decides_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jpeg.png");
    std::fs::write(&path, jpeg(5, 4)).unwrap();
    assert_eq!(read(&path, Orientation::AsStored).unwrap().width, 5);
}

#[test]
fn other_formats_are_named() {
    for (bytes, name) in [
        (&b"GIF89a"[..], "GIF"),
        (b"\0\0\0 ftypavif", "AVIF"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"", "no known"),
    ] {
        let error = parse(bytes, Orientation::AsStored).unwrap_err();
        assert!(error.contains(name) && error.contains("convert"), "{error}");
    }
}

#[test]
fn a_truncated_jpeg_is_refused_instead_of_filled_with_grey() {
    for whole in [jpeg(64, 48), fixture("progressive.jpg")] {
        assert!(parse(&whole, Orientation::AsStored).is_ok());
        for cut in [2, 20, whole.len() / 2, whole.len() - 2, whole.len() - 1] {
            let error = parse(&whole[..cut], Orientation::AsStored).unwrap_err();
            assert!(error.contains("cut short") || error.contains("no known"), "cut at {cut}: {error}");
        }
        // Bytes behind the end mark are somebody's habit, not damage.
        assert!(parse(&[whole, b"trailing".to_vec()].concat(), Orientation::AsStored).is_ok());
    }
}

#[test]
fn a_jpeg_that_claims_more_than_its_bytes_can_hold_is_refused() {
    let mut bytes = jpeg(8, 8);
    let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    // 8193 × 8193 pixels, a little more than may be; then 1000 × 1000.
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x20, 0x01, 0x20, 0x01]);
    assert!(parse(&bytes, Orientation::AsStored).unwrap_err().contains("limit"));
    bytes[frame + 5..frame + 9].copy_from_slice(&[0x03, 0xe8, 0x03, 0xe8]);
    assert!(parse(&bytes, Orientation::AsStored).unwrap_err().contains("cannot come from"));
}

#[test]
fn a_jpeg_of_endless_scans_is_refused() {
    let whole = fixture("progressive.jpg");
    let scan = whole.windows(2).rposition(|w| w == [0xff, 0xda]).unwrap();
    let (head, rest) = whole.split_at(scan);
    let scan = &rest[..rest.len() - 2];
    let long = [head, &scan.repeat(MAX_SCANS + 1), b"\xff\xd9"].concat();
    assert!(parse(&long, Orientation::AsStored).unwrap_err().contains("scans"));
}

#[test]
fn compressed_profiles_and_texts_are_passed_over() {
    // A text, and a colour profile that is none.
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&[0; 4096]).unwrap();
    let zeros = encoder.finish().unwrap();
    for (kind, color) in [(b"zTXt", ColorType::Grayscale), (b"iCCP", ColorType::Grayscale)] {
        let whole = png(1, 1, color, BitDepth::Eight, &[9]);
        let data = [b"a\0\0".as_slice(), &zeros].concat();
        let mut chunk = (data.len() as u32).to_be_bytes().to_vec();
        chunk.extend_from_slice(kind);
        chunk.extend_from_slice(&data);
        let mut crc = flate2::Crc::new();
        crc.update(&chunk[4..]);
        chunk.extend_from_slice(&crc.sum().to_be_bytes());
        let bytes = [&whole[..33], &chunk, &whole[33..]].concat();
        assert_eq!(parse(&bytes, Orientation::AsStored).unwrap().rgb, [9; 3]);
        super::super::label_png::parse(&bytes).unwrap();
    }
}

#[test]
fn planes_hold_the_bytes_by_channel() {
    let picture = Photo { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6], tag: 1 };
    let raster = picture.to_raster();
    assert_eq!((raster.channels, raster.height, raster.width), (3, 1, 2));
    assert_eq!(raster.data, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}
