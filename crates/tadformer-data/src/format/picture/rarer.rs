//! Pictures in WebP, BMP, TIFF and NumPy arrays.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::tiff::TiffDecoder;
use image::codecs::webp::WebPDecoder;
use image::{ColorType, ImageDecoder, Limits};

use super::super::npy::Npy;
use super::super::tiff_ids::check_directory;
use super::super::{Decoded, MAX_PIXELS};
use super::{MAX_DECODED, Orientation, Photo, decode};

/// Pixels that a byte of a file can stand for, at most. Formats with run lengths and with codes of no bits have no bound of
/// their own, so this is one that no photograph comes near.
const RATIO: u64 = 4096;

/// Pixels that any file may have: a plain surface of this size takes no memory worth speaking of.
const SMALL: u64 = 1 << 22;

/// Decodes a WebP, of an animated one the first picture.
pub(super) fn webp(bytes: &[u8], orientation: Orientation) -> Decoded<Photo> {
    let held = bytes.get(4..8).and_then(|size| size.try_into().ok()).map(u32::from_le_bytes);
    if held.is_none_or(|held| u64::from(held) + 8 > bytes.len() as u64) {
        return Err("the file is cut short; copy it again".into());
    }
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    check_size(&decoder, bytes.len())?;
    decode(decoder, orientation)
}

/// Decodes a BMP.
pub(super) fn bmp(bytes: &[u8], orientation: Orientation) -> Decoded<Photo> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    check_size(&decoder, bytes.len())?;
    decode(decoder, orientation)
}

/// Decodes the first picture of a TIFF.
pub(super) fn tiff(bytes: &[u8], orientation: Orientation) -> Decoded<Photo> {
    check_directory(bytes).ok_or("its first directory claims more bytes than the file has")?;
    let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    check_size(&decoder, bytes.len())?;
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err("its pixels are floating-point numbers; expected 8 or 16 bits a channel".into());
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED);
    decoder.set_limits(limits).map_err(|e| e.to_string())?;
    decode(decoder, orientation)
}

/// Understands an array `(h, w)`, `(h, w, 1)`, `(h, w, 3)` or `(h, w, 4)`, of which the fourth channel is dropped.
///
/// Whole numbers are levels `0..=255`, or `0..=65535` if there are larger ones; fractions are shares of white `0.0..=1.0`, or
/// levels `0..=255` if there are larger ones.
pub(super) fn npy(bytes: &[u8]) -> Decoded<Photo> {
    let array = Npy::parse(bytes.to_vec())?;
    let (height, width, channels) = match *array.shape.as_slice() {
        [height, width] => (height, width, 1),
        [height, width, channels @ (1 | 3 | 4)] => (height, width, channels),
        _ => {
            return Err(format!(
                "an array of shape {:?}; expected (height, width), or (height, width, channels) with 1, 3 or 4 of them",
                array.shape
            ));
        }
    };
    let pixels = height as u64 * width as u64;
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(format!("{width}×{height} pixels; the limit is {MAX_PIXELS}"));
    }
    let values = array.to_f32();
    let mut most = 0.0f32;
    for (at, &v) in values.iter().enumerate() {
        if !(0.0..=65_535.0).contains(&v) {
            let pixel = at / channels;
            return Err(format!(
                "pixel (x {}, y {}) is {v}; expected levels from 0",
                pixel % width,
                pixel / width
            ));
        }
        most = most.max(v);
    }
    let scale = match array.is_float() {
        true if most <= 1.0 => 255.0,
        _ if most <= 255.0 => 1.0,
        false => 1.0 / 257.0,
        true => return Err(format!("its largest level is {most}; expected at most 1 or 255 for fractions")),
    };
    let level = |v: f32| (v * scale).round() as u8;
    let mut rgb = Vec::with_capacity(3 * values.len() / channels);
    for pixel in values.chunks_exact(channels) {
        match *pixel {
            [v] => rgb.extend([level(v); 3]),
            [r, g, b, ..] => rgb.extend([level(r), level(g), level(b)]),
            _ => return Err("a pixel of two channels".into()),
        }
    }
    Ok(Photo { width, height, rgb, tag: 1 })
}

/// Refuses a size that is too large, or that these bytes could not hold, before anything is decoded.
fn check_size(decoder: &impl ImageDecoder, held: usize) -> Decoded<()> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(format!("{width}×{height} pixels; the limit is {MAX_PIXELS}"));
    }
    if pixels > SMALL && pixels > RATIO * held as u64 {
        return Err(format!("{width}×{height} pixels cannot come from a file of {held} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use image::{ExtendedColorType, ImageEncoder};

    use super::super::parse;
    use super::*;

    /// Two rows of three pixels.
    const RGB: [u8; 18] = [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7, 1, 2, 3, 128, 128, 128];

    fn encoded(format: &str) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let written = match format {
            "webp" => image::codecs::webp::WebPEncoder::new_lossless(&mut bytes).write_image(
                &RGB,
                3,
                2,
                ExtendedColorType::Rgb8,
            ),
            "bmp" => image::codecs::bmp::BmpEncoder::new(&mut bytes).write_image(
                &RGB,
                3,
                2,
                ExtendedColorType::Rgb8,
            ),
            _ => image::codecs::tiff::TiffEncoder::new(&mut bytes).write_image(
                &RGB,
                3,
                2,
                ExtendedColorType::Rgb8,
            ),
        };
        written.unwrap();
        bytes.into_inner()
    }

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Decoded<Photo> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        parse(&bytes, Orientation::AsStored)
    }

    #[test]
    fn lossless_pictures_come_back_told_by_their_content() {
        for format in ["webp", "bmp", "tiff"] {
            let photo = parse(&encoded(format), Orientation::Upright).unwrap();
            assert_eq!((photo.width, photo.height), (3, 2), "{format}");
            assert_eq!(photo.rgb, RGB, "{format}");
        }
    }

    #[test]
    fn files_that_end_too_early_are_refused() {
        for format in ["webp", "bmp", "tiff"] {
            let whole = encoded(format);
            for cut in [4, whole.len() / 2, whole.len() - 3] {
                assert!(parse(&whole[..cut], Orientation::AsStored).is_err(), "{format} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_small_file_of_a_large_picture_is_refused_before_it_is_decoded() {
        // A BMP's width and height stand in its header: 8192 × 8193 are one row too many, 4096 × 4096 too many for the bytes.
        for (width, height, reason) in [(8192u32, 8193u32, "the limit"), (4096, 4096, "cannot come from")] {
            let mut bytes = encoded("bmp");
            bytes[18..22].copy_from_slice(&width.to_le_bytes());
            bytes[22..26].copy_from_slice(&height.to_le_bytes());
            let error = parse(&bytes, Orientation::AsStored).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn arrays_are_pictures_in_their_usual_ranges() {
        assert_eq!(npy("|u1", "(1, 2, 3)", &[1, 2, 3, 4, 5, 255]).unwrap().rgb, [1, 2, 3, 4, 5, 255]);
        assert_eq!(npy("|u1", "(1, 2)", &[7, 9]).unwrap().rgb, [7, 7, 7, 9, 9, 9]);
        assert_eq!(npy("|u1", "(1, 1, 4)", &[1, 2, 3, 0]).unwrap().rgb, [1, 2, 3]);
        assert_eq!(npy("<u2", "(1, 2)", &[0xff, 0xff, 0x01, 0x01]).unwrap().rgb, [255, 255, 255, 1, 1, 1]);
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(npy("<f4", "(1, 2)", &floats(&[0.5, 1.0])).unwrap().rgb, [128, 128, 128, 255, 255, 255]);
        assert_eq!(npy("<f4", "(1, 2)", &floats(&[0.6, 200.4])).unwrap().rgb, [1, 1, 1, 200, 200, 200]);
    }

    #[test]
    fn arrays_that_are_no_pictures_are_refused() {
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        for (shape, values, reason) in [
            ("(1, 2)", &[-0.5f32, 1.0][..], "(x 0, y 0) is -0.5"),
            ("(1, 2)", &[0.5, f32::NAN], "(x 1, y 0) is NaN"),
            ("(1, 2)", &[0.5, 300.0], "largest level is 300"),
            ("(2,)", &[0.5, 0.5], "shape [2]"),
            ("(1, 1, 2)", &[0.5, 0.5], "shape [1, 1, 2]"),
        ] {
            let error = npy("<f4", shape, &floats(values)).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
