//! Bytes on their way from the archive to the registry: read, hashed, packed.

mod buffer;
mod byte_source;
mod codec;
mod gzip;
mod hash;
mod layer;
mod meter;
mod noise;
mod pool;
mod read_timeline;
mod sparse;
mod zstd;

pub use crate::oci::Compression;
pub use byte_source::{ByteSource, write_at};
pub use codec::{Decompressor, FileCompression};
pub use layer::{CompressionSpec, DataBlock, LayerSummary, ThreadPanicked, compress};
pub use meter::{Meter, size};
pub use pool::Pool;
pub use read_timeline::{ReadTimeline, Span, Stage};
pub use sparse::{SparseMap, SparseReader};
pub use zstd::LEVEL as ZSTD_LEVEL;
