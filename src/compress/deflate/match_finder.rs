//! Finds bytes that occurred before, and turns a block into tokens.
//!
//! A hash table has the last position of each hash of five bytes. There are no chains: a newer position replaces an older one.
//! Two positions are searched at a time.
//!
//! The bytes are in a ring of 64 KiB. So a position in it is a `u16`, an entry of the table is the index of its bytes, and the
//! compiler can prove that no index is out of bounds. Entries are never removed: the bytes of an old one may be overwritten,
//! so an entry is used only if it is in the window and its bytes are equal.

use super::tokens::{MAX_MATCH, TokenSink, Tokens};

/// The largest distance of a match, in bytes: deflate's window (RFC 1951, 2).
pub const WINDOW: usize = 32 << 10;

/// The size of the ring, in bytes: twice the window.
pub(super) const RING: usize = 1 << 16;

/// The number of bytes that are read after those that are searched: the longest match at the last one, and the bytes that are
/// hashed at its end. They must be in the ring as well, unless the block ends before.
pub(super) const LOOKAHEAD: usize = MAX_MATCH + 2 * WORD;

/// The number of bytes at the end of the block that are not searched, since whole words are read.
pub(super) const UNSEARCHED: usize = WORD;

const WORD: usize = size_of::<u64>();

/// The size of the hash table, as a power of two. Half of it is 3 % faster, with 0.9 % more output; twice as much is 3 %
/// slower, with 0.5 % less output.
const TABLE_BITS: u32 = 15;

/// After this many bytes without a match, pairs of bytes are skipped after each one that is searched: one more per multiple of
/// this distance, at most [`MAX_SKIPPED_PAIRS`].
const SKIP_DISTANCE: usize = 128;
const MAX_SKIPPED_PAIRS: usize = 8;

/// The distance between the positions inside a match that are entered into the table.
const STRIDE: usize = 16;

/// Bytes that occurred before.
struct Match {
    start: usize,
    candidate: usize,
    len: usize,
}

/// The hash table, and the bytes that its positions refer to.
pub(super) struct MatchFinder {
    /// The ring, and after it the bytes that follow its last one, which are also at its start.
    ring: [u8; RING + LOOKAHEAD],
    /// The last position that was entered, by hash.
    table: [u16; 1 << TABLE_BITS],
    /// The number of bytes since the last match.
    unmatched: usize,
}

impl MatchFinder {
    pub(super) const fn new() -> Self {
        Self { ring: [0; RING + LOOKAHEAD], table: [0; 1 << TABLE_BITS], unmatched: 0 }
    }

    /// Starts a block with up to [`WINDOW`] bytes of dictionary. The position of its first byte is [`WINDOW`].
    pub(super) fn start(&mut self, dictionary: &[u8]) {
        // In place of no entry: the first position, which is a valid candidate for every position except itself.
        self.table.fill(WINDOW as u16);
        self.unmatched = 0;
        let first = WINDOW - dictionary.len();
        self.load(first, dictionary);
        // Entering every position takes 1 % longer, and the output is not smaller.
        for pos in (first..WINDOW - WORD).step_by(4) {
            self.enter(pos);
            self.enter(pos + 1);
        }
    }

    /// Copies bytes into the ring, up to its end or into the lookahead after it.
    pub(super) fn load(&mut self, pos: usize, bytes: &[u8]) {
        self.ring[pos..pos + bytes.len()].copy_from_slice(bytes);
    }

    /// Adds the tokens of the bytes from `pos` to `stop`, or fewer if `tokens` is full, and returns the position after them. It
    /// is up to the length of a match after `stop`, but not after `end`, where the block ends.
    #[inline(never)]
    pub(super) fn find(&mut self, mut pos: usize, stop: usize, end: usize, tokens: &mut Tokens) -> usize {
        let mut tokens = TokenSink::new(tokens);
        let mut last_match = pos.wrapping_sub(self.unmatched);
        let stop = stop.min(RING);
        while pos < stop && !tokens.is_full() {
            let (word0, word1) = (self.word(pos), self.word(pos + 1));
            let candidate0 = self.exchange(pos, word0);
            let candidate1 = self.exchange(pos + 1, word1);
            let differing0 = self.differing_bits(pos, word0, candidate0);
            let differing1 = self.differing_bits(pos + 1, word1, candidate1);
            // Long matches first, so that a short one does not prevent a long one at the next position. The branches are
            // predicted well enough to be faster than a selection without branches.
            let Match { start, candidate, len } = if differing0 == 0 {
                Match { start: pos, candidate: candidate0, len: self.match_len(pos, candidate0) }
            } else if differing1 == 0 {
                Match { start: pos + 1, candidate: candidate1, len: self.match_len(pos + 1, candidate1) }
            } else if differing0 as u32 == 0 {
                Match { start: pos, candidate: candidate0, len: equal_bytes(differing0) }
            } else if differing1 as u32 == 0 {
                Match { start: pos + 1, candidate: candidate1, len: equal_bytes(differing1) }
            } else {
                tokens.push_pair([word0 as u8, word1 as u8]);
                pos += 2;
                let unmatched = pos.wrapping_sub(last_match);
                if unmatched > SKIP_DISTANCE {
                    let pairs = (unmatched / SKIP_DISTANCE).min(MAX_SKIPPED_PAIRS);
                    for pair in self.ring[pos..stop.max(pos)].as_chunks().0.iter().take(pairs) {
                        tokens.push_pair(*pair);
                        pos += 2;
                    }
                }
                continue;
            };
            if start > pos {
                tokens.push_literal(word0 as u8);
            }
            tokens.push_match(len, distance(start, candidate));
            pos = start + len;
            // Entering every position of a match takes longer, and the output is not smaller. A few inside a long match are
            // needed to find repetitions that start there. No loop for the others: where code is optimized for size, it is not
            // unrolled, and the encoder takes 2 % longer.
            self.enter(start + 2);
            self.enter(start + 3);
            if len >= 2 * STRIDE {
                for entered in (start + STRIDE..pos - WORD).step_by(STRIDE) {
                    self.enter(entered);
                }
            }
            self.enter(pos - 4);
            self.enter(pos - 3);
            self.enter(pos - 2);
            self.enter(pos - 1);
            last_match = pos;
        }
        // The block ends within the last match.
        if pos > end {
            tokens.shorten_last(pos - end);
            pos = end;
        }
        self.unmatched = pos.wrapping_sub(last_match);
        tokens.finish();
        pos
    }

    /// Enters a position into the table, and returns the position that it replaces.
    #[inline(always)]
    fn exchange(&mut self, pos: usize, word: u64) -> usize {
        usize::from(std::mem::replace(&mut self.table[hash(word)], pos as u16))
    }

    /// Enters a position into the table.
    #[inline(always)]
    fn enter(&mut self, pos: usize) {
        self.table[hash(self.word(pos))] = pos as u16;
    }

    /// Returns the bytes at a position as a little-endian number.
    #[inline(always)]
    fn word(&self, pos: usize) -> u64 {
        u64::from_le_bytes(*self.bytes(pos))
    }

    /// Returns the bytes at a position.
    #[inline(always)]
    fn bytes<const N: usize>(&self, pos: usize) -> &[u8; N] {
        self.ring[pos..pos + N].first_chunk().expect("it has this length")
    }

    /// Returns the bits in which the eight bytes at `candidate` differ from `word`, those at `pos`. If the candidate is not in
    /// the window, a bit of the second byte is set, so that there is no match.
    #[inline(always)]
    fn differing_bits(&self, pos: usize, word: u64, candidate: usize) -> u64 {
        let beyond_window = pos.wrapping_sub(candidate).wrapping_sub(1) & WINDOW;
        word ^ self.word(candidate) | beyond_window as u64
    }

    /// Returns the number of equal bytes, at most [`MAX_MATCH`]. The first eight must be equal.
    ///
    /// They are left out before there is an iterator: with `skip`, the encoder takes 3 % longer where code is optimized for size.
    #[inline(always)]
    fn match_len(&self, pos: usize, candidate: usize) -> usize {
        let (a, b): (&[u8; MAX_MATCH], &[u8; MAX_MATCH]) = (self.bytes(pos), self.bytes(candidate));
        let (a_words, a_rest) = a[WORD..].as_chunks();
        let (b_words, b_rest) = b[WORD..].as_chunks();
        for (n, (a, b)) in a_words.iter().zip(b_words).enumerate() {
            let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
            if differing != 0 {
                return (n + 1) * WORD + equal_bytes(differing);
            }
        }
        MAX_MATCH - a_rest.len() + a_rest.iter().zip(b_rest).take_while(|(a, b)| a == b).count()
    }
}

/// Returns a hash of the first five bytes.
#[inline(always)]
const fn hash(word: u64) -> usize {
    ((word << 24).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (u64::BITS - TABLE_BITS)) as usize
}

/// Returns the number of equal bytes before the first bit that differs.
#[inline(always)]
const fn equal_bytes(differing: u64) -> usize {
    (differing.trailing_zeros() / 8) as usize
}

/// Returns the distance from a position in the ring back to a candidate.
#[inline(always)]
const fn distance(pos: usize, candidate: usize) -> usize {
    pos.wrapping_sub(candidate) % RING
}
