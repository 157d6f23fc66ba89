//! Detection of a layer's compression by its first bytes.

use super::document::unreadable;
use crate::compress::{ByteSource, Compression, FileCompression};
use crate::error::Result;

/// Returns a layer's compression; in the inner `Err`, one that layers of images cannot have.
pub(super) fn detect(bytes: &ByteSource, name: &str) -> Result<Result<Compression, FileCompression>> {
    let mut start = [0; 6];
    let read = bytes.read_at(0, &mut start).map_err(|error| unreadable(name, error))?;
    Ok(match FileCompression::of(&start[..read]) {
        None => Ok(Compression::Uncompressed),
        Some(FileCompression::Gzip) => Ok(Compression::Gzip),
        Some(FileCompression::Zstd) => Ok(Compression::Zstd),
        Some(other @ (FileCompression::Bzip2 | FileCompression::Xz)) => Err(other),
    })
}
