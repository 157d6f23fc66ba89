//! Detection of incompressible data in a layer, such as packages, pictures and archives, by samples.
//!
//! For such data a compressor takes twice the time and saves 1 or 2 %. It is detected per segment, by the segment's bytes
//! alone, and with integers only: the decision affects the digest.

/// The size of a segment, in bytes.
pub(super) const SEGMENT: usize = 64 << 10;

/// The number of samples of [`SAMPLE_LEN`] bytes in a segment, spread evenly: a sixteenth of it.
const SAMPLES: usize = 16;
const SAMPLE_LEN: usize = 256;

/// The number of pairs of equal bytes among all samples from which data is compressible. The mean for N random bytes is
/// N(N-1)/512, here 32,760; this is 5 % more, where a byte has about 7.95 bits of information.
const EQUAL_PAIRS: u32 = 34_500;

/// Returns whether the bytes of a segment are distributed as evenly as random ones. A short last segment is always
/// compressed.
pub(super) fn is_incompressible(segment: &[u8]) -> bool {
    if segment.len() < SEGMENT {
        return false;
    }
    let mut counts = [0_u32; 256];
    let mut pairs = 0;
    // The number of pairs never decreases, so most data is known to be compressible after a few samples.
    segment.chunks(SEGMENT / SAMPLES).all(|part| {
        for byte in &part[..SAMPLE_LEN] {
            let count = &mut counts[usize::from(*byte)];
            pairs += *count;
            *count += 1;
        }
        pairs < EQUAL_PAIRS
    })
}

#[cfg(test)]
mod tests {
    use super::super::gzip::tests::random;
    use super::*;

    #[test]
    fn only_whole_segments_of_random_bytes_are_incompressible() {
        let segment = random(SEGMENT);
        assert!(is_incompressible(&segment));
        assert!(!is_incompressible(&segment[1..]));
        // Seven random bits per byte, text, zeros, and a sixteenth of text.
        let text = b"the quick brown fox jumps over the lazy dog. ".repeat(SEGMENT / 45 + 1);
        let seven_bits: Vec<u8> = segment.iter().map(|byte| byte & 0xbf).collect();
        let mixed = [&segment[..SEGMENT - SEGMENT / SAMPLES], &text[..SEGMENT / SAMPLES]].concat();
        for data in [&seven_bits[..], &text[..SEGMENT], &[0; SEGMENT], &mixed] {
            assert!(!is_incompressible(data));
        }
    }
}
