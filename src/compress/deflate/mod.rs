//! A deflate encoder (RFC 1951) for blocks that are compressed independently, in safe Rust.
//!
//! [`Encoder::compress`] takes a dictionary, a block and whether it is the last, and returns bytes. In turn:
//!
//! 1. `encoder` copies the block, piece by piece, into the ring of the match finder. Incompressible data is stored.
//! 2. `match_finder` turns bytes into `tokens`: literals, and matches with equal bytes in the 32 KiB before them.
//! 3. After every 24,576 tokens, `block` chooses the smallest of deflate's three block types, for which `huffman` computes
//!    the codes, and writes it with `bit_writer`.
//!
//! It is fast because the match finder has no chains, because arrays have constant sizes, so that the compiler can prove every
//! index in bounds, and because few branches are hard to predict. It needs `opt-level` 1 or higher: at "s" it takes 5 %
//! longer, at 0 ten times as long.

mod bit_writer;
mod block;
mod encoder;
mod huffman;
mod match_finder;
#[cfg(test)]
mod tests;
mod tokens;

pub use encoder::{Encoder, max_compressed_len};
pub use match_finder::WINDOW;
