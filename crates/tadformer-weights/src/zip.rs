//! The part of the ZIP format that PyTorch writes: stored and deflated entries, ZIP64 sizes, no encryption, one disk.
//!
//! Facts from PKWARE's APPNOTE 6.3.10. Every size is checked against the file before anything is allocated for it.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

use crate::bytes::Bytes;
use crate::error::{Parse, Refusal, refuse};
use crate::limits::FileLimits;

const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const END_LEN: usize = 22;
const CENTRAL_LEN: usize = 46;
const LOCAL_LEN: usize = 30;

/// An opened archive: a checked table of contents over shared bytes.
pub(crate) struct Archive {
    bytes: Bytes,
    entries: HashMap<String, Entry>,
}

struct Entry {
    data: Range<usize>,
    size: usize,
    crc: u32,
    deflated: bool,
}

impl Archive {
    /// Whether `bytes` begin as an archive does.
    pub(crate) fn recognises(bytes: &[u8]) -> bool {
        bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
    }

    /// Reads the table of contents and checks each entry: inside the file, overlapping no other, with a local header
    /// that says the same, named once, with a plausible size.
    pub(crate) fn open(bytes: Bytes, limits: &FileLimits) -> Parse<Self> {
        let directory = find_directory(&bytes, limits.entries)?;
        let mut entries = HashMap::new();
        let mut occupied = vec![directory.range.clone()];
        let mut inflated_total = 0u64;
        let mut at = directory.range.start;
        for _ in 0..directory.entries {
            let record = Central::parse(&bytes[..directory.range.end], at)?;
            at = record.end;
            let (span, data) = locate_data(&bytes, directory.range.start, &record)?;
            occupied.push(span);
            inflated_total = inflated_total.saturating_add(check_ratio(&record, limits)?);
            let entry = Entry {
                size: to_usize(record.size, "an entry's size")?,
                data,
                crc: record.crc,
                deflated: record.deflated,
            };
            let name = record.name;
            if entries.insert(name.clone(), entry).is_some() {
                return refuse(format!("the archive holds two entries named `{name}`"));
            }
        }
        if at != directory.range.end {
            return refuse("the archive's table of contents is longer than its entries");
        }
        let most = (bytes.len() as u64).saturating_mul(limits.ratio).saturating_add(limits.free_bytes);
        if inflated_total > most {
            return refuse("the archive's entries unpack to more than its length allows (a zip bomb?)");
        }
        refuse_overlap(occupied)?;
        Ok(Self { bytes, entries })
    }

    /// Names of the entries, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Unpacked size of an entry in bytes, as the archive states it.
    pub(crate) fn size(&self, name: &str) -> Option<usize> {
        self.entries.get(name).map(|entry| entry.size)
    }

    /// The bytes of an entry: shared with the file if stored, inflated otherwise; the checksum is verified.
    pub(crate) fn read(&self, name: &str) -> Parse<Bytes> {
        let Some(entry) = self.entries.get(name) else {
            return refuse(format!("the archive has no entry `{name}`"));
        };
        let Some(packed) = self.bytes.slice(entry.data.clone()) else {
            return refuse(format!("the entry `{name}` lies outside of the file"));
        };
        let bytes = if entry.deflated { inflate(name, &packed, entry.size)?.into() } else { packed };
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        if crc.sum() != entry.crc {
            return refuse(format!(
                "the entry `{name}` is damaged: checksum {:08x}, expected {:08x}; fetch or save the file again",
                crc.sum(),
                entry.crc
            ));
        }
        Ok(bytes)
    }
}

/// Inflates into a buffer that grows with what comes out, and never beyond `size`.
fn inflate(name: &str, packed: &[u8], size: usize) -> Parse<Vec<u8>> {
    let mut out = Vec::new();
    let limit = size as u64 + 1;
    let read = flate2::read::DeflateDecoder::new(packed).take(limit).read_to_end(&mut out);
    match read {
        Ok(length) if length == size => Ok(out),
        Ok(length) if length > size => {
            refuse(format!("the entry `{name}` unpacks to more than the {size} bytes it declares"))
        }
        Ok(length) => refuse(format!("the entry `{name}` unpacks to {length} bytes and declares {size}")),
        Err(e) => refuse(format!("the entry `{name}` cannot be unpacked: {e}")),
    }
}

struct Directory {
    range: Range<usize>,
    entries: u64,
}

/// Finds the table of contents from the record at the end of the file.
fn find_directory(bytes: &[u8], most_entries: u64) -> Parse<Directory> {
    let Some(last) = bytes.len().checked_sub(END_LEN) else {
        return refuse("it is too short for an archive; the download or copy was cut off");
    };
    // The record may be followed by a comment of up to 65535 bytes.
    let first = last.saturating_sub(0xffff);
    let Some(end) = (first..=last).rev().find(|&at| {
        u32_at(bytes, at) == Some(END)
            && u16_at(bytes, at + 20).is_some_and(|n| at + END_LEN + usize::from(n) == bytes.len())
    }) else {
        return refuse("the archive has no end record; the download or copy was cut off");
    };
    let short = || Refusal("the archive's end record is cut short".to_owned());
    let field16 = |offset| u16_at(bytes, end + offset).map(u64::from).ok_or_else(short);
    let field32 = |offset| u32_at(bytes, end + offset).map(u64::from).ok_or_else(short);
    let (mut entries, mut size, mut start) = (field16(10)?, field32(12)?, field32(16)?);
    let mut limit = end;
    let locator = end.checked_sub(20).filter(|&at| u32_at(bytes, at) == Some(END64_LOCATOR));
    if let Some(locator) = locator {
        let at = to_usize(u64_at(bytes, locator + 8).ok_or_else(short)?, "the ZIP64 record's place")?;
        if at >= locator || u32_at(bytes, at) != Some(END64) {
            return refuse("the archive's ZIP64 record is not where its locator says");
        }
        let field64 = |offset| at.checked_add(offset).and_then(|at| u64_at(bytes, at)).ok_or_else(short);
        (entries, size, start) = (field64(32)?, field64(40)?, field64(48)?);
        limit = at;
    }
    if entries > most_entries {
        return refuse(format!("the archive claims {entries} entries; at most {most_entries} are read"));
    }
    if size / (CENTRAL_LEN as u64) < entries {
        return refuse(format!("the archive claims {entries} entries in a table of {size} bytes"));
    }
    let stop = start.checked_add(size).filter(|&stop| stop <= limit as u64);
    let Some(stop) = stop else {
        return refuse("the archive's table of contents lies outside of the file");
    };
    Ok(Directory { range: to_usize(start, "an offset")?..to_usize(stop, "an offset")?, entries })
}

/// One record of the table of contents.
struct Central {
    name: String,
    deflated: bool,
    crc: u32,
    packed: u64,
    size: u64,
    local: u64,
    has_descriptor: bool,
    end: usize,
}

impl Central {
    fn parse(bytes: &[u8], at: usize) -> Parse<Self> {
        let short = || Refusal("the archive's table of contents is cut short".to_owned());
        let record = bytes.get(at..).filter(|rest| rest.len() >= CENTRAL_LEN).ok_or_else(short)?;
        let field16 = |offset| u16_at(record, offset).ok_or_else(short);
        let field32 = |offset| u32_at(record, offset).ok_or_else(short);
        if field32(0)? != CENTRAL {
            return refuse("the archive's table of contents holds something that is no entry");
        }
        let name_end = CENTRAL_LEN + usize::from(field16(28)?);
        let extra_end = name_end + usize::from(field16(30)?);
        let end = extra_end + usize::from(field16(32)?);
        let name = record.get(CENTRAL_LEN..name_end).ok_or_else(short)?;
        let extra = record.get(name_end..extra_end).ok_or_else(short)?;
        if end > record.len() {
            return Err(short());
        }
        let Ok(name) = std::str::from_utf8(name) else {
            return refuse("the archive holds an entry whose name is not UTF-8");
        };
        let flags = field16(8)?;
        if flags & 1 != 0 {
            return refuse(format!("the entry `{name}` is encrypted"));
        }
        let deflated = match field16(10)? {
            0 => false,
            8 => true,
            method => {
                return refuse(format!(
                    "the entry `{name}` uses compression method {method}; 0 and 8 are read"
                ));
            }
        };
        let mut sizes = [u64::from(field32(24)?), u64::from(field32(20)?), u64::from(field32(42)?)];
        if sizes.contains(&u64::from(u32::MAX)) {
            read_zip64(name, extra, &mut sizes)?;
        }
        let [size, packed, local] = sizes;
        if !deflated && packed != size {
            return refuse(format!("the entry `{name}` is stored in {packed} bytes and declares {size}"));
        }
        Ok(Self {
            name: name.to_owned(),
            deflated,
            crc: field32(16)?,
            packed,
            size,
            local,
            has_descriptor: flags & 8 != 0,
            end: at + end,
        })
    }
}

/// Replaces each saturated field (size, packed size, place of the local header) by its ZIP64 value.
fn read_zip64(name: &str, mut extra: &[u8], fields: &mut [u64; 3]) -> Parse<()> {
    while let (Some(kind), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(body) = extra.get(4..4 + usize::from(length)) else { break };
        if kind == 1 {
            let mut at = 0;
            for field in fields.iter_mut().filter(|field| **field == u64::from(u32::MAX)) {
                let Some(value) = u64_at(body, at) else {
                    return refuse(format!("the entry `{name}` lacks its ZIP64 sizes"));
                };
                *field = value;
                at += 8;
            }
            return Ok(());
        }
        extra = &extra[4 + body.len()..];
    }
    // Without the extra field the saturated value is the value.
    Ok(())
}

/// Checks the local header; returns the bytes that the entry occupies with it, and those of its data.
fn locate_data(bytes: &[u8], limit: usize, record: &Central) -> Parse<(Range<usize>, Range<usize>)> {
    let name = &record.name;
    let outside = || Refusal(format!("the entry `{name}` lies outside of the file"));
    let start = usize::try_from(record.local).map_err(|_| outside())?;
    let header = bytes.get(start..limit).filter(|rest| rest.len() >= LOCAL_LEN).ok_or_else(outside)?;
    if u32_at(header, 0) != Some(LOCAL) {
        return refuse(format!("the entry `{name}` has no local header where the table of contents says"));
    }
    let length16 = |offset| u16_at(header, offset).map(usize::from).ok_or_else(outside);
    let name_end = LOCAL_LEN + length16(26)?;
    let data_start = name_end + length16(28)?;
    if header.get(LOCAL_LEN..name_end) != Some(name.as_bytes()) {
        return refuse(format!("the entry `{name}` has another name in its local header"));
    }
    if !record.has_descriptor {
        let local_crc = u32_at(header, 14).ok_or_else(outside)?;
        let local_packed = u32_at(header, 18).map(u64::from).ok_or_else(outside)?;
        let local_size = u32_at(header, 22).map(u64::from).ok_or_else(outside)?;
        let agrees = |local: u64, central: u64| local == central || local == u64::from(u32::MAX);
        if local_crc != record.crc || !agrees(local_packed, record.packed) || !agrees(local_size, record.size)
        {
            return refuse(format!("the entry `{name}` has another size or checksum in its local header"));
        }
    }
    let packed = usize::try_from(record.packed).map_err(|_| outside())?;
    let stop = data_start.checked_add(packed).filter(|&stop| stop <= header.len()).ok_or_else(outside)?;
    Ok((start..start + stop, start + data_start..start + stop))
}

/// Refuses an entry that unpacks to implausibly many bytes; returns the bytes it unpacks to if it is deflated.
fn check_ratio(record: &Central, limits: &FileLimits) -> Parse<u64> {
    if !record.deflated {
        return Ok(0);
    }
    if record.size > limits.free_bytes && record.size > record.packed.saturating_mul(limits.ratio) {
        return refuse(format!(
            "the entry `{}` declares {} bytes unpacked from {}: more than {}:1 (a zip bomb?)",
            record.name, record.size, record.packed, limits.ratio
        ));
    }
    Ok(record.size)
}

fn refuse_overlap(mut spans: Vec<Range<usize>>) -> Parse<()> {
    spans.sort_by_key(|span| (span.start, span.end));
    if spans.windows(2).any(|pair| pair[1].start < pair[0].end) {
        return refuse("entries of the archive overlap (a zip bomb?)");
    }
    Ok(())
}

fn to_usize(value: u64, what: &str) -> Parse<usize> {
    usize::try_from(value).map_err(|_| Refusal(format!("{what} of {value} is beyond this machine")))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}
