//! What the benchmarks, the fuzz targets and the tests of this package use. Not part of the API: it changes at any time.

pub use crate::archive::{
    Archive, Child, ChildProcesses, Content, Image, Layer, Manifest, Replacements, Role, Spool, StoredLayer,
    compose_index, compose_manifest, open,
};
use crate::compress::{BlockCompressor as _, GzipEncoder};
pub use crate::compress::{
    BlockStart, ByteSource, Compression, CompressionSpec, Pool, compress, compress_indexed, deflate,
};
pub use crate::oci::OriginalManifest;
use crate::oci::{Document, ImageConfig, StrictField};
pub use crate::output::report::ci::{CiSystem, SYSTEMS};
pub use crate::push::compression::spec;
use crate::registry::{Challenge, Envelope};
pub use crate::registry::{DEFAULT_CHUNK_SIZE, MIN_RESUMABLE_SIZE};

/// Compresses a block of a layer, and replaces the content of `compressed` with the result. For the benchmarks.
///
/// # Errors
/// Only if the encoder violates its own contract.
pub fn compress_block(
    encoder: GzipEncoder,
    dictionary: &[u8],
    block: &[u8],
    last: bool,
    compressed: &mut Vec<u8>,
) -> std::io::Result<()> {
    compressed.clear();
    encoder.compress(dictionary, block, last, compressed)
}

/// Parses a manifest, an index or an image config, which may be anything. For the fuzz targets.
pub fn parse_document(bytes: &[u8]) {
    let _parsed = (Document::parse(bytes), ImageConfig::parse(bytes), StrictField::find_all(bytes));
}

/// Parses the challenges of a registry, which may be anything. For the fuzz targets.
pub fn parse_challenges(header: &[u8]) {
    let _parsed = Challenge::parse(&String::from_utf8_lossy(header));
}

/// Parses an error of a registry, which may be anything, and returns its code, message and detail. For the fuzz targets.
pub fn parse_error(body: &[u8]) -> [String; 3] {
    let Envelope { code, message, detail } = Envelope::of(body);
    [code, message, detail]
}
