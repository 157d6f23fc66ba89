//! What a compression format has to provide so that layers are compressed block by block.

use std::io;

/// A compression format whose blocks are compressed independently and joined into one stream.
pub(super) trait BlockCompressor: Copy + Send + 'static {
    /// How many of the bytes in front of a block may be referred to by it.
    const DICTIONARY: usize;
    /// The bytes in front of the first block.
    const HEADER: &[u8] = &[];

    /// Compresses `block` into `compressed`, which is emptied first and keeps its capacity from block to block.
    ///
    /// `before` is the end of what is in front of the block; `last` says whether another follows. The bytes are a function
    /// of the arguments alone, or the same layer would get another digest on another day.
    ///
    /// # Errors
    /// Only if the compressor breaks its own contract.
    fn compress(self, block: &[u8], before: &[u8], last: bool, compressed: &mut Vec<u8>) -> io::Result<()>;

    /// Returns the checksum of a block, which [`trailer`](Self::trailer) gets joined. By default there is none.
    fn checksum(self, _block: &[u8]) -> crc32fast::Hasher {
        crc32fast::Hasher::new()
    }

    /// Returns the bytes behind the last block of a layer of `len` bytes. By default there are none.
    fn trailer(self, _checksum: &crc32fast::Hasher, _len: u64) -> Vec<u8> {
        Vec::new()
    }
}
