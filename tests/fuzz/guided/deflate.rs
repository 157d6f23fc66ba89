//! The deflate encoder: any data in any blocks is what zlib-rs decompresses it to, and no block grows beyond the limit.

#![no_main]

use std::io::Read as _;

use ecr_push::internals::deflate::{Encoder, max_compressed_len};
use libfuzzer_sys::fuzz_target;

// The first bytes choose how often the others are repeated, the size of the blocks, and that of their dictionaries.
fuzz_target!(|bytes: &[u8]| {
    let [copies, small, large, dictionary_len, data @ ..] = bytes else { return };
    let mut data = data.repeat(1 + usize::from(copies % 20));
    data.truncate(200_000);
    // At most 100 blocks, so that many inputs are tried.
    let block_len = (1 + usize::from(*small) + (usize::from(*large) << 11)).max(data.len() / 100);
    let dictionary_len = if *dictionary_len > 127 { data.len() } else { usize::from(*dictionary_len) << 9 };
    let mut encoder = Encoder::new();
    let mut stream = Vec::new();
    for start in (0..data.len().max(1)).step_by(block_len) {
        let end = data.len().min(start + block_len);
        let before = stream.len();
        let dictionary = &data[start.saturating_sub(dictionary_len)..start];
        encoder.compress(dictionary, &data[start..end], end == data.len(), &mut stream);
        assert!(stream.len() - before <= max_compressed_len(end - start));
    }
    let mut decoder = flate2::read::DeflateDecoder::new(&stream[..]);
    let mut decompressed = Vec::new();
    decoder.read_to_end(&mut decompressed).expect("a valid stream");
    assert!(decompressed == data && decoder.total_in() == stream.len() as u64);
});
