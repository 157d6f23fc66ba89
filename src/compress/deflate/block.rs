//! Selection and writing of deflate's three block types: stored, fixed and dynamic (RFC 1951, 3.2.3 to 3.2.7).

use super::bit_writer::BitWriter;
use super::huffman::{LONGEST, code_lengths, codes};
use super::tokens::{
    FIELD_VALUES, LENGTHS, MAX_MATCH, MIN_MATCH, SECOND_LITERALS, Tokens, distance_extra_bits, fields, length_symbol,
};

/// The sizes of the alphabets: literals, end of the block and lengths; distances (RFC 1951, 3.2.5). The last two symbols of
/// the first never occur, but have fixed codes.
const LITERALS: usize = 288;
const DISTANCES: usize = 30;
const USED_LITERALS: usize = 286;
const END_OF_BLOCK: usize = 256;

/// The order of the lengths of the code length code (RFC 1951, 3.2.7).
const CODE_LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The largest number of bytes in a stored block (RFC 1951, 3.2.4).
const LONGEST_STORED: usize = u16::MAX as usize;

/// The code lengths of both alphabets.
struct Lengths {
    literals: [u8; LITERALS],
    distances: [u8; DISTANCES],
}

impl Lengths {
    /// Returns those of the fixed codes (RFC 1951, 3.2.6).
    fn fixed() -> Self {
        let mut literals = [8; LITERALS];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        Self { literals, distances: [5; DISTANCES] }
    }
}

/// How often each symbol occurs, and the number of extra bits of all symbols.
struct Counts {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    extra_bits: u64,
}

impl Counts {
    fn of(tokens: &Tokens) -> Self {
        let mut counts = Self { literals: [0; LITERALS], distances: [0; DISTANCES], extra_bits: 0 };
        for literal in 0..256 {
            counts.literals[literal] = tokens.first_counts[literal] + tokens.second_counts[SECOND_LITERALS + literal];
        }
        counts.literals[END_OF_BLOCK] = 1;
        for length in MIN_MATCH..=MAX_MATCH {
            let count = tokens.first_counts[LENGTHS + length - MIN_MATCH];
            let (symbol, extra_bits, _) = length_symbol(length);
            counts.literals[symbol] += count;
            counts.extra_bits += u64::from(count * extra_bits);
        }
        for symbol in 0..DISTANCES {
            counts.distances[symbol] = tokens.second_counts[symbol];
            counts.extra_bits += u64::from(tokens.second_counts[symbol] * distance_extra_bits(symbol));
        }
        counts
    }

    /// Returns the size of all symbols with these codes, in bits.
    fn cost(&self, lengths: &Lengths) -> u64 {
        let sum = |counts: &[u32], lengths: &[u8]| -> u64 {
            counts.iter().zip(lengths).map(|(count, len)| u64::from(count * u32::from(*len))).sum()
        };
        self.extra_bits + sum(&self.literals, &lengths.literals) + sum(&self.distances, &lengths.distances)
    }
}

/// Writes `tokens`, which represent `bytes`, as a block of the smallest type.
pub(super) fn write(tokens: &Tokens, bytes: &[u8], is_last: bool, writer: &mut BitWriter<'_>) {
    let counts = Counts::of(tokens);
    let mut lengths = Lengths { literals: [0; LITERALS], distances: [0; DISTANCES] };
    code_lengths(&counts.literals[..USED_LITERALS], LONGEST, &mut lengths.literals[..USED_LITERALS]);
    code_lengths(&counts.distances, LONGEST, &mut lengths.distances);
    let header = Header::of(&lengths);
    // In bits, without the three at the start of each block.
    let dynamic = counts.cost(&lengths) + header.cost();
    let fixed_lengths = Lengths::fixed();
    let fixed = counts.cost(&fixed_lengths);
    let stored = 8 * bytes.len() as u64 + 40 * bytes.len().div_ceil(LONGEST_STORED) as u64;
    if stored <= dynamic.min(fixed) && !bytes.is_empty() {
        write_stored(bytes, is_last, writer);
    } else if fixed <= dynamic {
        writer.put(u32::from(is_last) | 1 << 1, 3);
        write_tokens(tokens, &fixed_lengths, fixed, writer);
    } else {
        writer.put(u32::from(is_last) | 2 << 1, 3);
        header.write(writer);
        write_tokens(tokens, &lengths, dynamic, writer);
    }
}

/// Writes `bytes` uncompressed (RFC 1951, 3.2.4).
pub(super) fn write_stored(bytes: &[u8], is_last: bool, writer: &mut BitWriter<'_>) {
    let mut parts = bytes.chunks(LONGEST_STORED).peekable();
    while let Some(part) = parts.next() {
        write_stored_block(part, is_last && parts.peek().is_none(), writer);
    }
}

/// Writes a block without content, which ends on a byte boundary: a sync flush in zlib's terms.
pub(super) fn write_empty(writer: &mut BitWriter<'_>) {
    write_stored_block(&[], false, writer);
}

fn write_stored_block(bytes: &[u8], is_last: bool, writer: &mut BitWriter<'_>) {
    writer.put(u32::from(is_last), 3);
    writer.align();
    let len = bytes.len() as u16;
    writer.put(u32::from(len) | u32::from(!len) << 16, 32);
    writer.bytes(bytes);
}

/// The code of a first field.
#[derive(Clone, Copy)]
struct First {
    /// With the extra bits of a length.
    code: u32,
    len: u32,
}

/// The code of a second field.
#[derive(Clone, Copy)]
struct Second {
    code: u16,
    len: u8,
    /// Its length with the extra bits.
    total: u8,
}

/// Writes all tokens and the end of the block, which take at most `cost` bits.
fn write_tokens(tokens: &Tokens, lengths: &Lengths, cost: u64, writer: &mut BitWriter<'_>) {
    let literal_codes = codes(&lengths.literals);
    let distance_codes = codes(&lengths.distances);
    let mut first = [First { code: 0, len: 0 }; FIELD_VALUES];
    let mut second = [Second { code: 0, len: 0, total: 0 }; FIELD_VALUES];
    for literal in 0..256 {
        let (code, len) = (literal_codes[literal], lengths.literals[literal]);
        first[literal] = First { code: code.into(), len: len.into() };
        second[SECOND_LITERALS + literal] = Second { code, len, total: len };
    }
    for length in MIN_MATCH..=MAX_MATCH {
        let (symbol, extra_bits, extra) = length_symbol(length);
        let len = u32::from(lengths.literals[symbol]);
        first[LENGTHS + length - MIN_MATCH] =
            First { code: u32::from(literal_codes[symbol]) | extra << len, len: len + extra_bits };
    }
    for symbol in 0..DISTANCES {
        let len = lengths.distances[symbol];
        second[symbol] = Second { code: distance_codes[symbol], len, total: len + distance_extra_bits(symbol) as u8 };
    }
    let code = |token: u32| {
        let (a, b, extra) = fields(token);
        let (a, b) = (&first[a], &second[b]);
        let tail = u32::from(b.code) | extra << (b.len & 31);
        (u64::from(a.code) | u64::from(tail) << (a.len & 63), a.len + u32::from(b.total))
    };
    writer.put_tokens(tokens.as_slice(), cost as usize, code);
    writer.put(u32::from(literal_codes[END_OF_BLOCK]), u32::from(lengths.literals[END_OF_BLOCK]));
}

/// The header of a dynamic block (RFC 1951, 3.2.7).
struct Header {
    literals: usize,
    distances: usize,
    /// Symbols of the code length code, and the values of their extra bits.
    symbols: [(u8, u8); USED_LITERALS + DISTANCES],
    len: usize,
    code_lengths: [u8; 19],
    stored_code_lengths: usize,
}

impl Header {
    fn of(lengths: &Lengths) -> Self {
        let used = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|len| *len > 0).map_or(least, |at| least.max(at + 1))
        };
        let (literals, distances) = (used(&lengths.literals, 257), used(&lengths.distances, 1));
        let mut all = [0; USED_LITERALS + DISTANCES];
        all[..literals].copy_from_slice(&lengths.literals[..literals]);
        all[literals..literals + distances].copy_from_slice(&lengths.distances[..distances]);
        let mut header = Self {
            literals,
            distances,
            symbols: [(0, 0); USED_LITERALS + DISTANCES],
            len: 0,
            code_lengths: [0; 19],
            stored_code_lengths: 0,
        };
        let mut counts = [0; 19];
        for run in all[..literals + distances].chunk_by(|a, b| a == b) {
            header.add_run(run[0], run.len(), &mut counts);
        }
        code_lengths(&counts, 7, &mut header.code_lengths);
        let last = CODE_LENGTH_ORDER.iter().rposition(|symbol| header.code_lengths[*symbol] > 0);
        header.stored_code_lengths = last.map_or(4, |at| (at + 1).max(4));
        header
    }

    /// Adds `run` equal lengths.
    fn add_run(&mut self, length: u8, mut run: usize, counts: &mut [u32; 19]) {
        let mut add = |symbol: u8, extra: usize| {
            self.symbols[self.len] = (symbol, extra as u8);
            self.len += 1;
            counts[usize::from(symbol)] += 1;
        };
        if length == 0 {
            while run >= 11 {
                let n = run.min(138);
                add(18, n - 11);
                run -= n;
            }
            if run >= 3 {
                add(17, run - 3);
                run = 0;
            }
        } else {
            add(length, 0);
            run -= 1;
            while run >= 3 {
                let n = run.min(6);
                add(16, n - 3);
                run -= n;
            }
        }
        for _ in 0..run {
            add(length, 0);
        }
    }

    const fn extra_bits(symbol: u8) -> u32 {
        match symbol {
            16 => 2,
            17 => 3,
            18 => 7,
            _ => 0,
        }
    }

    /// Returns its size in bits.
    fn cost(&self) -> u64 {
        let bits =
            |(symbol, _): &(u8, u8)| u32::from(self.code_lengths[usize::from(*symbol)]) + Self::extra_bits(*symbol);
        let symbols: u32 = self.symbols[..self.len].iter().map(bits).sum();
        u64::from(symbols) + 14 + 3 * self.stored_code_lengths as u64
    }

    fn write(&self, writer: &mut BitWriter<'_>) {
        writer.put(self.literals as u32 - 257, 5);
        writer.put(self.distances as u32 - 1, 5);
        writer.put(self.stored_code_lengths as u32 - 4, 4);
        for symbol in &CODE_LENGTH_ORDER[..self.stored_code_lengths] {
            writer.put(u32::from(self.code_lengths[*symbol]), 3);
        }
        let codes = codes(&self.code_lengths);
        for (symbol, extra) in &self.symbols[..self.len] {
            let len = self.code_lengths[usize::from(*symbol)];
            writer.put(u32::from(codes[usize::from(*symbol)]), u32::from(len));
            writer.put(u32::from(*extra), Self::extra_bits(*symbol));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::tokens::TokenSink;
    use super::*;

    /// Writes tokens as the last block, and returns the first byte, which holds the type of the block, and what it decodes to.
    fn round_trip(tokens: &Tokens, bytes: &[u8]) -> (u8, Vec<u8>) {
        let mut stream = Vec::new();
        let mut writer = BitWriter::new(&mut stream);
        write(tokens, bytes, true, &mut writer);
        writer.align();
        let mut data = Vec::new();
        flate2::read::DeflateDecoder::new(&stream[..]).read_to_end(&mut data).expect("a valid stream");
        (stream[0] >> 1 & 3, data)
    }

    fn fibonacci(n: usize) -> Vec<usize> {
        std::iter::successors(Some((1, 1)), |(a, b)| Some((*b, a + b))).map(|(a, _)| a).take(n).collect()
    }

    #[test]
    fn literals_with_the_longest_codes() {
        // Without the limit, the rarest would get codes of 20 bits.
        let literals: Vec<u8> = (0..).zip(fibonacci(20)).flat_map(|(byte, count)| vec![byte * 5; count]).collect();
        let mut tokens = Box::new(Tokens::new());
        tokens.push_literals(&literals);
        assert_eq!(round_trip(&tokens, &literals), (2, literals));
    }

    #[test]
    fn distances_and_lengths_with_the_longest_codes() {
        // Zeros, so that every distance is right.
        let mut tokens = Box::new(Tokens::new());
        tokens.push_literals(&[0; 1_100]);
        let mut sink = TokenSink::new(&mut tokens);
        let mut len = 1_100;
        for (n, count) in fibonacci(20).into_iter().enumerate() {
            let distance = if n < 4 { n + 1 } else { (2 + n % 2) << (n / 2 - 1) | 1 };
            for _ in 0..count {
                sink.push_match(3 + n * 12, distance);
                len += 3 + n * 12;
            }
        }
        sink.finish();
        let (kind, data) = round_trip(&tokens, &vec![0; len]);
        assert!(
            kind == 2 && data.len() == len && data.iter().all(|byte| *byte == 0),
            "type {kind}, {} bytes",
            data.len()
        );
    }

    #[test]
    fn the_smallest_type_is_chosen() {
        let random: Vec<u8> =
            (0..3_000_u32).map(|n| (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for (bytes, kind) in [(&b"a few letters"[..], 1), (&random, 0), (&b"acab".repeat(50), 2), (b"", 1)] {
            let mut tokens = Box::new(Tokens::new());
            tokens.push_literals(bytes);
            assert_eq!(round_trip(&tokens, bytes), (kind, bytes.to_vec()));
        }
    }

    #[test]
    fn every_run_of_code_lengths_is_written() {
        // Two literals with as many unused ones in between: runs of zeros of every length; and runs of used ones.
        for gap in 1..=255 {
            for literals in [vec![0, gap], (0..=gap).collect()] {
                let bytes: Vec<u8> = literals.iter().copied().cycle().take(2_000).collect();
                let mut tokens = Box::new(Tokens::new());
                tokens.push_literals(&bytes);
                let (_, data) = round_trip(&tokens, &bytes);
                assert_eq!(data, bytes, "{gap}");
            }
        }
    }
}
