//! Id maps in TIFF: one whole number a pixel, up to 32 bits, as Panoptic Parts publishes them.

use std::io::Cursor;
use std::path::Path;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use super::{Decoded, MAX_PIXELS, read_bounded};
use crate::{Error, Result};

/// Bytes that one byte of a TIFF can stand for, at most: LZW strings grow by one byte a code of at most twelve bits.
const RATIO: usize = 4096;

/// Bytes of one id, in [`TiffIds`].
const ID: u64 = 4;

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
    check_directory(bytes).ok_or("its first directory claims more bytes than the file has")?;
    let most = RATIO.saturating_mul(bytes.len());
    let mut limits = Limits::default();
    limits.decoding_buffer_size = most.min((ID * MAX_PIXELS) as usize);
    limits.intermediate_buffer_size = most.min(64 << 20);
    limits.ifd_value_size = bytes.len().min(1 << 20);
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
    if pixels * (ID + u64::from(bits).div_ceil(8)) > most as u64 {
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

/// Whether the values of the first directory lie within the file.
///
/// The decoder reads them when it is made, before it can be told of any limit, and allocates what they claim.
pub(super) fn check_directory(bytes: &[u8]) -> Option<()> {
    let little = bytes.starts_with(b"II");
    let number = |at: u64, size: usize| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let field = bytes.get(at..at.checked_add(size)?)?;
        let join = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
        Some(if little { field.iter().rev().fold(0, join) } else { field.iter().fold(0, join) })
    };
    // A BigTIFF, version 43, has its offsets and counts in eight bytes.
    let big = number(2, 2)? == 43;
    let (start, width) = if big { (8, 8) } else { (4, 4) };
    let directory = number(start, width)?;
    let (entries, head) = if big { (number(directory, 8)?, 8) } else { (number(directory, 2)?, 2) };
    let entry = 4 + 2 * width as u64;
    for i in 0..entries {
        let at = directory.checked_add(head)?.checked_add(i.checked_mul(entry)?)?;
        let size = match number(at + 2, 2)? {
            5 | 10 | 12 | 16..=18 => 8,
            4 | 9 | 11 | 13 => 4,
            3 | 8 => 2,
            _ => 1,
        };
        if number(at + 4, width)?.checked_mul(size)? > bytes.len() as u64 {
            return None;
        }
    }
    Some(())
}
