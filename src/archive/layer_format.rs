//! The format of a layer, judged by its first bytes.

use super::shown;
use crate::compress::{ByteSource, Compression, FileCompression};
use crate::error::{Error, Result};

/// Judges a layer by its first bytes: its compression, and whether it has one that no image's layer has.
pub(super) fn encoding(bytes: &ByteSource, name: &str) -> Result<(Compression, bool)> {
    Ok(match codec(bytes, name)? {
        Some(FileCompression::Gzip) => (Compression::Gzip, false),
        Some(FileCompression::Zstd) => (Compression::Zstd, false),
        None => (Compression::Uncompressed, false),
        Some(FileCompression::Bzip2 | FileCompression::Xz) => (Compression::Uncompressed, true),
    })
}

/// Judges what a layer is compressed with by its first bytes.
pub(super) fn codec(bytes: &ByteSource, name: &str) -> Result<Option<FileCompression>> {
    let mut start = [0; 6];
    let read = bytes.read_at(0, &mut start);
    let read =
        read.map_err(|error| Error::input(format!("cannot read {} of the archive", shown(name))).because(error))?;
    Ok(FileCompression::of(&start[..read]))
}
