//! Element types of stored tensors and their conversion to `f32`.

use std::fmt;

/// Element type of a stored tensor; bytes are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 64-bit integer.
    U64,
    /// Signed 64-bit integer.
    I64,
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl Dtype {
    /// Bytes of one element, 1 to 8.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether elements are floating-point numbers: what a parameter must be.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// Appends every element of `bytes` to `out` as the nearest `f32`; integers beyond 2^24 are rounded.
    /// A last element that is cut short is left out.
    pub(crate) fn extend_f32(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::Bool => out.extend(bytes.iter().map(|&b| f32::from(u8::from(b != 0)))),
            Self::U8 => out.extend(bytes.iter().map(|&b| f32::from(b))),
            Self::I8 => out.extend(bytes.iter().map(|&b| f32::from(b.cast_signed()))),
            Self::U16 => extend(bytes, out, |b| f32::from(u16::from_le_bytes(b))),
            Self::I16 => extend(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
            Self::U32 => extend(bytes, out, |b| u32::from_le_bytes(b) as f32),
            Self::I32 => extend(bytes, out, |b| i32::from_le_bytes(b) as f32),
            Self::U64 => extend(bytes, out, |b| u64::from_le_bytes(b) as f32),
            Self::I64 => extend(bytes, out, |b| i64::from_le_bytes(b) as f32),
            Self::F16 => extend(bytes, out, |b| half::f16::from_le_bytes(b).to_f32()),
            Self::BF16 => extend(bytes, out, |b| half::bf16::from_le_bytes(b).to_f32()),
            Self::F32 => extend(bytes, out, f32::from_le_bytes),
            Self::F64 => extend(bytes, out, |b| f64::from_le_bytes(b) as f32),
        }
    }

    /// As [`extend_f32`](Self::extend_f32); returns whether every number that was added is finite.
    ///
    /// The numbers are looked at while they are in the first-level cache, so that it takes no second way through memory.
    pub(crate) fn extend_finite_f32(self, bytes: &[u8], out: &mut Vec<f32>) -> bool {
        /// Elements at a time: 8 KiB of `f32`.
        const RUN: usize = 2048;
        let mut finite = true;
        for run in bytes.chunks(RUN * self.size()) {
            let first = out.len();
            self.extend_f32(run, out);
            finite &= all_finite(&out[first..]);
        }
        finite
    }

    /// The element at the beginning of `bytes`, as it is stored; `None` if there is none.
    pub(crate) fn first_f64(self, bytes: &[u8]) -> Option<f64> {
        let bytes = bytes.get(..self.size())?;
        if self == Self::F64 {
            return bytes.first_chunk().map(|&b| f64::from_le_bytes(b));
        }
        let mut one = Vec::with_capacity(1);
        self.extend_f32(bytes, &mut one);
        one.first().map(|&value| f64::from(value))
    }

    /// The type of a safetensors header, or `None` for the sub-byte, 8-bit float and complex types no Swin uses.
    pub(crate) fn from_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        use safetensors::Dtype as S;
        Some(match dtype {
            S::BOOL => Self::Bool,
            S::U8 => Self::U8,
            S::I8 => Self::I8,
            S::U16 => Self::U16,
            S::I16 => Self::I16,
            S::U32 => Self::U32,
            S::I32 => Self::I32,
            S::U64 => Self::U64,
            S::I64 => Self::I64,
            S::F16 => Self::F16,
            S::BF16 => Self::BF16,
            S::F32 => Self::F32,
            S::F64 => Self::F64,
            _ => return None,
        })
    }

    pub(crate) fn to_safetensors(self) -> safetensors::Dtype {
        use safetensors::Dtype as S;
        match self {
            Self::Bool => S::BOOL,
            Self::U8 => S::U8,
            Self::I8 => S::I8,
            Self::U16 => S::U16,
            Self::I16 => S::I16,
            Self::U32 => S::U32,
            Self::I32 => S::I32,
            Self::U64 => S::U64,
            Self::I64 => S::I64,
            Self::F16 => S::F16,
            Self::BF16 => S::BF16,
            Self::F32 => S::F32,
            Self::F64 => S::F64,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        };
        f.write_str(name)
    }
}

fn extend<const N: usize>(bytes: &[u8], out: &mut Vec<f32>, convert: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    out.extend(elements.iter().map(|&element| convert(element)));
}

/// Whether no number is NaN or infinite. Those have an exponent of ones, which one more turns into a sign; without branches
/// this is three vector instructions a register.
fn all_finite(values: &[f32]) -> bool {
    let carried = values.iter().fold(0, |carried, v| carried | ((v.to_bits() & 0x7f80_0000) + 0x0080_0000));
    carried >> 31 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::new();
        dtype.extend_f32(bytes, &mut out);
        out
    }

    #[test]
    fn every_type_converts_to_the_number_it_means() {
        assert_eq!(converted(Dtype::F32, &1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(converted(Dtype::F64, &(-0.25f64).to_le_bytes()), [-0.25]);
        // 0x3c00 = 1, 0x0001 = 2^-24 (subnormal), 0xfc00 = -infinity
        assert_eq!(
            converted(Dtype::F16, &[0x00, 0x3c, 0x01, 0x00, 0x00, 0xfc]),
            [1.0, 2f32.powi(-24), f32::NEG_INFINITY]
        );
        assert_eq!(converted(Dtype::BF16, &[0x80, 0x3f, 0x40, 0xc0]), [1.0, -3.0]);
        assert_eq!(converted(Dtype::I64, &(-7i64).to_le_bytes()), [-7.0]);
        assert_eq!(converted(Dtype::U64, &u64::MAX.to_le_bytes()), [2f32.powi(64)]);
        assert_eq!(converted(Dtype::I32, &(-70_000i32).to_le_bytes()), [-70_000.0]);
        assert_eq!(converted(Dtype::U32, &70_000u32.to_le_bytes()), [70_000.0]);
        assert_eq!(converted(Dtype::I16, &(-300i16).to_le_bytes()), [-300.0]);
        assert_eq!(converted(Dtype::U16, &60_000u16.to_le_bytes()), [60_000.0]);
        assert_eq!(converted(Dtype::I8, &[0xff]), [-1.0]);
        assert_eq!(converted(Dtype::U8, &[0xff]), [255.0]);
        assert_eq!(converted(Dtype::Bool, &[0, 1, 2]), [0.0, 1.0, 1.0]);
    }

    #[test]
    fn numbers_that_are_not_finite_are_seen_wherever_they_are() {
        let finite = |dtype: Dtype, bytes: &[u8]| dtype.extend_finite_f32(bytes, &mut Vec::new());
        let good = [0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, -1e-40];
        for count in [0, 1, 7, 2047, 2048, 2049, 5000] {
            let values: Vec<f32> = (0..count).map(|i| good[i % good.len()]).collect();
            let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert!(finite(Dtype::F32, &bytes), "{count}");
            for at in [0, count / 2, count.saturating_sub(1)].into_iter().filter(|_| count > 0) {
                for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let before: [u8; 4] = *bytes[4 * at..].first_chunk().unwrap();
                    bytes[4 * at..][..4].copy_from_slice(&bad.to_le_bytes());
                    assert!(!finite(Dtype::F32, &bytes), "{bad} at {at} of {count}");
                    bytes[4 * at..][..4].copy_from_slice(&before);
                }
            }
        }
        assert!(!finite(Dtype::F16, &[0, 0x3c, 0, 0x7c]) && finite(Dtype::F16, &[0xff, 0x7b]));
        assert!(!finite(Dtype::BF16, &[0xc0, 0x7f]) && finite(Dtype::BF16, &[0x7f, 0x7f]));
        // Finite where it is stored, and not in `f32`.
        assert!(!finite(Dtype::F64, &1e39f64.to_le_bytes()) && finite(Dtype::F64, &1e38f64.to_le_bytes()));
        assert!(finite(Dtype::U64, &[0xff; 8]) && finite(Dtype::I8, &[0xff]));
    }
}
