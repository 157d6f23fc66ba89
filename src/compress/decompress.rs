//! Decompression of whole files: gzip, zstd, xz and bzip2.
//!
//! A file may consist of several members (gzip), frames (zstd) or streams (xz, bzip2): the formats permit it, and pigz, pzstd
//! and pbzip2 write such files. Zeros after the last one are padding for tapes and blocks (gzip's manual, "Using gzip on
//! tapes"). Other data there is an error; gzip prints a warning and ends with exit code 2.
//!
//! The memory of a decoder is the window that the file requires, up to a limit of 128 MiB: `xz -9` requires 64 MiB,
//! `zstd -19` 8 MiB, `zstd --long` 128 MiB, gzip and bzip2 less than 4 MiB.

use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::mem;

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, get_error_name, get_frame_content_size};

use super::Compression;
use super::zstd::WINDOW_LOG_MAX;

/// The limit for an xz decoder in KiB: the same window as for zstd, and its other memory.
const XZ_MEMORY: u32 = (1 << (WINDOW_LOG_MAX - 10)) + 1024;

/// The size of the longest header of a zstd frame (RFC 8878, 3.1.1.1), with the magic number.
const FRAME_HEADER: u64 = 18;

/// The compression of a whole file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FileCompression {
    /// bzip2.
    Bzip2,
    /// gzip (RFC 1952).
    Gzip,
    /// xz (<https://tukaani.org/xz/xz-file-format.txt>).
    Xz,
    /// zstd (RFC 8878).
    Zstd,
}

impl FileCompression {
    /// Detects the compression by the first bytes (at least six, if the file has as many), never by the file name.
    pub(crate) fn of(start: &[u8]) -> Option<Self> {
        match (Compression::of(start), start) {
            (Compression::Gzip, _) => Some(Self::Gzip),
            (Compression::Zstd, _) => Some(Self::Zstd),
            (Compression::Uncompressed, [b'B', b'Z', b'h', b'1'..=b'9', ..]) => Some(Self::Bzip2),
            (Compression::Uncompressed, [0xfd, b'7', b'z', b'X', b'Z', 0, ..]) => Some(Self::Xz),
            (Compression::Uncompressed, _) => None,
        }
    }

    /// Returns the name for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// Returns the uncompressed size that a file declares: xz that of the whole file, zstd that of the first frame, which is
    /// the least size. Leaves the position in the file unchanged.
    ///
    /// # Errors
    /// If the file cannot be read or the position cannot be restored.
    pub(crate) fn declared_size(self, file: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
        let here = file.stream_position()?;
        file.rewind()?;
        let declared = match self {
            Self::Bzip2 | Self::Gzip => None,
            Self::Xz => lzma_rust2::xz_uncompressed_size(&mut *file).ok(),
            Self::Zstd => {
                let mut header = Vec::new();
                file.by_ref().take(FRAME_HEADER).read_to_end(&mut header)?;
                get_frame_content_size(&header).ok().flatten()
            }
        };
        file.seek(SeekFrom::Start(here))?;
        Ok(declared)
    }

    /// Returns a reader of the uncompressed bytes. Its errors are `UnexpectedEof` if the input ends too early, `OutOfMemory` if
    /// a larger window than the limit is required, and those of `input`.
    pub(crate) fn decompress<R: BufRead>(self, input: R) -> Decompressor<R> {
        Decompressor { compression: self, member: Member::Before(input) }
    }

    /// Returns whether a member can start with this byte.
    fn begins_with(self, first: u8) -> bool {
        match self {
            Self::Bzip2 => first == b'B',
            Self::Gzip => first == 0x1f,
            Self::Xz => first == 0xfd,
            Self::Zstd => matches!(first, 0x28 | 0x50..=0x5f),
        }
    }

    /// Creates a decoder for one member.
    fn member<R: BufRead>(self, input: R) -> io::Result<Member<R>> {
        Ok(match self {
            Self::Bzip2 => Member::Bzip2(BzDecoder::new(input)),
            Self::Gzip => Member::Gzip(Box::new(GzDecoder::new(input))),
            Self::Xz => Member::Xz(Box::new(XzReader::new_mem_limit(input, false, XZ_MEMORY))),
            Self::Zstd => Member::Zstd(Frame::new(input)?),
        })
    }
}

/// A reader of the uncompressed bytes of a compressed file.
pub(crate) struct Decompressor<R: BufRead> {
    compression: FileCompression,
    member: Member<R>,
}

/// The position of a [`Decompressor`].
enum Member<R: BufRead> {
    /// Before a member.
    Before(R),
    Bzip2(BzDecoder<R>),
    Gzip(Box<GzDecoder<R>>),
    Xz(Box<XzReader<R>>),
    Zstd(Frame<R>),
    /// After the last one.
    End,
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.member {
                Member::Before(_) => 0,
                Member::Bzip2(decoder) => decoder.read(buffer)?,
                Member::Gzip(decoder) => decoder.read(buffer)?,
                Member::Xz(decoder) => decoder.read(buffer)?,
                Member::Zstd(decoder) => decoder.read(buffer)?,
                Member::End => return Ok(0),
            };
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let mut input = match mem::replace(&mut self.member, Member::End) {
                Member::Before(input) => input,
                Member::Bzip2(decoder) => decoder.into_inner(),
                Member::Gzip(decoder) => decoder.into_inner(),
                Member::Xz(decoder) => decoder.into_inner(),
                Member::Zstd(decoder) => decoder.input,
                Member::End => return Ok(0),
            };
            if let Some(first) = skip_zeros(&mut input)? {
                if !self.compression.begins_with(first) {
                    let text = format!("other data than {} follows", self.compression.name());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                self.member = self.compression.member(input)?;
            }
        }
    }
}

/// Skips zeros and returns the next byte, if there is one, without consuming it.
fn skip_zeros(input: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let bytes = input.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let (first, at_end) = (bytes.get(zeros).copied(), bytes.is_empty());
        input.consume(zeros);
        if first.is_some() || at_end {
            return Ok(first);
        }
    }
}

/// A reader of the uncompressed bytes of one zstd frame. The crate's own reader is not used: its errors have no code.
struct Frame<R> {
    input: R,
    context: DCtx<'static>,
    is_at_end: bool,
}

impl<R> Frame<R> {
    fn new(input: R) -> io::Result<Self> {
        let mut context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(undecodable)?;
        Ok(Self { input, context, is_at_end: false })
    }
}

impl<R: BufRead> Read for Frame<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.is_at_end && !buffer.is_empty() {
            let bytes = self.input.fill_buf()?;
            let bytes_end = bytes.is_empty();
            let (mut input, mut output) = (InBuffer::around(bytes), OutBuffer::around(&mut *buffer));
            let left = self.context.decompress_stream(&mut output, &mut input).map_err(undecodable)?;
            let (read, written) = (input.pos(), output.pos());
            self.input.consume(read);
            self.is_at_end = left == 0;
            if written > 0 {
                return Ok(written);
            }
            if bytes_end && !self.is_at_end {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame"));
            }
        }
        Ok(0)
    }
}

/// Converts an error code of libzstd.
fn undecodable(code: ErrorCode) -> io::Error {
    let is_too_large = code == (ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as usize).wrapping_neg();
    let kind = if is_too_large { io::ErrorKind::OutOfMemory } else { io::ErrorKind::Other };
    io::Error::new(kind, get_error_name(code))
}

#[cfg(test)]
mod tests;
