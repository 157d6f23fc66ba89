use std::io::Read;

use super::super::buffer::BLOCK_SIZE;
use super::*;

/// An encoder of each kind.
const ENCODERS: [GzipEncoder; 2] = [GzipEncoder::Own, GzipEncoder::Zlib { level: 2 }];

/// Returns the gzip member, compressed on this thread.
pub(in crate::compress) fn gzip(bytes: &[u8], encoder: GzipEncoder) -> Vec<u8> {
    let mut member = HEADER.to_vec();
    let blocks: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(BLOCK_SIZE).collect() };
    let mut dictionary: &[u8] = &[];
    for (n, block) in blocks.iter().enumerate() {
        let mut compressed = Vec::new();
        encoder.compress(dictionary, block, n + 1 == blocks.len(), &mut compressed).unwrap();
        member.extend_from_slice(&compressed);
        dictionary = &block[block.len().saturating_sub(GzipEncoder::DICTIONARY)..];
    }
    member.extend_from_slice(&encoder.trailer(&encoder.checksum(bytes), bytes.len() as u64));
    member
}

/// Returns bytes that no compressor makes smaller.
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

/// Returns text, tables and random bytes, for which each level gives another result; longer than a block.
pub(in crate::compress) fn sample() -> Vec<u8> {
    let random = random(1 << 19);
    let words: Vec<&[u8]> = (0..400).map(|n| &random[n * 8..n * 8 + 2 + n % 7]).collect();
    let mut sample = Vec::new();
    for (n, pair) in random.chunks(2).enumerate() {
        sample.extend_from_slice(words[usize::from(pair[0]) * usize::from(pair[1]) * 400 / 65536]);
        sample.push(b' ');
        if n % 11 == 0 {
            sample.extend_from_slice(&(n as u64 * 24).to_le_bytes());
        }
    }
    sample.extend(&random[..200_000]);
    sample
}

#[test]
fn one_member_decompresses_to_the_input() {
    let text: Vec<u8> = b"the quick brown fox jumps over the lazy dog. ".repeat(80_000);
    // Incompressible data at the start, inside and at the end of a block, so that both kinds of runs begin and end blocks.
    let block = BLOCK_SIZE;
    let mixed = [&text[..block / 4], &random(block), &text[..block / 2], &random(block / 4)].concat();
    // After stored data, the dictionary is the end of that data.
    let resumed = [&text[..block], &random(block / 8), &text[..block / 2]].concat();
    for bytes in [
        &b""[..],
        b"x",
        &text,
        &random(3 * block + 17),
        &random(block),
        &text[..2 * block],
        &mixed,
        &resumed,
        &sample(),
    ] {
        for encoder in ENCODERS {
            let compressed = gzip(bytes, encoder);
            let mut decompressed = Vec::new();
            // GzDecoder stops after the first member: this proves that there is only one.
            flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut decompressed).unwrap();
            assert!(decompressed == bytes, "{} bytes by {encoder:?}", bytes.len());
        }
    }
}

#[test]
fn incompressible_data_grows_by_less_than_a_thousandth() {
    let bytes = random(4 * BLOCK_SIZE);
    for encoder in ENCODERS {
        let len = gzip(&bytes, encoder).len();
        assert!(len < bytes.len() + bytes.len() / 1000, "{len} by {encoder:?}");
    }
}

#[test]
fn the_length_in_the_trailer_is_modulo_four_gib() {
    let trailer = GzipEncoder::Own.trailer(&crc32fast::Hasher::new(), (1 << 32) + 5);
    assert_eq!(trailer, [0, 0, 0, 0, 5, 0, 0, 0]);
}

/// If this fails, an encoder's output has changed: give its version a new number, and use the new digests here.
#[test]
fn equal_names_give_equal_bytes() {
    let zlib = |level| GzipEncoder::Zlib { level };
    let digests = [GzipEncoder::Own, zlib(1), zlib(2), zlib(3), zlib(6)].map(|encoder| {
        let digest = crate::oci::Digest::of(&gzip(&sample(), encoder)).short();
        format!("{} {digest}", encoder.name())
    });
    assert_eq!(
        digests,
        [
            "gzip/3 sha256:c2970cd4d754", "gzip/2-1 sha256:09cddd74ba21", "gzip/2-2 sha256:497d767c06bf",
            "gzip/2-3 sha256:56e94b5407e4", "gzip/2-6 sha256:1ecc890a09fc",
        ]
    );
}
