//! A push in a small container: 128 MiB of memory, 32 processes and threads, half a CPU.
//!
//! The limits are those of a control group, as a container has it. Where none can be made, the number of processes alone is
//! limited: `thread_limits.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive_builder;
use super::docker_registry::not_run;
use super::ecr::Ecr;
use super::harness::{Run, finish};

const MEMORY: u64 = 128 << 20;
const PIDS: u64 = 32;

/// A control group, which is removed when it is dropped. With version 1 of the kernel's interface it is one of each
/// controller.
struct ControlGroup {
    folders: Vec<PathBuf>,
}

impl ControlGroup {
    /// Makes one with the limits, if that is possible here.
    fn new(name: &str) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("ecr-push-{name}-{}", std::process::id());
        let (memory, pids) = (MEMORY.to_string(), PIDS.to_string());
        let limits: &[(&str, &str, &str)] = if root.join("cgroup.controllers").exists() {
            &[("", "memory.max", &memory), ("", "pids.max", &pids), ("", "cpu.max", "50000 100000")]
        } else {
            &[
                ("memory", "memory.limit_in_bytes", &memory),
                ("pids", "pids.max", &pids),
                ("cpu", "cpu.cfs_quota_us", "50000"),
            ]
        };
        let mut group = Self { folders: Vec::new() };
        for (controller, file, limit) in limits {
            let folder = root.join(controller).join(&name);
            if !group.folders.contains(&folder) {
                fs::create_dir(&folder).ok()?;
                group.folders.push(folder.clone());
            }
            fs::write(folder.join(file), limit).ok()?;
        }
        Some(group)
    }

    /// Returns a command that moves itself into the group before it becomes the program.
    fn command(&self, program: &Command) -> Command {
        let enter = self.folders.iter().map(|folder| format!("echo $$ >{}/cgroup.procs && ", folder.display()));
        let script = format!("{}exec \"$0\" \"$@\"", enter.collect::<String>());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(program.get_program()).args(program.get_args()).env_clear();
        command.current_dir(program.get_current_dir().unwrap());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// Returns how often the group ran into its limit of memory and a process was killed for it.
    fn killed(&self) -> u64 {
        let text = |file: &str| self.folders.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok());
        let events = text("memory.events").or_else(|| text("memory.oom_control")).unwrap();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().trim().parse().unwrap()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        self.folders.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// Pushes more than fits into the memory: three layers, one of them incompressible.
fn push(name: &str, options: &[&str]) -> Option<(Ecr, Run)> {
    let Some(group) = ControlGroup::new(name) else {
        not_run(
            "limits of memory, processes and CPU (no control group can be made; root in a writable /sys/fs/cgroup)",
        );
        return None;
    };
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("image.tar");
    let layers: Vec<_> = [archive_builder::noise(1, 60 << 20), vec![1; 60 << 20], vec![2; 60 << 20]]
        .iter()
        .map(|bytes| archive_builder::tar_of("file", bytes))
        .collect();
    archive_builder::docker_save(&archive, &layers);
    drop(layers);
    let command = group.command(&ecr.command(&[&[&archive, "team/app:1", "-v"], options].concat()));
    let run = finish(command, || ecr.story()).succeeds();
    assert_eq!(group.killed(), 0, "the limit of memory is enough");
    assert!(ecr.image("team/app", "1").is_some());
    Some((ecr, run))
}

#[test]
fn a_push_needs_no_more_than_a_small_container_has() {
    // Half a CPU compresses slowly in a debug build.
    let Some((_ecr, run)) = push("keep", &["--compression", "keep"]) else { return };
    run.stderr_has(&["memory: ", "3 of 3 layers uploaded"]);
}
