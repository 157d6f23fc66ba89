//! Local files that are pipes whose other end is silent: nothing waits for them without an end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::ecr::Ecr;
use super::harness::{Running, TestEnv, testdata};

const ARCHIVE: &str = "docker-20.10-save.tar";

/// A pipe with a name.
fn fifo(env: &TestEnv, name: &str) -> String {
    let path = env.scratch(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn a_password_that_never_comes_ends_with_the_deadline() {
    let env = TestEnv::new();
    // Nothing listens there: the password comes first.
    let arguments =
        [&testdata(ARCHIVE), "127.0.0.1:9/app:1", "--username", "bob", "--password-stdin", "--deadline", "1"];
    let (reader, writer) = std::io::pipe().unwrap();
    let run = Running::fed(env.command(&arguments), Stdio::from(reader)).end().fails_with(4);
    run.stderr_has(&["error: cannot read the password from standard input", "because: no end of input within 1 s"]);
    drop(writer);
}

#[test]
fn a_result_file_that_no_program_reads_is_found_out_before_the_push() {
    let ecr = Ecr::new();
    let archive = testdata(ARCHIVE);
    let options = ["--report", "--digest-file", "--metadata-file", "--timeline", "--output-file"];
    let running = options.map(|option| {
        let pipe = fifo(&ecr.env, option.trim_matches('-'));
        let arguments = [archive.as_str(), "team/app:1", option, &pipe, "--output-variable", "IMAGE"];
        let arguments = if option == "--output-file" { &arguments[..] } else { &arguments[..4] };
        Running::start(ecr.command(arguments))
    });
    for running in running {
        running
            .end()
            .fails_with(2)
            .stderr_has(&["error: cannot write ", "because: it is a pipe that no program reads"]);
    }
    assert!(ecr.log().is_empty());
}

#[test]
fn a_report_that_is_read_through_a_pipe_arrives() {
    let ecr = Ecr::new();
    let pipe = fifo(&ecr.env, "report");
    let reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().unwrap();
    ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--report", &pipe]).succeeds();
    let report = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
    assert!(report.ends_with("}\n") && report.contains("\"exit_code\": 0"), "{report}");
}

#[test]
fn a_cache_that_is_a_pipe_is_not_used() {
    let ecr = Ecr::new();
    let pipe = fifo(&ecr.env, "cache");
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--cache", &pipe]).succeeds();
    run.stderr_has(&["warning: the cache cannot be read", "it is not a regular file"]);
}

#[test]
fn a_file_that_is_a_silent_pipe_has_a_time_limit() {
    let ecr = Ecr::new();
    let archive = testdata(ARCHIVE);
    let pipes = ["policy", "certificates", "logins"].map(|name| fifo(&ecr.env, name));
    let writers = pipes.each_ref().map(|pipe| std::fs::OpenOptions::new().read(true).write(true).open(pipe).unwrap());
    let create = ["--create-repository", "--lifecycle-policy", &pipes[0]];
    let policy = ecr.command(&[&[archive.as_str(), "team/new:1"], &create[..]].concat());
    let certificates = ecr.command(&[&archive, "team/app:1", "--ca-file", &pipes[1]]);
    let mut logins = ecr.command(&[&archive, "127.0.0.1:9/app:1", "--retries", "0"]);
    logins.env("REGISTRY_AUTH_FILE", &pipes[2]);
    let started = Instant::now();
    for running in [policy, certificates].map(Running::start) {
        running
            .end()
            .fails_with(2)
            .stderr_has(&["error: cannot read ", "because: it is a pipe into which no program writes"]);
    }
    Running::start(logins).end();
    assert!(started.elapsed() < Duration::from_secs(60));
    drop(writers);
}
