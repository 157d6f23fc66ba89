//! Detects how a layer is compressed, by its first bytes.

use crate::compress::{ByteSource, Compression, FileCompression};
use crate::error::{Code, Error, Result, shown};

/// Returns how a layer is compressed; in `Err`, a format that layers of images do not have.
pub(super) fn detect(bytes: &ByteSource, name: &str) -> Result<Result<Compression, FileCompression>> {
    let mut start = [0; 6];
    let read = bytes.read_at(0, &mut start).map_err(|error| {
        Error::input(format!("cannot read {} of the archive", shown(name))).code(Code::ArchiveUnreadable).because(error)
    })?;
    Ok(match FileCompression::of(&start[..read]) {
        None => Ok(Compression::Uncompressed),
        Some(FileCompression::Gzip) => Ok(Compression::Gzip),
        Some(FileCompression::Zstd) => Ok(Compression::Zstd),
        Some(other @ (FileCompression::Bzip2 | FileCompression::Xz)) => Err(other),
    })
}
