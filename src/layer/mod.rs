//! Bytes on their way from the archive to the registry: read, hashed, packed.

use serde::{Deserialize, Serialize};

mod buffer;
mod codec;
mod course;
mod gzip;
mod hash;
#[cfg(all(feature = "isal", target_arch = "x86_64"))]
mod isal;
mod meter;
mod noise;
mod pack;
mod pool;
mod range;
mod zstd;

pub use codec::{Codec, Plain};
pub use course::{Course, Stage, Stretch};
#[cfg(all(feature = "isal", target_arch = "x86_64"))]
pub use isal::LEVEL as ISAL_LEVEL;
pub use meter::{Meter, size};
pub use pack::{Died, Packed, Piece, Recipe, pack};
pub use pool::Pool;
pub use range::{FileRange, write_at};
pub use zstd::LEVEL as ZSTD_LEVEL;

/// How a layer's bytes are packed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// A bare tar.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

impl Packing {
    /// Judges by the first bytes (at least four where there are as many), never by a name.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable frame as zstd:chunked and pzstd put in front (RFC 8878, 3.1.1 and 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}
