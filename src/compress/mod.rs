//! The bytes of layers on their way from the archive to the registry: read by position, hashed, compressed on all cores,
//! and hashed again as the registry stores them.

mod block_compressor;
mod blocks;
mod buffer;
mod byte_source;
mod decompress;
mod gzip;
mod hash;
mod incompressible;
mod layer;
mod meter;
mod output;
mod pool;
mod read_timeline;
mod sparse;
mod sync;
#[cfg(test)]
mod tests;
mod zstd;

pub use crate::oci::Compression;
pub use byte_source::ByteSource;
pub(crate) use byte_source::write_at;
pub(crate) use decompress::FileCompression;
pub use layer::{CompressionSpec, compress};
pub use meter::Meter;
pub(crate) use meter::size;
pub(crate) use output::{DataBlock, LayerSummary};
pub use pool::Pool;
pub(crate) use pool::ThreadPanicked;
pub use read_timeline::{ReadTimeline, Span, Stage};
pub(crate) use sparse::{SparseMap, SparseReader};
pub(crate) use zstd::DEFAULT_LEVEL as ZSTD_LEVEL;
