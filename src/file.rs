//! Local files: which file a path leads to, and reads and writes that end.
//!
//! A path that somebody names may lead to a pipe whose other end is silent. Nothing here waits for it longer than
//! [`PIPE_TIMEOUT`].

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the other end of a pipe may be silent.
pub(crate) const PIPE_TIMEOUT: Duration = Duration::from_secs(5);

/// How much is written to a pipe at once: that much fits where it is ready (`PIPE_BUF`, of which POSIX asks 512).
const PIECE: usize = 512;

/// Identifies a file or a folder, whatever path leads to it.
///
/// Symbolic links are followed. On Unix hard links of one file have one identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FileId(Place);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    Existing(Node),
    /// It does not exist yet, in this folder, by this name.
    Missing(Node, OsString),
}

/// The device and the inode.
#[cfg(unix)]
type Node = (u64, u64);

/// The canonical path.
#[cfg(not(unix))]
type Node = std::path::PathBuf;

impl FileId {
    /// Returns the identity of what lies at `path`, or would lie there. Pipes and devices have none: whatever is written
    /// into one replaces nothing.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            Ok(metadata) => node(path, &metadata).map(|node| Self(Place::Existing(node))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = match path.parent() {
                    Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
                    Some(folder) => folder,
                    None => return None,
                };
                let node = node(folder, &fs::metadata(folder).ok()?)?;
                Some(Self(Place::Missing(node, path.file_name()?.to_owned())))
            }
            Err(_) => None,
        }
    }

    /// Returns the identity of an open file. Outside of Unix it is not known.
    pub(crate) fn of_open(file: &File) -> Option<Self> {
        #[cfg(unix)]
        {
            let metadata = file.metadata().ok()?;
            node(Path::new(""), &metadata).map(|node| Self(Place::Existing(node)))
        }
        #[cfg(not(unix))]
        {
            let _ = file;
            None
        }
    }
}

#[cfg(unix)]
fn node(_: &Path, metadata: &Metadata) -> Option<Node> {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.is_file() || metadata.is_dir()).then(|| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn node(path: &Path, metadata: &Metadata) -> Option<Node> {
    (metadata.is_file() || metadata.is_dir()).then(|| fs::canonicalize(path).ok()).flatten()
}

/// Opens a file for reading. Does not wait for a pipe's writer.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    without_waiting(options.read(true)).open(path)
}

/// Waits until a program has opened a pipe to write into it, where [`open`] did not. From then on reads wait, too.
pub(crate) fn wait_for_writer(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, poll};
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        while let Err(error) = poll(&mut [PollFd::new(file, PollFlags::IN)], None) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        fcntl_setfl(file, fcntl_getfl(file)? - OFlags::NONBLOCK)?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// Reads a file of at most `most` bytes. A pipe may take twice [`PIPE_TIMEOUT`].
///
/// # Errors
/// Of [`FileTooLarge`](io::ErrorKind::FileTooLarge) if it has more bytes, of [`TimedOut`](io::ErrorKind::TimedOut) if
/// they do not come in time.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    TimedReader::new(open(path)?, 2 * PIPE_TIMEOUT).take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// Opens a file for writing with these options. Waits [`PIPE_TIMEOUT`] for the reader of a pipe.
pub(crate) fn open_to_write(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let until = Instant::now() + PIPE_TIMEOUT;
    loop {
        match without_waiting(options).open(path) {
            Err(error) if is_without_reader(&error) && is_pipe(path) => {
                if Instant::now() >= until {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it is a pipe that no program reads"));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// Writes all of `bytes`. Waits [`PIPE_TIMEOUT`] each time for a pipe that is full.
pub(crate) fn write_all(file: &File, bytes: &[u8]) -> io::Result<()> {
    write_all_within(file, bytes, PIPE_TIMEOUT)
}

/// Writes all of `bytes`. Waits `timeout` each time for a pipe that is full.
pub(crate) fn write_all_within(mut file: &File, mut bytes: &[u8], timeout: Duration) -> io::Result<()> {
    let most = if file.metadata()?.is_file() { usize::MAX } else { PIECE };
    while !bytes.is_empty() {
        wait(file, For::Writing, Instant::now() + timeout)?;
        match file.write(&bytes[..bytes.len().min(most)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns the program's standard input, unbuffered, as a file.
pub(crate) fn standard_input() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned()?;
    Ok(handle.into())
}

/// Returns the program's standard output, unbuffered, as a file.
pub(crate) fn standard_output() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(handle.into())
}

/// The bytes of a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// What a user without privileges may still write.
    pub free: u64,
    /// What it has in all.
    pub total: u64,
}

impl Capacity {
    /// Returns that of the file system on which `file` is, where it can be known.
    pub(crate) fn around(file: &File) -> Option<Self> {
        #[cfg(unix)]
        {
            let system = rustix::fs::fstatvfs(file).ok().filter(|system| system.f_blocks > 0)?;
            let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
            Some(Self { free: bytes(system.f_bavail), total: bytes(system.f_blocks) })
        }
        #[cfg(not(unix))]
        {
            let _ = file;
            None
        }
    }
}

/// A file that has to be read within a time.
#[derive(Debug)]
pub(crate) struct TimedReader {
    file: File,
    until: Instant,
}

impl TimedReader {
    /// Starts the time.
    pub(crate) fn new(file: File, limit: Duration) -> Self {
        Self { file, until: Instant::now() + limit }
    }
}

impl Read for TimedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            wait(&self.file, For::Reading, self.until)?;
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

/// What a file has to be ready for.
#[derive(Clone, Copy)]
enum For {
    Reading,
    Writing,
}

/// Waits until a file is ready.
#[cfg(unix)]
fn wait(file: &File, what: For, until: Instant) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let flags = match what {
        For::Reading => PollFlags::IN,
        For::Writing => PollFlags::OUT,
    };
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(file, flags)], Some(&left)) {
            Ok(0) => {
                let why = match what {
                    For::Reading => "it is a pipe into which no program writes",
                    For::Writing => "it is a pipe that no program reads",
                };
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(unix))]
fn wait(_: &File, _: For, _: Instant) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
}

#[cfg(not(unix))]
fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(unix)]
fn is_without_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

#[cfg(not(unix))]
fn is_without_reader(_: &io::Error) -> bool {
    false
}

fn is_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_identity_by_whatever_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "a").unwrap();
        fs::write(path("b"), "a").unwrap();
        fs::hard_link(path("a"), path("hard")).unwrap();
        std::os::unix::fs::symlink("a", path("soft")).unwrap();
        fs::create_dir(path("sub")).unwrap();
        let id = |name: &str| FileId::of(&path(name));
        assert!(id("a").is_some());
        for same in ["hard", "soft", "sub/../a"] {
            assert_eq!(id(same), id("a"), "{same}");
        }
        assert_ne!(id("b"), id("a"));
        assert_eq!(FileId::of_open(&File::open(path("hard")).unwrap()), id("a"));
        // What does not exist yet is one file by all its names, too.
        assert_eq!(id("sub/../new"), id("new"));
        assert_ne!(id("sub/new"), id("new"));
        assert_eq!(id("no/folder"), None);
        assert_eq!(FileId::of(Path::new("/dev/null")), None);
    }

    #[test]
    fn no_more_is_read_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "abc").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"abc");
        assert_eq!(read(&path, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(Path::new("/dev/zero"), 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_silent_pipe_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        let mut timed = TimedReader::new(std::os::fd::OwnedFd::from(reader).into(), Duration::from_millis(20));
        assert_eq!(timed.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(writer);
        assert_eq!(timed.read(&mut [0]).unwrap(), 0);
    }
}
