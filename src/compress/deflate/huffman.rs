//! Canonical Huffman codes of limited length (RFC 1951, 3.2.2).

/// The longest code of literals, lengths and distances (RFC 1951, 3.2.7: code lengths are 0 to 15).
pub(super) const LONGEST: usize = 15;

/// The size of the largest alphabet for which lengths are computed: literals, the end of the block, and lengths.
const SYMBOLS: usize = 286;

/// Sets the length of each symbol's code: 0 for a symbol that does not occur, otherwise 1 to `limit`.
///
/// At least two symbols get a code, even if they do not occur, so that the code is always complete. The lengths are optimal
/// unless `limit` shortens one.
pub(super) fn code_lengths(counts: &[u32], limit: usize, lengths: &mut [u8]) {
    // Count and symbol are one number, so that symbols are sorted by count, then by symbol. A symbol that does not occur is
    // overwritten by the next one: no branch, which would be hard to predict.
    let mut sorted = [0; SYMBOLS];
    let mut n = 0;
    for (symbol, count) in (0..).zip(counts) {
        sorted[n] = count << SYMBOL_BITS | symbol;
        n += usize::from(*count > 0);
    }
    let unused = (0..).zip(counts).filter(|(_, count)| **count == 0).map(|(symbol, _)| symbol);
    for symbol in unused.take(2_usize.saturating_sub(n)) {
        sorted[n] = 1 << SYMBOL_BITS | symbol;
        n += 1;
    }
    let sorted = &mut sorted[..n];
    sorted.sort_unstable();
    let mut per_length = minimum_redundancy(sorted, limit);
    make_complete(&mut per_length[..=limit]);
    // The rarest symbols get the longest codes.
    lengths.fill(0);
    let mut symbols = sorted.iter().map(|entry| (entry % (1 << SYMBOL_BITS)) as usize);
    for len in (1..=limit).rev() {
        for symbol in symbols.by_ref().take(per_length[len]) {
            lengths[symbol] = len as u8;
        }
    }
}

const SYMBOL_BITS: u32 = 9;

/// Changes the number of codes of each length so that they are a complete code: Kraft's sum of 2^-length is 1.
///
/// The sum is too large once codes are shortened to the limit. As in annex K.3 of JPEG (ITU-T T.81), the longest code below the
/// limit is lengthened by one bit, which makes space beside it for one of the longest codes.
fn make_complete(per_length: &mut [usize]) {
    let limit = per_length.len() - 1;
    let sum: usize = (1..=limit).map(|len| per_length[len] << (limit - len)).sum();
    for _ in 1 << limit..sum {
        let len = (1..limit).rev().find(|len| per_length[*len] > 0).expect("2^limit codes at least");
        per_length[len] -= 1;
        per_length[len + 1] += 2;
        per_length[limit] -= 1;
    }
}

/// Returns the number of codes of each length for symbols, at least two in ascending order of their counts. Lengths beyond
/// `limit` are counted as `limit`.
///
/// It joins the two lightest nodes until one is left, as Moffat and Katajainen do (In-Place Calculation of Minimum-Redundancy
/// Codes, 1995). Which of a leaf and an inner node is the lighter one cannot be predicted, so that no branch depends on it.
fn minimum_redundancy(sorted: &[u32], limit: usize) -> [usize; LONGEST + 1] {
    const NONE: u32 = u32::MAX;
    let n = sorted.len();
    let (mut leaves, mut inner, mut parents) = ([NONE; SYMBOLS + 2], [NONE; SYMBOLS], [0_usize; SYMBOLS]);
    for (leaf, entry) in leaves.iter_mut().zip(sorted) {
        *leaf = entry >> SYMBOL_BITS;
    }
    let (mut leaf, mut node) = (0, 0);
    for next in 0..n - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let (a, b) = (leaves[leaf], inner[node]);
            weight += a.min(b);
            // Overwritten if the leaf is taken.
            parents[node] = next;
            node += usize::from(b < a);
            leaf += usize::from(b >= a);
        }
        inner[next] = weight;
    }
    // Depths take the place of parents. A depth with k inner nodes has 2k nodes below.
    let mut depths = parents;
    let mut per_depth = [0; SYMBOLS];
    depths[n - 2] = 0;
    per_depth[0] = 1;
    for node in (0..n - 2).rev() {
        depths[node] = depths[depths[node]] + 1;
        per_depth[depths[node]] += 1;
    }
    let mut per_length = [0; LONGEST + 1];
    for (depth, pair) in (1..n).zip(per_depth.windows(2)) {
        per_length[limit.min(depth)] += 2 * pair[0] - pair[1];
    }
    per_length
}

/// Returns the canonical codes of `lengths`, their bits reversed for the bit writer (RFC 1951, 3.2.2 and 3.1.1).
pub(super) fn codes<const N: usize>(lengths: &[u8; N]) -> [u16; N] {
    let mut next = [0_u32; LONGEST + 1];
    for len in lengths {
        next[usize::from(*len)] += 1;
    }
    next[0] = 0;
    let mut code = 0;
    for slot in &mut next[1..] {
        let count = *slot;
        *slot = code;
        code = (code + count) << 1;
    }
    // `next` now has the first code of each length.
    lengths.map(|len| {
        let code = next[usize::from(len)];
        next[usize::from(len)] += 1;
        if len == 0 { 0 } else { (code as u16).reverse_bits() >> (u16::BITS as u8 - len) }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lengths(counts: &[u32], limit: usize) -> Vec<u8> {
        let mut lengths = vec![99; counts.len()];
        code_lengths(counts, limit, &mut lengths);
        lengths
    }

    fn cost(counts: &[u32], lengths: &[u8]) -> u64 {
        counts.iter().zip(lengths).map(|(count, len)| u64::from(*count) * u64::from(*len)).sum()
    }

    /// Checks Kraft's equality, the limit, and that every symbol that occurs has a code.
    fn check(counts: &[u32], limit: usize, lengths: &[u8]) {
        let sum: u64 = lengths.iter().filter(|len| **len > 0).map(|len| 1 << (limit - usize::from(*len))).sum();
        assert_eq!(sum, 1 << limit, "{lengths:?}");
        assert!(lengths.iter().all(|len| usize::from(*len) <= limit));
        assert!(counts.iter().zip(lengths).all(|(count, len)| *count == 0 || *len > 0));
        assert_eq!(
            lengths.iter().filter(|len| **len > 0).count(),
            counts.iter().filter(|count| **count > 0).count().max(2)
        );
    }

    /// Returns the cost of an optimal code of limited length: package-merge (Larmore and Hirschberg, 1990). The weights of
    /// the 2n - 2 lightest packages of the last of `limit` levels add up to it.
    fn package_merge(counts: &[u32], limit: usize) -> u64 {
        let mut leaves: Vec<u64> = counts.iter().filter(|count| **count > 0).map(|count| u64::from(*count)).collect();
        leaves.sort_unstable();
        let mut level = leaves.clone();
        for _ in 1..limit {
            let mut next: Vec<u64> =
                level.chunks_exact(2).map(|pair| pair[0] + pair[1]).chain(leaves.iter().copied()).collect();
            next.sort_unstable();
            level = next;
        }
        level[..2 * leaves.len() - 2].iter().sum()
    }

    fn fibonacci(n: usize) -> Vec<u32> {
        std::iter::successors(Some((1, 1)), |(a, b)| Some((*b, a + b))).map(|(a, _)| a).take(n).collect()
    }

    #[test]
    fn fibonacci_counts_are_limited() {
        // Without a limit, the rarest symbol would get a code of n - 1 bits.
        // How many per mille more than the optimum a code may take: more, the more codes the limit shortens.
        for (n, limit, more) in [(16, 15, 0), (17, 15, 1), (24, 15, 5), (30, 15, 20), (9, 7, 1), (19, 7, 120)] {
            let counts = fibonacci(n);
            let lengths = lengths(&counts, limit);
            check(&counts, limit, &lengths);
            assert_eq!(usize::from(lengths[0]), limit.min(n - 1));
            let (cost, optimal) = (cost(&counts, &lengths), package_merge(&counts, limit));
            assert!(
                cost >= optimal && (cost - optimal) * 1000 <= optimal * more,
                "{n} symbols: {cost}, optimal is {optimal}"
            );
        }
    }

    #[test]
    fn none_and_one_symbol_get_a_complete_code() {
        assert_eq!(lengths(&[0, 0, 0], 15), [1, 1, 0]);
        assert_eq!(lengths(&[7, 0, 0], 15), [1, 1, 0]);
        assert_eq!(lengths(&[0, 0, 7], 15), [1, 0, 1]);
        assert_eq!(lengths(&[1, 1, 0], 15), [1, 1, 0]);
    }

    #[test]
    fn the_largest_alphabet_fits() {
        for counts in [vec![1; 286], vec![49_152; 286]] {
            check(&counts, 15, &lengths(&counts, 15));
        }
    }

    #[test]
    fn codes_are_those_of_the_example_in_the_rfc() {
        // RFC 1951, 3.2.2: A to H.
        let codes = codes(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let expected = ["010", "011", "100", "101", "110", "00", "1110", "1111"];
        // A code's first bit is written first, so it is the lowest.
        let bits = |text: &str| text.bytes().rev().fold(0, |sum, bit| sum << 1 | u16::from(bit - b'0'));
        assert_eq!(codes, expected.map(bits));
        assert_eq!(super::codes(&[0, 1, 0, 1]), [0, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn lengths_are_complete_limited_and_optimal(
            counts in prop::collection::vec(prop_oneof![Just(0), 1..4_u32, 1..100_u32, 1..49_152_u32], 2..286),
        ) {
            let lengths = lengths(&counts, 15);
            check(&counts, 15, &lengths);
            if counts.iter().filter(|count| **count > 0).count() >= 2 {
                let optimal = package_merge(&counts, 15);
                let cost = cost(&counts, &lengths);
                prop_assert!(cost >= optimal);
                // Where the limit matters, the code need not be optimal.
                if package_merge(&counts, 40) == optimal {
                    prop_assert_eq!(cost, optimal);
                }
            }
        }

        #[test]
        fn short_codes_are_complete_and_limited(counts in prop::collection::vec(0..2_000_u32, 19)) {
            check(&counts, 7, &lengths(&counts, 7));
        }

        #[test]
        fn no_code_begins_with_another(counts in prop::collection::vec(0..500_u32, 30)) {
            let lengths: [u8; 30] = lengths(&counts, 15).try_into().expect("30 symbols");
            let codes = codes(&lengths);
            for a in 0..30 {
                for b in 0..30 {
                    if a != b && lengths[a] > 0 && lengths[a] <= lengths[b] {
                        prop_assert_ne!(codes[a], codes[b] & ((1 << lengths[a]) - 1));
                    }
                }
            }
        }
    }
}
