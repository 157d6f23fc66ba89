//! One upload session: its bytes, their running hash, and the rules about parts.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempPath};

use super::rules::{Interrupted, Parts};
use crate::oci::{Digest, Repository};

/// The maximum size of a request with `Content-Range`, and of the parts into which ECR cuts longer streams
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>).
pub(super) const LARGEST_PART: u64 = 10 << 20;

/// The minimum size of every part except the last. ECR's message states 5MB and means MiB
/// (<https://github.com/dotnet/sdk-container-builds/issues/424>).
pub(super) const SMALLEST_PART: u64 = 5 << 20;

/// The largest blob in memory: configs can be read at once, and must not fill it. Without a folder, larger ones are in
/// temporary files, or discarded.
const LARGEST_IN_MEMORY: u64 = 1 << 20;

/// An upload session.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) repository: Repository,
    hasher: Sha256,
    pub(super) received: u64,
    /// The size of the first part, which every `Range` repeats.
    pub(super) first_part: u64,
    /// The size of the last part that was not empty.
    pub(super) last_part: u64,
    too_small: bool,
    /// Whether a request has added to it, even if it was empty or cut.
    pub(super) is_begun: bool,
    cut: Option<Interrupted>,
    bytes: Gathered,
    discard: bool,
}

/// The storage of a session's bytes.
#[derive(Debug)]
pub(super) enum Gathered {
    Memory(Vec<Bytes>),
    File(Staged),
    /// They were too many for the memory.
    Temporary(NamedTempFile),
    /// They were discarded, because they were too many.
    Discarded,
}

/// The offset of a request, and the expected offset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct WrongOffset {
    pub(super) stated: u64,
    pub(super) expected: u64,
}

impl fmt::Display for WrongOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "First byte of the layer part is {} instead of {}", self.stated, self.expected)
    }
}

/// Why a session cannot be completed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Incomplete {
    Empty,
    PartTooSmall,
    OtherDigest,
}

impl Upload {
    pub(super) fn new(repository: Repository, bytes: Gathered, discard: bool) -> Self {
        Self {
            repository,
            hasher: Sha256::new(),
            received: 0,
            first_part: 0,
            last_part: 0,
            too_small: false,
            is_begun: false,
            cut: None,
            bytes,
            discard,
        }
    }

    /// Whether the session accepts no more data.
    pub(super) fn is_spoiled(&self) -> bool {
        self.cut == Some(Interrupted::Spoiled)
    }

    /// Whether bytes that begin at `start` may follow. A request that does not say where it begins goes on after the
    /// last one, except on a session whose body was cut, where ECR takes it for a new beginning at byte 0
    /// (<https://github.com/apple/container/issues/1895>).
    pub(super) fn expects(&self, start: Option<u64>) -> Result<(), WrongOffset> {
        let stated = start.unwrap_or_else(|| if self.cut.is_some() { 0 } else { self.received });
        if self.is_spoiled() {
            // Never the offset of this request: a client that repeats an earlier offset does not succeed either.
            let expected = if stated == 0 { self.received.max(1) } else { 0 };
            return Err(WrongOffset { stated, expected });
        }
        if stated != self.received {
            return Err(WrongOffset { stated, expected: self.received });
        }
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.hasher.update(&bytes);
        self.received += bytes.len() as u64;
        if self.received > LARGEST_IN_MEMORY {
            self.spill()?;
        }
        match &mut self.bytes {
            Gathered::Memory(pieces) => pieces.push(bytes),
            Gathered::Temporary(file) => file.write_all(&bytes)?,
            // Not on a separate thread: the data goes to the page cache, and a sandbox may wait for its disk.
            Gathered::File(staged) => staged.file.write_all(&bytes)?,
            Gathered::Discarded => {}
        }
        Ok(())
    }

    /// Moves the bytes out of the memory.
    fn spill(&mut self) -> io::Result<()> {
        if self.discard {
            self.bytes = Gathered::Discarded;
        }
        if let Gathered::Memory(pieces) = &self.bytes {
            let mut file = tempfile::Builder::new().prefix("ecr-push-sandbox-").tempfile()?;
            pieces.iter().try_for_each(|piece| file.write_all(piece))?;
            self.bytes = Gathered::Temporary(file);
        }
        Ok(())
    }

    /// Completes a request with `length` bytes.
    ///
    /// One without `Content-Range` may be of any length, because ECR cuts it into parts itself; but one that is
    /// shorter than a part is a small part.
    pub(super) fn end_part(&mut self, length: u64) {
        self.cut = None;
        self.is_begun = true;
        if length == 0 {
            return;
        }
        if self.first_part == 0 {
            self.first_part = length.min(LARGEST_PART);
        }
        self.too_small |= (1..SMALLEST_PART).contains(&self.last_part);
        self.last_part = length;
    }

    /// Marks the session as cut.
    pub(super) fn cut(&mut self, becomes: Interrupted) {
        self.is_begun = true;
        if !self.is_spoiled() {
            self.cut = Some(becomes);
        }
    }

    /// Checks that the session's bytes have this digest, and that the parts follow ECR's rules.
    pub(super) fn check(&self, digest: &Digest, parts: &Parts) -> Result<(), Incomplete> {
        if *parts == Parts::Ecr && self.received == 0 {
            return Err(Incomplete::Empty);
        }
        if *parts == Parts::Ecr && self.too_small {
            return Err(Incomplete::PartTooSmall);
        }
        let is_right = Digest::from_hash(self.hasher.clone().finalize().into()) == *digest;
        if !is_right && *parts != Parts::LastKept {
            return Err(Incomplete::OtherDigest);
        }
        Ok(())
    }

    /// Returns the blob. `keep` moves a staged file to its final path.
    pub(super) fn into_blob(self, parts: &Parts, keep: impl FnOnce(Staged) -> io::Result<PathBuf>) -> io::Result<Blob> {
        let size = self.received;
        let blob = match self.bytes {
            Gathered::File(staged) => Blob::File(keep(staged)?, size),
            Gathered::Memory(pieces) => Blob::Memory(Arc::from(pieces), size),
            Gathered::Temporary(file) => Blob::Temporary(Arc::new(file.into_temp_path()), size),
            Gathered::Discarded => Blob::Discarded(size),
        };
        if *parts != Parts::LastKept {
            return Ok(blob);
        }
        let whole = Bytes::from(blob.whole()?);
        let last = whole.slice(whole.len().saturating_sub(self.last_part as usize)..);
        Ok(Blob::Memory(Arc::from([last]), self.last_part))
    }
}

/// A staged file, which is removed unless it is moved to its final path.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    path: PathBuf,
    is_permanent: bool,
}

impl Staged {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path, is_permanent: false })
    }

    /// Moves the file to its final path.
    pub(super) fn keep(mut self, place: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, place)?;
        self.is_permanent = true;
        Ok(())
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_permanent {
            // A file that remains is removed at the next start.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// The bytes of a blob.
#[derive(Clone, Debug)]
pub(super) enum Blob {
    /// In memory, in the pieces in which they arrived.
    Memory(Arc<[Bytes]>, u64),
    /// In a file of this length.
    File(PathBuf, u64),
    /// In a file of this length that is removed with it.
    Temporary(Arc<TempPath>, u64),
    /// Discarded, with this length.
    Discarded(u64),
}

impl Blob {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Memory(_, size) | Self::File(_, size) | Self::Temporary(_, size) | Self::Discarded(size) => *size,
        }
    }

    /// Returns all bytes.
    pub(super) fn whole(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Memory(pieces, _) => Ok(pieces.concat()),
            Self::File(path, _) => std::fs::read(path),
            Self::Temporary(path, _) => std::fs::read(&**path),
            Self::Discarded(_) => Err(io::Error::other("the blob was discarded")),
        }
    }
}
