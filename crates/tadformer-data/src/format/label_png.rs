//! Label maps in PNG: the samples as they are stored, and the colours that they stand for.
//!
//! A palette picture keeps class ids as palette indices (PASCAL VOC), a grey one as grey levels (Cityscapes). Most
//! image libraries expand the palette and lose the ids; this reader keeps the samples as they lie, 1, 2, 4, 8 or 16
//! bits deep, and the palette beside them. Which of the two counts is for the reader of the label to say: a lossless
//! optimiser keeps the colours and changes the samples.

use std::io::Cursor;
use std::path::Path;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Limits, Transformations};

use super::{DEFLATE_RATIO, Decoded, MAX_PIXELS, read_bounded};
use crate::{Error, Result};

/// A plane of stored numbers or colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelPng {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bits of a sample: 1, 2, 4, 8 or 16.
    pub bits: u8,
    /// The colours, if the samples are indices into a palette.
    pub palette: Option<Vec<[u8; 3]>>,
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
    /// Red, green and blue of each pixel, eight bits deep.
    Rgb(Vec<[u8; 3]>),
}

impl LabelPng {
    /// The largest number that a sample of this depth can hold.
    pub fn max_value(&self) -> u16 {
        ((1u32 << self.bits) - 1) as u16
    }

    /// The map as levels of grey, 8 or 16 bits deep: what its pixels show, however they are stored.
    ///
    /// A level of fewer than 8 bits is stretched to 8, as the PNG specification has it (a sample of full scale is white at
    /// every depth). A palette of greys is looked up, and of three equal channels one is taken.
    ///
    /// # Errors
    /// A palette with a colour in it, or pixels that have one.
    pub fn into_levels(self) -> Decoded<Self> {
        let Self { width, height, bits, palette, samples } = self;
        let table = |table: [u8; 256], samples: Vec<u8>| {
            Samples::U8(samples.into_iter().map(|v| table[usize::from(v)]).collect())
        };
        let samples = match (samples, palette) {
            (Samples::U8(samples), Some(palette)) => {
                if let Some(colour) = palette.iter().find(|colour| !is_grey(**colour)) {
                    return Err(format!(
                        "a palette with the colour {}; expected levels of grey",
                        named(*colour)
                    ));
                }
                let level = |index: usize| palette.get(index).map_or(0, |colour| colour[0]);
                table(std::array::from_fn(level), samples)
            }
            (Samples::U8(samples), None) if bits < 8 => {
                let full = (1usize << bits) - 1;
                table(std::array::from_fn(|v| (v.min(full) * 255 / full) as u8), samples)
            }
            (Samples::Rgb(samples), _) => {
                if let Some(at) = samples.iter().position(|colour| !is_grey(*colour)) {
                    return Err(format!(
                        "pixel (x {}, y {}) is the colour {}; expected levels of grey",
                        at % width,
                        at / width,
                        named(samples[at])
                    ));
                }
                Samples::U8(samples.into_iter().map(|colour| colour[0]).collect())
            }
            (samples, _) => samples,
        };
        Ok(Self { width, height, bits: bits.max(8), palette: None, samples })
    }
}

/// Whether the three channels are equal.
pub(crate) fn is_grey([r, g, b]: [u8; 3]) -> bool {
    r == g && g == b
}

/// A colour in a message.
pub(crate) fn named([r, g, b]: [u8; 3]) -> String {
    format!("({r}, {g}, {b})")
}

/// Reads the label map at `path`.
///
/// # Errors
/// A file that is missing, or that is no PNG within the limits.
pub fn read(path: &Path) -> Result<LabelPng> {
    parse(&read_bounded(path)?).map_err(|reason| Error::decode(path, "label PNG", reason))
}

/// Decodes a label map.
///
/// # Errors
/// Why the bytes are no PNG within the limits, or that its colours are 16 bits deep.
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
    let channels = color.samples();
    if channels > 2 && depth == BitDepth::Sixteen {
        return Err("colours of 16 bits a channel; expected 8".into());
    }
    check_claim(width, height, depth as usize * channels, bytes.len())?;

    let mut reader = decoder.read_info().map_err(reason)?;
    let size = reader.output_buffer_size().ok_or("the picture is too large for this machine")?;
    let mut packed = vec![0; size];
    reader.next_frame(&mut packed).map_err(reason)?;
    let (width, height) = (width as usize, height as usize);
    let palette = match color {
        ColorType::Indexed => {
            let palette = reader.info().palette.as_deref().ok_or("it has no palette")?;
            Some(palette.as_chunks().0.to_vec())
        }
        _ => None,
    };
    // Transparency says nothing of a class.
    let samples = match (depth, color) {
        (BitDepth::Eight, ColorType::Rgb) => Samples::Rgb(packed.as_chunks().0.to_vec()),
        (BitDepth::Eight, ColorType::Rgba) => {
            Samples::Rgb(packed.as_chunks().0.iter().map(|&[r, g, b, _]| [r, g, b]).collect())
        }
        (BitDepth::Eight, _) => Samples::U8(packed.into_iter().step_by(channels).collect()),
        (BitDepth::Sixteen, _) => {
            let pairs = packed.as_chunks().0.iter().step_by(channels);
            Samples::U16(pairs.map(|&b| u16::from_be_bytes(b)).collect())
        }
        (BitDepth::One | BitDepth::Two | BitDepth::Four, _) => {
            Samples::U8(unpack(&packed, width, height, depth as usize))
        }
    };
    Ok(LabelPng { width, height, bits: depth as u8, palette, samples })
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
    fn colours_are_kept_and_transparency_is_dropped() {
        let read = |color, data: &[u8]| parse(&png(1, 1, color, BitDepth::Eight, data)).unwrap().samples;
        assert_eq!(read(ColorType::Rgb, &[1, 2, 3]), Samples::Rgb(vec![[1, 2, 3]]));
        assert_eq!(read(ColorType::Rgba, &[1, 2, 3, 0]), Samples::Rgb(vec![[1, 2, 3]]));
        assert_eq!(read(ColorType::GrayscaleAlpha, &[9, 0]), Samples::U8(vec![9]));
        let deep = parse(&png(1, 1, ColorType::GrayscaleAlpha, BitDepth::Sixteen, &[1, 2, 0, 0])).unwrap();
        assert_eq!(deep.samples, Samples::U16(vec![0x0102]));
        let error = parse(&png(1, 1, ColorType::Rgb, BitDepth::Sixteen, &[0; 6])).unwrap_err();
        assert!(error.contains("16 bits"), "{error}");
    }

    #[test]
    fn levels_are_what_the_pixels_show() {
        let levels = |color, depth, data: &[u8]| parse(&png(2, 1, color, depth, data)).unwrap().into_levels();
        let grey = |depth, data: &[u8]| levels(ColorType::Grayscale, depth, data).unwrap();
        assert_eq!(grey(BitDepth::One, &[0b0100_0000]).samples, Samples::U8(vec![0, 255]));
        assert_eq!(grey(BitDepth::Two, &[0b0110_0000]).samples, Samples::U8(vec![85, 170]));
        assert_eq!(grey(BitDepth::Four, &[0x1f]).samples, Samples::U8(vec![17, 255]));
        assert_eq!(grey(BitDepth::Eight, &[1, 255]).samples, Samples::U8(vec![1, 255]));
        assert_eq!(grey(BitDepth::Sixteen, &[0, 1, 1, 0]).samples, Samples::U16(vec![1, 256]));
        assert_eq!(grey(BitDepth::One, &[0]).max_value(), 255);
        let same = levels(ColorType::Rgb, BitDepth::Eight, &[1, 1, 1, 9, 9, 9]).unwrap();
        assert_eq!(same.samples, Samples::U8(vec![1, 9]));
        // The palette of these tests is grey of level 7.
        assert_eq!(
            levels(ColorType::Indexed, BitDepth::One, &[0b0100_0000]).unwrap().samples,
            Samples::U8(vec![7, 7])
        );
        let error = levels(ColorType::Rgb, BitDepth::Eight, &[1, 1, 1, 1, 2, 1]).unwrap_err();
        assert!(error.contains("x 1, y 0") && error.contains("(1, 2, 1)"), "{error}");
    }

    #[test]
    fn a_small_file_that_claims_a_large_picture_is_refused_before_allocation() {
        // A header alone: a little more pixels of one bit than may be, then 1000 × 1000 of eight.
        for (side, depth) in [(8193u32, 1u8), (1000, 8)] {
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
            let reason = parse(&whole[..cut]).unwrap_err();
            assert!(reason.contains("cut short") || reason.contains("end of"), "cut at {cut}: {reason}");
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
        })
    }
}
