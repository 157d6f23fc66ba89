//! Sparse entries of a tar: GNU tar's type `S`, and those described by PAX records, in versions 0.0, 0.1 and 1.0
//! (<https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html>). bsdtar writes the last by default.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use crate::compress::{ByteSource, SparseMap};
use crate::error::{Code, Error, shown};

/// The largest layer that Amazon ECR accepts. A larger entry is not read.
const MAX_LEN: u64 = 52_000 << 20;
/// The limit for the parts of all sparse files of an archive together.
const MAX_PARTS: u64 = 1 << 18;

/// The number of parts in one block of a map of type `S`.
const PARTS_IN_BLOCK: u64 = 21;

/// A sparse entry.
#[derive(Debug)]
pub(super) struct Sparse {
    format: Format,
    /// The size in bytes, holes included.
    pub(super) len: u64,
    /// The size of the content in the tar, in bytes.
    pub(super) stored: u64,
    /// The name, if the header has another one.
    pub(super) name: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Format {
    /// The map is in the header and in the blocks after it.
    Header(Vec<(u64, u64)>),
    /// The map is in PAX records: offsets and lengths.
    Records(Vec<u64>),
    /// The map is before the content.
    Contents,
    Unknown,
}

/// The reason why a sparse entry cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    TooLarge,
    UnknownFormat,
}

impl Unreadable {
    /// Returns the error that the entry of this name cannot be read.
    pub(super) fn error(&self, name: &str) -> Error {
        let why = match self {
            Self::TooLarge => {
                format!("is larger than {} MiB, the most that Amazon ECR accepts as a layer", MAX_LEN >> 20)
            }
            Self::UnknownFormat => "has an unknown format".into(),
        };
        Error::input(format!("the entry {} is a sparse file that {why}", shown(name)))
            .code(Code::ArchiveUnsupported)
            .hint("Write the archive again with regular files: tar without --sparse.")
    }
}

/// The number of parts of sparse entries so far.
#[derive(Default)]
pub(super) struct PartCount(u64);

impl PartCount {
    fn add(&mut self, parts: u64) -> io::Result<()> {
        self.0 = self.0.saturating_add(parts);
        if self.0 > MAX_PARTS { Err(malformed("the sparse files of the archive have too many parts")) } else { Ok(()) }
    }
}

impl Sparse {
    /// Returns a sparse entry of type `S`. The tar crate has compared its map with its sizes.
    pub(super) fn of_header(header: &tar::Header, len: u64) -> io::Result<Self> {
        let parts = header.as_gnu().into_iter().flat_map(|gnu| &gnu.sparse);
        let parts = parts.filter(|part| !part.is_empty()).map(part).collect::<io::Result<_>>()?;
        Ok(Self { format: Format::Header(parts), len, stored: header.entry_size()?, name: None })
    }

    /// Returns why it cannot be read, if it cannot.
    pub(super) fn unreadable(&self) -> Option<Unreadable> {
        match self.format {
            Format::Unknown => Some(Unreadable::UnknownFormat),
            _ if self.len > MAX_LEN => Some(Unreadable::TooLarge),
            _ => None,
        }
    }

    /// Returns the bytes of the entry in `file`: additional blocks of the map start at `map`, the content at `start`.
    pub(super) fn in_file(
        self,
        file: &Arc<File>,
        map: u64,
        start: u64,
        count: &mut PartCount,
    ) -> io::Result<ByteSource> {
        match self.format {
            Format::Header(mut parts) => {
                let blocks = ByteSource::new(Arc::clone(file), map, start.saturating_sub(map));
                count.add(parts.len() as u64 + blocks.len() / 512 * PARTS_IN_BLOCK)?;
                let mut bytes = blocks.reader();
                for _ in 0..blocks.len() / 512 {
                    let mut block = tar::GnuExtSparseHeader::new();
                    bytes.read_exact(block.as_mut_bytes())?;
                    for more in block.sparse().iter().filter(|part| !part.is_empty()) {
                        parts.push(part(more)?);
                    }
                }
                let map = SparseMap::new(parts, self.len, self.stored).map_err(malformed)?;
                Ok(ByteSource::sparse(Arc::clone(file), start, map))
            }
            format => {
                let contents = ByteSource::new(Arc::clone(file), start, self.stored);
                let (map, before) = Self { format, ..self }.map(&mut contents.reader(), count)?;
                Ok(ByteSource::sparse(Arc::clone(file), start + before, map))
            }
        }
    }

    /// Reads the map of an entry; `contents` is at the start of its content. Also returns the length of a map before the
    /// content.
    pub(super) fn map(self, contents: &mut impl Read, count: &mut PartCount) -> io::Result<(SparseMap, u64)> {
        let (numbers, before) = match self.format {
            Format::Records(numbers) => {
                count.add(numbers.len() as u64 / 2)?;
                (numbers, 0)
            }
            _ => map_in(contents, count)?,
        };
        let stored =
            self.stored.checked_sub(before).ok_or_else(|| malformed("the sparse map ends behind the entry"))?;
        let parts = numbers.chunks_exact(2).map(|part| (part[0], part[1]));
        Ok((SparseMap::new(parts, self.len, stored).map_err(malformed)?, before))
    }
}

/// Reads the map before an entry's content: one number per line, the first of which is the number of parts. Returns the other
/// numbers, and the length of the map.
fn map_in(contents: &mut impl Read, parts: &mut PartCount) -> io::Result<(Vec<u64>, u64)> {
    let (mut numbers, mut digits, mut before) = (Vec::new(), Vec::new(), 0);
    let mut count = None;
    while count.is_none_or(|count| (numbers.len() as u64) < count) {
        let mut block = [0; 512];
        contents.read_exact(&mut block)?;
        before += block.len() as u64;
        for byte in block {
            if byte != b'\n' {
                digits.push(byte);
                if digits.len() > 20 {
                    return Err(malformed("the sparse map is not made of numbers"));
                }
                continue;
            }
            let value = number(&digits)?;
            digits.clear();
            match count {
                Some(_) => numbers.push(value),
                None => {
                    parts.add(value)?;
                    count = Some(value * 2);
                }
            }
            if count == Some(numbers.len() as u64) {
                break;
            }
        }
    }
    Ok((numbers, before))
}

/// The PAX records of a sparse entry.
#[derive(Debug, Default)]
pub(super) struct Records {
    is_sparse: bool,
    major: Option<u64>,
    minor: Option<u64>,
    len: Option<u64>,
    parts: Option<u64>,
    map: Option<Vec<u64>>,
    name: Option<Vec<u8>>,
}

impl Records {
    /// Reads a record, if it is one of a sparse entry.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let Some(key) = key.strip_prefix(b"GNU.sparse.") else { return Ok(()) };
        self.is_sparse = true;
        let set = |field: &mut Option<u64>| match field.replace(number(value)?) {
            Some(before) if Some(before) != *field => Err(malformed("sparse records contradict each other")),
            _ => Ok(()),
        };
        match key {
            b"major" => set(&mut self.major),
            b"minor" => set(&mut self.minor),
            b"size" | b"realsize" => set(&mut self.len),
            b"numblocks" => set(&mut self.parts),
            b"name" => {
                self.name = Some(value.to_vec());
                Ok(())
            }
            b"map" if self.map.is_none() => {
                let numbers = value.split(|byte| *byte == b',').filter(|_| !value.is_empty());
                self.map = Some(numbers.map(number).collect::<io::Result<_>>()?);
                Ok(())
            }
            // One record per number, alternating between an offset and a length.
            b"offset" | b"numbytes" => {
                let numbers = self.map.get_or_insert_default();
                if numbers.len() % 2 != usize::from(key == b"numbytes") {
                    return Err(malformed("sparse records are not in order"));
                }
                numbers.push(number(value)?);
                Ok(())
            }
            b"map" => Err(malformed("sparse records contradict each other")),
            _ => Ok(()),
        }
    }

    /// Returns the sparse entry that the records describe, if there are any; its content has `stored` bytes in the tar.
    pub(super) fn sparse(self, stored: u64) -> io::Result<Option<Sparse>> {
        if !self.is_sparse {
            return Ok(None);
        }
        let format = match (self.major, self.minor) {
            (Some(1), Some(0)) => Format::Contents,
            (Some(0), Some(0 | 1)) | (None, None) if self.len.is_some() => {
                let map = self.map.unwrap_or_default();
                if !map.len().is_multiple_of(2) || self.parts.is_some_and(|parts| parts != map.len() as u64 / 2) {
                    return Err(malformed("the sparse map has another number of parts than stated"));
                }
                Format::Records(map)
            }
            _ => Format::Unknown,
        };
        let len = match (&format, self.len) {
            (_, Some(len)) => len,
            (Format::Unknown, None) => 0,
            (_, None) => return Err(malformed("no record states the size of the sparse file")),
        };
        // The meaning of a name in an unknown format is unknown, too.
        let name = self.name.filter(|_| !matches!(format, Format::Unknown));
        Ok(Some(Sparse { format, len, stored, name }))
    }
}

fn part(part: &tar::GnuSparseHeader) -> io::Result<(u64, u64)> {
    Ok((part.offset()?, part.length()?))
}

/// Reads a number in decimal digits.
fn number(digits: &[u8]) -> io::Result<u64> {
    let digits = str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| malformed("the sparse map is not made of numbers"))
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
