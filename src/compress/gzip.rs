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
pub(super) mod tests {
    use std::io::Read;

    use super::*;

    /// Returns the gzip member, compressed on this thread.
    pub(in crate::compress) fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut member = HEADER.to_vec();
        let blocks: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(BLOCK_SIZE).collect() };
        let gzip = Gzip { level };
        let mut dictionary: &[u8] = &[];
        for (n, block) in blocks.iter().enumerate() {
            let mut compressed = Vec::new();
            gzip.compress(dictionary, block, n + 1 == blocks.len(), &mut compressed).unwrap();
            member.extend_from_slice(&compressed);
            dictionary = &block[block.len().saturating_sub(Gzip::DICTIONARY)..];
        }
        member.extend_from_slice(&gzip.trailer(&gzip.checksum(bytes), bytes.len() as u64));
        member
    }

    /// Returns bytes that no compressor makes smaller.
    pub(in crate::compress) fn random(len: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(len)
        .collect()
    }

    /// Returns text, tables and random bytes, for which each level gives another result; longer than a block.
    pub(in crate::compress) fn sample() -> Vec<u8> {
        let random = random(1 << 19);
        let words: Vec<&[u8]> = (0..400).map(|n| &random[n * 8..n * 8 + 2 + n % 7]).collect();
        let mut sample = Vec::new();
        for (n, pair) in random.chunks(2).enumerate() {
            sample.extend_from_slice(words[usize::from(pair[0]) * usize::from(pair[1]) * 400 / 65536]);
            sample.push(b' ');
            if n % 11 == 0 {
                sample.extend_from_slice(&(n as u64 * 24).to_le_bytes());
            }
        }
        sample.extend(&random[..200_000]);
        sample
    }

    #[test]
    fn one_member_decompresses_to_the_input() {
        let text: Vec<u8> = b"the quick brown fox jumps over the lazy dog. ".repeat(80_000);
        // Incompressible data at the start, inside and at the end of a block, so that both kinds of runs begin and end blocks.
        let block = BLOCK_SIZE;
        let mixed = [&text[..block / 4], &random(block), &text[..block / 2], &random(block / 4)].concat();
        // After stored data, the dictionary is the end of that data.
        let resumed = [&text[..block], &random(block / 8), &text[..block / 2]].concat();
        for bytes in [
            &b""[..],
            b"x",
            &text,
            &random(3 * block + 17),
            &random(block),
            &text[..2 * block],
            &mixed,
            &resumed,
            &sample(),
        ] {
            let compressed = gzip(bytes, 2);
            let mut decompressed = Vec::new();
            // GzDecoder stops after the first member: this proves that there is only one.
            flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut decompressed).unwrap();
            assert!(decompressed == bytes, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn incompressible_data_grows_by_less_than_a_thousandth() {
        let bytes = random(4 * BLOCK_SIZE);
        let len = gzip(&bytes, 2).len();
        assert!(len < bytes.len() + bytes.len() / 1000, "{len}");
    }

    #[test]
    fn the_length_in_the_trailer_is_modulo_four_gib() {
        let trailer = Gzip { level: 2 }.trailer(&crc32fast::Hasher::new(), (1 << 32) + 5);
        assert_eq!(trailer, [0, 0, 0, 0, 5, 0, 0, 0]);
    }

    /// If this fails, the compressor's output has changed: give [`VERSION`] a new number, and use the new digests here.
    #[test]
    fn equal_versions_give_equal_bytes() {
        let digests = [2, 3, 6].map(|level| crate::oci::Digest::of(&gzip(&sample(), level)).short());
        assert_eq!(
            (VERSION, digests.join(" ").as_str()),
            ("gzip/2", "sha256:497d767c06bf sha256:56e94b5407e4 sha256:1ecc890a09fc")
        );
    }
}
