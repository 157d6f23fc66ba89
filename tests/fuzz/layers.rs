//! Layers and whole archives, packed and unpacked by other code than the reader's: all at once.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::archive::Body;
use super::dice::Dice;

/// How many plain bytes the largest bomb has.
pub(crate) const BOMB: usize = 16 << 20;

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 1).unwrap()
}

/// What the bytes unpack to, judged by their start. `None` if they cannot be.
pub(crate) fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    match bytes {
        [0x1f, 0x8b, ..] => flate2::bufread::MultiGzDecoder::new(bytes).read_to_end(&mut plain).ok()?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(bytes).ok()?;
            decoder.window_log_max(27).ok()?;
            decoder.read_to_end(&mut plain).ok()?
        }
        _ => return Some(bytes.to_vec()),
    };
    Some(plain)
}

/// Another layer: of the same plain bytes or others, packed in whatever way.
pub(crate) fn draw(dice: &mut Dice, before: &Body) -> Body {
    let mut plain = match before {
        Body::Layer { plain, .. } => plain.to_vec(),
        Body::Json(json) => json.to_string().into_bytes(),
    };
    match dice.roll(8) {
        0 => plain.clear(),
        1 => plain = vec![0; dice.roll(1 << 20)],
        2 if dice.one_in(20) => plain = vec![0; BOMB],
        3 => dice.damage(&mut plain),
        _ => {}
    }
    let half = plain.len() / 2;
    let skippable = [&[0x50 + dice.roll(16) as u8, 0x2a, 0x4d, 0x18, 3, 0, 0, 0], &b"abc"[..]].concat();
    let packed = match dice.roll(9) {
        0 | 1 => gzip(&plain),
        2 | 3 => zstd(&plain),
        4 => [gzip(&plain[..half]), gzip(&plain[half..])].concat(),
        5 => [skippable, zstd(&plain[..half]), zstd(&plain[half..])].concat(),
        6 => [gzip(&plain), vec![0; dice.roll(100)]].concat(),
        // A window of 2^10 to 2^41 bytes, mostly near the limit of 2^27, and an empty block (RFC 8878, 3.1.1.1.2).
        7 => {
            let window = dice.roll(32) as u8;
            [0x28, 0xb5, 0x2f, 0xfd, 0, dice.of(&[window, 17, 18, 21]) << 3, 1, 0, 0].to_vec()
        }
        _ => plain.clone(),
    };
    Body::Layer { plain: Arc::new(plain), packed: Arc::new(packed) }
}

/// How a whole archive is packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outer {
    Bzip2,
    Gzip,
    Xz,
    Zstd,
}

impl Outer {
    pub(crate) const ALL: [Self; 4] = [Self::Bzip2, Self::Gzip, Self::Xz, Self::Zstd];

    pub(crate) fn pack(self, dice: &mut Dice, plain: &[u8]) -> Vec<u8> {
        let cut = if dice.one_in(3) { dice.roll(plain.len()) } else { 0 };
        let mut packed = Vec::new();
        for plain in [&plain[..cut], &plain[cut..]].into_iter().filter(|part| !part.is_empty()) {
            packed.extend(self.one(plain));
        }
        if dice.one_in(4) {
            packed.resize(packed.len() + dice.roll(1000), 0);
        }
        packed
    }

    /// As one member.
    pub(crate) fn one(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => gzip(plain),
            Self::Zstd => zstd(plain),
            Self::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Self::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(0);
                let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
        }
    }
}
