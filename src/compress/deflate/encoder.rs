//! The encoder: splits a block into deflate blocks.

use super::bit_writer::BitWriter;
use super::block;
use super::match_finder::{LOOKAHEAD, MatchFinder, RING, UNSEARCHED, WINDOW};
use super::tokens::Tokens;
use crate::compress::incompressible::{SEGMENT, is_incompressible};

/// The number of bytes that are copied into the ring at once, and then searched. The ring holds a piece together with the
/// window and the lookahead. Its size is a multiple of the piece's, so that no piece crosses its end.
const PIECE: usize = 16 << 10;
const _: () =
    assert!(WINDOW + PIECE + LOOKAHEAD <= RING && RING.is_multiple_of(PIECE) && SEGMENT.is_multiple_of(PIECE));

/// Returns the largest size that a block of `len` bytes can have after compression: incompressible data is stored.
pub const fn max_compressed_len(len: usize) -> usize {
    len + len / 1024 + 32
}

/// A deflate encoder for blocks that are compressed independently.
///
/// It is memory that is reused for each block, about 230 KiB: one per thread is enough. Earlier blocks do not affect the
/// output.
pub struct Encoder {
    finder: MatchFinder,
    tokens: Tokens,
}

impl Encoder {
    /// Allocates an encoder.
    pub fn new() -> Box<Self> {
        Box::new(Self { finder: MatchFinder::new(), tokens: Tokens::new() })
    }

    /// Compresses `block` and appends the result to `compressed`: at most [`max_compressed_len`] bytes.
    ///
    /// `dictionary` is the data before the block. Matches refer to its last [`WINDOW`] bytes, and to nothing before them. The
    /// result starts and ends on a byte boundary: those of successive blocks form one deflate stream, which the block with
    /// `is_last` ends. An empty block that is not the last yields nothing. The result depends on `dictionary`, `block` and
    /// `is_last` alone, and is computed with integers: it is equal on every CPU and in every build.
    pub fn compress(&mut self, dictionary: &[u8], block: &[u8], is_last: bool, compressed: &mut Vec<u8>) {
        let mut output = Output { block, written: 0, writer: BitWriter::new(compressed) };
        self.finder.start(&dictionary[dictionary.len().saturating_sub(WINDOW)..]);
        self.tokens.clear();
        let mut pos = 0;
        for start in (0..block.len()).step_by(PIECE) {
            if start.is_multiple_of(SEGMENT) && is_incompressible(&block[start..block.len().min(start + SEGMENT)]) {
                output.write_tokens(&mut self.tokens, pos);
                output.store(start + SEGMENT);
                pos = start + SEGMENT;
            }
            if pos >= start + PIECE + WINDOW {
                // The piece is stored already, and out of the window of what follows.
                continue;
            }
            let in_ring = (WINDOW + start) % RING;
            self.finder.load(in_ring, &block[start..block.len().min(start + PIECE + LOOKAHEAD)]);
            let stop = (start + PIECE).min(block.len().saturating_sub(UNSEARCHED));
            while pos < stop {
                let to_ring = |pos: usize| in_ring + pos - start;
                pos = start + self.finder.find(to_ring(pos), to_ring(stop), to_ring(block.len()), &mut self.tokens)
                    - in_ring;
                if self.tokens.is_full() {
                    output.write_tokens(&mut self.tokens, pos);
                }
            }
        }
        self.tokens.push_literals(&block[pos..]);
        output.finish(&self.tokens, is_last);
    }
}

/// The output of a block.
struct Output<'a> {
    block: &'a [u8],
    /// The number of bytes of the block that the deflate blocks so far contain.
    written: usize,
    writer: BitWriter<'a>,
}

impl Output<'_> {
    /// Writes and clears the tokens, which represent the bytes up to `pos`.
    fn write_tokens(&mut self, tokens: &mut Tokens, pos: usize) {
        if pos > self.written {
            block::write(tokens, &self.block[self.written..pos], false, &mut self.writer);
            self.written = pos;
            tokens.clear();
        }
    }

    /// Writes the bytes up to `pos` uncompressed.
    fn store(&mut self, pos: usize) {
        block::write_stored(&self.block[self.written..pos], false, &mut self.writer);
        self.written = pos;
    }

    /// Writes the tokens, which represent the remaining bytes, and ends the stream, or else the byte.
    fn finish(mut self, tokens: &Tokens, is_last: bool) {
        let rest = &self.block[self.written..];
        if is_last || !rest.is_empty() {
            block::write(tokens, rest, is_last, &mut self.writer);
        }
        if is_last {
            self.writer.align();
        } else if !self.writer.is_aligned() {
            block::write_empty(&mut self.writer);
        }
    }
}
