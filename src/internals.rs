//! What the benchmarks, the fuzz targets and the tests of this package use. Not part of the API: it changes at any time.

pub use crate::archive::{
    Archive, Child, Content, Image, Layer, Manifest, Replacements, Role, Spool, StoredLayer, compose_index,
    compose_manifest, open,
};
pub use crate::compress::{ByteSource, Compression, CompressionSpec, Pool, compress};
pub use crate::oci::{DiffId, OriginalManifest, Platform};
pub use crate::output::report::ci::{CiSystem, SYSTEMS};
pub use crate::push::compression::spec;
pub use crate::registry::{DEFAULT_CHUNK_SIZE, MIN_RESUMABLE_SIZE};
