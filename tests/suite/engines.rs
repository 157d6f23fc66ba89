//! Images in the storage of Docker and podman, saved by stand-ins for their programs. `engines_installed.rs` runs the real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::archive_builder::{self, noise};
use super::ecr::Ecr;
use super::faults::interrupt;
use super::harness::{Run, Running, finish, testdata, wait_until};

const DOCKER_SAVE: &str = "docker-29-overlay2-save.tar";
const LIST: &str = "printf '%s\\n' 'app:1.4 sha256:0a1b2c' 'app:1.5 sha256:0d1e2f' '<none>:<none> sha256:99'";

/// Folders with programs that stand in for those of engines.
pub(crate) struct Engines<'a>(&'a Ecr);

impl<'a> Engines<'a> {
    /// A program that notes its arguments, and runs `save` or `list` for them.
    pub(crate) fn with(ecr: &'a Ecr, program: &str, save: &str, list: &str) -> Self {
        let folder = ecr.env.scratch("bin");
        fs::create_dir_all(&folder).unwrap();
        let arguments = ecr.env.scratch("arguments");
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"${{0##*/}} $*\" >> '{arguments}'\ncase $1 in\nsave) {save} ;;\nimages) {list} ;;\nesac\n"
        );
        let path = format!("{folder}/{program}");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(ecr)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.command(arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.0.env.scratch("bin")));
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Run {
        self.0.finish(self.command(arguments))
    }

    /// The arguments with which the programs were run, except to list images.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.all_calls().into_iter().filter(|call| !is_list(call)).collect()
    }

    fn all_calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.0.env.scratch("arguments")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

fn is_list(call: &str) -> bool {
    call.split(' ').nth(1) == Some("images")
}

#[test]
fn an_image_of_docker_is_streamed_as_it_is_saved() {
    let ecr = Ecr::new();
    let archive = testdata(DOCKER_SAVE);
    let expected = ecr.run(&[&archive, "team/app:1"]).succeeds().digest();
    let docker = Engines::with(&ecr, "docker", &format!("cat '{archive}'"), "exit 7");
    for (at, (image, saved)) in [
        ("docker-daemon:app:1.4", "app:1.4"),
        ("docker:app", "app:latest"),
        ("docker-daemon:0a1b2c", "0a1b2c"),
        ("docker:sha256:0a1b2c", "sha256:0a1b2c"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("team/app:s{at}");
        let run = docker.run(&[image, &target, "--verbose"]).succeeds();
        assert_eq!(run.digest(), expected, "{image}");
        run.stderr_has(&[&format!("docker-daemon:{saved} is the output of docker save: streamed")]);
        assert_eq!(docker.calls()[at], format!("docker save {saved}"));
    }
}

#[test]
fn a_name_that_could_be_an_id_is_a_name_first() {
    let ecr = Ecr::new();
    let archive = testdata(DOCKER_SAVE);
    let list = "printf '%s\\n' 'db:1 sha256:0a1b2c' 'db:latest sha256:0d1e2f' 'team/0a1b:latest sha256:0d1e2f'";
    let docker = Engines::with(&ecr, "docker", &format!("cat '{archive}'"), list);
    for (image, saved) in [("db", "db:latest"), ("0a1b", "0a1b"), ("sha256:db", "sha256:db"), ("db:1", "db:1")] {
        docker.run(&[&format!("docker:{image}"), "team/app:1"]).succeeds();
        assert_eq!(docker.calls().pop().unwrap(), format!("docker save {saved}"));
    }
    let lists = docker.all_calls().iter().filter(|call| is_list(call)).count();
    assert_eq!(lists, 2, "only what could be an ID is looked up");
}

#[test]
fn an_image_of_podman_keeps_its_digest() {
    let ecr = Ecr::new();
    let archive = testdata("podman-oci-archive.tar");
    let expected = ecr.run(&[&archive, "team/app:1"]).succeeds().digest();
    let podman = Engines::with(&ecr, "podman", &format!("cat '{archive}'"), "exit 7");
    for image in ["containers-storage:localhost/app:1", "podman:localhost/app:1"] {
        assert_eq!(podman.run(&[image, "team/app:2"]).succeeds().digest(), expected);
    }
    assert_eq!(podman.calls(), ["podman save --quiet --format oci-archive localhost/app:1"; 2]);
}

#[test]
fn engines_are_sources_of_every_command() {
    let ecr = Ecr::empty();
    let archive = testdata(DOCKER_SAVE);
    let docker = Engines::with(&ecr, "docker", &format!("cat '{archive}'"), "exit 7");
    let inspected = docker.env_run(&["inspect", "docker-daemon:app:1.4", "--verify"]).succeeds();
    assert!(inspected.stdout.starts_with("archive  docker-daemon:app:1.4\n"), "{}", inspected.stdout);
    docker.env_run(&["docker-daemon:app:1.4", "team/app:1", "--sandbox"]).succeeds();
    docker.run(&["docker:app", "team/app:1", "--create-repository", "--dry-run"]).succeeds();
    docker.run(&["docker:app", "mirror/", "--all-images", "--create-repository"]).succeeds();
    let batch = ecr.env.scratch("pushes.txt");
    fs::write(&batch, "docker:app team/a:1\ndocker:app team/b:1\n").unwrap();
    docker.run(&["batch", &batch, "--create-repository"]).succeeds();
    assert!(ecr.image("team/a", "1").is_some() && ecr.image("team/b", "1").is_some());
    let calls = docker.calls();
    let (named, latest): (Vec<_>, Vec<_>) = calls.iter().partition(|call| *call == "docker save app:1.4");
    // Each push of a batch saves the image.
    assert_eq!((named.len(), latest.len()), (2, 4), "{calls:?}");
}

#[test]
fn images_of_two_engines_are_joined() {
    let ecr = Ecr::new();
    let mut engines = None;
    for (program, architecture) in [("docker", "amd64"), ("podman", "arm64")] {
        let archive = ecr.env.scratch(&format!("{architecture}.tar"));
        let config = serde_json::json!({"os": "linux", "architecture": architecture});
        archive_builder::docker_save_with(&archive, &config);
        engines = Some(Engines::with(&ecr, program, &format!("cat '{archive}'"), "exit 7"));
    }
    engines.unwrap().run(&["docker:app", "--join", "podman:app", "team/app:1"]).succeeds();
    let index = ecr.image("team/app", "1").unwrap().1;
    assert!(String::from_utf8(index).unwrap().contains("arm64"));
}

impl Engines<'_> {
    /// Runs the program without the sandbox of the test.
    #[track_caller]
    fn env_run(&self, arguments: &[&str]) -> Run {
        let mut command = self.0.env.command(arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.0.env.scratch("bin")));
        finish(command, String::new)
    }
}

#[test]
fn a_file_with_the_name_of_a_transport_needs_a_folder() {
    let ecr = Ecr::new();
    let mut command = ecr.command(&["./docker:x", "team/app:1"]);
    let folder = ecr.env.scratch("files");
    fs::create_dir(&folder).unwrap();
    fs::copy(testdata(DOCKER_SAVE), format!("{folder}/docker:x")).unwrap();
    command.current_dir(folder);
    ecr.finish(command).succeeds();
}

#[test]
fn errors_of_an_engine_are_reported_with_what_to_do() {
    let ecr = Ecr::new();
    fs::create_dir(ecr.env.scratch("empty")).unwrap();
    let mut command = ecr.command(&["docker:app", "team/app:1"]);
    command.env("PATH", ecr.env.scratch("empty"));
    let run = ecr.finish(command).fails_with(1);
    run.stderr_has(&[
        "error: cannot find the program docker, which has the image app:latest\n",
        "add its folder to PATH",
    ]);
    for (program, save, list, image, parts) in [
        (
            "docker",
            "echo 'Error response from daemon: reference does not exist' >&2; exit 1",
            LIST,
            "docker:app:9",
            [
                "error: docker has no image app:9\n  because: Error response from daemon: reference does not exist\n",
                "hint: Similar names: app:1.4, app:1.5. To list all images:\n  docker images\n",
            ],
        ),
        (
            "docker",
            "echo 'Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?' >&2; exit 1",
            "exit 1",
            "docker:app:1.4",
            [
                "error: docker cannot save the image app:1.4\n  because: Cannot connect to the Docker daemon at unix:///x.sock.",
                "hint: Start the Docker daemon, or set DOCKER_HOST to its address. To check it:\n  docker version\n",
            ],
        ),
        (
            "docker",
            "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1",
            "exit 1",
            "docker:app:1.4",
            ["because: permission denied while", "This user may not open the daemon's socket"],
        ),
        (
            "podman",
            "echo 'Error: app:9: image not known' >&2; exit 125",
            LIST,
            "podman:0d1e",
            [
                "error: podman cannot save the image 0d1e\n  because: Error: app:9: image not known\n",
                "hint: podman has the image",
            ],
        ),
    ] {
        let engines = Engines::with(&ecr, program, save, list);
        engines.run(&[image, "team/app:1"]).fails_with(1).stderr_has(&parts);
    }
    ecr.has_no_image("1");
}

#[test]
fn an_engine_that_fails_midway_leaves_no_tag() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("large.tar");
    streamable(&archive, &[noise(1, 3 << 20), noise(2, 3 << 20)]);
    for save in [
        // Within a layer, and after the last byte.
        format!("head -c 2000000 '{archive}'; echo 'no space left on device' >&2; exit 1"),
        format!("cat '{archive}'; echo 'no space left on device' >&2; exit 1"),
    ] {
        let engines = Engines::with(&ecr, "docker", &save, LIST);
        let run = engines.run(&["docker:app:1.4", "team/app:1"]).fails_with(1);
        run.stderr_has(&["docker cannot save the image app:1.4\n  because: no space left on device\n"]);
        ecr.has_no_image("1");
    }
}

/// Writes an OCI archive that can be streamed.
fn streamable(path: &str, layers: &[Vec<u8>]) {
    let layout = format!("{path}.layout");
    archive_builder::oci_layout(&layout, layers);
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for name in ["oci-layout", "index.json"] {
        tar.append_path_with_name(format!("{layout}/{name}"), name).unwrap();
    }
    tar.append_dir_all("blobs", format!("{layout}/blobs")).unwrap();
    tar.finish().unwrap();
}

/// A program that writes its process ID to a file, runs a command and then waits for a long time; and that file.
fn silent<'a>(ecr: &'a Ecr, then: &str) -> (Engines<'a>, String) {
    let file = ecr.env.scratch("pid");
    let save = format!("echo $$ > '{file}.new'; mv '{file}.new' '{file}'; {then}; exec sleep 1000");
    (Engines::with(ecr, "docker", &save, LIST), file)
}

fn is_running(file: &str) -> bool {
    let process = fs::read_to_string(file).unwrap();
    fs::exists(format!("/proc/{}", process.trim())).unwrap()
}

#[test]
fn the_engine_is_ended_when_the_push_is_interrupted() {
    for arguments in
        [&["docker:app", "team/app:1"][..], &["docker:app", "mirror/", "--all-images"], &["inspect", "docker:app"]]
    {
        let ecr = Ecr::new();
        let (engines, file) = silent(&ecr, "true");
        let mut command = Command::new(super::harness::program());
        let base = engines.command(&[]);
        command.args(arguments).env_clear().envs(base.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("AWS_REGION", "us-east-1").current_dir(base.get_current_dir().unwrap());
        let running = Running::start(command);
        wait_until("the image is being saved", || fs::exists(&file).unwrap());
        assert!(is_running(&file));
        interrupt(running.id());
        running.end().fails_with(130);
        assert!(!is_running(&file), "{arguments:?}");
    }
}

#[test]
fn the_engine_is_ended_when_the_push_fails() {
    let ecr = Ecr::empty();
    let archive = ecr.env.scratch("large.tar");
    streamable(&archive, &[noise(1, 3 << 20), noise(2, 3 << 20)]);
    let (engines, file) = silent(&ecr, &format!("head -c 2000000 '{archive}'"));
    let running = Running::start(engines.command(&["docker:app", "team/none:1"]));
    wait_until("the image is being saved", || fs::exists(&file).unwrap());
    running.end().fails_with(1).stderr_has(&["team/none"]);
    assert!(!is_running(&file));
}
