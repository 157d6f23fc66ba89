//! Archives that cannot be read where they lie: pipes, and tars that are compressed as a whole.
//!
//! Layers are read by position and more than once, so such an archive is written, plain, into a temporary file that has
//! no name: nothing of it is left behind, however the program ends. It is written once, in one pass: what comes
//! compressed through a pipe is unpacked on its way. Two buffers of a MiB and the decoder's window
//! ([`FileCompression`]) are all the memory that takes.
//!
//! A few bytes can hold very many (zstd packs zeros 30,000 to 1, and honest layers have zeros), so no ratio tells a bomb
//! from an image. What is bounded is the harm: the temporary file never takes the last of its file system, of which
//! a twentieth or a GiB, whichever is less, stays free for others, and it is gone with the error.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::diagnose::{is_reencoded, is_tar_header, is_volume_label, no_image};
use super::disk_space::DiskSpace;
use super::source::{Reach, Source};
use super::streaming::{Take, is_known_as_it_comes};
use super::tar_index::TarIndex;
use crate::compress::{FileCompression, size};
use crate::error::{Code, Error, Result};

/// What is read and written at once.
const BUFFER: usize = 1 << 20;

/// How archives are kept that cannot be read where they lie.
///
/// # Errors
/// Where one is needed: of [`Kind::Usage`](crate::error::Kind::Usage) if no file can be made in the folder, of
/// [`Kind::Input`](crate::error::Kind::Input) if there is no room for it or the archive cannot be unpacked, and of
/// [`Kind::Interrupted`](crate::error::Kind::Interrupted) if the watcher says so.
pub struct Spool<'a> {
    /// The folder of the temporary file.
    pub folder: &'a Path,
    /// Is told how many bytes are written so far, a MiB or less after the last time, and says whether to go on.
    pub watch: &'a dyn Fn(u64) -> ControlFlow<()>,
    /// Takes layers as they come, where what they are is known by then. Such an archive is not copied.
    pub pass: Option<Take<'a>>,
}

impl Spool<'_> {
    /// The tar that `source` is or holds, and what to tell people if it cannot be read where it lies.
    pub(super) fn tar(&self, source: &Source) -> Result<(TarIndex, Option<String>)> {
        let (mut file, reach) = source.open()?;
        let (start, label) = start(&mut file).map_err(|error| source.cannot_read(error))?;
        let Some(codec) = FileCompression::of(&start).filter(|_| !is_reencoded(&start)) else {
            if !is_tar_header(&start) {
                return Err(no_image(source, None, &start));
            }
            let Reach::Once(what) = reach else { return Ok((TarIndex::read(Arc::new(file), label, source)?, None)) };
            if let Some(pass) = self.pass.filter(|_| is_known_as_it_comes(&start)) {
                let failed = |error, _| source.cannot_read(error);
                let index = TarIndex::pass(Cursor::new(start).chain(file), source, failed, pass)?;
                return Ok((index, Some(format!("{source} is {what}: read as it came"))));
            }
            let failed = |error, _| source.cannot_read(error);
            let (copy, len) = self.write(source, Cursor::new(start).chain(file), 0, failed)?;
            let note = format!("{source} is {what}: copied into a temporary file, {}", size(len));
            return Ok((TarIndex::read(Arc::new(copy), 0, source)?, Some(note)));
        };
        // It takes no less than it does compressed, and what it says itself.
        let least = match reach {
            Reach::Position(len) => {
                let stated = codec.declared_size(&mut file).map_err(|error| source.cannot_read(error))?;
                stated.unwrap_or_default().max(len)
            }
            Reach::Once(_) => 0,
        };
        let mut plain = codec.decompress(BufReader::with_capacity(BUFFER, Cursor::new(start).chain(file)));
        let failed = |error, unpacked| broken(source, codec, error, unpacked);
        let (inside, _) = self::start(&mut plain).map_err(|error| failed(error, 0))?;
        if let Some(again) = FileCompression::of(&inside) {
            let (outer, inner) = (codec.name(), again.name());
            return Err(Error::input(format!("{source} is compressed twice, with {inner} and then with {outer}"))
                .code(Code::ArchiveUnsupported)
                .hint("One of them is undone here. Undo the other first."));
        }
        if !is_tar_header(&inside) {
            // That a block of bzip2 was damaged comes out at its end, 900 kB later.
            let rest = io::copy(&mut plain.take(BUFFER as u64), &mut io::sink());
            return Err(rest.map_or_else(|error| failed(error, 0), |_| no_image(source, Some(codec), &inside)));
        }
        if let (Some(pass), Reach::Once(what)) = (self.pass.filter(|_| is_known_as_it_comes(&inside)), &reach) {
            let index = TarIndex::pass(Cursor::new(inside).chain(plain), source, failed, pass)?;
            return Ok((index, Some(format!("{source} is {what}, compressed with {}: read as it came", codec.name()))));
        }
        let (copy, len) = self.write(source, Cursor::new(inside).chain(plain), least, failed)?;
        let note =
            format!("{source} is compressed with {}: unpacked into a temporary file, {}", codec.name(), size(len));
        Ok((TarIndex::read(Arc::new(copy), 0, source)?, Some(note)))
    }

    /// Writes all of `bytes`, of which there are `least` or more, into a file without a name. `failed` words an error
    /// in reading them, by how many were read.
    fn write(
        &self,
        source: &Source,
        mut bytes: impl Read,
        least: u64,
        failed: impl Fn(io::Error, u64) -> Error,
    ) -> Result<(File, u64)> {
        const ELSEWHERE: &str = "Name a folder elsewhere for it: --temp-dir DIR";
        let folder = self.folder.display();
        let mut file = tempfile::tempfile_in(self.folder).map_err(|error| {
            Error::usage(format!("cannot make a temporary file in {folder}")).because(error).hint(ELSEWHERE)
        })?;
        let mut buffer = vec![0; BUFFER];
        let (mut filled, mut written) = (0, 0);
        // Told before the first byte is written, as far as it is known.
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
                Error::input(what).because(error).hint(ELSEWHERE)
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

/// Reads the first bytes: a block of a tar, where there are as many. A volume label is skipped: GNU tar leaves fields of it
/// empty that every entry has. Returns the length of the label, too.
fn start(bytes: &mut impl Read) -> io::Result<(Vec<u8>, u64)> {
    let mut start = Vec::new();
    bytes.take(512).read_to_end(&mut start)?;
    if !is_volume_label(&start) {
        return Ok((start, 0));
    }
    start.clear();
    bytes.take(512).read_to_end(&mut start)?;
    Ok((start, 512))
}

/// Words for a stream that could not be unpacked to its end.
fn broken(source: &Source, codec: FileCompression, error: io::Error, unpacked: u64) -> Error {
    let (name, unpacked) = (codec.name(), size(unpacked));
    if error.raw_os_error().is_some() {
        return source.cannot_read(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::input(format!("{source} is cut off: its {name} data breaks off after {unpacked} of the tar"))
                .code(Code::ArchiveDamaged)
                .hint("Copy, download or save it again, and see that the disk was not full.")
        }
        io::ErrorKind::OutOfMemory => Error::input(format!(
            "{source} asks for more memory than it gets: its {name} data has a window of more than 128 MiB"
        ))
        .code(Code::ArchiveUnsupported)
        .because(error)
        .hint("Unpack it first, or compress it with a smaller window."),
        _ => Error::input(format!("{source} is broken: its {name} data can be read up to {unpacked} of the tar"))
            .code(Code::ArchiveDamaged)
            .because(error)
            .hint("Save the image again; if the file was copied or downloaded, compare its checksum."),
    }
}

#[cfg(test)]
mod tests;
