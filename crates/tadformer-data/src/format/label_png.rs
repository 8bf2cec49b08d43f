//! Label maps in PNG: the numbers that are stored, not the colours they stand for.
//!
//! A palette picture keeps class ids as palette indices (PASCAL VOC), a grey one as grey levels (Cityscapes). Most
//! image libraries expand the palette and lose the ids; this reader keeps the samples as they lie, 1, 2, 4, 8 or 16
//! bits deep.

use std::io::Cursor;
use std::path::Path;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Limits, Transformations};

use super::{DEFLATE_RATIO, Decoded, MAX_PIXELS, read_bounded};
use crate::{Error, Result};

/// A plane of stored numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelPng {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bits of a sample: 1, 2, 4, 8 or 16.
    pub bits: u8,
    /// The samples, rows from the top.
    pub samples: Samples,
}

/// Samples in the narrowest type that holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Samples {
    /// At most eight bits deep.
    U8(Vec<u8>),
    /// Sixteen bits deep.
    U16(Vec<u16>),
}

impl LabelPng {
    /// The largest number that a sample of this depth can hold.
    pub fn max_value(&self) -> u16 {
        ((1u32 << self.bits) - 1) as u16
    }
}

/// Reads the label map at `path`.
///
/// # Errors
/// A file that is missing, that is no PNG, or that holds colours where numbers are expected.
pub fn read(path: &Path) -> Result<LabelPng> {
    parse(&read_bounded(path)?).map_err(|reason| Error::decode(path, "label PNG", reason))
}

/// Decodes a label map.
///
/// # Errors
/// Why the bytes are no PNG of numbers within the limits.
pub fn parse(bytes: &[u8]) -> Decoded<LabelPng> {
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Err(format!("this is {}; expected a PNG", super::picture::content(bytes)));
    }
    let mut options = DecodeOptions::default();
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_limits(Limits { bytes: 64 << 20 });
    let info = decoder.read_header_info().map_err(reason)?;
    let (width, height, depth, color) = (info.width, info.height, info.bit_depth, info.color_type);
    if !matches!(color, ColorType::Grayscale | ColorType::Indexed) {
        return Err(format!(
            "pixels are {color:?}; expected class numbers as grey levels or palette indices, not their colours"
        ));
    }
    check_claim(width, height, depth as usize, bytes.len())?;

    let mut reader = decoder.read_info().map_err(reason)?;
    let size = reader.output_buffer_size().ok_or("the picture is too large for this machine")?;
    let mut packed = vec![0; size];
    reader.next_frame(&mut packed).map_err(reason)?;
    let (width, height) = (width as usize, height as usize);
    let samples = match depth {
        BitDepth::Eight => Samples::U8(packed),
        BitDepth::Sixteen => {
            Samples::U16(packed.as_chunks().0.iter().map(|&b| u16::from_be_bytes(b)).collect())
        }
        BitDepth::One | BitDepth::Two | BitDepth::Four => {
            Samples::U8(unpack(&packed, width, height, depth as usize))
        }
    };
    Ok(LabelPng { width, height, bits: depth as u8, samples })
}

/// Refuses a size that no picture has, or that these bytes could not hold.
pub(super) fn check_claim(width: u32, height: u32, bits: usize, held: usize) -> Decoded<()> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(format!("a picture of {width}×{height}"));
    }
    if pixels > MAX_PIXELS {
        return Err(format!("{width}×{height} pixels are more than the limit of {MAX_PIXELS}"));
    }
    // At most 2^26 pixels of 64 bits: no overflow.
    let claimed = pixels * bits as u64 / 8;
    if claimed > held as u64 * DEFLATE_RATIO as u64 {
        return Err(format!("{width}×{height} pixels cannot come from a file of {held} bytes"));
    }
    Ok(())
}

/// Rows of samples narrower than a byte, most significant first, as one byte each.
fn unpack(packed: &[u8], width: usize, height: usize, bits: usize) -> Vec<u8> {
    let per_byte = 8 / bits;
    let mask = (1u8 << bits) - 1;
    let mut samples = Vec::with_capacity(width * height);
    for row in packed.chunks_exact(width.div_ceil(per_byte)) {
        samples.extend((0..width).map(|x| (row[x / per_byte] >> (8 - bits - x % per_byte * bits)) & mask));
    }
    samples
}

fn reason(error: DecodingError) -> String {
    match error {
        DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is cut short; copy it again".into()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32, color: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette(vec![7; 3 * 256.min(1 << depth as usize)]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn palette_indices_survive_at_every_depth() {
        for (depth, packed, expected) in [
            (BitDepth::One, vec![0b1010_0000, 0b0100_0000], vec![1, 0, 1, 0, 1, 0]),
            (BitDepth::Two, vec![0b1101_1000, 0b0001_1100], vec![3, 1, 2, 0, 1, 3]),
            (BitDepth::Four, vec![0xf1, 0x20, 0x04, 0xa0], vec![15, 1, 2, 0, 4, 10]),
            (BitDepth::Eight, vec![0, 21, 255, 1, 2, 3], vec![0, 21, 255, 1, 2, 3]),
        ] {
            for color in [ColorType::Indexed, ColorType::Grayscale] {
                let map = parse(&png(3, 2, color, depth, &packed)).unwrap();
                assert_eq!((map.width, map.height, map.bits), (3, 2, depth as u8));
                assert_eq!(map.samples, Samples::U8(expected.clone()), "{color:?} {depth:?}");
            }
        }
    }

    #[test]
    fn sixteen_bits_are_kept() {
        let map = parse(&png(2, 1, ColorType::Grayscale, BitDepth::Sixteen, &[1, 2, 0xff, 0xfe])).unwrap();
        assert_eq!(map.samples, Samples::U16(vec![0x0102, 0xfffe]));
        assert_eq!(map.max_value(), 65535);
    }

    #[test]
    fn colours_are_refused_by_name() {
        let error = parse(&png(1, 1, ColorType::Rgb, BitDepth::Eight, &[1, 2, 3])).unwrap_err();
        assert!(error.contains("Rgb") && error.contains("palette indices"), "{error}");
    }

    #[test]
    fn a_small_file_that_claims_a_large_picture_is_refused_before_allocation() {
        // A header alone: 30,000 × 30,000 pixels of one bit, then 8,000 × 8,000 of eight.
        for (side, depth) in [(30_000u32, 1u8), (8_000, 8)] {
            let mut bytes = png(1, 1, ColorType::Grayscale, BitDepth::Eight, &[0]);
            bytes[16..20].copy_from_slice(&side.to_be_bytes());
            bytes[20..24].copy_from_slice(&side.to_be_bytes());
            bytes[24] = depth;
            let crc = crc32(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&crc.to_be_bytes());
            let error = parse(&bytes).unwrap_err();
            assert!(error.contains("pixels"), "{error}");
        }
    }

    #[test]
    fn a_truncated_file_is_named_as_such() {
        let noise: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = png(64, 64, ColorType::Grayscale, BitDepth::Eight, &noise);
        for cut in [8, 20, 40, whole.len() / 2] {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
        })
    }
}
