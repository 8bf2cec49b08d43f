//! Id maps in TIFF: one whole number a pixel, up to 32 bits, as Panoptic Parts publishes them.

use std::io::Cursor;
use std::path::Path;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use super::{Decoded, MAX_PIXELS, read_bounded};
use crate::{Error, Result};

/// Bytes that one byte of a TIFF can stand for, at most: LZW strings grow by one byte a code of at most twelve bits.
const RATIO: u64 = 4096;

/// A plane of ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TiffIds {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The ids, rows from the top.
    pub ids: Vec<u32>,
}

/// Reads the id map at `path`.
///
/// # Errors
/// A file that is missing, that is no TIFF, or that holds something else than one whole number a pixel.
pub fn read(path: &Path) -> Result<TiffIds> {
    parse(&read_bounded(path)?).map_err(|reason| Error::decode(path, "TIFF of ids", reason))
}

/// Decodes an id map.
///
/// # Errors
/// Why the bytes are no TIFF of ids within the limits.
pub fn parse(bytes: &[u8]) -> Decoded<TiffIds> {
    if super::picture::content(bytes) != "a TIFF" {
        return Err(format!("this is {}; expected a TIFF", super::picture::content(bytes)));
    }
    let mut limits = Limits::default();
    limits.decoding_buffer_size = 4 * MAX_PIXELS as usize;
    limits.intermediate_buffer_size = 64 << 20;
    limits.ifd_value_size = 1 << 20;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(|e| e.to_string())?;
    let color = decoder.colortype().map_err(|e| e.to_string())?;
    let ColorType::Gray(bits) = color else {
        return Err(format!("pixels are {color:?}; expected one number each"));
    };
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(format!("{width}×{height} pixels; the limit is {MAX_PIXELS}"));
    }
    if pixels * u64::from(bits) / 8 > RATIO * bytes.len() as u64 {
        return Err(format!("{width}×{height} pixels cannot come from a file of {} bytes", bytes.len()));
    }
    let negative = |v: i64| u32::try_from(v).map_err(|_| format!("the id {v} is negative"));
    let ids = match decoder.read_image().map_err(|e| e.to_string())? {
        DecodingResult::U8(v) => v.into_iter().map(u32::from).collect(),
        DecodingResult::U16(v) => v.into_iter().map(u32::from).collect(),
        DecodingResult::U32(v) => v,
        DecodingResult::I8(v) => v.into_iter().map(|v| negative(v.into())).collect::<Decoded<_>>()?,
        DecodingResult::I16(v) => v.into_iter().map(|v| negative(v.into())).collect::<Decoded<_>>()?,
        DecodingResult::I32(v) => v.into_iter().map(|v| negative(v.into())).collect::<Decoded<_>>()?,
        _ => {
            return Err(format!(
                "{bits} bits of another kind a pixel; expected whole numbers of 8, 16 or 32 bits"
            ));
        }
    };
    let ids: Vec<u32> = ids;
    if ids.len() as u64 != pixels {
        return Err(format!("{} values for {width}×{height} pixels", ids.len()));
    }
    Ok(TiffIds { width: width as usize, height: height as usize, ids })
}
