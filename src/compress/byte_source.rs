//! Ranges of bytes in an archive, read by position.
//!
//! Positioned reads share no cursor, so any number of layers can be read from one open archive at the same time, and each
//! layer again from any offset. Nothing is extracted. Of a streamed archive, small files stay in memory, and the first bytes
//! of layers.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::buffer::resize;
use super::pool::Pool;
use super::sparse::SparseMap;

/// A range of bytes in a file, in memory or in a streamed archive.
///
/// Two are equal if they are the same range of the same open file.
#[derive(Clone, Debug)]
pub struct ByteSource {
    place: Place,
    start: u64,
    len: u64,
}

/// The place of the bytes.
#[derive(Clone, Debug)]
enum Place {
    File(Arc<File>),
    /// A sparse file: only some parts are stored.
    Sparse(Arc<File>, Arc<SparseMap>),
    /// In memory; of a streamed layer only the first bytes.
    Memory(Bytes),
    /// The archive lists the bytes by this name, but does not contain them.
    Missing(Arc<str>),
}

impl ByteSource {
    /// Creates a range of `file`. The caller has checked that it is inside the file.
    pub fn new(file: Arc<File>, start: u64, len: u64) -> Self {
        Self { place: Place::File(file), start, len }
    }

    /// Creates a sparse file whose stored parts begin at `start`. The caller has checked that they are inside the file.
    pub(crate) fn sparse(file: Arc<File>, start: u64, map: SparseMap) -> Self {
        let len = map.len();
        Self { place: Place::Sparse(file, Arc::new(map)), start, len }
    }

    /// Creates a range of `len` bytes at `start` of a streamed archive, of which only the `first` bytes are in memory.
    pub(crate) fn streamed(first: Bytes, start: u64, len: u64) -> Self {
        Self { place: Place::Memory(first), start, len }
    }

    /// Creates a placeholder for `len` bytes of this name that the archive does not contain.
    pub(crate) fn missing(name: &str, len: u64) -> Self {
        Self { place: Place::Missing(name.into()), start: 0, len }
    }

    /// Returns whether the bytes were streamed, so that they cannot be read again.
    pub fn is_consumed(&self) -> bool {
        matches!(&self.place, Place::Memory(first) if (first.len() as u64) < self.len)
    }

    /// Returns whether the archive does not contain the bytes.
    pub fn is_missing(&self) -> bool {
        matches!(self.place, Place::Missing(_))
    }

    fn identity(&self) -> (usize, u64, u64) {
        let place = match &self.place {
            Place::File(file) | Place::Sparse(file, _) => Arc::as_ptr(file).addr(),
            Place::Memory(first) => first.as_ptr().addr(),
            Place::Missing(name) => name.as_ptr().addr(),
        };
        (place, self.start, self.len)
    }

    /// Returns a reader of all bytes.
    pub fn reader(&self) -> impl Read {
        Reader { range: self, position: 0 }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the offset in the archive.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Reads bytes from `offset` into `buffer`, up to the end of the range, and returns their number.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file became shorter since it was indexed, `NotSeekable` if the bytes were streamed, and
    /// `NotFound` if the archive does not contain them.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        match &self.place {
            Place::File(file) => read_exact_at(file, &mut buffer[..wanted], self.start + offset)?,
            Place::Sparse(file, map) => {
                let stored = |at, buffer: &mut [u8]| read_exact_at(file, buffer, self.start + at);
                map.read_exact_at(offset, &mut buffer[..wanted], stored)?;
            }
            Place::Memory(first) => {
                let from = usize::try_from(offset).map_err(io::Error::other)?;
                let bytes = first.get(from..from + wanted).ok_or(io::ErrorKind::NotSeekable)?;
                buffer[..wanted].copy_from_slice(bytes);
            }
            Place::Missing(name) => {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("the archive does not contain {name}")));
            }
        }
        Ok(wanted)
    }

    /// Reads all bytes of a small file.
    ///
    /// # Errors
    /// `InvalidData` if it is longer than `limit`, before memory is allocated.
    pub fn read_all(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.len > limit {
            let text = format!("it is {} bytes long, and at most {limit} are read", self.len);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut bytes = vec![0; usize::try_from(self.len).map_err(io::Error::other)?];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads all bytes of a block of at most 512 KiB into a reused buffer.
    ///
    /// # Errors
    /// The error of reading.
    pub(crate) fn read_block(&self, pool: &Pool) -> io::Result<Bytes> {
        let mut bytes = pool.stock.take();
        resize(&mut bytes, usize::try_from(self.len).map_err(io::Error::other)?);
        self.read_at(0, &mut bytes)?;
        Ok(bytes.into())
    }
}

/// A reader of a range, from start to end.
struct Reader<'a> {
    range: &'a ByteSource,
    position: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.range.read_at(self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl PartialEq for ByteSource {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for ByteSource {}

impl Hash for ByteSource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
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

/// Writes all of `bytes` at `offset`, independently of other reads and writes of the file.
///
/// # Errors
/// Those of the operating system.
#[cfg(unix)]
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` at `offset`, independently of other reads and writes of the file.
///
/// # Errors
/// Those of the operating system.
#[cfg(windows)]
pub(crate) fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom};

    use super::*;

    #[test]
    fn a_write_at_an_offset_ignores_the_cursor() {
        let mut file = tempfile::tempfile().unwrap();
        write_at(&file, b"second", 6).unwrap();
        // A read by position moves the cursor on Windows.
        file.seek(SeekFrom::Start(3)).unwrap();
        write_at(&file, b"first!", 0).unwrap();
        let all = ByteSource::new(Arc::new(file), 0, 12);
        assert_eq!(all.read_all(12).unwrap(), b"first!second");
    }

    #[test]
    fn only_the_first_bytes_of_a_streamed_layer_can_be_read() {
        let small = ByteSource::streamed(Bytes::from_static(b"abc"), 7, 3);
        assert!(!small.is_consumed());
        assert_eq!(small.read_all(3).unwrap(), b"abc");
        assert_eq!(small.read_all(2).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let layer = ByteSource::streamed(Bytes::from_static(b"abc"), 7, 4);
        assert!(layer.is_consumed());
        assert_eq!(layer.read_at(0, &mut [0; 3]).unwrap(), 3);
        assert_eq!(layer.read_at(2, &mut [0; 2]).unwrap_err().kind(), io::ErrorKind::NotSeekable);
    }

    #[test]
    fn ranges_are_equal_if_they_are_the_same_bytes_of_the_same_file() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let range = |start, len| ByteSource::new(Arc::clone(&file), start, len);
        assert_eq!(range(1, 2), range(1, 2));
        assert!(range(1, 2) != range(0, 2) && range(1, 2) != range(1, 3));
        assert_ne!(range(1, 2), ByteSource::new(Arc::new(tempfile::tempfile().unwrap()), 1, 2));
    }
}
