//! A log that no program reads: it stops no upload, takes no memory, and says how many lines are missing.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ecr_push::sandbox::Rules;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;

use super::archive_builder;
use super::ecr::{Ecr, HOST};
use super::harness::{Running, wait_until};

/// An archive of so many small layers.
fn archive(ecr: &Ecr, layers: u64) -> String {
    let path = ecr.env.scratch("image.tar");
    let layers: Vec<_> =
        (0..layers).map(|n| archive_builder::tar_of("noise", &archive_builder::noise(n, 2000))).collect();
    archive_builder::docker_save(&path, &layers);
    path
}

/// Starts a command whose stderr goes into a pipe that is not read.
fn start(mut command: Command) -> (Child, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    (child, reader)
}

/// The most memory that a process had so far, in KiB, while it runs.
fn peak(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[test]
fn a_log_that_is_not_read_delays_no_push_and_counts_the_missing_lines() {
    // ECR takes no image of 200 layers, but two of 100.
    let options = ["team/app:1", "team/other:1", "-vv", "--log-format", "json"];
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let archive_path = archive(&ecr, 100);
    let (started, mut usual_peak) = (Instant::now(), 0);
    let mut running = Running::start(ecr.command(&[&[archive_path.as_str()], &options[..]].concat()));
    while running.ended().is_none() {
        usual_peak = peak(running.id()).unwrap_or_default().max(usual_peak);
        std::thread::sleep(Duration::from_millis(5));
    }
    let usual = started.elapsed();
    let lines = running.end().succeeds().stderr.lines().count();

    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let archive_path = archive(&ecr, 100);
    let (mut child, mut stderr) = start(ecr.command(&[&[archive_path.as_str()], &options[..]].concat()));
    // Twice the usual time, and what a busy machine may add.
    let limit = Instant::now() + 2 * usual + Duration::from_secs(10);
    wait_until("the image is tagged although its log is not read", || {
        assert!(Instant::now() < limit, "the push waits for its log");
        ["team/app", "team/other"].iter().all(|repository| ecr.image(repository, "1").is_some())
    });
    let peak = peak(child.id()).unwrap();
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(peak < usual_peak + (16 << 10), "{peak} KiB, {usual_peak} KiB where the log is read");

    let objects: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_dropped = |object: &&Value| object["event"] == "dropped";
    let dropped: u64 = objects.iter().filter(is_dropped).map(|object| object["lines"].as_u64().unwrap()).sum();
    // Lines about progress depend on the time.
    assert!((objects.len() as u64 + dropped).abs_diff(lines as u64) < 20, "{dropped} of {lines} lines");
    assert!(dropped > 100, "{dropped} of {lines} lines");
    let summary = objects.last().unwrap();
    assert_eq!((&summary["event"], &summary["uploaded"]), (&"summary".into(), &100.into()), "{summary}");
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert!(stdout.starts_with(&format!("{HOST}/team/app:1@sha256:")), "{stdout}");
}

#[test]
fn a_run_whose_log_is_never_read_ends_with_its_exit_code_and_its_result() {
    let ecr = Ecr::new();
    let archive = archive(&ecr, 3);
    for (target, code) in [("team/app:1", 0), ("team/missing:1", 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        fill(&writer);
        let mut command = ecr.command(&[&archive, target]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
        let mut child = command.spawn().unwrap();
        wait_until("the program ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let mut stdout = String::new();
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        assert_eq!(stdout.lines().count(), usize::from(code == 0), "{stdout}");
        drop(reader);
    }
}

/// Writes into a pipe until it takes no more.
fn fill(mut pipe: &PipeWriter) {
    let flags = fcntl_getfl(pipe).unwrap();
    fcntl_setfl(pipe, flags | OFlags::NONBLOCK).unwrap();
    while pipe.write(&[b'.'; 512]).is_ok() {}
    while pipe.write(b".").is_ok() {}
    fcntl_setfl(pipe, flags).unwrap();
}
