//! Processes that write archives. They end with the reader of their archive.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::sync::lock;

/// How often a process that has closed its output is checked for its end.
const POLL: Duration = Duration::from_millis(5);

/// The processes that were started to read an archive. Those that still run are killed when this is dropped.
#[derive(Debug, Default)]
pub struct ChildProcesses(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_ended: bool,
    started: Vec<Arc<Mutex<Child>>>,
}

impl ChildProcesses {
    /// Starts a process. On Unix it has its own process group, so that Ctrl-C in a terminal reaches this program only, which
    /// then ends it.
    ///
    /// # Errors
    /// If it cannot be started, or the processes were ended before.
    pub(super) fn start(&self, command: &mut Command) -> io::Result<ChildProcess> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let mut state = lock(&self.0);
        if state.is_ended {
            return Err(io::Error::other("the push was stopped"));
        }
        let child = Arc::new(Mutex::new(command.spawn()?));
        state.started.push(Arc::clone(&child));
        Ok(ChildProcess(child))
    }

    /// Returns no processes yet, and a guard that ends them when it is dropped, even if another thread waits for one of them.
    pub(crate) fn guarded() -> (Arc<Self>, EndOnDrop) {
        let processes = Arc::<Self>::default();
        (Arc::clone(&processes), EndOnDrop(processes))
    }

    /// Kills and reaps the processes that still run. None can be started any more.
    fn end(&self) {
        let mut state = lock(&self.0);
        state.is_ended = true;
        for child in state.started.drain(..) {
            let mut child = lock(&child);
            // One that has ended and was waited for is not killed: another process may have its ID.
            let _has_ended = child.kill().and_then(|()| child.wait());
        }
    }
}

impl Drop for ChildProcesses {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends processes when it is dropped.
pub(crate) struct EndOnDrop(Arc<ChildProcesses>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A process that was started.
#[derive(Debug)]
pub(super) struct ChildProcess(Arc<Mutex<Child>>);

impl ChildProcess {
    /// Takes a part of the process, such as a pipe.
    pub(super) fn take<T>(&self, part: impl FnOnce(&mut Child) -> Option<T>) -> Option<T> {
        part(&mut lock(&self.0))
    }

    /// Waits until the process has ended. It can be killed meanwhile.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = lock(&self.0).try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn processes_are_killed_and_none_is_started_after_that() {
        let processes = ChildProcesses::default();
        let child = processes.start(Command::new("sleep").arg("1000")).unwrap();
        processes.end();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
        assert!(processes.start(&mut Command::new("true")).is_err());
    }
}
