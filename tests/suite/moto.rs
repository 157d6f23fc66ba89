//! moto as a second opinion on ECR's own API: logging in, looking for a repository, creating it. It has no registry, so
//! docker-registry takes the bytes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::docker_registry::{DockerRegistry, not_run};
use super::harness::{Run, TestEnv, finish, report, testdata};

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

    fn push(&self, env: &TestEnv, registry: &DockerRegistry, arguments: &[&str]) -> Run {
        let mut command = env.command(arguments);
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
    let (Some(moto), Some(registry)) = (Moto::start(), DockerRegistry::start()) else { return };
    let env = TestEnv::new();
    let (archive, path) = (testdata("docker-29-overlay2-save.tar"), env.scratch("report.json"));
    let push = |more: &[&str]| {
        moto.push(&env, &registry, &[&[archive.as_str(), "team/moto:1", "--report", &path], more].concat())
    };
    // It has no creation templates, so a push would try; docker-registry creates whatever is pushed to.
    let _run = push(&["--dry-run"])
        .succeeds()
        .stderr_has(&["whether a creation template is for ", "team/moto was not checked"]);
    assert_eq!(report(&path)["targets"][0]["created_repository"], false);
    for created in [true, false] {
        let run = push(&["--create-repository"]).succeeds();
        let place = "123456789012.dkr.ecr.eu-west-3.amazonaws.com/team/moto:1@sha256:";
        assert!(run.stdout.starts_with(place), "moto's account and the region make the host");
        assert_eq!(report(&path)["targets"][0]["created_repository"], created);
    }
    assert!(registry.manifest("team/moto:1").is_some());
}

impl Moto {
    /// Asks its API by hand.
    fn ask(&self, operation: &str, body: &Value) -> Value {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        let body = body.to_string();
        let scope = "Credential=key/20260101/eu-west-3/ecr/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.{operation}\r\nAuthorization: AWS4-HMAC-SHA256 {scope}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

#[test]
fn moto_agrees_on_how_a_repository_is_set_up() {
    let (Some(moto), Some(registry)) = (Moto::start(), DockerRegistry::start()) else { return };
    let (env, archive) = (TestEnv::new(), testdata("docker-29-overlay2-save.tar"));
    let [keep, who] = ["keep.json", "who.json"].map(|name| env.scratch(name));
    let lifecycle = json!({"rules": [{
        "rulePriority": 1, "description": "keep ten",
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10},
        "action": {"type": "expire"},
    }]});
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "pull", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": ["ecr:BatchGetImage"],
    }]});
    std::fs::write(&keep, lifecycle.to_string()).unwrap();
    std::fs::write(&who, policy.to_string()).unwrap();
    let filters = ["--tag-mutability-exclusion", "latest", "--tag-mutability-exclusion", "dev-*"];
    let all = [
        &[archive.as_str(), "team/set:1", "--create-repository", "--scan-on-push"][..],
        &["--tag-mutability", "immutable-with-exclusion"],
        &filters,
        &["--encryption", "kms", "--kms-key", "alias/images", "--repository-tag", "team=web"],
        &["--lifecycle-policy", &keep, "--repository-policy", &who],
    ];
    moto.push(&env, &registry, &all.concat()).succeeds().stderr_has(&["created the repository"]);
    let described = moto.ask("DescribeRepositories", &json!({"repositoryNames": ["team/set"]}));
    let repository = &described["repositories"][0];
    assert_eq!(repository["imageTagMutability"], "IMMUTABLE_WITH_EXCLUSION", "{repository}");
    let filter = |filter: &str| json!({"filterType": "WILDCARD", "filter": filter});
    assert_eq!(repository["imageTagMutabilityExclusionFilters"], json!([filter("latest"), filter("dev-*")]));
    assert_eq!(repository["imageScanningConfiguration"], json!({"scanOnPush": true}));
    assert_eq!(
        repository["encryptionConfiguration"],
        json!({"encryptionType": "KMS", "kmsKey": "alias/images"}),
        "{repository}"
    );
    let tags = moto.ask("ListTagsForResource", &json!({"resourceArn": repository["repositoryArn"]}));
    assert_eq!(tags["tags"], json!([{"Key": "team", "Value": "web"}]));
    let text = |answer: Value, key: &str| serde_json::from_str::<Value>(answer[key].as_str().unwrap()).unwrap();
    let name = json!({"repositoryName": "team/set"});
    assert_eq!(text(moto.ask("GetLifecyclePolicy", &name), "lifecyclePolicyText"), lifecycle);
    assert_eq!(text(moto.ask("GetRepositoryPolicy", &name), "policyText"), policy);
    // What is there already is read as it was written.
    let again = [archive.as_str(), "team/set:1", "--create-repository", "--scan-on-push"];
    moto.push(&env, &registry, &again).succeeds().stderr_has(&["exists: settings for new repositories are ignored"]);
}
