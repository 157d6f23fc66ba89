//! A push in a small container: 128 MiB of memory, 32 processes and threads, half a CPU.
//!
//! The limits are those of a control group, as a container has it. Where none can be made, the number of processes alone is
//! limited: `thread_limits.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive_builder;
use super::archive_contents::Source;
use super::docker_registry::not_run;
use super::ecr::Ecr;
use super::harness::{finish, wait_until};
use super::stored_image::StoredImage;

const MEMORY: u64 = 128 << 20;
const PIDS: u64 = 32;

/// A control group, which is removed when it is dropped. With version 1 of the kernel's interface it is one of each
/// controller.
struct ControlGroup {
    folders: Vec<PathBuf>,
}

impl ControlGroup {
    /// Makes one with the limits, or reports that it cannot be made here.
    fn made(name: &str) -> Option<Self> {
        let made = Self::new(name);
        if made.is_none() {
            not_run(
                "limits of memory, processes and CPU (no control group can be made; root and a writable /sys/fs/cgroup)",
            );
        }
        made
    }

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
        let events = self.read("memory.events").or_else(|| self.read("memory.oom_control")).unwrap();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().trim().parse().unwrap()
    }
}

impl ControlGroup {
    fn read(&self, file: &str) -> Option<String> {
        self.folders.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok())
    }

    /// Returns for how many periods the kernel has limited the CPU of the group. It counts none without a limit.
    fn cpu_periods(&self) -> u64 {
        let stat = self.read("cpu.stat").unwrap();
        stat.lines().find_map(|line| line.strip_prefix("nr_periods ")).unwrap().trim().parse().unwrap()
    }

    fn is_empty(&self) -> bool {
        self.folders.iter().all(|folder| fs::read_to_string(folder.join("cgroup.procs")).unwrap().is_empty())
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        self.folders.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// Pushes layers with these contents, which must succeed.
fn push(name: &str, layers: &[Vec<u8>], options: &[&str]) {
    let Some(group) = ControlGroup::made(name) else { return };
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("image.tar");
    let layers: Vec<_> = layers.iter().map(|bytes| archive_builder::tar_of("file", bytes)).collect();
    archive_builder::docker_save(&archive, &layers);
    drop(layers);
    let program = ecr.command(&[&[&archive, "team/app:1"], options].concat());
    finish(group.command(&program), || ecr.story()).succeeds().stderr_has(&["3 of 3 layers uploaded"]);
    assert_eq!(group.killed(), 0, "the limit of memory is enough");
    assert!(group.cpu_periods() > 0, "the CPU is limited");
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
}

#[test]
fn what_needs_more_memory_or_processes_is_stopped() {
    let Some(group) = ControlGroup::made("more") else { return };
    let run = |arguments: &[&str]| {
        let mut command = Command::new(arguments[0]);
        command.args(&arguments[1..]).current_dir("/");
        finish(group.command(&command), String::new)
    };
    run(&["dd", "if=/dev/zero", "of=/dev/null", "bs=60M", "count=1"]).succeeds();
    assert_eq!(group.killed(), 0);
    assert_eq!(run(&["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]).code, None);
    assert!(group.killed() > 0);
    let processes = |count: u64| format!("for n in $(seq {count}); do sleep 0.2 & done; wait");
    run(&["sh", "-c", &processes(PIDS - 8)]).succeeds();
    let refused = run(&["sh", "-c", &processes(PIDS + 8)]);
    assert_ne!(refused.code, Some(0));
    refused.stderr_has(&["ork"]);
    wait_until("the processes have ended", || group.is_empty());
}

#[test]
fn an_image_that_is_larger_than_the_memory_is_pushed_by_a_small_container() {
    let layers = [archive_builder::noise(1, 45 << 20), vec![1; 45 << 20], vec![2; 45 << 20]];
    push("large", &layers, &["--compression", "keep"]);
}

#[test]
fn layers_are_compressed_in_a_small_container() {
    // Half a CPU compresses slowly in a debug build.
    let layers = [archive_builder::noise(1, 6 << 20), archive_builder::prose(2, 8 << 20), vec![2; 40 << 20]];
    push("compressed", &layers, &["--pack-threads", "4"]);
}
