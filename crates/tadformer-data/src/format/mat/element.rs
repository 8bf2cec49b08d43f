//! Tags, padding, byte order and inflation: a list of bytes as a list of elements.

use std::io::Read;
use std::ops::Range;

use flate2::{FlushDecompress, Status};

use super::super::{DEFLATE_RATIO, Decoded};

pub(super) const MI_MATRIX: u32 = 14;
pub(super) const MI_COMPRESSED: u32 = 15;

/// In which order the bytes of a number stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// A type and its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) kind: u32,
    pub(super) payload: &'a [u8],
}

/// Walks over the elements of a run of bytes.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    payload_end: usize,
    order: ByteOrder,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], order: ByteOrder) -> Self {
        Self { bytes, at: 0, payload_end: 0, order }
    }

    /// Bytes not yet walked over.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Where the payload of the last element ended, from the start of the bytes.
    pub(super) fn position_after_payload(&self) -> usize {
        self.payload_end
    }

    /// The next element of a file, or `None` at its end. Trailing bytes too few for a tag are padding.
    pub(super) fn next_top_level(&mut self) -> Decoded<Option<Element<'a>>> {
        if self.remaining() < 8 {
            return Ok(None);
        }
        self.next(|kind| kind != MI_COMPRESSED).map(Some)
    }

    /// The next element inside a matrix.
    pub(super) fn next_inner(&mut self, what: &str) -> Decoded<Element<'a>> {
        self.next(|_| true).map_err(|reason| format!("{what}: {reason}"))
    }

    /// Reads a tag and steps over its payload, and over the padding to eight bytes if `padded`.
    fn next(&mut self, padded: impl Fn(u32) -> bool) -> Decoded<Element<'a>> {
        let tag = self.word(self.at)?;
        let small = tag >> 16;
        if small != 0 {
            // A small element: length in the upper half of the tag, payload in the four bytes behind it.
            if small > 4 {
                return Err(format!("a small element of {small} bytes; at most 4 fit"));
            }
            let start = self.at + 4;
            let payload = self.slice(start, small as usize)?;
            self.payload_end = start + small as usize;
            self.at = (self.at + 8).min(self.bytes.len());
            return Ok(Element { kind: tag & 0xffff, payload });
        }
        let length = self.word(self.at + 4)? as usize;
        let start = self.at + 8;
        let payload = self.slice(start, length)?;
        self.payload_end = start + length;
        // The last padding of a file is sometimes left out.
        let step = if padded(tag) { length.next_multiple_of(8) } else { length };
        self.at = (start + step).min(self.bytes.len());
        Ok(Element { kind: tag, payload })
    }

    fn slice(&self, start: usize, length: usize) -> Decoded<&'a [u8]> {
        start.checked_add(length).and_then(|end| self.bytes.get(start..end)).ok_or_else(|| {
            let left = self.bytes.len().saturating_sub(start);
            format!("an element claims {length} bytes, {left} are left; the file is cut short or damaged")
        })
    }

    fn word(&self, at: usize) -> Decoded<u32> {
        match self.bytes.get(at..at + 4) {
            Some(b) => Ok(self.order.u32([b[0], b[1], b[2], b[3]])),
            None => Err("ends inside a tag; the file is cut short".into()),
        }
    }
}

/// Inflates one compressed element, a matrix with its tag, into `buffer`, and returns the bytes of the matrix behind
/// the tag: `buffer[8..8 + length]`.
///
/// The matrix says its own length first; it is believed only as far as deflate could make it from these bytes. The
/// buffer may come from an earlier file: it grows when it must, and what it held is written over.
pub(super) fn inflate(
    compressed: &[u8],
    order: ByteOrder,
    budget: usize,
    buffer: &mut Vec<u8>,
) -> Decoded<Range<usize>> {
    let mut tag = [0; 8];
    flate2::read::ZlibDecoder::new(compressed)
        .read_exact(&mut tag)
        .map_err(|e| format!("compressed element: {e}"))?;
    let kind = order.u32([tag[0], tag[1], tag[2], tag[3]]);
    if kind != MI_MATRIX {
        return Err(format!("a compressed element of type {kind}; expected a matrix"));
    }
    let length = order.u32([tag[4], tag[5], tag[6], tag[7]]) as usize;
    let possible = compressed.len().saturating_mul(DEFLATE_RATIO);
    if length > possible {
        let held = compressed.len();
        return Err(format!("a matrix of {length} bytes cannot come from {held} compressed bytes"));
    }
    if length > budget {
        return Err(format!("inflates to {length} bytes or more, {budget} are left of the limit"));
    }
    // In one go and into memory of the right size: the decoder then needs no window of its own to copy from.
    let end = 8 + length;
    if buffer.len() < end {
        buffer.resize(end, 0);
    }
    let mut decoder = flate2::Decompress::new(true);
    let status = decoder
        .decompress(compressed, &mut buffer[..end], FlushDecompress::Finish)
        .map_err(|e| format!("a compressed matrix of {length} bytes: {e}"))?;
    let made = decoder.total_out();
    if made < end as u64 {
        return Err(format!(
            "a compressed matrix of {length} bytes ends after {made}; the file is cut short"
        ));
    }
    // `BufError` is more data behind the matrix, which nothing here asks for.
    debug_assert!(matches!(status, Status::StreamEnd | Status::BufError | Status::Ok));
    Ok(8..end)
}
