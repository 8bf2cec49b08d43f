//! Colour pictures: JPEG, PNG, WebP, TIFF, BMP and NumPy arrays, as eight-bit RGB.
//!
//! What a file is is told by its first bytes, never by its name. Grey becomes RGB, alpha is dropped, CMYK and palettes
//! are converted, sixteen bits are rounded to eight. Orientation tags are applied only when asked for: the labels of
//! the published data sets are drawn on the stored pixels, and the reference reads them so.

mod rarer;

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, Limits};
use serde::{Deserialize, Serialize};

use super::label_png::check_claim;
use super::{Decoded, MAX_PIXELS, read_bounded};
use crate::{Error, Raster, Result};

/// How the names of pictures end, in small letters, for whoever looks for them in a folder.
pub const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "npy"];

/// Bytes of a decoded picture in the decoder's own type, at most.
const MAX_DECODED: u64 = 512 << 20;

/// Pixels that one byte of JPEG can stand for, at most: every block of 8 × 8 costs a bit or more, and the most lopsided
/// subsampling spreads eight blocks over 1024 pixels.
const JPEG_RATIO: u64 = 1024;

/// Scans of a progressive JPEG. Encoders write about ten; each costs a pass over the whole picture.
const MAX_SCANS: usize = 64;

/// What to do with the orientation that a camera wrote beside the pixels (EXIF tag 274).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Orientation {
    /// The pixels as they are stored, as the published data sets mean them.
    #[default]
    #[serde(rename = "stored")]
    AsStored,
    /// Turned and flipped upright, as viewers show the picture.
    Upright,
}

/// An eight-bit RGB picture as it was read; what is drawn is a [`Picture`](crate::draw::Picture).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green and blue of each pixel, rows from the top.
    pub rgb: Vec<u8>,
    /// The orientation that the file states, as EXIF numbers them: 1 is upright or says nothing, 5 to 8 swap the sides.
    pub tag: u8,
}

impl Photo {
    /// The picture as planes, `(3, height, width)`, `0.0..=255.0`.
    pub fn to_raster(&self) -> Raster {
        self.map_channels(f32::from)
    }

    /// Planes `(3, height, width)` of `value(byte)`.
    pub(crate) fn map_channels(&self, value: impl Fn(u8) -> f32) -> Raster {
        let table: [f32; 256] = std::array::from_fn(|byte| value(byte as u8));
        let pixels = self.rgb.as_chunks::<3>().0;
        let mut data = Vec::with_capacity(self.rgb.len());
        for c in 0..3 {
            data.extend(pixels.iter().map(|pixel| table[usize::from(pixel[c])]));
        }
        Raster { channels: 3, height: self.height, width: self.width, data }
    }
}

/// Reads the picture at `path`.
///
/// # Errors
/// A file that is missing, that is none of the formats, that is cut short or damaged, or larger than 64 megapixels.
pub fn read(path: &Path, orientation: Orientation) -> Result<Photo> {
    parse(&read_bounded(path)?, orientation).map_err(|reason| Error::decode(path, "picture", reason))
}

/// Decodes a picture.
///
/// # Errors
/// Why the bytes are no picture within the limits.
pub fn parse(bytes: &[u8], orientation: Orientation) -> Decoded<Photo> {
    match content(bytes) {
        "a JPEG" => {
            check_jpeg(bytes)?;
            let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
            let (width, height) = decoder.dimensions();
            let pixels = u64::from(width) * u64::from(height);
            if pixels > MAX_PIXELS || pixels == 0 {
                return Err(format!("{width}×{height} pixels; the limit is {MAX_PIXELS}"));
            }
            if pixels > JPEG_RATIO * bytes.len() as u64 {
                return Err(format!(
                    "{width}×{height} pixels cannot come from a file of {} bytes",
                    bytes.len()
                ));
            }
            decode(decoder, orientation)
        }
        "a PNG" => {
            let mut limits = Limits::default();
            limits.max_alloc = Some(MAX_DECODED);
            // The header is checked by hand: the decoder allocates rows while it is constructed.
            let (width, height, bits) = png_header(bytes).ok_or("the file is cut short inside its header")?;
            check_claim(width, height, bits, bytes.len())?;
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(|e| e.to_string())?;
            decode(decoder, orientation)
        }
        "a WebP" => rarer::webp(bytes, orientation),
        "a BMP" => rarer::bmp(bytes, orientation),
        "a TIFF" => rarer::tiff(bytes, orientation),
        "a NumPy array" => rarer::npy(bytes),
        other => Err(format!(
            "this is {other}; expected JPEG, PNG, WebP, TIFF, BMP or a NumPy array, convert it first"
        )),
    }
}

fn decode(mut decoder: impl ImageDecoder, orientation: Orientation) -> Decoded<Photo> {
    if decoder.total_bytes() > MAX_DECODED {
        return Err(format!("{} bytes when decoded, more than {MAX_DECODED}", decoder.total_bytes()));
    }
    let turn = match (decoder.orientation(), orientation) {
        (Ok(turn), _) => turn,
        // A tag that nobody asked for may be damaged.
        (Err(_), Orientation::AsStored) => image::metadata::Orientation::NoTransforms,
        (Err(e), Orientation::Upright) => return Err(e.to_string()),
    };
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    if orientation == Orientation::Upright {
        decoded.apply_orientation(turn);
    }
    let rgb = decoded.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(Photo { width, height, rgb: rgb.into_raw(), tag: turn.to_exif() })
}

/// Width, height and bits a pixel of a PNG, from its first chunk.
fn png_header(bytes: &[u8]) -> Option<(u32, u32, usize)> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let channels = match bytes.get(25)? {
        2 => 3,
        4 => 2,
        6 => 4,
        _ => 1,
    };
    Some((word(16)?, word(20)?, usize::from(*bytes.get(24)?) * channels))
}

/// What bytes are, by how they begin, for messages.
pub(crate) fn content(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => "a JPEG",
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "a PNG",
        [b'G', b'I', b'F', b'8', ..] => "a GIF",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "a WebP",
        [b'B', b'M', ..] => "a BMP",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "a TIFF",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an AVIF, HEIC or video",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "a NumPy array",
        [b'<', ..] => "a text (HTML or XML)",
        _ => "no known picture format",
    }
}

/// Walks over the segments of a JPEG: the last scan must be followed by the end mark, and there must not be too many.
///
/// The decoder itself fills what is missing with grey and says nothing.
fn check_jpeg(bytes: &[u8]) -> Decoded<()> {
    let mut at = 2;
    let mut scans = 0;
    loop {
        // To the next marker: 0xff, not followed by a stuffed zero, another 0xff or a restart mark.
        let Some(&[_, marker]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()) else {
            return Err(if scans == 0 {
                "the file is cut short before the first scan; copy it again".into()
            } else {
                "the file is cut short: no end mark after the last scan; copy it again".into()
            });
        };
        if bytes[at] != 0xff || matches!(marker, 0x00 | 0x01 | 0xd0..=0xd7) {
            // Entropy-coded bytes, or padding that no segment owns.
            at += 1;
            match bytes[at..].iter().position(|&b| b == 0xff) {
                Some(step) => at += step,
                None => at = bytes.len(),
            }
            continue;
        }
        match marker {
            0xff => at += 1,
            0xd9 if scans > 0 => return Ok(()),
            0xd8 | 0xd9 => at += 2,
            _ => {
                if marker == 0xda {
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(format!("more than {MAX_SCANS} scans"));
                    }
                }
                let Some(&[high, low]) = bytes.get(at + 2..).and_then(|rest| rest.first_chunk::<2>()) else {
                    at = bytes.len();
                    continue;
                };
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
                at = at.min(bytes.len());
            }
        }
    }
}

#[cfg(test)]
mod tests;
