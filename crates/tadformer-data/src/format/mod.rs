//! Readers of the files that data sets are made of.
//!
//! Every reader takes bytes that somebody else wrote. None of them panics, and none allocates more than a small
//! multiple of what the file really holds: sizes that a header claims are checked against the bytes behind it first.

mod file;
pub mod label_png;
pub mod mat;
pub mod npy;
pub mod picture;
pub mod tiff_ids;

pub(crate) use file::read_bounded;

/// A decoded value, or the reason why the bytes are not what the format says. The caller adds the path.
pub type Decoded<T> = Result<T, String>;

/// No deflate stream expands further than this (RFC 1951: at best 258 bytes from two bits).
pub(crate) const DEFLATE_RATIO: usize = 1032;

/// The largest picture or label map that is read, in pixels.
pub const MAX_PIXELS: u64 = 64 << 20;
