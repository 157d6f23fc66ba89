//! Random data of many kinds, cut into random blocks.

use super::super::{Encoder, max_compressed_len};
use proptest::prelude::*;

use super::data::{inflate, random, text};

/// Compressible and incompressible data.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let len = || prop_oneof![3 => 0..300_usize, 2 => 0..5_000_usize, 1 => 0..140_000_usize];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (len(), any::<u64>()).prop_map(|(len, seed)| random(len, seed)),
        (len(), any::<u64>()).prop_map(|(len, seed)| text(len, seed)),
        (len(), any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        // Periodic data.
        (len(), prop::collection::vec(any::<u8>(), 1..600)).prop_map(|(len, unit)| unit
            .into_iter()
            .cycle()
            .take(len)
            .collect()),
        // Few different bytes.
        (len(), any::<u64>(), 1..8_u32)
            .prop_map(|(len, seed, bits)| random(len, seed).iter().map(|byte| byte >> bits).collect()),
        // Tables of offsets.
        (len(), 1..70_000_u32)
            .prop_map(|(len, step)| (0..).flat_map(|n: u32| n.wrapping_mul(step).to_le_bytes()).take(len).collect()),
    ]
}

/// Parts, and copies of earlier bytes at random distances.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let copy = (1..70_000_usize, 0..3_000_usize);
    prop::collection::vec((part(), prop::collection::vec(copy, 0..4)), 0..8).prop_map(|parts| {
        let mut data = Vec::new();
        for (part, copies) in parts {
            data.extend(part);
            for (distance, len) in copies {
                let start = data.len() - distance.min(data.len());
                data.extend_from_within(start..data.len().min(start + len));
            }
        }
        data
    })
}

proptest! {
    #[test]
    fn blocks_of_any_size_are_decompressed(
        data in data(),
        cuts in prop::collection::vec(prop_oneof![0..4_usize, 0..1_000_usize, 0..540_000_usize], 0..20),
        dictionary_len in prop_oneof![2 => Just(usize::MAX), 1 => 0..70_000_usize, 1 => 0..20_usize],
    ) {
        let mut encoder = Encoder::new();
        let (mut stream, mut start) = (Vec::new(), 0_usize);
        let lens = cuts.iter().copied().chain([usize::MAX]);
        for (n, len) in lens.enumerate() {
            let end = data.len().min(start.saturating_add(len));
            let before = stream.len();
            let dictionary = &data[start - start.min(dictionary_len)..start];
            encoder.compress(dictionary, &data[start..end], n == cuts.len(), &mut stream);
            prop_assert!(stream.len() - before <= max_compressed_len(end - start));
            start = end;
        }
        prop_assert!(inflate(&stream) == data);
    }
}
