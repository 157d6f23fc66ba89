//! Streamed archives: layers are processed as they arrive, small files stay in memory.
//!
//! For that, a layer must be recognizable when it arrives: its name is a hash. It is the digest in OCI layouts and in
//! archives of Docker 25 and later, and the diff_id in those of podman and buildah. JSON is not a layer. All other archives
//! are copied into a temporary file first ([`Spool`](super::Spool)).

use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::document::{MAX_LIST, MAX_TOTAL, unreadable};
use super::file_names::{BLOBS, INDEX_JSON, OCI_LAYOUT, hex_digest};
use super::model::{Layer, LayerFacts};
use crate::compress::{ByteSource, Compression};
use crate::error::{Code, Error, Result, shown};
use crate::oci::{DiffId, Digest};

/// Handles a layer as it arrives.
pub(super) type LayerHandler<'a> = &'a dyn Fn(StreamedLayer<'_>) -> Result<()>;

/// A file that arrives in a streamed archive and may be a layer.
pub struct StreamedLayer<'a> {
    /// The name in the archive.
    pub name: String,
    /// The hash in the name.
    pub hash: Digest,
    /// What the hash was computed over, by the name.
    pub hash_of: HashOf,
    /// The compression, by the first bytes.
    pub compression: Compression,
    /// The bytes as the archive lists them afterwards. They cannot be read again.
    pub range: ByteSource,
    /// The bytes. The handler must read all of them, or none.
    pub bytes: &'a mut dyn Read,
}

impl StreamedLayer<'_> {
    /// Returns the layer that the file is, as far as that is known before its manifest.
    pub fn layer(&self) -> Layer {
        let is_uncompressed = self.compression == Compression::Uncompressed;
        Layer::from(LayerFacts {
            // Of uncompressed bytes both hashes are the same.
            diff_id: is_uncompressed.then(|| DiffId::from_hash(self.hash.hash())),
            digest: (self.hash_of == HashOf::Digest).then_some(self.hash),
            bytes: self.range.clone(),
            compression: self.compression,
            named_digest: None,
            media_type: None,
            name: self.name.clone(),
            origins: Arc::default(),
        })
    }
}

/// What the hash in a file name was computed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HashOf {
    /// The bytes: the hash is the digest, as in an OCI layout.
    Digest,
    /// The uncompressed bytes: the hash is the diff_id, as in an archive of podman.
    DiffId,
}

/// Returns whether layers of the tar with this first header can be processed as they arrive.
pub(super) fn is_streamable(header: &[u8]) -> bool {
    let name = header.get(..100).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = str::from_utf8(name).unwrap_or_default().trim_start_matches("./");
    name.starts_with("blobs/") || [OCI_LAYOUT, INDEX_JSON].contains(&name) || hash(name).is_some()
}

/// Returns the hash in a file name, and what it was computed over.
fn hash(name: &str) -> Option<(Digest, HashOf)> {
    let name = name.trim_start_matches("./");
    let (hex, hash_of) = match (name.strip_prefix(BLOBS), name.strip_suffix(".tar")) {
        (Some(hex), _) => (hex, HashOf::Digest),
        (None, Some(hex)) => (hex, HashOf::DiffId),
        (None, None) => return None,
    };
    Some((hex_digest(hex)?, hash_of))
}

/// Passes a file of `len` bytes to `handler` if it may be a layer, and else keeps it in memory. `in_memory` counts those bytes.
pub(super) fn file(
    bytes: &mut dyn Read,
    name: &str,
    start: u64,
    len: u64,
    in_memory: &mut u64,
    handler: LayerHandler<'_>,
) -> Result<ByteSource> {
    let mut first = Vec::new();
    bytes.take(512).read_to_end(&mut first).map_err(|error| unreadable(name, error))?;
    let is_json = first.trim_ascii_start().first() == Some(&b'{');
    if let (Some((hash, hash_of)), false, false) = (hash(name), is_json, len == 0) {
        let compression = Compression::of(&first);
        let range = ByteSource::streamed(Bytes::from(first.clone()), start, len);
        let mut bytes = Cursor::new(first).chain(bytes);
        handler(StreamedLayer {
            name: shown(name),
            hash,
            hash_of,
            compression,
            range: range.clone(),
            bytes: &mut bytes,
        })?;
        return Ok(range);
    }
    if len <= MAX_LIST {
        *in_memory += len;
        if *in_memory > MAX_TOTAL {
            return Err(Error::input(format!("the small files of the archive take more than {MAX_TOTAL} bytes"))
                .code(Code::ArchiveUnsupported)
                .hint("Write it into a file first: then they are not held in memory."));
        }
        bytes.take(len).read_to_end(&mut first).map_err(|error| unreadable(name, error))?;
    }
    Ok(ByteSource::streamed(first.into(), start, len))
}
