//! gzip in blocks that can be packed apart and joined: one member, the same bytes whatever the number of threads.
//!
//! The form is that of pigz: each block of [`BLOCK`] plain bytes is deflated on its own with the 32 KiB before it as
//! dictionary, and ends on a byte boundary (a sync flush), so that the packed blocks stand one behind the other in one
//! deflate stream. Inside a block, noise is stored as it is. One member, because some readers stop silently after the
//! first. Where the blocks are cut depends on the plain bytes alone, and every block gets a fresh compressor, so the
//! bytes depend on nothing else.

use std::io;

use flate2::{Compress, Compression as Level, FlushCompress, Status};

use super::buffer::{PIECE, worst};
use super::layer::Engine;
use super::noise;

/// Plain bytes to a block. Part of the recipe: another size gives other digests. Blocks of 1 or 4 MiB come out no
/// smaller, since each has its dictionary, and cost memory.
const BLOCK: usize = PIECE;

/// How much of what stands before it a block may refer back to: deflate's window.
pub(super) const DICTIONARY: usize = 32 << 10;

/// The name of the recipe that these bytes follow. It changes when the bytes for the same input change.
pub(super) const RECIPE: &str = "gzip/2";

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
    const DICTIONARY: usize = DICTIONARY;
    const MEMBER: bool = true;

    fn pack(self, block: &[u8], before: &[u8], last: bool, packed: &mut Vec<u8>) -> io::Result<()> {
        packed.clear();
        packed.reserve_exact(worst(block.len()));
        if block.is_empty() {
            return deflate(block, before, last, self.level, packed);
        }
        let mut done = 0;
        for (run, noise) in noise::runs(block) {
            let last = last && done + run.len() == block.len();
            if noise {
                store(run, last, packed);
            } else {
                let before = if done == 0 { before } else { &block[done.saturating_sub(DICTIONARY)..done] };
                deflate(run, before, last, self.level, packed)?;
            }
            done += run.len();
        }
        Ok(())
    }
}

/// Writes stored deflate blocks (RFC 1951, 3.2.4) behind what ends on a byte boundary.
fn store(run: &[u8], last: bool, packed: &mut Vec<u8>) {
    const LONGEST: usize = u16::MAX as usize;
    let mut left = run.len().div_ceil(LONGEST);
    for piece in run.chunks(LONGEST) {
        left -= 1;
        let len = piece.len() as u16;
        packed.push(u8::from(last && left == 0));
        packed.extend_from_slice(&len.to_le_bytes());
        packed.extend_from_slice(&(!len).to_le_bytes());
        packed.extend_from_slice(piece);
    }
}

/// Deflates `run` to the end of `packed`; the thread's buffer keeps its capacity from block to block.
///
/// `before` is what stands before it, at most [`DICTIONARY`] bytes; `last` closes the deflate stream.
///
/// # Errors
/// Only if the compressor breaks its own contract.
fn deflate(run: &[u8], before: &[u8], last: bool, level: u32, packed: &mut Vec<u8>) -> io::Result<()> {
    // More than deflate's worst case (stored blocks) and the flush, so that one call does.
    packed.reserve_exact(worst(run.len()));
    let mut deflater = Compress::new(Level::new(level), false);
    if !before.is_empty() {
        deflater.set_dictionary(before).map_err(io::Error::other)?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let taken = usize::try_from(deflater.total_in()).map_err(io::Error::other)?;
        let status = deflater.compress_vec(&run[taken..], packed, flush).map_err(io::Error::other)?;
        let all_taken = deflater.total_in() == run.len() as u64;
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
            Gzip { level }.pack(block, before, n + 1 == blocks.len(), &mut packed).unwrap();
            member.extend_from_slice(&packed);
            before = &block[block.len().saturating_sub(DICTIONARY)..];
        }
        member.extend_from_slice(&trailer(&crc, plain.len() as u64));
        member
    }

    /// Bytes that no compressor makes smaller.
    pub(in crate::compress) fn noise(len: usize) -> Vec<u8> {
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

    /// Text, tables and noise, on which every level makes its own choices, and more of it than any block.
    pub(in crate::compress) fn sample() -> Vec<u8> {
        let dice = noise(1 << 19);
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
    fn one_member_reads_back_as_the_plain_bytes() {
        let text: Vec<u8> = b"the quick brown fox jumps over the lazy dog. ".repeat(80_000);
        // Noise in the midst, at the start and at the end of a block, so that either kind of run begins and closes one.
        let mixed = [&text[..BLOCK / 4], &noise(BLOCK), &text[..BLOCK / 2], &noise(BLOCK / 4)].concat();
        for plain in
            [&b""[..], b"x", &text, &noise(3 * BLOCK + 17), &noise(BLOCK), &text[..2 * BLOCK], &mixed, &sample()]
        {
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

    /// If this fails, the compressor's output has changed: give [`RECIPE`] a new number and take over the new digests.
    #[test]
    fn the_recipe_gives_the_bytes_it_always_gave() {
        let digests = [2, 3, 6].map(|level| crate::oci::Digest::of(&gzip(&sample(), level)).short());
        assert_eq!(
            (RECIPE, digests.join(" ").as_str()),
            ("gzip/2", "sha256:497d767c06bf sha256:56e94b5407e4 sha256:1ecc890a09fc")
        );
    }
}
