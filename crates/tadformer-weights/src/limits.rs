//! How much a file may ask of its reader.

/// The most that a PyTorch file may ask for; a file that asks for more is refused before it gets it.
///
/// The defaults leave room for every published model. Beside them, nothing is allocated that the file's own length does not
/// justify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// Instructions of one pickle: an eight-block model with its optimizer takes 35,000, a Swin-L about 100,000. What
    /// 500,000 build stays below 64 MiB.
    pub instructions: usize,
    /// Bytes of one pickle, 64 MiB: the tensors' bytes are not in it. 4 GiB at most.
    pub pickle_bytes: usize,
    /// Containers inside of containers, and containers open at once: 200.
    pub depth: usize,
    /// Dimensions of one tensor: 16.
    pub rank: usize,
    /// Bytes of one integer: 32, enough for the 128-bit states of random generators.
    pub integer_bytes: usize,
    /// Entries of an archive: 65,536, more than the checkpoint of any published model has by two orders of magnitude.
    pub entries: u64,
    /// How many times its packed size an entry may unpack to: 64. PyTorch stores its entries; someone who packs them gains
    /// less than 2:1 on trained weights, and some dozens on buffers. Deflate itself can reach 1032:1.
    pub ratio: u64,
    /// Bytes that an entry may unpack to at any ratio: 64 KiB of zeros are harmless.
    pub free_bytes: u64,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            instructions: 500_000,
            pickle_bytes: 64 << 20,
            depth: 200,
            rank: 16,
            integer_bytes: 32,
            entries: 65_536,
            ratio: 64,
            free_bytes: 64 << 10,
        }
    }
}
