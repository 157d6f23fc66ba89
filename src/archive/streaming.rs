//! Streamed archives: layers are handed on as they arrive, small files are kept.
//!
//! What a file is must be known when it arrives. That is so if a layer's name is a hash: that of a blob in an OCI layout and
//! in what `docker save` writes since Docker 25, the diff_id with podman and buildah. JSON is not a layer. All other archives
//! are copied into a temporary file first ([`Spool`](super::Spool)).

use std::io::{self, Cursor, Read};

use bytes::Bytes;

use super::document::{MAX_LIST, MAX_TOTAL};
use super::file_names::{BLOBS, INDEX_JSON, OCI_LAYOUT, hex_digest};
use crate::compress::{ByteSource, Compression};
use crate::error::{Code, Error, Result, shown};
use crate::oci::Digest;

/// Handles a layer as it arrives.
pub(super) type LayerHandler<'a> = &'a dyn Fn(StreamedLayer<'_>) -> Result<()>;

/// A file that arrives and may be a layer.
pub struct StreamedLayer<'a> {
    /// Its name in the archive.
    pub name: String,
    /// The hash of its bytes, as the name claims.
    pub hash: Digest,
    /// What the name is a hash of.
    pub hash_of: HashOf,
    /// How it is compressed, by its first bytes.
    pub compression: Compression,
    /// What the archive refers to it by afterwards.
    pub range: ByteSource,
    /// Its bytes. All of them are to be read, or none.
    pub bytes: &'a mut dyn Read,
}

/// What the hash in a file's name is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HashOf {
    /// Of the bytes: the digest, as in an OCI layout.
    Digest,
    /// Of the uncompressed bytes: the diff_id, as podman writes it.
    DiffId,
}

/// Returns whether layers of the tar with this first header can be handled as they arrive.
pub(super) fn is_streamable(header: &[u8]) -> bool {
    let name = header.get(..100).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = str::from_utf8(name).unwrap_or_default().trim_start_matches("./");
    name.starts_with("blobs/") || [OCI_LAYOUT, INDEX_JSON].contains(&name) || hash(name).is_some()
}

/// Returns the hash in a name, and what it is of.
fn hash(name: &str) -> Option<(Digest, HashOf)> {
    let name = name.trim_start_matches("./");
    let (hex, hash_of) = match (name.strip_prefix(BLOBS), name.strip_suffix(".tar")) {
        (Some(hex), _) => (hex, HashOf::Digest),
        (None, Some(hex)) => (hex, HashOf::DiffId),
        (None, None) => return None,
    };
    Some((hex_digest(hex)?, hash_of))
}

/// Keeps a file of `len` bytes, or hands it on; `kept` counts the bytes that are kept.
pub(super) fn file(
    bytes: &mut dyn Read,
    name: &str,
    start: u64,
    len: u64,
    kept: &mut u64,
    handler: LayerHandler<'_>,
) -> Result<ByteSource> {
    let broken = |error: io::Error| {
        Error::input(format!("cannot read {name} of the archive")).code(Code::ArchiveUnreadable).because(error)
    };
    let mut first = Vec::new();
    bytes.take(512).read_to_end(&mut first).map_err(broken)?;
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
        *kept += len;
        if *kept > MAX_TOTAL {
            return Err(Error::input(format!("the small files of the archive take more than {MAX_TOTAL} bytes"))
                .code(Code::ArchiveUnsupported)
                .hint("Write it into a file first: then they are not kept in memory."));
        }
        bytes.take(len).read_to_end(&mut first).map_err(broken)?;
    }
    Ok(ByteSource::streamed(first.into(), start, len))
}
