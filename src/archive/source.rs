//! The source of an archive, and whether it can be read in place or only once.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::child_processes::ChildProcesses;
use super::contents::Archive;
use super::engine::EngineImage;
use super::shell::quoted;
use crate::error::{Advice, Code, Error, Result};
use crate::file;
use crate::oci::Target;

/// The source of an archive.
///
/// ```
/// use ecr_push::Source;
///
/// assert_eq!(Source::Path("build/image.tar".into()).to_string(), "build/image.tar");
/// assert_eq!(Source::StandardInput.to_string(), "standard input");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A file, a folder or a named pipe.
    Path(PathBuf),
    /// The program's standard input.
    StandardInput,
    /// An image in the storage of a container engine, whose program writes the archive into a pipe.
    Engine(EngineImage),
    /// An archive that is open, for pushes of several of its images.
    Opened(OpenedArchive),
}

/// An archive that was opened once, and is read in place.
#[derive(Clone)]
pub struct OpenedArchive(pub(crate) Arc<Archive>);

impl PartialEq for OpenedArchive {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OpenedArchive {}

impl fmt::Debug for OpenedArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenedArchive").field(&self.0.source).finish()
    }
}

/// The bytes of a source.
pub(super) enum Input<'a> {
    /// A file that is read by position, and its length in bytes.
    Seekable(File, u64),
    /// Bytes that are read once, from start to end, and what they are, for messages.
    Once(Box<dyn Read + 'a>, &'static str),
}

impl Input<'_> {
    /// Returns what the bytes are, if they can be read only once.
    pub(super) fn once(&self) -> Option<&'static str> {
        match self {
            Self::Seekable(..) => None,
            Self::Once(_, what) => Some(what),
        }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Seekable(file, _) => file.read(buffer),
            Self::Once(bytes, _) => bytes.read(buffer),
        }
    }
}

impl Source {
    /// Opens a file or a stream. For a named pipe, this waits until it has a writer. The program of a container engine is one
    /// of `processes`.
    pub(super) fn open<'a>(&'a self, processes: &'a ChildProcesses) -> Result<Input<'a>> {
        let failed = |error| self.cannot_read(error);
        let mut file = match self {
            Self::Path(path) => {
                let check = |metadata: &fs::Metadata| {
                    if metadata.is_file() || is_stream(metadata) {
                        return Ok(());
                    }
                    Err(not_a_file(path, metadata).hint("Write the archive into a file first."))
                };
                // Disks and sockets must not be opened at all, and the file may be replaced before it is opened: so two checks.
                check(&fs::metadata(path).map_err(failed)?)?;
                let file = file::open(path).map_err(failed)?;
                check(&file.metadata().map_err(failed)?)?;
                file
            }
            Self::StandardInput => file::standard_input().map_err(failed)?,
            Self::Engine(image) => {
                let (stream, what) = image.save(processes)?;
                return Ok(Input::Once(Box::new(stream), what));
            }
            Self::Opened(archive) => return archive.0.source.open(processes),
        };
        if file.is_terminal() {
            return Err(Error::usage(format!("{self} is a terminal, not an archive"))
                .code(Code::ArchiveUnreadable)
                .hint(
                    Advice::new("Use a file, or pipe one in:").command("docker save app:1 | ecr-push - REPOSITORY:TAG"),
                ));
        }
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            file::enlarge_pipe(&file);
            if matches!(self, Self::Path(_)) {
                file::wait_for_writer(&file).map_err(failed)?;
            }
        }
        if metadata.is_dir() {
            Err(Error::input(format!("{self} is a folder"))
                .code(Code::ArchiveUnrecognized)
                .hint("Use its path instead of -."))
        } else if !metadata.is_file() {
            Ok(Input::Once(Box::new(file), special(&metadata)))
        } else if file.stream_position().map_err(failed)? > 0 {
            Ok(Input::Once(Box::new(file), "a file that was read in part before"))
        } else {
            Ok(Input::Seekable(file, metadata.len()))
        }
    }

    /// Returns the error that the source cannot be read.
    pub(super) fn cannot_read(&self, error: io::Error) -> Error {
        match (self, error.kind()) {
            (Self::Path(path), io::ErrorKind::NotFound) => nothing_at(path, error),
            (Self::Path(path), _) => cannot_open(path, error),
            (Self::Opened(archive), _) => archive.0.source.cannot_read(error),
            (Self::StandardInput | Self::Engine(_), _) => {
                // The program of an engine has its own.
                let error = match error.downcast::<Error>() {
                    Ok(error) => return error,
                    Err(error) => error,
                };
                Error::input(format!("cannot read {self}")).code(Code::ArchiveUnreadable).because(error)
            }
        }
    }

    /// Returns the argument for a command that reads the source: none for standard input.
    pub(super) fn operand(&self) -> String {
        match self {
            Self::Path(path) => format!(" {}", quoted(&path.display().to_string())),
            Self::StandardInput => String::new(),
            Self::Engine(image) => format!(" {}", image.operand()),
            Self::Opened(archive) => archive.0.source.operand(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::StandardInput => f.write_str("standard input"),
            Self::Engine(image) => image.fmt(f),
            Self::Opened(archive) => archive.0.source.fmt(f),
        }
    }
}

/// Returns whether a file can only be read from start to end: a pipe, or a device such as a terminal on `/dev/stdin`.
fn is_stream(metadata: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        metadata.file_type().is_fifo() || metadata.file_type().is_char_device()
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

/// Returns the name of a kind of file that is not regular.
fn special(metadata: &fs::Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a pipe";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if metadata.is_dir() { "a folder" } else { "a pipe or the like" }
}

/// Returns the error that `path` is not a file.
pub(super) fn not_a_file(path: &Path, metadata: &fs::Metadata) -> Error {
    Error::input(format!("{} is {}, not a file", path.display(), special(metadata))).code(Code::ArchiveUnrecognized)
}

/// Returns the error that there is no archive at `path`. The user may have typed an image name, or be in another folder.
fn nothing_at(path: &Path, error: io::Error) -> Error {
    let missing = cannot_open(path, error);
    let text = path.display().to_string();
    if text.parse::<Target>().is_ok_and(|image| !image.tags.is_empty()) {
        return missing.hint(
            Advice::new("The input is an archive, not the name of an image. To push an image that Docker has:")
                .command(format!("ecr-push docker-daemon:{text} TARGET")),
        );
    }
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() => missing.hint(format!("The current folder is {}.", folder.display())),
        _ => missing,
    }
}

/// Returns the error that `path` cannot be read.
pub(super) fn cannot_open(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    let what = match error.kind() {
        io::ErrorKind::NotFound => {
            return Error::input(format!("cannot find the file {path}")).code(Code::ArchiveUnreadable);
        }
        io::ErrorKind::PermissionDenied => format!("no permission to read {path}"),
        _ => format!("cannot read {path}"),
    };
    Error::input(what).code(Code::ArchiveUnreadable).because(error)
}
