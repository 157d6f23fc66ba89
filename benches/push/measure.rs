//! Measures one process, from its start to its end.
//!
//! A small helper process (`--measure`) starts it, not the process with the sandbox: Linux counts the parent's memory at
//! the fork as the child's peak.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use wait4::Wait4 as _;

/// The resources that a process used.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Measured {
    /// Seconds until it ended.
    pub(crate) wall: f64,
    /// Seconds of CPU time, user and system.
    pub(crate) cpu: f64,
    /// The peak of its memory, in bytes.
    pub(crate) peak: u64,
    /// Bytes read from files and pipes.
    pub(crate) read: u64,
    /// Whether it succeeded.
    pub(crate) success: bool,
}

/// Runs a command to its end, with only the variables that the command sets.
///
/// # Errors
/// The last line of its stderr, if it failed.
pub(crate) fn measure(command: &Command, stdin: Option<&Path>, scratch: &Path) -> Result<Measured, String> {
    let errors = scratch.join("stderr");
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.arg("--measure").arg(&errors).arg(stdin.unwrap_or_else(|| Path::new("")));
    helper.arg(command.get_program()).args(command.get_args()).env_clear();
    helper.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = helper.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    let measured: Measured = serde_json::from_slice(&output.stdout).unwrap();
    if measured.success {
        return Ok(measured);
    }
    let text = std::fs::read_to_string(errors).unwrap_or_default();
    Err(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no error message").replace('|', "/"))
}

/// Runs the helper process: `STDERR STDIN PROGRAM ARGUMENTS`.
pub(crate) fn child(arguments: &[String]) {
    let [errors, stdin, program, arguments @ ..] = arguments else { panic!("{arguments:?}") };
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(File::create(errors).unwrap());
    command.stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
    let started = Instant::now();
    let mut child = command.spawn().unwrap();
    if let Some(mut pipe) = child.stdin.take() {
        let mut file = File::open(stdin).unwrap();
        // A program may exit before it has read everything.
        std::thread::spawn(move || std::io::copy(&mut file, &mut pipe).ok());
    }
    // It has ended, and still exists: the number of bytes read is final, and can be read.
    waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let wall = started.elapsed().as_secs_f64();
    let io = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    let used = child.wait4().unwrap();
    let cpu = (used.rusage.utime + used.rusage.stime).as_secs_f64();
    let measured = Measured { wall, cpu, peak: used.rusage.maxrss, read, success: used.status.success() };
    println!("{}", serde_json::to_string(&measured).unwrap());
}

/// Returns whether a program is in the `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
