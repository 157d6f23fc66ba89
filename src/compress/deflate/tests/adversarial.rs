//! Data at the limits of the format and of the encoder.

use super::super::Encoder;
use super::data::{compress, compressed_len, inflate, random, text};

fn round_trip(data: &[u8], block_len: usize) -> usize {
    let stream = compress(data, block_len);
    let read = inflate(&stream);
    assert!(read == data, "{} bytes in blocks of {block_len}", data.len());
    stream.len()
}

#[test]
fn zeros_shrink_to_a_thousandth() {
    let len = round_trip(&vec![0; 3 << 20], 512 << 10);
    assert!(len < 3_300, "{len}");
    for n in 0..600 {
        round_trip(&vec![0; n], 600);
    }
}

#[test]
fn every_period_is_found() {
    for period in 1..=300 {
        let data: Vec<u8> = random(period, period as u64).into_iter().cycle().take(20_000).collect();
        // The bytes of one period, the codes, and 80 matches.
        let len = round_trip(&data, 20_000);
        assert!(len < period + 250, "period {period}: {len}");
        round_trip(&data, 777);
    }
}

#[test]
fn matches_of_every_length_at_the_nearest_and_farthest_distance() {
    let noise = random(40_000, 3);
    for len in 3..=300 {
        for distance in [1, 2, 3, 4, 7, 8, 9, 32_766, 32_767, 32_768, 32_769] {
            // `len` bytes that repeat those at the distance, then others.
            let mut data = noise[..if distance < 10 { 300 } else { 33_000 }].to_vec();
            for _ in 0..len {
                data.push(data[data.len() - distance]);
            }
            data.extend(&noise[35_000..35_100]);
            round_trip(&data, 40_000);
        }
    }
}

#[test]
fn the_whole_window_is_used_and_nothing_beyond() {
    let noise = random(40_000, 5);
    for (distance, found) in
        [(32_768, true), (32_767, true), (30_000, true), (300, true), (32_769, false), (32_900, false)]
    {
        // 300 bytes that repeat those at the distance: in the dictionary, and inside a block.
        let before = &noise[noise.len() - distance..];
        let block = &before[..300];
        let len = compressed_len(before, block);
        assert_eq!(len < 100, found, "distance {distance}: {len}");
        let data = [text(80_000, 6), before.to_vec(), block.to_vec()].concat();
        let len = round_trip(&data, 512 << 10) as i64 - round_trip(&data[..data.len() - 300], 512 << 10) as i64;
        assert_eq!(len < 100, found, "distance {distance}: {len}");
    }
}

#[test]
fn tiny_blocks() {
    let data = text(3_000, 4);
    for block_len in 1..=40 {
        round_trip(&data, block_len);
    }
    for len in 0..=40 {
        for block_len in 1..=len.max(1) {
            round_trip(&data[..len], block_len);
        }
    }
    // The smallest deflate blocks: empty, and one literal, both with fixed codes.
    assert_eq!((compress(&[], 1).len(), compress(b"x", 1).len()), (2, 3));
}

#[test]
fn an_empty_block_in_the_middle_yields_nothing() {
    let mut encoder = Encoder::new();
    let mut stream = Vec::new();
    encoder.compress(b"", b"", false, &mut stream);
    assert!(stream.is_empty());
    encoder.compress(b"", b"abcabcabcabc", false, &mut stream);
    let len = stream.len();
    encoder.compress(b"abcabcabcabc", b"", false, &mut stream);
    assert_eq!(stream.len(), len);
    encoder.compress(b"abcabcabcabc", b"", true, &mut stream);
    assert_eq!(stream.len(), len + 2);
    assert_eq!(inflate(&stream), b"abcabcabcabc");
}

#[test]
fn incompressible_data_is_stored() {
    for len in [1_000, 65_535, 65_536, 65_537, 200_000, 512 << 10, (512 << 10) + 1] {
        let data = random(len, len as u64);
        let compressed = round_trip(&data, 512 << 10);
        assert!(compressed <= len + 5 * len.div_ceil(16_384) + 10, "{len}: {compressed}");
    }
}

#[test]
fn incompressible_data_between_others() {
    // Whole and incomplete segments of 64 KiB between text, of which whole ones are stored; matches reach across them.
    for cut in [0, 1, 255, 4_096, 16_383, 16_384, 65_535] {
        let start = text(131_072 + cut, 1);
        let end = [&start[start.len() - 9_000..], &text(70_000, 2)].concat();
        for noise in [65_536, 131_072, 150_000] {
            let data = [&start[..], &random(noise, 5), &end, &random(65_536 + cut, 6)].concat();
            round_trip(&data, 512 << 10);
            round_trip(&data, 131_072);
        }
    }
}

#[test]
fn matches_across_every_boundary() {
    // The ring is not a multiple of the period and is filled several times, so that long matches cross each boundary of a
    // piece, of a segment and of the ring.
    for period in [259, 1_000, 5_003, 16_385, 32_768] {
        let data: Vec<u8> = text(period, period as u64).into_iter().cycle().take(500_000).collect();
        let len = round_trip(&data, 512 << 10);
        // A tenth of the size without matches: few positions inside a match are entered into the table.
        assert!(len < 40_000, "period {period}: {len}");
        round_trip(&data, 70_001);
    }
}
