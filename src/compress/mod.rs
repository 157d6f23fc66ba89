//! Bytes on their way from the archive to the registry: read, hashed, packed.

mod buffer;
mod codec;
mod course;
mod gzip;
mod hash;
mod meter;
mod noise;
mod pack;
mod pool;
mod range;
mod sparse;
mod zstd;

pub use crate::oci::Packing;
pub use codec::{Codec, Plain};
pub use course::{Course, Stage, Stretch};
pub use meter::{Meter, size};
pub use pack::{Died, Packed, Piece, Recipe, pack};
pub use pool::Pool;
pub use range::{FileRange, write_at};
pub use sparse::{SparseMap, SparseReader};
pub use zstd::LEVEL as ZSTD_LEVEL;
