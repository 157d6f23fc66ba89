//! Images in the storage of a real Docker daemon and of podman, which `.ci/run-all` installs from Debian. The daemon has its own
//! folders and socket, and neither a bridge nor firewall rules.
//!
//! `ECR_PUSH_ENGINES=1` runs them: starting a daemon takes seconds, and needs root.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::azure_task::task;
use super::docker_registry::{is_installed, not_run};
use super::ecr::Ecr;
use super::harness::{Run, testdata, wait_until};

const ARCHIVE: &str = "docker-20.10-save.tar";
const NAME: &str = "localhost/fixture/app";
/// The image ID of the archive.
const ID: &str = "sha256:92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d";

fn is_wanted() -> bool {
    std::env::var_os("ECR_PUSH_ENGINES").is_some_and(|value| value == "1")
}

/// An engine with its own storage, which has the image of an archive.
struct Installed {
    program: &'static str,
    /// Variables that name its storage.
    variables: Vec<(&'static str, String)>,
    daemon: Option<Child>,
}

impl Installed {
    /// Docker, if it can be started.
    fn docker(ecr: &Ecr) -> Option<Self> {
        if !is_wanted() || !is_installed("dockerd", "docker.io") {
            return None;
        }
        let folder = ecr.env.scratch("docker");
        let [data, exec, pid, socket] = ["data", "exec", "pid", "socket"].map(|name| format!("{folder}/{name}"));
        fs::create_dir(&folder).unwrap();
        let log = fs::File::create(format!("{folder}/log")).unwrap();
        let mut command = Command::new("dockerd");
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]);
        command.args(["--data-root", &data, "--exec-root", &exec, "--pidfile", &pid]);
        command.args(["--host", &format!("unix://{socket}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let variables = vec![("DOCKER_HOST", format!("unix://{socket}")), ("DOCKER_CONFIG", ecr.env.scratch("config"))];
        let daemon = Some(command.spawn().unwrap());
        let mut docker = Self { program: "docker", variables, daemon };
        wait_until("the Docker daemon answers", || {
            docker.has_ended() || docker.command(&["version"]).output().unwrap().status.success()
        });
        if docker.has_ended() {
            let log = fs::read_to_string(format!("{folder}/log")).unwrap();
            not_run(&format!("dockerd ({})", log.lines().last().unwrap_or_default()));
            return None;
        }
        Some(docker)
    }

    /// podman.
    fn podman(ecr: &Ecr) -> Option<Self> {
        if !is_wanted() || !is_installed("podman", "podman") {
            return None;
        }
        let storage = ecr.env.scratch("storage.conf");
        let [root, run] = ["root", "run"].map(|name| ecr.env.scratch(name));
        fs::write(&storage, format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{root}\"\nrunroot = \"{run}\"\n"))
            .unwrap();
        let variables = vec![("CONTAINERS_STORAGE_CONF", storage)];
        Some(Self { program: "podman", variables, daemon: None })
    }

    fn has_ended(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.try_wait().unwrap().is_some())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the engine, and returns what it prints.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let done = self.command(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Pushes an image of its storage.
    fn push(&self, ecr: &Ecr, image: &str, target: &str) -> Run {
        let mut command = ecr.command(&[image, target, "--verbose"]);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        ecr.finish(command)
    }

    /// Pushes the image by every name that it has, pulls it back, and compares the IDs.
    fn round_trip(&self, ecr: &Ecr, transport: &str) {
        self.run(&["load", "--input", &testdata(ARCHIVE)]);
        self.run(&["tag", &format!("{NAME}:v1"), &format!("{NAME}:latest")]);
        let digits = ID.trim_start_matches("sha256:");
        let names = [NAME, &format!("{NAME}:v1"), ID, digits, &digits[..12], &digits[..5]];
        let mut digests = Vec::new();
        for (at, name) in names.into_iter().enumerate() {
            let run = self.push(ecr, &format!("{transport}{name}"), &format!("team/app:{at}")).succeeds();
            digests.push(run.digest());
        }
        digests.dedup();
        assert_eq!(digests.len(), 1, "one image has one digest");
        self.push(ecr, &format!("{transport}{NAME}:v2"), "team/app:none")
            .fails_with(1)
            .stderr_has(&["has no image localhost/fixture/app:v2\n", "localhost/fixture/app:v1"]);
        self.run(&["rmi", "--force", ID]);
        let registry = ecr.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
        let insecure: &[&str] = if self.daemon.is_none() { &["--tls-verify=false"] } else { &[] };
        self.run(&[&["login"], insecure, &["--username", "AWS", "--password", &ecr.token(), &registry]].concat());
        let pulled = format!("{registry}/team/app:1");
        self.run(&[&["pull"], insecure, &[pulled.as_str()]].concat());
        assert_eq!(
            self.run(&["image", "inspect", "--format", "{{.Id}}", &pulled]).trim().trim_start_matches("sha256:"),
            digits
        );
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // Its containerd ends with it.
            Command::new("kill").arg(daemon.id().to_string()).status().ok();
            daemon.wait().ok();
        }
    }
}

#[test]
fn docker_pulls_back_what_was_pushed_from_it() {
    let ecr = Ecr::new();
    if let Some(docker) = Installed::docker(&ecr) {
        docker.round_trip(&ecr, "docker-daemon:");
    }
}

#[test]
fn the_task_pushes_an_image_of_docker_and_removes_it() {
    let ecr = Ecr::new();
    let Some(docker) = Installed::docker(&ecr) else { return };
    docker.run(&["load", "--input", &testdata(ARCHIVE)]);
    let mut base = ecr.command(&[]);
    base.envs(docker.variables.iter().map(|(name, value)| (name, value))).env("AWS_REGION", "us-east-1");
    let inputs =
        [("sourceImageName", NAME), ("sourceImageTag", "v1"), ("repositoryName", "team/app"), ("pushTag", "7")];
    let by_id =
        [("imageSource", "imageid"), ("sourceImageId", &ID[7..19]), ("repositoryName", "team/app"), ("pushTag", "8")];
    docker.run(&["tag", ID, "other:1"]);
    for (inputs, left) in [(inputs, 1), (by_id, 0)] {
        ecr.finish(task(&ecr, &base, &[&inputs[..], &[("removeDockerImage", "true")]].concat())).succeeds();
        assert_eq!(docker.run(&["images", "--quiet"]).lines().count(), left);
    }
    assert_eq!(ecr.image("team/app", "7").unwrap().0, ecr.image("team/app", "8").unwrap().0);
}

#[test]
fn podman_pulls_back_what_was_pushed_from_it() {
    let ecr = Ecr::new();
    if let Some(podman) = Installed::podman(&ecr) {
        podman.round_trip(&ecr, "containers-storage:");
    }
}
