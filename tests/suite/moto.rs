//! moto as a second opinion on ECR's own API: logging in, looking for a repository, creating it. It has no registry, so
//! docker-registry takes the bytes.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::bench::{Bench, Run, finish, report, testdata};
use super::registry::{Registry, not_run};

/// A moto server. It stops when it is dropped.
struct Moto {
    child: Child,
    url: String,
}

impl Moto {
    fn start() -> Option<Self> {
        let program = std::env::var_os("ECR_PUSH_MOTO").map(PathBuf::from).filter(|path| path.is_file());
        let Some(program) = program else {
            not_run("moto (not installed; tests/run.sh installs it where there is Python and PyPI)");
            return None;
        };
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]).env("PYTHONUNBUFFERED", "1").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = |line: String| line.split_once("Running on ").map(|(_, url)| url.trim().to_owned());
        let url = lines.by_ref().map_while(Result::ok).find_map(said).expect("moto says where it listens");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(Self { child, url })
    }

    fn push(&self, bench: &Bench, registry: &Registry, arguments: &[&str]) -> Run {
        let mut command = bench.command(arguments);
        // A look at the tag would ask the docker-registry, which knows nothing of moto's repositories.
        command.args(["--region", "eu-west-3", "--retries", "0", "--reuse", "cache"]);
        command.env("AWS_ENDPOINT_URL_ECR", &self.url).env("ECR_PUSH_REGISTRY_ENDPOINT", registry.target(""));
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        finish(command, String::new)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn moto_agrees_on_logging_in_and_on_repositories() {
    let (Some(moto), Some(registry)) = (Moto::start(), Registry::start()) else { return };
    let bench = Bench::new();
    let (archive, path) = (testdata("docker-29-overlay2-save.tar"), bench.scratch("report.json"));
    let push = |more: &[&str]| {
        moto.push(&bench, &registry, &[&[archive.as_str(), "team/moto:1", "--report", &path], more].concat())
    };
    let _run = push(&[]).exits(1).says(&["the repository team/moto does not exist", "--create-repository"]);
    for created in [true, false] {
        let run = push(&["--create-repository"]).exits(0);
        let place = "123456789012.dkr.ecr.eu-west-3.amazonaws.com/team/moto:1@sha256:";
        assert!(run.stdout.starts_with(place), "moto's account and the region make the host");
        assert_eq!(report(&path)["targets"][0]["created_repository"], created);
    }
    assert!(registry.manifest("team/moto:1").is_some());
}
