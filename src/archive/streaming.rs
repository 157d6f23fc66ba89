//! Archives that go by once: layers are handed on as they come, small files are kept.
//!
//! What a file is must be known before it has gone by. In the archives of which that is true a layer's name is a hash: that
//! of a blob in an OCI layout and in what `docker save` writes since Docker 25, the diff_id with podman and buildah. JSON
//! is no layer. All else is copied into a temporary file first ([`Spool`](super::Spool)).

use std::io::{self, Cursor, Read};

use bytes::Bytes;

use super::document::{MAX_LIST, MAX_TOTAL};
use super::entries::is_hex_digest;
use super::{INDEX_JSON, OCI_LAYOUT, shown};
use crate::compress::{ByteSource, Compression};
use crate::error::{Code, Error, Result};
use crate::oci::Digest;

/// Somebody who takes layers.
pub(super) type Take<'a> = &'a dyn Fn(StreamedLayer<'_>) -> Result<()>;

/// Something that goes by and may be a layer.
pub struct StreamedLayer<'a> {
    /// Its name in the archive.
    pub name: String,
    /// The hash of its bytes, as the name says.
    pub hash: Digest,
    /// What the name is a hash of.
    pub hash_of: HashOf,
    /// How it is packed, as its first bytes say.
    pub compression: Compression,
    /// How it looks once it has gone by.
    pub range: ByteSource,
    /// Its bytes. They need not be read, but all of them or none.
    pub bytes: &'a mut dyn Read,
}

/// What a file's name says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HashOf {
    /// The digest, as in an OCI layout.
    Digest,
    /// The diff_id, as podman writes it.
    DiffId,
}

/// Whether the tar with this first header is one whose layers can be taken as they come.
pub(super) fn is_known_as_it_comes(header: &[u8]) -> bool {
    let name = header.get(..100).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = str::from_utf8(name).unwrap_or_default().trim_start_matches("./");
    name.starts_with("blobs/") || [OCI_LAYOUT, INDEX_JSON].contains(&name) || hash(name).is_some()
}

/// The hash that a name says, and of what.
fn hash(name: &str) -> Option<(Digest, HashOf)> {
    let name = name.trim_start_matches("./");
    let (hex, hash_of) = match (name.strip_prefix("blobs/sha256/"), name.strip_suffix(".tar")) {
        (Some(hex), _) => (hex, HashOf::Digest),
        (None, Some(hex)) => (hex, HashOf::DiffId),
        (None, None) => return None,
    };
    let digest = is_hex_digest(hex).then(|| format!("sha256:{hex}").parse().ok()).flatten()?;
    Some((digest, hash_of))
}

/// Keeps a file of `len` bytes, or hands it on; `kept` counts what is kept.
pub(super) fn file(
    bytes: &mut dyn Read,
    name: &str,
    start: u64,
    len: u64,
    kept: &mut u64,
    take: Take<'_>,
) -> Result<ByteSource> {
    let broken = |error: io::Error| Error::input(format!("cannot read {name} of the archive")).because(error);
    let mut first = Vec::new();
    bytes.take(512).read_to_end(&mut first).map_err(broken)?;
    let is_json = first.trim_ascii_start().first() == Some(&b'{');
    if let (Some((hash, hash_of)), false, false) = (hash(name), is_json, len == 0) {
        let compression = Compression::of(&first);
        let range = ByteSource::streamed(Bytes::from(first.clone()), start, len);
        let mut bytes = Cursor::new(first).chain(bytes);
        take(StreamedLayer { name: shown(name), hash, hash_of, compression, range: range.clone(), bytes: &mut bytes })?;
        return Ok(range);
    }
    if len <= MAX_LIST {
        *kept += len;
        if *kept > MAX_TOTAL {
            return Err(Error::input(format!("the small files of the archive take more than {MAX_TOTAL} bytes"))
                .code(Code::ArchiveUnsupported)
                .hint("Write it into a file first, where they need not be kept."));
        }
        bytes.take(len).read_to_end(&mut first).map_err(broken)?;
    }
    Ok(ByteSource::streamed(first.into(), start, len))
}
