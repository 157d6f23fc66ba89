//! What no compressor makes smaller, found by a glance: packages, pictures and archives inside a layer.
//!
//! On such bytes a compressor takes twice its time to gain a hundredth or two. So they are told apart first, a
//! segment at a time and by the segment's bytes alone, for what is decided here shows in the digest: integers only.

/// Bytes that are judged together.
const SEGMENT: usize = 64 << 10;

/// A segment is judged by this many stretches of [`STRETCH`] bytes, spread evenly: a sixteenth of it.
const STRETCHES: usize = 16;
const STRETCH: usize = 256;

/// Above this sum of squared byte counts a sample is no noise. N random bytes of 256 values give N + N(N-1)/256 in the
/// mean, here 69,616; 5 % more is where the bytes carry some 7.95 bits each.
const SQUARES: u32 = 73_096;

/// Cuts `block` into runs that are noise, or are not, as far as each reaches.
pub(super) fn runs(block: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let noise = is_noise(rest.get(..SEGMENT.min(rest.len())).filter(|segment| !segment.is_empty())?);
        let alike = rest.chunks(SEGMENT).take_while(|segment| is_noise(segment) == noise).map(<[u8]>::len).sum();
        let (run, behind) = rest.split_at(alike);
        rest = behind;
        Some((run, noise))
    })
}

/// Whether a segment's bytes are spread as evenly as chance would. A short last one is packed in any case.
fn is_noise(segment: &[u8]) -> bool {
    if segment.len() < SEGMENT {
        return false;
    }
    let mut counts = [0_u32; 256];
    for stretch in segment.chunks(SEGMENT / STRETCHES) {
        for byte in &stretch[..STRETCH] {
            counts[usize::from(*byte)] += 1;
        }
    }
    counts.iter().map(|count| count * count).sum::<u32>() < SQUARES
}

#[cfg(test)]
mod tests {
    use super::super::gzip::tests::noise;
    use super::*;

    #[test]
    fn noise_is_told_from_what_can_be_packed() {
        let text = b"the quick brown fox jumps over the lazy dog. ".repeat(20_000);
        let code: Vec<u8> = noise(SEGMENT).iter().map(|byte| byte & 0xbf).collect();
        let block =
            [&noise(3 * SEGMENT)[..], &text[..2 * SEGMENT], &code, &noise(SEGMENT), &noise(SEGMENT / 2)].concat();
        let found: Vec<(usize, bool)> = runs(&block).map(|(run, noise)| (run.len() * 2 / SEGMENT, noise)).collect();
        assert_eq!(found, [(6, true), (6, false), (2, true), (1, false)]);
        assert_eq!(runs(&block).map(|(run, _)| run).collect::<Vec<_>>().concat(), block);
        assert_eq!(runs(&[]).count(), 0);
    }
}
