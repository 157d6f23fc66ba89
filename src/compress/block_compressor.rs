//! The interface of compression formats that compress a layer block by block.

use std::io;

/// A compression format whose blocks are compressed independently and joined into one stream.
pub(crate) trait BlockCompressor: Copy + Send + 'static {
    /// The number of bytes before a block that it may refer to.
    const DICTIONARY: usize;
    /// The bytes before the first block.
    const HEADER: &[u8] = &[];

    /// Compresses `block` and appends the result to `compressed`, which is empty.
    ///
    /// `dictionary` is the end of the layer's bytes before the block, at most [`DICTIONARY`](Self::DICTIONARY) bytes; `last` is
    /// true for the last block. The result must depend on the arguments alone: otherwise the same layer would not always have
    /// the same digest.
    ///
    /// # Errors
    /// Only if the compressor violates its own contract.
    fn compress(self, dictionary: &[u8], block: &[u8], last: bool, compressed: &mut Vec<u8>) -> io::Result<()>;

    /// Returns the checksum of a block. [`trailer`](Self::trailer) gets the combined one. By default it is empty.
    fn checksum(self, _block: &[u8]) -> crc32fast::Hasher {
        crc32fast::Hasher::new()
    }

    /// Returns the bytes after the last block of a layer of `len` bytes. By default there are none.
    fn trailer(self, _checksum: &crc32fast::Hasher, _len: u64) -> Vec<u8> {
        Vec::new()
    }
}
