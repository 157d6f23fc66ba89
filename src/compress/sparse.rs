//! Sparse files of a tar, which stores only parts of them, one after the other. The holes between the parts are zeros.

use std::io::{self, Read};

/// The map of a sparse file to its stored parts.
#[derive(Debug)]
pub(crate) struct SparseMap {
    /// The parts, in order; none is empty.
    parts: Vec<Part>,
    len: u64,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    offset: u64,
    len: u64,
    /// The number of bytes stored before it.
    stored: u64,
}

/// The bytes from a position to the end of a hole or a part.
enum Run {
    /// The length.
    Hole(u64),
    /// The offset among the stored bytes, and the length.
    Stored(u64, u64),
}

impl SparseMap {
    /// Creates the map of a file of `len` bytes, of which `stored` are stored. `parts` are offsets and lengths.
    ///
    /// # Errors
    /// If they contradict each other.
    pub(crate) fn new(
        parts: impl IntoIterator<Item = (u64, u64)>,
        len: u64,
        stored: u64,
    ) -> Result<Self, &'static str> {
        let mut map = Self { parts: Vec::new(), len };
        let (mut end, mut so_far) = (0, 0);
        for (offset, part) in parts {
            let part_end = offset.checked_add(part).filter(|end| *end <= len);
            let part_end = part_end.ok_or("a part of it reaches behind the end of the sparse file")?;
            if offset < end {
                return Err("parts of the sparse file overlap or are not in order");
            }
            if part > 0 {
                map.parts.push(Part { offset, len: part, stored: so_far });
            }
            (end, so_far) = (part_end, so_far + part);
        }
        if so_far != stored {
            return Err("the parts of the sparse file are not as long as what is stored");
        }
        Ok(map)
    }

    /// Returns the number of bytes, holes included.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the run at `position`, which must be less than the length.
    fn run(&self, position: u64) -> Run {
        let at = self.parts.partition_point(|part| part.offset + part.len <= position);
        match self.parts.get(at) {
            Some(part) if part.offset <= position => {
                let inside = position - part.offset;
                Run::Stored(part.stored + inside, part.len - inside)
            }
            Some(part) => Run::Hole(part.offset - position),
            None => Run::Hole(self.len - position),
        }
    }

    /// Reads at most one run from `position` into `buffer`, and returns the number of bytes. `stored` reads stored bytes from an
    /// offset among them.
    fn fill(
        &self,
        position: u64,
        buffer: &mut [u8],
        stored: impl FnOnce(u64, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if position >= self.len {
            return Ok(0);
        }
        let shorter = |most: u64| usize::try_from(most).map_or(buffer.len(), |most| most.min(buffer.len()));
        match self.run(position) {
            Run::Hole(most) => {
                let len = shorter(most);
                buffer[..len].fill(0);
                Ok(len)
            }
            Run::Stored(at, most) => {
                let len = shorter(most);
                stored(at, &mut buffer[..len])
            }
        }
    }

    /// Fills `buffer` from `position` on. `stored` fills a buffer with stored bytes from an offset among them.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end, and those of `stored`.
    pub(super) fn read_exact_at(
        &self,
        mut position: u64,
        mut buffer: &mut [u8],
        mut stored: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !buffer.is_empty() {
            let read = self.fill(position, buffer, |at, buffer| stored(at, buffer).map(|()| buffer.len()))?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            position += read as u64;
            buffer = &mut buffer[read..];
        }
        Ok(())
    }
}

/// A reader of a sparse file, from start to end, on a reader of the stored bytes.
#[derive(Debug)]
pub(crate) struct SparseReader<R> {
    map: SparseMap,
    stored: R,
    position: u64,
}

impl<R: Read> SparseReader<R> {
    /// Creates a reader at the start.
    pub(crate) fn new(map: SparseMap, stored: R) -> Self {
        Self { map, stored, position: 0 }
    }
}

impl<R: Read> Read for SparseReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.map.fill(self.position, buffer, |_, buffer| self.stored.read(buffer))?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_zeros_for_any_range() {
        let map = || SparseMap::new([(0, 0), (2, 3), (5, 1), (9, 2), (13, 0)], 13, 6).unwrap();
        let whole = b"\0\0abcd\0\0\0ef\0\0";
        let mut read = Vec::new();
        SparseReader::new(map(), &b"abcdef"[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, whole);
        for from in 0..whole.len() {
            for to in from..=whole.len() {
                let mut buffer = vec![1; to - from];
                let stored = |at: u64, buffer: &mut [u8]| {
                    buffer.copy_from_slice(&b"abcdef"[at as usize..][..buffer.len()]);
                    Ok(())
                };
                map().read_exact_at(from as u64, &mut buffer, stored).unwrap();
                assert_eq!(buffer, whole[from..to]);
            }
        }
        assert!(map().read_exact_at(12, &mut [0; 2], |_, _| Ok(())).is_err());
    }

    #[test]
    fn a_map_that_contradicts_itself_is_an_error() {
        for (parts, len, stored) in [
            (&[(0, 2), (1, 2)][..], 9, 4),
            (&[(4, 2), (0, 2)], 9, 4),
            (&[(8, 2)], 9, 2),
            (&[(10, 0)], 9, 0),
            (&[(u64::MAX, 2)], u64::MAX, 2),
            (&[(0, 2)], 9, 3),
            (&[(0, 2)], 9, 1),
            (&[], 9, 1),
        ] {
            assert!(SparseMap::new(parts.iter().copied(), len, stored).is_err(), "{parts:?} {len} {stored}");
        }
    }
}
