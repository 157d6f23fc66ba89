//! Bytes that can be read again: a stretch of a file, read by position.
//!
//! Positioned reads share no cursor, so any number of layers are read from one open archive at once, and any layer can
//! be read again from any offset. Nothing is ever unpacked to get at a layer.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;

/// `len` bytes of a file, from `start`.
#[derive(Clone, Debug)]
pub struct FileRange {
    file: Arc<File>,
    start: u64,
    len: u64,
}

impl FileRange {
    /// A stretch of `file`. The caller has checked that it lies inside the file.
    pub fn new(file: Arc<File>, start: u64, len: u64) -> Self {
        Self { file, start, len }
    }

    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it starts in its file: with the file, what two equal stretches have in common.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Fills `buffer` from `offset` on, as far as the stretch goes, and returns how many bytes that were.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file has become shorter since it was indexed.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        read_exact_at(&self.file, &mut buffer[..wanted], self.start + offset)?;
        Ok(wanted)
    }

    /// All of it, for things that are small by nature.
    ///
    /// # Errors
    /// `InvalidData` if it is longer than `limit`, before anything is allocated.
    pub fn read_all(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.len > limit {
            let text = format!("it is {} bytes long, and at most {limit} are read", self.len);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut bytes = vec![0; usize::try_from(self.len).map_err(io::Error::other)?];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Two are equal if they are the same stretch of the same open file.
impl PartialEq for FileRange {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && (self.start, self.len) == (other.start, other.len)
    }
}

impl Eq for FileRange {}

impl Hash for FileRange {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.file), self.start, self.len).hash(state);
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
