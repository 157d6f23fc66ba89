//! Archives that cannot be read in place: streams, and compressed tars.
//!
//! Layers are read by position and more than once, so such an archive is decompressed, in one pass, into a temporary file.
//! The file has no name, so it disappears however the program ends. The copy needs two buffers of one MiB and the decoder's
//! window ([`FileCompression`]) of memory.
//!
//! A few bytes can expand to very many: zstd compresses zeros 30,000 to 1, and real layers have zeros. So no ratio
//! distinguishes a decompression bomb from an image. Instead, the damage is limited: the temporary file never fills its file
//! system, of which 5 % stay free, at most one GiB, and it disappears with the error.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::child_processes::ChildProcesses;
use super::diagnose_bytes::not_a_tar;
use super::reencoding::is_reencoded;
use super::source::{Input, Source};
use super::streaming::{LayerHandler, is_streamable};
use super::tar_index::TarIndex;
use crate::compress::{FileCompression, size};
use crate::error::{Advice, Code, Error, Result};
use crate::file::Capacity;

/// The size of the buffers, in bytes.
const BUFFER: usize = 1 << 20;

/// The settings for archives that cannot be read in place.
///
/// # Errors
/// If a temporary file is needed: of [`Kind::Usage`](crate::error::Kind::Usage) if no file can be created in the folder, of
/// [`Kind::Input`](crate::error::Kind::Input) if the disk is too full or the archive cannot be decompressed, and of
/// [`Kind::Interrupted`](crate::error::Kind::Interrupted) if `watch` breaks.
pub struct Spool<'a> {
    /// The folder of the temporary file.
    pub folder: &'a Path,
    /// Called with the number of bytes written so far, at least after each MiB; returns whether to continue.
    pub watch: &'a dyn Fn(u64) -> ControlFlow<()>,
    /// The handler of layers as they arrive, if the archive permits it: such an archive is not copied.
    pub handler: Option<LayerHandler<'a>>,
    /// The processes that write archives into pipes.
    pub processes: &'a ChildProcesses,
}

impl Spool<'_> {
    /// Returns the index of the tar in `source`, and a note if it cannot be read in place.
    pub(super) fn tar(&self, source: &Source) -> Result<(TarIndex, Option<String>)> {
        let mut input = source.open(self.processes)?;
        let once = input.once();
        let (mut start, label) = start_of(&mut input).map_err(|error| source.cannot_read(error))?;
        let compression = FileCompression::of(&start).filter(|_| !is_reencoded(&start));
        let failed = |error, read| match compression {
            Some(compression) => broken(source, compression, error, read),
            None => source.cannot_read(error),
        };
        let mut least = 0;
        let tar: Box<dyn Read> = match (compression, input) {
            (None, _) if !is_tar_header(&start) => return Err(not_a_tar(source, None, &start)),
            (None, Input::Seekable(file, _)) => return Ok((TarIndex::read(Arc::new(file), label, source)?, None)),
            (None, Input::Once(bytes, _)) => bytes,
            (Some(compression), mut input) => {
                // The tar has at least the size of the compressed file, and the size that the file declares.
                if let Input::Seekable(file, len) = &mut input {
                    let declared = compression.declared_size(file).map_err(|error| source.cannot_read(error))?;
                    least = declared.unwrap_or_default().max(*len);
                }
                let mut tar = compression.decompress(BufReader::with_capacity(BUFFER, Cursor::new(start).chain(input)));
                (start, _) = start_of(&mut tar).map_err(|error| failed(error, 0))?;
                check_inside(source, compression, &start, &mut tar).map_err(|error| failed(error, 0))??;
                Box::new(tar)
            }
        };
        let is_streamable = is_streamable(&start);
        let tar = Cursor::new(start).chain(tar);
        let name = compression.map(FileCompression::name);
        if let (Some(handler), Some(what)) = (self.handler.filter(|_| is_streamable), once) {
            let index = TarIndex::stream(tar, source, failed, handler)?;
            let compressed = name.map_or_else(String::new, |name| format!(", compressed with {name}"));
            return Ok((index, Some(format!("{source} is {what}{compressed}: streamed"))));
        }
        let (copy, len) = self.write(source, tar, least, failed)?;
        let how = match (name, once) {
            (Some(name), _) => format!("compressed with {name}: decompressed"),
            (None, Some(what)) => format!("{what}: copied"),
            (None, None) => "copied".into(),
        };
        let note = format!("{source} is {how} into a temporary file, {}", size(len));
        Ok((TarIndex::read(Arc::new(copy), 0, source)?, Some(note)))
    }

    /// Writes all of `bytes`, which are at least `least`, into a file without a name. `failed` converts an error of reading
    /// them, given the number of bytes read.
    fn write(
        &self,
        source: &Source,
        mut bytes: impl Read,
        least: u64,
        failed: impl Fn(io::Error, u64) -> Error,
    ) -> Result<(File, u64)> {
        let elsewhere = || Advice::new("Use a folder on another file system").setting_with("temp-dir", "DIR");
        let folder = self.folder.display();
        let mut file = tempfile::tempfile_in(self.folder).map_err(|error| {
            Error::usage(format!("cannot create a temporary file in {folder}")).because(error).hint(elsewhere())
        })?;
        let mut buffer = vec![0; BUFFER];
        let (mut filled, mut written) = (0, 0);
        // A disk that is too small is reported before the first byte is written, if the size is known.
        DiskSpace::of(&file, self.folder).check(source, 0, least)?;
        loop {
            let read = match bytes.read(&mut buffer[filled..]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error, written + filled as u64)),
            };
            filled += read;
            if read > 0 && filled < buffer.len() {
                continue;
            }
            DiskSpace::of(&file, self.folder).check(source, written, filled as u64)?;
            file.write_all(&buffer[..filled]).map_err(|error| {
                let what =
                    format!("cannot write more than {} of {source} into a temporary file in {folder}", size(written));
                Error::input(what).because(error).hint(elsewhere())
            })?;
            written += filled as u64;
            if (self.watch)(written).is_break() {
                return Err(Error::interrupted());
            }
            if read == 0 {
                return Ok((file, written));
            }
            filled = 0;
        }
    }
}

/// Reads the first 512 bytes, or fewer if there are not as many: a block of a tar. A volume label before it is skipped, since
/// GNU tar leaves required fields of the label empty. Also returns the length of the label.
fn start_of(bytes: &mut impl Read) -> io::Result<(Vec<u8>, u64)> {
    let mut start = Vec::new();
    bytes.take(512).read_to_end(&mut start)?;
    if !is_volume_label(&start) {
        return Ok((start, 0));
    }
    start.clear();
    bytes.take(512).read_to_end(&mut start)?;
    Ok((start, 512))
}

/// Checks that a decompressed file is a tar, by its start.
fn check_inside(
    source: &Source,
    compression: FileCompression,
    start: &[u8],
    rest: &mut impl Read,
) -> io::Result<Result<()>> {
    if let Some(again) = FileCompression::of(start) {
        let (outer, inner) = (compression.name(), again.name());
        return Ok(Err(Error::input(format!("{source} is compressed twice, with {inner} and then with {outer}"))
            .code(Code::ArchiveUnsupported)
            .hint("Only one level of compression is supported. Decompress the file first.")));
    }
    if is_tar_header(start) {
        return Ok(Ok(()));
    }
    // A damaged block of bzip2 causes an error only at its end, 900 kB later.
    io::copy(&mut rest.take(BUFFER as u64), &mut io::sink())?;
    Ok(Err(not_a_tar(source, Some(compression), start)))
}

/// Returns whether the block is a tar header, by its checksum. An empty tar starts with zeros and contains no image.
fn is_tar_header(start: &[u8]) -> bool {
    let Ok(block) = <&[u8; 512]>::try_from(start) else { return false };
    let digits = block[148..156].trim_ascii().split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    let stated = str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 8).ok());
    let others = block[..148].iter().chain(&block[156..]);
    stated == Some(others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' '))
}

/// Returns whether the block is the label that GNU tar writes before all entries (`tar --label`).
fn is_volume_label(block: &[u8]) -> bool {
    block.get(156) == Some(&b'V') && is_tar_header(block)
}

/// Returns the error that a stream could not be decompressed to its end.
fn broken(source: &Source, compression: FileCompression, error: io::Error, read: u64) -> Error {
    let (name, read) = (compression.name(), size(read));
    if error.raw_os_error().is_some() {
        return source.cannot_read(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::input(format!("{source} is cut off: its {name} data ends after {read} of the tar"))
                .code(Code::ArchiveDamaged)
                .hint("Copy, download or save it again, and check that the disk is not full.")
        }
        io::ErrorKind::OutOfMemory => Error::input(format!(
            "{source} needs more memory than the limit: its {name} data has a window of more than 128 MiB"
        ))
        .code(Code::ArchiveUnsupported)
        .because(error)
        .hint("Decompress it first, or compress it with a smaller window."),
        _ => Error::input(format!("{source} is broken: its {name} data can be read up to {read} of the tar"))
            .code(Code::ArchiveDamaged)
            .because(error)
            .hint("Save the image again; if the file was copied or downloaded, compare its checksum."),
    }
}

/// The largest reserve, in bytes.
const MAX_RESERVE: u64 = 1 << 30;

/// The space in a folder, if it is known.
pub(crate) struct DiskSpace<'a> {
    folder: &'a Path,
    capacity: Option<Capacity>,
}

impl<'a> DiskSpace<'a> {
    /// Returns the current space of the file system of `file`, which is in `folder`.
    pub(crate) fn of(file: &File, folder: &'a Path) -> Self {
        Self { folder, capacity: Capacity::around(file) }
    }

    /// Checks that the reserve stays free if `more` bytes of `what` are written after `written` bytes.
    ///
    /// # Errors
    /// If it would not.
    pub(crate) fn check(&self, what: &dyn Display, written: u64, more: u64) -> Result<()> {
        let Some(Capacity { free, total }) = self.capacity else { return Ok(()) };
        let reserve = (total / 20).min(MAX_RESERVE);
        if more <= free.saturating_sub(reserve) {
            return Ok(());
        }
        let (needed, free) = (size(written.saturating_add(more)), size(written.saturating_add(free)));
        let (reserve, folder) = (size(reserve), self.folder.display());
        let what = format!("{what} takes a temporary file of {needed} or more, but {folder} has {free} free");
        Err(Error::input(format!("{what}, and {reserve} of that stay reserved"))
            .code(Code::ResourcesExhausted)
            .hint(Advice::new("Use a folder with more space").setting_with("temp-dir", "DIR")))
    }
}

#[cfg(test)]
mod tests;
