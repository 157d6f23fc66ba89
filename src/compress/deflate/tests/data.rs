//! Data, and its compression and decompression.

use std::io::Read as _;

use super::super::{Encoder, WINDOW, max_compressed_len};

/// Returns bytes that no compressor makes smaller (xorshift64).
pub(super) fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Returns words of random letters in random order, which a compressor treats like text.
pub(super) fn text(len: usize, seed: u64) -> Vec<u8> {
    let dice = random(1 << 12, seed);
    let choices = random(len, seed ^ 1);
    let mut text = Vec::with_capacity(len + 16);
    for choice in choices.chunks(2) {
        let word = usize::from(choice[0]) * usize::from(choice[choice.len() - 1]) / 256;
        text.extend(dice[word * 8..][..2 + word % 7].iter().map(|byte| b'a' + byte % 26));
        text.push(b' ');
        if text.len() >= len {
            break;
        }
    }
    text.truncate(len);
    text
}

/// Compresses data in blocks of `block_len` with the data before each as dictionary, and checks the limit of their size.
pub(super) fn compress(data: &[u8], block_len: usize) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut stream = Vec::new();
    if data.is_empty() {
        encoder.compress(&[], &[], true, &mut stream);
    }
    for start in (0..data.len()).step_by(block_len) {
        let block = &data[start..data.len().min(start + block_len)];
        let before = stream.len();
        let is_last = start + block.len() == data.len();
        encoder.compress(&data[start.saturating_sub(WINDOW)..start], block, is_last, &mut stream);
        let len = stream.len() - before;
        assert!(len <= max_compressed_len(block.len()), "{} bytes became {len}", block.len());
    }
    stream
}

/// Returns the size of a block that is compressed with a dictionary.
pub(super) fn compressed_len(dictionary: &[u8], block: &[u8]) -> usize {
    let mut stream = Vec::new();
    Encoder::new().compress(dictionary, block, true, &mut stream);
    stream.len()
}

/// Decompresses a deflate stream. Nothing may follow it.
pub(super) fn inflate(stream: &[u8]) -> Vec<u8> {
    let mut decoder = flate2::read::DeflateDecoder::new(stream);
    let mut data = Vec::new();
    decoder.read_to_end(&mut data).expect("a valid stream");
    assert_eq!(decoder.total_in(), stream.len() as u64, "bytes follow the stream");
    data
}
