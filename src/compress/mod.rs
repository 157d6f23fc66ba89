//! Reading, hashing and compression of layers, on all cores.
//!
//! [`compress`] reads a layer once. It hashes the uncompressed bytes, compresses them in blocks on the threads of a [`Pool`],
//! and hashes the compressed bytes. `gzip.rs` and `zstd.rs` implement [`BlockCompressor`](block_compressor::BlockCompressor);
//! `deflate` is the encoder of gzip, and `zlib.rs` the one for its levels.

mod block_compressor;
mod blocks;
mod buffer;
mod byte_source;
mod decompress;
pub mod deflate;
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
mod zlib;
mod zstd;

pub use crate::oci::Compression;
pub(crate) use block_compressor::BlockCompressor;
pub use byte_source::ByteSource;
pub(crate) use byte_source::write_at;
pub(crate) use decompress::FileCompression;
pub use gzip::GzipEncoder;
pub use layer::{CompressionSpec, compress, compress_indexed};
pub use meter::Meter;
pub(crate) use meter::size;
pub use output::BlockStart;
pub(crate) use output::{DataBlock, LayerSummary};
pub use pool::Pool;
pub(crate) use pool::ThreadPanicked;
pub use read_timeline::{ReadTimeline, Span, Stage};
pub(crate) use sparse::{SparseMap, SparseReader};
pub(crate) use zstd::DEFAULT_LEVEL as ZSTD_LEVEL;
