//! gzip in blocks that are compressed independently and joined: one member, the same bytes whatever the number of threads.
//!
//! The form is that of pigz: each block of [`BLOCK`] uncompressed bytes is deflated on its own with the 32 KiB before it
//! as dictionary, and ends on a byte boundary (a sync flush), so that the compressed blocks follow one another in one
//! deflate stream. Inside a block, incompressible data is stored. One member, because some readers stop silently after the
//! first. Where the blocks are cut depends on the uncompressed bytes alone, and every block gets a fresh compressor, so
//! the bytes depend on nothing else.

use std::io;

use flate2::{Compress, Compression as Level, FlushCompress, Status};

use super::block_compressor::BlockCompressor;
use super::buffer::{BLOCK_SIZE, max_compressed_len};
use super::incompressible;

/// Uncompressed bytes a block. Part of [`VERSION`]: another size gives other digests. Blocks of 1 or 4 MiB come out no
/// smaller, since each has its dictionary, and cost memory.
const BLOCK: usize = BLOCK_SIZE;

/// How far back a block may refer: deflate's window.
const DICTIONARY: usize = 32 << 10;

/// The name of what these bytes follow. It changes when the bytes for the same input change.
pub(super) const VERSION: &str = "gzip/2";

/// The member's header: deflate, no name, no time, unknown operating system (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// gzip by zlib-rs: portable, and equal on every CPU.
#[derive(Clone, Copy)]
pub(super) struct Gzip {
    pub(super) level: u32,
}

impl BlockCompressor for Gzip {
    const DICTIONARY: usize = DICTIONARY;
    const HEADER: &[u8] = &HEADER;

    fn compress(self, block: &[u8], before: &[u8], last: bool, compressed: &mut Vec<u8>) -> io::Result<()> {
        compressed.clear();
        compressed.reserve_exact(max_compressed_len(block.len()));
        if block.is_empty() {
            return deflate(block, before, last, self.level, compressed);
        }
        let mut done = 0;
        for (run, is_incompressible) in incompressible::runs(block) {
            let last = last && done + run.len() == block.len();
            if is_incompressible {
                store(run, last, compressed);
            } else {
                let before = if done == 0 { before } else { &block[done.saturating_sub(DICTIONARY)..done] };
                deflate(run, before, last, self.level, compressed)?;
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

    /// Returns the member's trailer: the CRC-32 and the length of all uncompressed bytes (RFC 1952, 2.3.1).
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

/// Appends `run`, deflated, to `compressed`; the thread's buffer keeps its capacity from block to block.
///
/// `before` is what precedes it, at most [`DICTIONARY`] bytes; `last` closes the deflate stream.
///
/// # Errors
/// Only if the compressor breaks its own contract.
fn deflate(run: &[u8], before: &[u8], last: bool, level: u32, compressed: &mut Vec<u8>) -> io::Result<()> {
    // More than deflate's worst case (stored blocks) and the flush, so that one call does.
    compressed.reserve_exact(max_compressed_len(run.len()));
    let mut deflater = Compress::new(Level::new(level), false);
    if !before.is_empty() {
        deflater.set_dictionary(before).map_err(io::Error::other)?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let taken = usize::try_from(deflater.total_in()).map_err(io::Error::other)?;
        let status = deflater.compress_vec(&run[taken..], compressed, flush).map_err(io::Error::other)?;
        let all_taken = deflater.total_in() == run.len() as u64;
        let done = match status {
            Status::StreamEnd => true,
            // A flush is complete only if the output was not filled to the brim.
            Status::Ok | Status::BufError => !last && all_taken && compressed.len() < compressed.capacity(),
        };
        if done {
            return Ok(());
        }
        compressed.reserve(BLOCK / 8);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read;

    use super::*;

    fn gzip(plain: &[u8], level: u32) -> Vec<u8> {
        let mut member = HEADER.to_vec();
        let blocks: Vec<&[u8]> = if plain.is_empty() { vec![&[]] } else { plain.chunks(BLOCK).collect() };
        let mut before: &[u8] = &[];
        for (n, block) in blocks.iter().enumerate() {
            let mut packed = Vec::new();
            Gzip { level }.compress(block, before, n + 1 == blocks.len(), &mut packed).unwrap();
            member.extend_from_slice(&packed);
            before = &block[block.len().saturating_sub(DICTIONARY)..];
        }
        let gzip = Gzip { level };
        member.extend_from_slice(&gzip.trailer(&gzip.checksum(plain), plain.len() as u64));
        member
    }

    /// Bytes that no compressor makes smaller.
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

    /// Text, tables and random bytes, on which every level makes its own choices, and more of it than any block.
    pub(in crate::compress) fn sample() -> Vec<u8> {
        let dice = random(1 << 19);
        let words: Vec<&[u8]> = (0..400).map(|n| &dice[n * 8..n * 8 + 2 + n % 7]).collect();
        let mut sample = Vec::new();
        for (n, throw) in dice.chunks(2).enumerate() {
            sample.extend_from_slice(words[usize::from(throw[0]) * usize::from(throw[1]) * 400 / 65536]);
            sample.push(b' ');
            if n % 11 == 0 {
                sample.extend_from_slice(&(n as u64 * 24).to_le_bytes());
            }
        }
        sample.extend(&dice[..200_000]);
        sample
    }

    #[test]
    fn one_member_decompresses_to_the_input() {
        let text: Vec<u8> = b"the quick brown fox jumps over the lazy dog. ".repeat(80_000);
        // Incompressible data inside, at the start and at the end of a block, so that either kind of run begins and closes one.
        let mixed = [&text[..BLOCK / 4], &random(BLOCK), &text[..BLOCK / 2], &random(BLOCK / 4)].concat();
        for plain in
            [&b""[..], b"x", &text, &random(3 * BLOCK + 17), &random(BLOCK), &text[..2 * BLOCK], &mixed, &sample()]
        {
            let packed = gzip(plain, 2);
            let mut back = Vec::new();
            // GzDecoder stops after the first member: this proves that there is only one.
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
            assert!(back == plain, "{} bytes", plain.len());
        }
    }

    #[test]
    fn incompressible_data_grows_by_less_than_a_thousandth() {
        let plain = random(4 * BLOCK);
        let packed = gzip(&plain, 2);
        assert!(packed.len() < plain.len() + plain.len() / 1000, "{}", packed.len());
    }

    /// If this fails, the compressor's output has changed: give [`VERSION`] a new number and take over the new digests.
    #[test]
    fn equal_versions_give_equal_bytes() {
        let digests = [2, 3, 6].map(|level| crate::oci::Digest::of(&gzip(&sample(), level)).short());
        assert_eq!(
            (VERSION, digests.join(" ").as_str()),
            ("gzip/2", "sha256:497d767c06bf sha256:56e94b5407e4 sha256:1ecc890a09fc")
        );
    }
}
