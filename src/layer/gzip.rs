//! gzip in blocks that can be packed apart and joined: one member, the same bytes whatever the number of threads.
//!
//! The form is that of pigz: each block of [`BLOCK`] plain bytes is deflated on its own with the 32 KiB before it as
//! dictionary, and ends on a byte boundary (a sync flush), so that the packed blocks stand one behind the other in one
//! deflate stream. One member, because some readers stop silently after the first. Where the blocks are cut depends on
//! the plain bytes alone, and every block gets a fresh compressor, so the bytes depend on nothing else.

use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::pack::Engine;

/// Plain bytes to a block. Part of the recipe: another size gives other digests.
const BLOCK: usize = 1 << 20;

/// How much of what stands before it a block may refer back to: deflate's window.
const DICTIONARY: usize = 32 << 10;

/// The name of the recipe that these bytes follow. It changes when the bytes for the same input change.
pub(super) const RECIPE: &str = "gzip/1";

/// The member's header: deflate, no name, no time, unknown operating system (RFC 1952, 2.3).
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The member's trailer: the CRC-32 and the length of all plain bytes (RFC 1952, 2.3.1).
pub(super) fn trailer(crc: &crc32fast::Hasher, plain_len: u64) -> [u8; 8] {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc.clone().finalize().to_le_bytes());
    // The length is kept modulo 2^32.
    trailer[4..].copy_from_slice(&(plain_len as u32).to_le_bytes());
    trailer
}

/// gzip by zlib-rs: portable, and equal on every CPU.
#[derive(Clone, Copy)]
pub(super) struct Gzip {
    pub(super) level: u32,
}

impl Engine for Gzip {
    const BLOCK: usize = BLOCK;
    const DICTIONARY: usize = DICTIONARY;
    const MEMBER: bool = true;

    fn pack(self, block: &[u8], before: &[u8], last: bool, packed: &mut Vec<u8>) -> io::Result<()> {
        deflate(block, before, last, self.level, packed)
    }
}

/// Deflates one block into `packed`, which is emptied first and keeps its capacity from block to block.
///
/// `dictionary` is the end of the block before, at most [`DICTIONARY`] bytes; `last` closes the deflate stream.
///
/// # Errors
/// Only if the compressor breaks its own contract.
fn deflate(block: &[u8], dictionary: &[u8], last: bool, level: u32, packed: &mut Vec<u8>) -> io::Result<()> {
    packed.clear();
    // More than deflate's worst case (stored blocks) and the flush, so that one call does.
    packed.reserve(block.len() + block.len() / 8 + 256);
    let mut deflater = Compress::new(Compression::new(level), false);
    if !dictionary.is_empty() {
        deflater.set_dictionary(dictionary).map_err(io::Error::other)?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let taken = usize::try_from(deflater.total_in()).map_err(io::Error::other)?;
        let status = deflater.compress_vec(&block[taken..], packed, flush).map_err(io::Error::other)?;
        let all_taken = deflater.total_in() == block.len() as u64;
        let done = match status {
            Status::StreamEnd => true,
            // A flush is complete only if the output was not filled to the brim.
            Status::Ok | Status::BufError => !last && all_taken && packed.len() < packed.capacity(),
        };
        if done {
            return Ok(());
        }
        packed.reserve(BLOCK / 8);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read;

    use super::*;

    fn gzip(plain: &[u8], level: u32) -> Vec<u8> {
        let mut member = HEADER.to_vec();
        let mut crc = crc32fast::Hasher::new();
        crc.update(plain);
        let blocks: Vec<&[u8]> = if plain.is_empty() { vec![&[]] } else { plain.chunks(BLOCK).collect() };
        let mut before: &[u8] = &[];
        for (n, block) in blocks.iter().enumerate() {
            let mut packed = Vec::new();
            deflate(block, before, n + 1 == blocks.len(), level, &mut packed).unwrap();
            member.extend_from_slice(&packed);
            before = &block[block.len().saturating_sub(DICTIONARY)..];
        }
        member.extend_from_slice(&trailer(&crc, plain.len() as u64));
        member
    }

    /// Bytes that no compressor makes smaller.
    pub(in crate::layer) fn noise(len: usize) -> Vec<u8> {
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

    #[test]
    fn one_member_reads_back_as_the_plain_bytes() {
        let text: Vec<u8> = b"the quick brown fox jumps over the lazy dog. ".repeat(80_000);
        for plain in [&b""[..], b"x", &text, &noise(3 * BLOCK + 17), &noise(BLOCK), &text[..2 * BLOCK]] {
            let packed = gzip(plain, 2);
            let mut back = Vec::new();
            // GzDecoder stops after the first member: this proves that there is only one.
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
            assert!(back == plain, "{} bytes", plain.len());
        }
    }

    #[test]
    fn noise_grows_by_less_than_a_thousandth() {
        let plain = noise(4 * BLOCK);
        let packed = gzip(&plain, 2);
        assert!(packed.len() < plain.len() + plain.len() / 1000, "{}", packed.len());
    }

    /// If this fails, the compressor's output has changed: give [`RECIPE`] a new number and take over the new digest.
    #[test]
    fn the_recipe_gives_the_bytes_it_always_gave() {
        let mut plain = b"a line of a log file, number 4711\n".repeat(50_000);
        plain.extend(noise(BLOCK / 2));
        let digest = crate::reference::Digest::of(&gzip(&plain, 2));
        assert_eq!((RECIPE, digest.short().as_str()), ("gzip/1", "sha256:b08800cccea1"));
    }
}
