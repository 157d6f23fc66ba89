//! gzip in independently compressed blocks that form one member: the same bytes for any number of threads.
//!
//! It works like pigz: each block of [`BLOCK_SIZE`] uncompressed bytes is deflated separately, with the 32 KiB before it as
//! the dictionary, and ends on a byte boundary (a sync flush). So the compressed blocks form one deflate stream. Inside a
//! block, incompressible data is stored. There is a single member, since some readers silently stop after the first. The
//! result depends on the uncompressed bytes alone: they decide where blocks begin, and each block has a new compressor.
//!
//! The block size is part of [`VERSION`]: another size gives other digests. Blocks of 1 or 4 MiB are not smaller when
//! compressed, since each has its dictionary, and use more memory.

use std::io;

use flate2::{Compress, Compression as Level, FlushCompress, Status};

use super::block_compressor::BlockCompressor;
use super::buffer::{BLOCK_SIZE, max_compressed_len};
use super::incompressible;

/// The name of this format. It changes when the bytes for the same input change.
pub(super) const VERSION: &str = "gzip/2";

/// The member's header: deflate, no name, no time, unknown operating system (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// gzip by zlib-rs: portable, with the same bytes on every CPU.
#[derive(Clone, Copy)]
pub(super) struct Gzip {
    pub(super) level: u32,
}

impl BlockCompressor for Gzip {
    /// Deflate's window.
    const DICTIONARY: usize = 32 << 10;
    const HEADER: &[u8] = &HEADER;

    fn compress(self, dictionary: &[u8], block: &[u8], last: bool, compressed: &mut Vec<u8>) -> io::Result<()> {
        compressed.reserve_exact(max_compressed_len(block.len()));
        if block.is_empty() {
            return deflate(dictionary, block, last, self.level, compressed);
        }
        let mut done = 0;
        for (run, is_incompressible) in incompressible::runs(block) {
            let last = last && done + run.len() == block.len();
            if is_incompressible {
                store(run, last, compressed);
            } else {
                let dictionary =
                    if done == 0 { dictionary } else { &block[done.saturating_sub(Self::DICTIONARY)..done] };
                deflate(dictionary, run, last, self.level, compressed)?;
            }
            done += run.len();
        }
        Ok(())
    }

    fn checksum(self, block: &[u8]) -> crc32fast::Hasher {
        let mut crc = crc32fast::Hasher::new();
        crc.update(block);
        crc
    }

    /// Returns the CRC-32 and the length of all uncompressed bytes (RFC 1952, 2.3.1).
    fn trailer(self, checksum: &crc32fast::Hasher, len: u64) -> Vec<u8> {
        // The length is modulo 2^32.
        [checksum.clone().finalize().to_le_bytes(), (len as u32).to_le_bytes()].concat()
    }
}

/// Appends stored deflate blocks (RFC 1951, 3.2.4) to a stream that ends on a byte boundary.
fn store(run: &[u8], last: bool, compressed: &mut Vec<u8>) {
    const LONGEST: usize = u16::MAX as usize;
    let mut left = run.len().div_ceil(LONGEST);
    for part in run.chunks(LONGEST) {
        left -= 1;
        let len = part.len() as u16;
        compressed.push(u8::from(last && left == 0));
        compressed.extend_from_slice(&len.to_le_bytes());
        compressed.extend_from_slice(&(!len).to_le_bytes());
        compressed.extend_from_slice(part);
    }
}

/// Appends deflate blocks with `run`, which follows `dictionary`, to `compressed`; `last` ends the deflate stream.
///
/// # Errors
/// Only if the compressor violates its own contract.
fn deflate(dictionary: &[u8], run: &[u8], last: bool, level: u32, compressed: &mut Vec<u8>) -> io::Result<()> {
    // More than deflate's worst case (stored blocks) and the flush, so that one call is enough.
    compressed.reserve_exact(max_compressed_len(run.len()));
    let mut deflater = Compress::new(Level::new(level), false);
    if !dictionary.is_empty() {
        deflater.set_dictionary(dictionary).map_err(io::Error::other)?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let consumed = usize::try_from(deflater.total_in()).map_err(io::Error::other)?;
        let status = deflater.compress_vec(&run[consumed..], compressed, flush).map_err(io::Error::other)?;
        let is_all_consumed = deflater.total_in() == run.len() as u64;
        let done = match status {
            Status::StreamEnd => true,
            // A flush is complete only if the output has space left.
            Status::Ok | Status::BufError => !last && is_all_consumed && compressed.len() < compressed.capacity(),
        };
        if done {
            return Ok(());
        }
        compressed.reserve(BLOCK_SIZE / 8);
    }
}

#[cfg(test)]
pub(super) mod tests;
