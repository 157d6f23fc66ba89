//! Where an archive comes from, and whether it can be read in place there or goes by once.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Seek as _};
use std::path::{Path, PathBuf};

use super::quoted;
use crate::error::{Code, Error, Result};
use crate::file;
use crate::oci::Target;

/// Where an archive comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A file, a folder or a named pipe.
    Path(PathBuf),
    /// What the program is fed with.
    StandardInput,
}

/// How the bytes of a source can be had.
pub(super) enum Reach {
    /// By position, from 0 to this length.
    Position(u64),
    /// Once, from here on. What it is, in words.
    Once(&'static str),
}

impl Source {
    /// Opens what is no folder. On a named pipe that waits for somebody to write.
    pub(super) fn open(&self) -> Result<(File, Reach)> {
        let failed = |error| self.cannot_read(error);
        let mut file = match self {
            Self::Path(path) => {
                let check = |metadata: &fs::Metadata| {
                    if metadata.is_file() || is_stream(metadata) {
                        return Ok(());
                    }
                    Err(no_file(path, metadata).hint("Write the archive into a file first."))
                };
                // Disks and sockets are not opened at all, and what lies there may be replaced before it is opened.
                check(&fs::metadata(path).map_err(failed)?)?;
                let file = file::open(path).map_err(failed)?;
                check(&file.metadata().map_err(failed)?)?;
                file
            }
            Self::StandardInput => file::standard_input().map_err(failed)?,
        };
        if file.is_terminal() {
            return Err(Error::usage(format!("{self} is a terminal, and no archive comes from there"))
                .code(Code::ArchiveUnreadable)
                .hint("Name a file, or pipe one in:\n  docker save app:1 | ecr-push - REPOSITORY:TAG"));
        }
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() && matches!(self, Self::Path(_)) {
            file::wait_for_writer(&file).map_err(failed)?;
        }
        let reach = if metadata.is_dir() {
            return Err(Error::input(format!("{self} is a folder"))
                .code(Code::ArchiveUnrecognized)
                .hint("Give its name in place of the `-`."));
        } else if !metadata.is_file() {
            Reach::Once(special(&metadata))
        } else if file.stream_position().map_err(failed)? > 0 {
            Reach::Once("a file that was read in part before")
        } else {
            Reach::Position(metadata.len())
        };
        Ok((file, reach))
    }

    /// The error that it cannot be read.
    pub(super) fn cannot_read(&self, error: io::Error) -> Error {
        match (self, error.kind()) {
            (Self::Path(path), io::ErrorKind::NotFound) => nothing_at(path, error),
            (Self::Path(path), _) => cannot_open(path, error),
            (Self::StandardInput, _) => {
                Error::input(format!("cannot read {self}")).code(Code::ArchiveUnreadable).because(error)
            }
        }
    }

    /// What to write behind a command that is to read it: nothing where it is standard input.
    pub(super) fn operand(&self) -> String {
        match self {
            Self::Path(path) => format!(" {}", quoted(&path.display().to_string())),
            Self::StandardInput => String::new(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::StandardInput => f.write_str("standard input"),
        }
    }
}

/// Whether it can be read from start to end, and only so: a pipe, or what `/dev/stdin` may be besides.
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

/// What sort of thing it is that is not a file.
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

/// The error that what lies at `path` is no file.
pub(super) fn no_file(path: &Path, metadata: &fs::Metadata) -> Error {
    Error::input(format!("{} is {}, not a file", path.display(), special(metadata))).code(Code::ArchiveUnrecognized)
}

/// The error that there is no archive at `path`. It may be what `docker push` takes, or a path from another folder.
fn nothing_at(path: &Path, error: io::Error) -> Error {
    let missing = cannot_open(path, error);
    let text = path.display().to_string();
    if text.parse::<Target>().is_ok_and(|image| !image.tags.is_empty()) {
        return missing.hint(format!(
            "It takes an archive, not the name of an image. Of one that Docker has:\n  docker save {text} | ecr-push - TARGET"
        ));
    }
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() => missing.hint(format!("It was looked for in {}.", folder.display())),
        _ => missing,
    }
}

/// The error that `path` cannot be read.
pub(super) fn cannot_open(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => Error::input(format!("there is no file {path}")).code(Code::ArchiveUnreadable),
        io::ErrorKind::PermissionDenied => {
            Error::input(format!("no permission to read {path}")).code(Code::ArchiveUnreadable).because(error)
        }
        _ => Error::input(format!("cannot read {path}")).code(Code::ArchiveUnreadable).because(error),
    }
}
