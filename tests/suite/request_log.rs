//! `-vv`: every request is logged with its result and without secrets. And the user agent of each.

use ecr_push::sandbox::{Fault, LogEntry, Trouble};

use super::archive_builder;
use super::credentials::host;
use super::ecr::Ecr;
use super::fake_aws::FakeAws;
use super::harness::{Run, testdata};

const ARCHIVE: &str = "docker-29-overlay2-save.tar";

/// A request as it is logged.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct LoggedRequest {
    method: String,
    /// `---` without an answer.
    status: String,
    path: String,
    bytes: u64,
}

impl LoggedRequest {
    fn all(run: &Run) -> Vec<Self> {
        let mut all: Vec<Self> = run.stderr.lines().filter_map(Self::read).collect();
        all.sort();
        all
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let method = words.next().filter(|word| ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"].contains(word))?;
        let status = words.next()?;
        let _milliseconds: u64 = words.next()?.parse().unwrap();
        assert_eq!(words.next(), Some("ms"), "{line}");
        let url = words.find(|word| word.starts_with("http")).unwrap();
        let path = url.splitn(4, '/').nth(3).unwrap();
        let bytes = line.split(" bytes ").next().filter(|front| *front != line);
        let bytes = bytes.map_or(0, |front| front.rsplit(' ').next().unwrap().parse().unwrap());
        // What went out without an answer need not have arrived.
        let bytes = if status == "---" { 0 } else { bytes };
        Some(Self { method: method.into(), status: status.into(), path: format!("/{path}"), bytes })
    }

    fn arrived(ecr: &Ecr) -> Vec<Self> {
        let mut all: Vec<Self> = ecr.log().into_iter().map(Self::of).collect();
        all.sort();
        all
    }

    fn of(entry: LogEntry) -> Self {
        let path = entry.path.split('?').next().unwrap();
        // The bucket is another host than the registry's.
        let path = if path.starts_with("/layer-bucket/") { "/***" } else { path };
        Self {
            method: entry.method,
            status: if entry.status == 0 { "---".into() } else { entry.status.to_string() },
            path: path.into(),
            bytes: entry.body_bytes,
        }
    }
}

/// Pushes and logs every request.
#[track_caller]
fn push_logged(ecr: &Ecr, arguments: &[&str]) -> Run {
    ecr.run(&[arguments, &["-vv"]].concat()).succeeds()
}

#[test]
fn the_logged_requests_are_those_that_arrive() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("large.tar");
    archive_builder::docker_save(
        &archive,
        &[archive_builder::tar_of("noise", &archive_builder::noise(7, 17 << 20)), archive_builder::tar_of("a", b"a")],
    );
    let run = push_logged(&ecr, &[&archive, "team/app:1"]);
    assert_eq!(LoggedRequest::all(&run), LoggedRequest::arrived(&ecr));
    let whole = run.stderr.clone();
    let parts = whole.lines().filter(|line| line.starts_with("PATCH 201 ") && line.contains("  layer sha256:"));
    assert!(parts.clone().count() == 2 && parts.clone().all(|line| line.contains(", 6291456 bytes")), "{parts:?}");
    run.stderr_has(&["ecr:GetAuthorizationToken, 2 bytes", "sts:GetCallerIdentity, ", "  request "]);
}

#[test]
fn the_url_of_a_blob_in_a_bucket_is_logged_without_its_signature() {
    let ecr = Ecr::new();
    let [before, after] = ["before.tar", "after.tar"].map(|name| ecr.env.scratch(name));
    archive_builder::docker_save(&before, &[archive_builder::tar_of("a", b"a")]);
    archive_builder::docker_save(&after, &[archive_builder::tar_of("a", b"a"), archive_builder::tar_of("b", b"b")]);
    ecr.run(&[&before, "team/app:1", "--cache", &ecr.env.scratch("cache")]).succeeds();
    let known = ecr.log().len();
    // The config of the existing image is in the bucket.
    let run = push_logged(&ecr, &[&after, "team/app:1"]);
    let mut arrived: Vec<LoggedRequest> = ecr.log().split_off(known).into_iter().map(LoggedRequest::of).collect();
    arrived.sort();
    assert!(ecr.asked("s3:GetObject").iter().any(|asked| asked.path.contains("X-Amz-Signature")));
    assert_eq!(LoggedRequest::all(&run), arrived);
}

#[test]
fn a_request_without_a_response_is_logged_and_so_is_the_retry() {
    let troubles = [
        Fault::once("ecr:PutImage", Trouble::Status { status: 500, code: "A".into(), message: "b".into() }),
        Fault::once("ecr:InitiateLayerUpload", Trouble::HangUp),
        Fault::once("ecr:GetAuthorizationToken", Trouble::HangUp),
    ];
    let ecr = Ecr::faulty(&troubles);
    let run = push_logged(&ecr, &[&testdata(ARCHIVE), "team/app:1"]);
    assert_eq!(LoggedRequest::all(&run), LoggedRequest::arrived(&ecr));
    let whole = run.stderr;
    let lines = |words: &[&str]| whole.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(
        (lines(&["PUT   500 ", "/manifests/1"]), lines(&["PUT   201 ", "  attempt 2  ", "/manifests/1"])),
        (1, 1)
    );
    assert_eq!((lines(&["POST  --- ", "/uploads/", "no answer: "]), lines(&["POST  202 ", "  attempt 2  "])), (1, 1));
    assert_eq!(lines(&["POST  --- ", "ecr:GetAuthorizationToken"]), 1);
    assert_eq!(lines(&["POST  200 ", "  attempt 2  ecr:GetAuthorizationToken"]), 1);
}

#[cfg(unix)]
#[test]
fn a_request_that_is_given_up_is_logged() {
    use super::faults::interrupt;
    use super::harness::{Running, wait_until};
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Stall)]);
    let running = Running::start(ecr.command(&[&testdata(ARCHIVE), "team/app:1", "-vv"]));
    wait_until("the manifest is put", || ecr.count("ecr:PutImage") == 1);
    interrupt(running.id());
    let whole = running.end().fails_with(130).stderr;
    let line = whole.lines().find(|line| line.starts_with("PUT   --- ") && line.contains("/manifests/1"));
    assert!(line.is_some_and(|line| line.ends_with("no answer: given up")), "{line:?}");
}

#[test]
fn explanations_do_not_include_requests() {
    let ecr = Ecr::new();
    let run =
        ecr.run(&[&testdata(ARCHIVE), "team/app:1", "-v"]).succeeds().stderr_has(&["credentials from the environment"]);
    assert_eq!(LoggedRequest::all(&run), []);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:2"]).succeeds();
    assert_eq!(LoggedRequest::all(&run), []);
    run.output_has_none(&["credentials from"]);
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:3"]);
    command.env("ECR_PUSH_VERBOSE", "2");
    assert!(!LoggedRequest::all(&ecr.finish(command).succeeds()).is_empty());
}

#[test]
fn the_user_agent_names_the_program_and_the_ci_system() {
    let version = env!("CARGO_PKG_VERSION");
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    for (variables, ci) in [(&[][..], "none"), (&[("GITHUB_ACTIONS", "true")][..], "github")] {
        let aws = FakeAws::of("eu-west-1");
        let place = format!("{}/team/app:1", host("eu-west-1"));
        let mut command = aws.command_of_user(&[&testdata(ARCHIVE), &place, "-vv"]);
        command.envs(variables.iter().copied());
        aws.finish(command).succeeds();
        let agents = |of: &str| -> Vec<String> {
            let entries = aws.log().into_iter().filter(|entry| entry.path.starts_with("/v2/") == (of == "registry"));
            entries.map(|entry| entry.user_agent.unwrap_or_default()).collect()
        };
        let (registry, aws) = (agents("registry"), agents("aws"));
        let own = format!("ecr-push/{version} ({os}; {arch}; {ci})");
        assert!(registry.len() > 5 && registry.iter().all(|agent| *agent == own), "{registry:?}");
        let app = format!(" app/ecr-push-{version}-{ci}");
        assert!(aws.len() >= 2 && aws.iter().all(|agent| agent.contains(&app)), "{aws:?}");
    }
    // An application that was named before is not replaced.
    let aws = FakeAws::of("eu-west-1");
    let place = format!("{}/team/app:1", host("eu-west-1"));
    let mut command = aws.command_of_user(&[&testdata(ARCHIVE), &place]);
    command.env("AWS_SDK_UA_APP_ID", "ours");
    aws.finish(command).succeeds();
    let asked = aws.asked("ecr:GetAuthorizationToken");
    assert!(asked[0].user_agent.as_ref().unwrap().ends_with(" app/ours"), "{asked:?}");
}
