//! Deflate by zlib-rs, at one of its levels: the same bytes on every CPU.
//!
//! Each block has a new compressor, so that its bytes depend on the block and the dictionary alone.

use std::io;

use flate2::{Compress, Compression as Level, FlushCompress, Status};

use super::buffer::{BLOCK_SIZE, max_compressed_len};
use super::deflate::WINDOW;
use super::incompressible::{SEGMENT, is_incompressible};

/// Appends the deflate blocks of `block` to `compressed`, which ends on a byte boundary. `last` ends the deflate stream.
///
/// # Errors
/// Only if the compressor violates its own contract.
pub(super) fn compress(
    dictionary: &[u8],
    block: &[u8],
    last: bool,
    level: u32,
    compressed: &mut Vec<u8>,
) -> io::Result<()> {
    if block.is_empty() {
        return deflate(dictionary, block, last, level, compressed);
    }
    let mut done = 0;
    for (run, is_incompressible) in runs(block) {
        let last = last && done + run.len() == block.len();
        if is_incompressible {
            store(run, last, compressed);
        } else {
            let dictionary = if done == 0 { dictionary } else { &block[done.saturating_sub(WINDOW)..done] };
            deflate(dictionary, run, last, level, compressed)?;
        }
        done += run.len();
    }
    Ok(())
}

/// Splits `block` into runs, as long as possible, that are incompressible or not.
fn runs(block: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let first = rest.get(..SEGMENT.min(rest.len())).filter(|segment| !segment.is_empty())?;
        let kind = is_incompressible(first);
        let len = rest.chunks(SEGMENT).take_while(|segment| is_incompressible(segment) == kind).map(<[u8]>::len).sum();
        let (run, after) = rest.split_at(len);
        rest = after;
        Some((run, kind))
    })
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
mod tests {
    use super::super::gzip::tests::random;
    use super::*;

    #[test]
    fn incompressible_runs_are_found() {
        let text = b"the quick brown fox jumps over the lazy dog. ".repeat(20_000);
        let code: Vec<u8> = random(SEGMENT).iter().map(|byte| byte & 0xbf).collect();
        let block =
            [&random(3 * SEGMENT)[..], &text[..2 * SEGMENT], &code, &random(SEGMENT), &random(SEGMENT / 2)].concat();
        let found: Vec<(usize, bool)> =
            runs(&block).map(|(run, is_incompressible)| (run.len() * 2 / SEGMENT, is_incompressible)).collect();
        assert_eq!(found, [(6, true), (6, false), (2, true), (1, false)]);
        assert_eq!(runs(&block).map(|(run, _)| run).collect::<Vec<_>>().concat(), block);
        assert_eq!(runs(&[]).count(), 0);
    }
}
