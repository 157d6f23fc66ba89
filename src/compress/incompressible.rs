//! Detection of incompressible data in a layer, such as packages, pictures and archives, by samples.
//!
//! For such data a compressor takes twice the time and saves 1 or 2 %. It is detected per segment, by the segment's bytes
//! alone, and with integers only: the decision affects the digest.

/// The size of a segment, in bytes.
const SEGMENT: usize = 64 << 10;

/// The number of samples of [`SAMPLE_LEN`] bytes in a segment, spread evenly: a sixteenth of it.
const SAMPLES: usize = 16;
const SAMPLE_LEN: usize = 256;

/// The sum of squared byte counts from which data is compressible. The mean for N random bytes is N + N(N-1)/256, here
/// 69,616; this is 5 % more, where a byte has about 7.95 bits of information.
const SQUARES: u32 = 73_096;

/// Splits `block` into runs, as long as possible, that are incompressible or not.
pub(super) fn runs(block: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
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

/// Returns whether the bytes of a segment are distributed as evenly as random ones. A short last segment is always
/// compressed.
fn is_incompressible(segment: &[u8]) -> bool {
    if segment.len() < SEGMENT {
        return false;
    }
    let mut counts = [0_u32; 256];
    for part in segment.chunks(SEGMENT / SAMPLES) {
        for byte in &part[..SAMPLE_LEN] {
            counts[usize::from(*byte)] += 1;
        }
    }
    counts.iter().map(|count| count * count).sum::<u32>() < SQUARES
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
