//! Writes pickles and archives, right ones and wrong ones.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::Write;

/// A pickle, opcode by opcode.
pub(crate) struct Pickle {
    bytes: Vec<u8>,
    protocol: u8,
}

impl Pickle {
    pub(crate) fn new(protocol: u8) -> Self {
        Self { bytes: vec![0x80, protocol], protocol }
    }

    /// The finished pickle.
    pub(crate) fn end(self) -> Vec<u8> {
        self.raw(b".").bytes
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).unwrap();
        self.raw(b"X").raw(&length.to_le_bytes()).raw(text.as_bytes())
    }

    pub(crate) fn int(self, value: i32) -> Self {
        self.raw(b"J").raw(&value.to_le_bytes())
    }

    /// A tuple of integers.
    pub(crate) fn ints(self, values: &[i32]) -> Self {
        values.iter().fold(self.mark(), |pickle, &value| pickle.int(value)).tuple()
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        if self.protocol >= 4 {
            return self.text(module).text(name).raw(b"\x93");
        }
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// A reference to a storage on the processor.
    pub(crate) fn storage(self, class: &str, key: &str, numel: i32) -> Self {
        let parts = self.mark().text("storage").global("torch", class).text(key).text("cpu").int(numel);
        parts.tuple().persistent()
    }

    pub(crate) fn put(self, slot: u8) -> Self {
        self.raw(&[b'q', slot])
    }

    pub(crate) fn get(self, slot: u8) -> Self {
        self.raw(&[b'h', slot])
    }

    pub(crate) fn none(self) -> Self {
        self.raw(b"N")
    }

    pub(crate) fn dict(self) -> Self {
        self.raw(b"}")
    }

    pub(crate) fn list(self) -> Self {
        self.raw(b"]")
    }

    pub(crate) fn mark(self) -> Self {
        self.raw(b"(")
    }

    pub(crate) fn tuple(self) -> Self {
        self.raw(b"t")
    }

    pub(crate) fn empty_tuple(self) -> Self {
        self.raw(b")")
    }

    pub(crate) fn tuple1(self) -> Self {
        self.raw(b"\x85")
    }

    pub(crate) fn tuple2(self) -> Self {
        self.raw(b"\x86")
    }

    pub(crate) fn reduce(self) -> Self {
        self.raw(b"R")
    }

    pub(crate) fn new_object(self) -> Self {
        self.raw(b"\x81")
    }

    pub(crate) fn build(self) -> Self {
        self.raw(b"b")
    }

    pub(crate) fn persistent(self) -> Self {
        self.raw(b"Q")
    }

    pub(crate) fn set_item(self) -> Self {
        self.raw(b"s")
    }

    pub(crate) fn append(self) -> Self {
        self.raw(b"a")
    }

    pub(crate) fn appends(self) -> Self {
        self.raw(b"e")
    }

    pub(crate) fn pop(self) -> Self {
        self.raw(b"0")
    }
}

/// An entry of an archive; every field may lie.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The name in the local header, if another.
    pub(crate) local_name: Option<String>,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) crc: u32,
    pub(crate) packed_size: u32,
    pub(crate) size: u32,
    /// Whether the sizes stand in a ZIP64 field instead.
    pub(crate) zip64: bool,
    /// Further records of the table of contents, with the place of their local headers.
    pub(crate) more_central: Vec<(Entry, u32)>,
}

impl Entry {
    pub(crate) fn stored(name: &str, data: &[u8]) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let size = u32::try_from(data.len()).unwrap();
        Self {
            name: name.to_owned(),
            local_name: None,
            data: data.to_vec(),
            method: 0,
            flags: 0,
            crc: crc.sum(),
            packed_size: size,
            size,
            zip64: false,
            more_central: Vec::new(),
        }
    }

    pub(crate) fn deflated(name: &str, data: &[u8]) -> Self {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        let packed = encoder.finish().unwrap();
        let packed_size = u32::try_from(packed.len()).unwrap();
        Self { data: packed, method: 8, packed_size, ..Self::stored(name, data) }
    }

    /// The part that local header and table of contents share.
    fn fields(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for half in [20, self.flags, self.method, 0, 0] {
            out.extend(half.to_le_bytes());
        }
        let sizes = if self.zip64 { [u32::MAX; 2] } else { [self.packed_size, self.size] };
        for word in [self.crc, sizes[0], sizes[1]] {
            out.extend(word.to_le_bytes());
        }
        out.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        out.extend(u16::try_from(self.extra().len()).unwrap().to_le_bytes());
        out
    }

    /// A field of another kind, then the ZIP64 field: size and packed size.
    fn extra(&self) -> Vec<u8> {
        if !self.zip64 {
            return Vec::new();
        }
        let mut out = b"\x34\x12\x03\x00abc\x01\x00\x10\x00".to_vec();
        out.extend(u64::from(self.size).to_le_bytes());
        out.extend(u64::from(self.packed_size).to_le_bytes());
        out
    }

    fn central(&self, at: u32) -> Vec<u8> {
        let mut out = b"PK\x01\x02\x14\x00".to_vec();
        out.extend(self.fields(&self.name));
        out.extend([0; 10]);
        out.extend(at.to_le_bytes());
        out.extend(self.name.as_bytes());
        out.extend(self.extra());
        out
    }
}

/// An archive of these entries; with a ZIP64 end record if there are too many for the plain one.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut central = Vec::new();
    let mut count = 0u64;
    for entry in entries {
        let at = u32::try_from(out.len()).unwrap();
        let name = entry.local_name.as_deref().unwrap_or(&entry.name);
        out.extend(b"PK\x03\x04");
        out.extend(entry.fields(name));
        out.extend(name.as_bytes());
        out.extend(entry.extra());
        out.extend(&entry.data);
        central.extend(entry.central(at));
        count += 1;
        for (further, offset) in &entry.more_central {
            central.extend(further.central(at + offset));
            count += 1;
        }
    }
    let (start, size) = (out.len() as u64, central.len() as u64);
    out.extend(central);
    if count > 0xffff {
        let record = out.len() as u64;
        out.extend(b"PK\x06\x06");
        out.extend(44u64.to_le_bytes());
        out.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for field in [count, count, size, start] {
            out.extend(field.to_le_bytes());
        }
        out.extend(b"PK\x06\x07\0\0\0\0");
        out.extend(record.to_le_bytes());
        out.extend(1u32.to_le_bytes());
    }
    out.extend(b"PK\x05\x06\0\0\0\0");
    let short = u16::try_from(count).unwrap_or(u16::MAX);
    out.extend(short.to_le_bytes());
    out.extend(short.to_le_bytes());
    out.extend(u32::try_from(size).unwrap().to_le_bytes());
    out.extend(u32::try_from(start).unwrap().to_le_bytes());
    out.extend(0u16.to_le_bytes());
    out
}
