//! Sparse entries: how a tar stores a file without its blocks of zeros, well or with a map that contradicts it.

use super::archive::put_right;
use super::dice::Dice;

/// A file as it is stored.
pub(crate) struct Stored {
    /// PAX records that describe it.
    pub(crate) records: Vec<(String, String)>,
    /// What stands behind the header.
    pub(crate) contents: Vec<u8>,
    /// The size in the header.
    pub(crate) size: u64,
    /// The map and the size with holes, where the header has them.
    in_header: Option<(Vec<u64>, u64)>,
}

/// Stores a file with holes, as the seed decides.
pub(crate) fn store(seed: u64, name: &str, bytes: &[u8]) -> Stored {
    let dice = &mut Dice::of_seed(seed);
    let (mut map, mut stored): (Vec<u64>, Vec<u8>) = (Vec::new(), Vec::new());
    for (at, block) in bytes.chunks(512).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0)) {
        let (offset, len) = (at as u64 * 512, block.len() as u64);
        match map.len().checked_sub(2).filter(|last| map[*last] + map[last + 1] == offset && !dice.one_in(4)) {
            Some(last) => map[last + 1] += len,
            None => map.extend([offset, len]),
        }
        stored.extend_from_slice(block);
    }
    let mut len = bytes.len() as u64;
    map.extend([len, 0]);
    if dice.one_in(3) {
        let at = dice.roll(map.len());
        map[at] = dice.of(&[0, 1, 511, 512, len, len + 1, u64::MAX, u64::MAX - 511, map[at] ^ 512]);
    }
    if dice.one_in(8) {
        len = dice.of(&[0, 512, len + 512, 52_001 << 20, u64::MAX]);
    }
    let (numbers, count): (Vec<_>, _) = (map.iter().map(u64::to_string).collect(), map.len() as u64 / 2);
    let count = if dice.one_in(8) { dice.of(&[0, 1, count + 1, 1 << 40, u64::MAX]) } else { count };
    let record = |key: &str, value: &dyn ToString| (format!("GNU.sparse.{key}"), value.to_string());
    let mut records = vec![record("size", &len), record("numblocks", &count)];
    let mut contents = Vec::new();
    match dice.roll(4) {
        0 => {
            contents = blocks(map.get(8..).unwrap_or_default());
            let size = stored.len() as u64;
            contents.extend_from_slice(&stored);
            return Stored { records: Vec::new(), contents, size, in_header: Some((map, len)) };
        }
        1 => {
            let keys = ["offset", "numbytes"].into_iter().cycle();
            records.extend(keys.zip(&numbers).map(|(key, number)| record(key, number)));
        }
        2 => records.extend([record("map", &numbers.join(",")), record("name", &name)]),
        _ => {
            records = vec![record("major", &1), record("minor", &0), record("realsize", &len), record("name", &name)];
            contents = format!("{count}\n{}\n", numbers.join("\n")).into_bytes();
            contents.resize(contents.len().next_multiple_of(512), 0);
        }
    }
    contents.extend_from_slice(&stored);
    let size = contents.len() as u64;
    Stored { records, contents, size, in_header: None }
}

impl Stored {
    /// Writes into a header what stands there.
    pub(crate) fn put_into(&self, header: &mut [u8]) {
        let Some((map, len)) = &self.in_header else { return };
        header[156] = b'S';
        header[257..265].copy_from_slice(b"ustar  \0");
        header[345..].fill(0);
        put_map(&mut header[386..482], map);
        header[482] = u8::from(map.len() > 8);
        header[483..495].copy_from_slice(&number(*len));
        put_right(header);
    }
}

/// The blocks behind the header of a map that is too long for it.
fn blocks(map: &[u64]) -> Vec<u8> {
    let chunks: Vec<_> = map.chunks(42).collect();
    let mut blocks = vec![0; chunks.len() * 512];
    for (at, (block, map)) in blocks.chunks_exact_mut(512).zip(&chunks).enumerate() {
        put_map(&mut block[..504], map);
        block[504] = u8::from(at + 1 < chunks.len());
    }
    blocks
}

fn put_map(fields: &mut [u8], map: &[u64]) {
    for (field, value) in fields.chunks_exact_mut(12).zip(map) {
        field.copy_from_slice(&number(*value));
    }
}

fn number(value: u64) -> [u8; 12] {
    let mut field = [0; 12];
    if value < 1 << 33 {
        field.copy_from_slice(format!("{value:011o}\0").as_bytes());
    } else {
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
    field
}
