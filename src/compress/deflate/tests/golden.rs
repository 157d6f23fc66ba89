//! The encoder's bytes, which the digests of layers depend on.

use super::super::{Encoder, WINDOW};
use super::data::{compress, random, text};

fn sample() -> Vec<u8> {
    let table: Vec<u8> = (0..40_000_u32).flat_map(|n| (n * 24).to_le_bytes()).collect();
    let words = text(900_000, 7);
    let repeated = [&words[890_000..], &words[870_000..], &words[895_000..]].concat();
    [words, repeated, table, random(200_000, 8), vec![0; 100_000], text(30_000, 9)].concat()
}

/// If this fails, the output has changed: give the recipe in `gzip.rs` a new name.
#[test]
fn the_output_has_not_changed() {
    let hashes = [512 << 10, 10_000].map(|block_len| {
        let stream = compress(&sample(), block_len);
        format!("{} bytes, CRC-32 {:08x}", stream.len(), crc32fast::hash(&stream))
    });
    assert_eq!(hashes, ["613569 bytes, CRC-32 625c4cfe", "608001 bytes, CRC-32 ab6a54af"]);
}

#[test]
fn earlier_blocks_do_not_affect_the_output() {
    let data = sample();
    let blocks = [&data[..300_000], &data[900_000..1_300_000], &data[1_290_000..], &data[..1], &[], &data[5..20_000]];
    let mut used = Encoder::new();
    for dictionary in blocks {
        for block in blocks {
            for is_last in [false, true] {
                let (mut a, mut b) = (Vec::new(), vec![9; 3]);
                Encoder::new().compress(dictionary, block, is_last, &mut a);
                used.compress(dictionary, block, is_last, &mut b);
                assert!(a == b[3..], "{} bytes after {}", block.len(), dictionary.len());
                // Of the dictionary, only the window counts.
                let mut c = Vec::new();
                used.compress(&dictionary[dictionary.len().saturating_sub(WINDOW)..], block, is_last, &mut c);
                assert!(a == c);
            }
        }
    }
}
