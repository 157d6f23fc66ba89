//! Local files: their identity, and reads and writes with limits.
//!
//! A path that the user names may be that of a pipe whose other end is silent. Every wait for it is limited to
//! [`PIPE_TIMEOUT`], except that of [`wait_for_writer`].

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::ChildStdout;
use std::time::{Duration, Instant};

/// The time limit for the other end of a pipe.
pub(crate) const PIPE_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of bytes that a pipe accepts without blocking once it is ready (`PIPE_BUF`, which POSIX requires to be at least
/// 512).
const PIPE_WRITE: usize = 512;

/// The size of a pipe that carries an archive, in bytes: what Linux permits without privileges (`pipe(7)`). With its default
/// of 64 KiB, reader and writer wait for each other at every 64 KiB.
#[cfg(target_os = "linux")]
const PIPE_SIZE: usize = 1 << 20;

/// The identity of a file or a folder, whatever its path.
///
/// Symbolic links are followed. On Unix, hard links of one file have one identity.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum FileId {
    /// A file that exists.
    Existing(Node),
    /// A file that does not exist yet: its folder and its name.
    Missing(Node, OsString),
}

/// The device and the inode.
#[cfg(unix)]
pub(crate) type Node = (u64, u64);

/// The canonical path.
#[cfg(not(unix))]
pub(crate) type Node = std::path::PathBuf;

impl FileId {
    /// Returns the identity of the file at `path`, or of the file that would be created there. `None` for pipes and devices:
    /// a write to one replaces nothing.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            Ok(metadata) => node(path, &metadata).map(Self::Existing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = match path.parent() {
                    Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
                    Some(folder) => folder,
                    None => return None,
                };
                let node = node(folder, &fs::metadata(folder).ok()?)?;
                Some(Self::Missing(node, path.file_name()?.to_owned()))
            }
            Err(_) => None,
        }
    }

    /// Returns the identity of an open file. `None` outside of Unix, where it is not known.
    pub(crate) fn of_open(file: &File) -> Option<Self> {
        #[cfg(unix)]
        {
            node(Path::new(""), &file.metadata().ok()?).map(Self::Existing)
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
    nonblocking(File::options().read(true)).open(path)
}

/// Waits without a limit until a program writes to the pipe that [`open`] opened. From then on, reads block.
pub(crate) fn wait_for_writer(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, poll};
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(file, PollFlags::IN)], None))?;
        fcntl_setfl(file, fcntl_getfl(file)? - OFlags::NONBLOCK)?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// Reads a file of at most `max` bytes. A pipe may take twice [`PIPE_TIMEOUT`].
///
/// # Errors
/// Fails with [`FileTooLarge`](io::ErrorKind::FileTooLarge) if it has more bytes, with [`TimedOut`](io::ErrorKind::TimedOut)
/// if they do not come in time.
pub(crate) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    TimedReader::new(open(path)?, 2 * PIPE_TIMEOUT).take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {max} bytes")));
    }
    Ok(bytes)
}

/// Opens a file for writing with these options. Waits up to [`PIPE_TIMEOUT`] for the reader of a pipe.
pub(crate) fn open_to_write(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let until = Instant::now() + PIPE_TIMEOUT;
    loop {
        match nonblocking(options).open(path) {
            Err(error) if is_without_reader(&error, path) => {
                if Instant::now() >= until {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, NO_READER));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// Writes all of `bytes`. Waits up to [`PIPE_TIMEOUT`] each time for a pipe that is full.
pub(crate) fn write_all(file: &File, bytes: &[u8]) -> io::Result<()> {
    write_all_within(file, bytes, PIPE_TIMEOUT)
}

/// Writes all of `bytes`. Waits up to `timeout` each time for a pipe that is full.
pub(crate) fn write_all_within(mut file: &File, mut bytes: &[u8], timeout: Duration) -> io::Result<()> {
    let max = if file.metadata()?.is_file() { usize::MAX } else { PIPE_WRITE };
    while !bytes.is_empty() {
        wait(file, Access::Write, Instant::now() + timeout)?;
        match file.write(&bytes[..bytes.len().min(max)]) {
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

/// Returns the output of a child process as a file, with a larger buffer.
pub(crate) fn child_output(output: ChildStdout) -> File {
    #[cfg(unix)]
    let handle = std::os::fd::OwnedFd::from(output);
    #[cfg(windows)]
    let handle = std::os::windows::io::OwnedHandle::from(output);
    let file = File::from(handle);
    enlarge_pipe(&file);
    file
}

/// Makes the buffer of a pipe larger, where the operating system permits it.
pub(crate) fn enlarge_pipe(file: &File) {
    // It is quicker, and nothing else: other files have no such buffer, and a system may limit it.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(file, PIPE_SIZE);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Returns the program's standard output, unbuffered, as a file.
pub(crate) fn standard_output() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(handle.into())
}

/// The capacity of a file system in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// The free bytes for a user without privileges.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

impl Capacity {
    /// Returns the capacity of the file system that contains `file`, if it is known.
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

/// Returns how many files the process may have open, if that is limited.
pub(crate) fn open_files_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }
    #[cfg(not(unix))]
    {
        None
    }
}

/// Returns whether `file` is known to be in a file system that keeps its files in memory.
pub(crate) fn is_in_memory(file: &File) -> bool {
    #[cfg(target_os = "linux")]
    {
        // statfs(2): tmpfs, ramfs.
        const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
        rustix::fs::fstatfs(file).is_ok_and(|system| IN_MEMORY.contains(&(system.f_type as u32)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        false
    }
}

/// A reader of a file that fails after a time limit.
#[derive(Debug)]
pub(crate) struct TimedReader {
    file: File,
    until: Instant,
}

impl TimedReader {
    /// Starts the time limit.
    pub(crate) fn new(file: File, limit: Duration) -> Self {
        Self { file, until: Instant::now() + limit }
    }
}

impl Read for TimedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            wait(&self.file, Access::Read, self.until)?;
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

const NO_READER: &str = "it is a pipe that no program reads";

/// An operation that a file has to be ready for.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

/// Waits until a file is ready.
#[cfg(unix)]
fn wait(file: &File, access: Access, until: Instant) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (flags, timed_out) = match access {
        Access::Read => (PollFlags::IN, "it is a pipe into which no program writes"),
        Access::Write => (PollFlags::OUT, NO_READER),
    };
    let ready = rustix::io::retry_on_intr(|| {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now()));
        poll(&mut [PollFd::new(file, flags)], Some(&left.map_err(|_| rustix::io::Errno::INVAL)?))
    })?;
    if ready == 0 { Err(io::Error::new(io::ErrorKind::TimedOut, timed_out)) } else { Ok(()) }
}

#[cfg(not(unix))]
fn wait(_: &File, _: Access, _: Instant) -> io::Result<()> {
    Ok(())
}

/// Makes opening a pipe, reads and writes return at once.
#[cfg(unix)]
fn nonblocking(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
}

#[cfg(not(unix))]
fn nonblocking(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Returns whether opening a pipe failed because no program reads it.
#[cfg(unix)]
fn is_without_reader(error: &io::Error, path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
        && fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_without_reader(_: &io::Error, _: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_identity_under_all_its_paths() {
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
        // The same holds for a file that does not exist yet.
        assert_eq!(id("sub/../new"), id("new"));
        assert_ne!(id("sub/new"), id("new"));
        assert_eq!(id("no/folder"), None);
        assert_eq!(FileId::of(Path::new("/dev/null")), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_gets_the_largest_size_that_needs_no_privileges() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        enlarge_pipe(&File::from(reader));
        let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
        let most = fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap();
        assert_eq!(size, PIPE_SIZE.min(most.trim().parse().unwrap()));
    }

    #[test]
    fn a_read_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "abc").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"abc");
        assert_eq!(read(&path, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(Path::new("/dev/zero"), 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_read_from_a_silent_pipe_times_out() {
        let (reader, writer) = io::pipe().unwrap();
        let mut timed = TimedReader::new(std::os::fd::OwnedFd::from(reader).into(), Duration::from_millis(20));
        assert_eq!(timed.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(writer);
        assert_eq!(timed.read(&mut [0]).unwrap(), 0);
    }
}
