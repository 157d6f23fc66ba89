//! Tokens: literals and matches, which are stored until the Huffman codes of their block are known.
//!
//! A token is a `u32` of two fields and the extra bits of the distance. So writing one takes two table lookups and no branch:
//!
//! ```text
//! bits 0..9    first field:  a literal (0..=255), or a match's length as 256 + (length - 3)
//! bits 9..18   second field: a match's distance symbol (0..=29), empty (30), or a second literal (256..=511)
//! bits 18..31  the distance's extra bits
//! ```

/// The shortest and the longest match (RFC 1951, 3.2.5).
pub(super) const MIN_MATCH: usize = 3;
pub(super) const MAX_MATCH: usize = 258;

/// The number of values of a field.
pub(super) const FIELD_VALUES: usize = 1 << FIELD_BITS;
const FIELD_BITS: u32 = 9;
const FIELD_MASK: u32 = FIELD_VALUES as u32 - 1;

/// The value of the shortest length in the first field, and that of the literal 0 in the second field.
pub(super) const LENGTHS: usize = 256;
pub(super) const SECOND_LITERALS: usize = 256;
/// The second field of a token that is a single literal.
const EMPTY: u32 = 30;

/// The number of tokens after which a deflate block ends. 16,384 have 0.3 % less output and take 1 to 3 % longer; 8,192 have
/// 0.2 to 1 % less and take 6 % longer.
pub(super) const TOKENS_PER_BLOCK: usize = 24_576;
/// The capacity: one step of the match finder may add some tokens to a full block.
const CAPACITY: usize = TOKENS_PER_BLOCK + 128;

/// The tokens of a deflate block, and how often each value of a field occurs.
pub(super) struct Tokens {
    tokens: [u32; CAPACITY],
    len: usize,
    pub(super) first_counts: [u32; FIELD_VALUES],
    pub(super) second_counts: [u32; FIELD_VALUES],
}

impl Tokens {
    pub(super) const fn new() -> Self {
        Self { tokens: [0; CAPACITY], len: 0, first_counts: [0; FIELD_VALUES], second_counts: [0; FIELD_VALUES] }
    }

    /// Removes all tokens.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.first_counts.fill(0);
        self.second_counts.fill(0);
    }

    pub(super) fn as_slice(&self) -> &[u32] {
        &self.tokens[..self.len]
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len >= TOKENS_PER_BLOCK
    }

    /// Appends literals.
    pub(super) fn push_literals(&mut self, literals: &[u8]) {
        let mut sink = TokenSink::new(self);
        for literal in literals {
            sink.push_literal(*literal);
        }
        sink.finish();
    }
}

/// Appends tokens. Their number is in a register until [`finish`](Self::finish) writes it back.
pub(super) struct TokenSink<'a> {
    tokens: &'a mut Tokens,
    len: usize,
}

impl<'a> TokenSink<'a> {
    pub(super) const fn new(tokens: &'a mut Tokens) -> Self {
        let len = tokens.len;
        Self { tokens, len }
    }

    pub(super) const fn finish(self) {
        self.tokens.len = self.len;
    }

    #[inline(always)]
    pub(super) const fn is_full(&self) -> bool {
        self.len >= TOKENS_PER_BLOCK
    }

    /// Shortens the last token, which must be a match.
    pub(super) const fn shorten_last(&mut self, by: usize) {
        let token = &mut self.tokens.tokens[self.len - 1];
        self.tokens.first_counts[(*token & FIELD_MASK) as usize] -= 1;
        *token -= by as u32;
        self.tokens.first_counts[(*token & FIELD_MASK) as usize] += 1;
    }

    #[inline(always)]
    fn push(&mut self, first: u32, second: u32, extra: u32) {
        self.tokens.first_counts[first as usize % FIELD_VALUES] += 1;
        self.tokens.second_counts[second as usize % FIELD_VALUES] += 1;
        self.tokens.tokens[self.len] = first | second << FIELD_BITS | extra << (2 * FIELD_BITS);
        self.len += 1;
    }

    /// Appends a literal.
    #[inline(always)]
    pub(super) fn push_literal(&mut self, literal: u8) {
        self.push(u32::from(literal), EMPTY, 0);
    }

    /// Appends two literals as one token.
    #[inline(always)]
    pub(super) fn push_pair(&mut self, literals: [u8; 2]) {
        self.push(u32::from(literals[0]), SECOND_LITERALS as u32 + u32::from(literals[1]), 0);
    }

    /// Appends a match.
    #[inline(always)]
    pub(super) fn push_match(&mut self, length: usize, distance: usize) {
        let (symbol, extra) = distance_symbol(distance as u32);
        self.push((LENGTHS + length - MIN_MATCH) as u32, symbol, extra);
    }
}

/// Returns a token's fields: the first, the second, and the extra bits.
#[inline(always)]
pub(super) fn fields(token: u32) -> (usize, usize, u32) {
    ((token & FIELD_MASK) as usize, (token >> FIELD_BITS & FIELD_MASK) as usize, token >> (2 * FIELD_BITS))
}

/// Returns the symbol of a distance and the value of its extra bits (RFC 1951, 3.2.5).
#[inline(always)]
fn distance_symbol(distance: u32) -> (u32, u32) {
    // The highest bit that is set and the one below it select the symbol, the others are extra bits. `| 2`, because there are
    // none below 4.
    let d = distance - 1;
    let extra_bits = (d | 2).ilog2() - 1;
    (2 * extra_bits + (d >> extra_bits), d & !(u32::MAX << extra_bits))
}

/// Returns the number of extra bits of a distance symbol (RFC 1951, 3.2.5).
pub(super) const fn distance_extra_bits(symbol: usize) -> u32 {
    if symbol < 4 { 0 } else { symbol as u32 / 2 - 1 }
}

/// Returns a length's symbol, the number of its extra bits and their value (RFC 1951, 3.2.5).
pub(super) const fn length_symbol(length: usize) -> (usize, u32, u32) {
    let l = (length - MIN_MATCH) as u32;
    if length == MAX_MATCH {
        return (285, 0, 0);
    }
    if l < 8 {
        return (257 + l as usize, 0, 0);
    }
    let extra_bits = l.ilog2() - 2;
    ((257 + 4 * extra_bits + (l >> extra_bits)) as usize, extra_bits, l & ((1 << extra_bits) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first length of each length symbol (RFC 1951, 3.2.5).
    const LENGTH_BASES: [usize; 29] = [
        3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227,
        258,
    ];
    const LENGTH_EXTRA_BITS: [u32; 29] =
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

    /// The first distance of each distance symbol (RFC 1951, 3.2.5).
    const DISTANCE_BASES: [u32; 30] = [
        1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097,
        6145, 8193, 12289, 16385, 24577,
    ];
    const DISTANCE_EXTRA_BITS: [u32; 30] =
        [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];

    #[test]
    fn lengths_have_the_symbols_of_the_rfc() {
        for length in MIN_MATCH..=MAX_MATCH {
            let (symbol, extra_bits, extra) = length_symbol(length);
            let n = symbol - 257;
            assert_eq!(n, LENGTH_BASES.iter().rposition(|base| *base <= length).expect("3 at least"), "{length}");
            assert_eq!((extra_bits, extra as usize), (LENGTH_EXTRA_BITS[n], length - LENGTH_BASES[n]), "{length}");
        }
    }

    #[test]
    fn distances_have_the_symbols_of_the_rfc() {
        for distance in 1..=32_768 {
            let (symbol, extra) = distance_symbol(distance);
            let n = symbol as usize;
            assert_eq!(n, DISTANCE_BASES.iter().rposition(|base| *base <= distance).expect("1 at least"), "{distance}");
            assert_eq!((distance_extra_bits(n), extra), (DISTANCE_EXTRA_BITS[n], distance - DISTANCE_BASES[n]));
        }
    }

    #[test]
    fn tokens_are_counted_and_have_their_fields() {
        let mut tokens = Box::new(Tokens::new());
        tokens.push_literals(b"a");
        let mut sink = TokenSink::new(&mut tokens);
        sink.push_pair(*b"bc");
        sink.push_match(258, 32_768);
        sink.push_match(258, 1);
        sink.shorten_last(250);
        sink.finish();
        let fields: Vec<_> = tokens.as_slice().iter().map(|token| fields(*token)).collect();
        let expected = [(97, EMPTY as usize, 0), (98, 256 + 99, 0), (256 + 255, 29, 8191), (256 + 5, 0, 0)];
        assert_eq!(fields, expected);
        for (first, second, _) in expected {
            assert_eq!((tokens.first_counts[first], tokens.second_counts[second]), (1, 1));
        }
        assert_eq!((tokens.first_counts.iter().sum::<u32>(), tokens.second_counts.iter().sum::<u32>()), (4, 4));
        tokens.clear();
        assert_eq!((tokens.as_slice().len(), tokens.first_counts.iter().sum::<u32>()), (0, 0));
    }
}
