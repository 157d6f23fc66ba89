//! A machine that allows few threads and processes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ecr_push::sandbox::{Asks, BlobMounting, Rules, TokenService};

use super::archive_builder::{prose, tar_of};
use super::archive_contents::Source;
use super::docker_registry::{not_run, second_opinion};
use super::ecr::Ecr;
use super::harness::{Run, Running, show, testdata};
use super::shared_layers::save_with;
use super::stored_image::StoredImage;

const ARCHIVE: &str = "docker-20.10-save.tar";

/// A user without other processes: the limit counts all threads of a user.
fn user() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    2_000_000 + std::process::id() % 100_000 * 100 + COUNT.fetch_add(1, Ordering::Relaxed)
}

/// Runs the program as a user who may have so many threads.
fn limited(ecr: &Ecr, threads: u32, program: Command, stdin: Stdio) -> Run {
    open_to_all(Path::new(&ecr.env.folder()));
    let user = user().to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "bash", "-c"]);
    command.arg(format!("ulimit -u {threads} && exec \"$0\" \"$@\"")).arg(program.get_program());
    command.args(program.get_args()).env_clear().current_dir(program.get_current_dir().unwrap());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let run = Running::fed(command, stdin).end();
    show(&ecr.story());
    run.output_has_none(&["panicked", "a bug in ecr-push"])
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| open_to_all(&entry.unwrap().path()));
    }
}

/// Whether tests may become another user, for which the limit counts.
fn may_become_another() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !is_root {
        not_run("threads (only root may become a user with a limit of processes)");
    }
    is_root && second_opinion("setpriv")
}

#[test]
fn a_push_works_with_few_threads_or_reports_that_they_are_too_few() {
    if !may_become_another() {
        return;
    }
    let ecr = Ecr::new();
    let archive = testdata(ARCHIVE);
    for threads in 1..=24 {
        let target = format!("team/app:{threads}");
        let run = limited(&ecr, threads, ecr.command(&[&archive, &target]), Stdio::null());
        if threads >= 4 {
            run.succeeds();
            StoredImage::of_sandbox(&ecr, "team/app", &threads.to_string()).is(&Source::read(&archive, 0));
        } else {
            let run = run.fails_with(4).stderr_has(&[
                "error: cannot start: the limit of threads or processes",
                "because: ",
                "hint: ",
            ]);
            run.output_has_none(&["damaged"]);
            ecr.has_no_image(&threads.to_string());
        }
    }
}

#[test]
fn a_stream_into_several_targets_works_with_few_threads() {
    if !may_become_another() {
        return;
    }
    let ecr = Ecr::with(&["team/app", "team/other"], Default::default());
    let archive = testdata(ARCHIVE);
    for threads in [6, 8, 12, 20] {
        let targets = [format!("team/app:{threads}"), format!("team/other:{threads}")];
        let stdin = Command::new("cat").arg(&archive).stdout(Stdio::piped()).spawn().unwrap().stdout.take().unwrap();
        limited(&ecr, threads, ecr.command(&["-", &targets[0], &targets[1]]), stdin.into()).succeeds();
        for repository in ["team/app", "team/other"] {
            StoredImage::of_sandbox(&ecr, repository, &threads.to_string()).is(&Source::read(&archive, 0));
        }
    }
}

#[test]
fn a_bundle_with_shared_layers_works_with_few_threads() {
    if !may_become_another() {
        return;
    }
    let ecr = Ecr::with(&[], Rules { blob_mounting: BlobMounting::Disabled, ..Rules::default() });
    // Large enough for temporary files.
    let shared: Vec<_> = (1..4).map(|n| tar_of("base", &prose(n, 3 << 19))).collect();
    let names: Vec<_> = (0..6).map(|n| format!("app-{n}:1")).collect();
    let archive = save_with(&ecr.env, &names, &shared);
    let folder = ecr.env.folder();
    for threads in [6, 8, 12, 20, 40] {
        let prefix = format!("with-{threads}/");
        let options = ["--all-images", "--create-repository", "--temp-dir", folder.as_str()];
        let command = ecr.command(&[&[archive.as_str(), prefix.as_str()], &options[..]].concat());
        limited(&ecr, threads, command, Stdio::null()).succeeds();
    }
}

#[test]
fn the_report_names_what_is_exhausted() {
    if !may_become_another() {
        return;
    }
    let ecr = Ecr::new();
    let command = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "--output", "json"]);
    let run = limited(&ecr, 1, command, Stdio::null()).fails_with(4);
    assert_eq!(run.report()["error"]["code"], "resources_exhausted");
}

#[test]
fn an_archive_is_read_without_a_thread() {
    if !may_become_another() {
        return;
    }
    let ecr = Ecr::new();
    for arguments in [&["inspect", "--verify"][..], &["inspect"]] {
        let command = ecr.env.command(&[arguments, &[&testdata(ARCHIVE)]].concat());
        limited(&ecr, 1, command, Stdio::null()).succeeds();
    }
}

#[test]
fn a_credential_helper_that_cannot_be_started_is_no_missing_login() {
    if !may_become_another() {
        return;
    }
    let users = vec!["bob:password-of-bob".to_owned()];
    let asks = Asks::Tokens(TokenService { users, ..TokenService::default() });
    let ecr = Ecr::with(&["team/app"], Rules { asks, ..Rules::default() });
    let host = ecr.address().to_string();
    let tools = ecr.env.scratch("tools");
    fs::create_dir(&tools).unwrap();
    let helper = format!("{tools}/docker-credential-x");
    fs::write(&helper, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let docker = ecr.env.home().join(".docker");
    fs::create_dir(&docker).unwrap();
    fs::write(docker.join("config.json"), serde_json::json!({"credHelpers": {&host: "x"}}).to_string()).unwrap();
    let mut command = ecr.env.command(&[&testdata(ARCHIVE), &format!("{host}/team/app:1"), "--output", "json"]);
    command.env("PATH", format!("{tools}:{}", std::env::var("PATH").unwrap()));
    let run = limited(&ecr, 4, command, Stdio::null()).fails_with(4).stderr_has(&["docker-credential-x", "because: "]);
    assert_eq!(run.report()["error"]["code"], "resources_exhausted");
}
