//! What a registry refuses, in its own words and with what to do about it.

use std::time::{Duration, Instant};

use ecr_push::sandbox::{Absent, Fault, ImmutableWords, Rules, Trouble};

use super::confirmations::server;
use super::ecr::{Ecr, SECRET_KEY, status};
use super::harness::{Run, Running, TestEnv, finish, report, testdata, wait_until};

const ARCHIVE: &str = "docker-20.10-save.tar";
const ARN: &str = "arn:aws:ecr:us-east-1:000000000000:repository/team/app";

/// An address on this machine at which nothing listens.
pub(crate) fn closed_port() -> String {
    // Below the ports that the system gives to other tests at the same time.
    let is_closed = |port: &u16| std::net::TcpStream::connect(("127.0.0.1", *port)).is_err();
    let port = (20_001..30_000).find(is_closed).expect("one of so many ports is closed");
    format!("127.0.0.1:{port}")
}

/// A push that the registry refuses. Nothing is tagged.
#[track_caller]
fn refused(ecr: &Ecr, arguments: &[&str], code: i32) -> Run {
    let written = ecr.env.scratch("report.json");
    let run = ecr.run(&[&[testdata(ARCHIVE).as_str(), "team/app:1", "--report", &written], arguments].concat());
    let run = run.exits_with(code).stdout_is("");
    ecr.has_no_image("1");
    assert_eq!(report(&written)["exit_code"], code);
    assert!(!std::fs::read_to_string(&written).unwrap().contains(SECRET_KEY));
    run
}

#[test]
fn a_registry_that_does_not_answer() {
    let (env, at) = (TestEnv::new(), closed_port());
    let run = env.run(&[&testdata(ARCHIVE), &format!("{at}/team/app:1"), "--retries", "0"]).fails_with(4).stdout_is("");
    let run = run.stderr_has(&[
        &format!("no response from {at}"),
        "Connection refused",
        "hint: Check the host name, the port",
    ]);
    run.output_has_none(&["; retry "]);
}

#[test]
fn a_name_that_does_not_resolve() {
    // No name ends in `invalid` (RFC 6761, 6.4).
    let (env, started) = (TestEnv::new(), Instant::now());
    let target = "registry.invalid:5000/team/app:1";
    let run = env.run(&[&testdata(ARCHIVE), target, "--retries", "1", "--deadline", "60"]).fails_with(4).stdout_is("");
    let run = run.stderr_has(&["no response from registry.invalid:5000", "cannot resolve registry.invalid: "]);
    run.stderr_has(&["hint: Check the spelling of the host", "; retry "]);
    assert!(started.elapsed() < Duration::from_secs(50), "{:?}", started.elapsed());
}

#[test]
fn an_ecr_that_does_not_answer() {
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env("AWS_ENDPOINT_URL_ECR", format!("http://{}", closed_port()));
    let run = ecr.finish(command).fails_with(4).stdout_is("");
    run.stderr_has(&[
        "cannot log in to Amazon ECR in us-east-1",
        "no response from the ECR API",
        "hint: Check the region",
    ]);
}

#[test]
fn a_registry_that_wants_a_login() {
    let ecr = Ecr::new();
    // Asked by its address it is no ECR to the program, and gets no credentials.
    let target = format!("{}/team/app:1", ecr.address());
    let run = ecr.finish(ecr.env.command(&[&testdata(ARCHIVE), &target, "-v"])).fails_with(3).stdout_is("");
    run.stderr_has(&["HTTP 401", "hint: ", " requires a login, and none was found\n"]);
    assert!(ecr.log().iter().all(|entry| !entry.authorized));
    ecr.has_no_image("1");
}

#[test]
fn a_right_that_is_missing_is_named_with_what_it_is_missing_on() {
    for (action, resource) in [
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:InitiateLayerUpload", ARN),
        ("ecr:UploadLayerPart", ARN),
        ("ecr:CompleteLayerUpload", ARN),
        ("ecr:PutImage", ARN),
    ] {
        let ecr = Ecr::with(&["team/app"], Rules { deny: vec![action.into()], ..Rules::default() });
        let run = refused(&ecr, &[], 3);
        let words = format!("is not authorized to perform: {action} on resource: {resource}");
        run.stderr_has(&[&words, &format!("hint: Allow the action {action} on {resource}")]);
    }
}

#[test]
fn a_right_to_create_that_is_missing() {
    let ecr = Ecr::with(&[], Rules { deny: vec!["ecr:CreateRepository".into()], ..Rules::default() });
    let run = refused(&ecr, &["--create-repository"], 3);
    let action = format!("ecr:CreateRepository on {ARN}");
    run.stderr_has(&["is not authorized to perform: ecr:CreateRepository", &format!("Allow the action {action}")]);
}

#[test]
fn a_denial_without_words_still_names_the_repository() {
    let deny = vec!["ecr:InitiateLayerUpload".into()];
    let ecr = Ecr::with(&["team/app"], Rules { deny, deny_silently: true, ..Rules::default() });
    refused(&ecr, &[], 3).stderr_has(&["HTTP 403", &format!("The request requires ecr:InitiateLayerUpload on {ARN}")]);
}

#[test]
fn a_push_continues_without_the_permissions_to_read() {
    let rights = ["ecr:BatchGetImage", "ecr:DescribeRepositories", "ecr:BatchCheckLayerAvailability"];
    let deny = rights.map(String::from).to_vec();
    let ecr = Ecr::with(&["team/app"], Rules { deny, ..Rules::default() });
    let run = ecr.run(&[&testdata("crane-tarball.tar"), "team/app:1"]).succeeds();
    let run = run.stderr_has(&["000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app:1 could not be read: "]);
    let words = ["ecr:DescribeRepositories is not allowed", "ecr:BatchCheckLayerAvailability is not allowed"];
    run.stderr_has(&["not authorized to perform: ecr:BatchGetImage"]).stderr_has(&words);
    assert!(ecr.image("team/app", "1").is_some());
}

#[test]
fn a_repository_that_is_missing() {
    let ecr = Ecr::empty();
    let run = refused(&ecr, &[], 1);
    let run =
        run.stderr_has(&["the repository team/app does not exist in 000000000000.dkr.ecr.us-east-1.amazonaws.com"]);
    let command = "aws ecr create-repository --repository-name team/app --region us-east-1";
    run.stderr_has(&["hint: Create it with the push, or before it: --create-repository", command]);
    assert_eq!(ecr.repositories(), Vec::<String>::new());
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 0);
}

#[test]
fn a_missing_repository_without_the_permission_to_look_it_up() {
    for absent_repository in [Absent::NameUnknown, Absent::HangUp] {
        let deny = vec!["ecr:DescribeRepositories".into()];
        let ecr = Ecr::with(&[], Rules { deny, absent_repository, ..Rules::default() });
        let run = refused(&ecr, &["--retries", "1"], 1);
        run.stderr_has(&["team/app", "hint: Create it with the push, or before it: --create-repository"]);
    }
}

#[test]
fn a_repository_that_is_missing_from_a_registry_that_hangs_up_at_the_first_upload() {
    let rules = Rules {
        absent_repository: Absent::HangUp,
        deny: vec!["ecr:DescribeRepositories".into(), "ecr:BatchCheckLayerAvailability".into()],
        ..Rules::default()
    };
    let ecr = Ecr::with(&[], rules);
    // Nothing is known but a connection that breaks; the repository is at least named as a possible cause.
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--retries", "1"]).stdout_is("");
    assert!([Some(1), Some(4)].contains(&run.code), "{:?}", run.code);
    run.stderr_has(&["team/app", "hint: "]);
}

#[test]
fn a_tag_that_may_not_move() {
    for immutable_words in [ImmutableWords::Tag, ImmutableWords::Repository] {
        let ecr = Ecr::with(&["team/app"], Rules { immutable: true, immutable_words, ..Rules::default() });
        let first = ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).succeeds();
        let run =
            ecr.run(&[&testdata("docker-20.10-save-by-id-untagged.tar"), "team/app:1"]).fails_with(1).stdout_is("");
        let run =
            run.stderr_has(&["HTTP 400 TAG_INVALID", "The image tag '1' already exists in the 'team/app' repository"]);
        run.stderr_has(&["is immutable.", "hint: The tag exists", "Push under another tag"]);
        assert_eq!(ecr.image("team/app", "1").unwrap().0.to_string(), first.digest(), "the tag has not moved");
    }
}

#[test]
fn of_several_tags_those_before_the_failure_are_reported() {
    let ecr = Ecr::with(&["team/app"], Rules { immutable: true, ..Rules::default() });
    ecr.run(&[&testdata("docker-20.10-save-by-id-untagged.tar"), "team/app:b"]).succeeds();
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:a", "--tag", "b", "--tag", "c"]).fails_with(1);
    let digest = ecr.image("team/app", "a").unwrap().0;
    let run = run.stdout_is(&format!("{}/team/app:a@{digest}\n", super::ecr::HOST));
    assert!(ecr.image("team/app", "c").is_none());
    run.stderr_has(&["The image tag 'b' already exists"]);
}

#[test]
fn a_registry_that_keeps_failing() {
    for (operation, retries, tries) in [
        ("ecr:InitiateLayerUpload", "0", 1),
        ("ecr:InitiateLayerUpload", "1", 2),
        ("ecr:PutImage", "0", 1),
        ("ecr:PutImage", "2", 3),
    ] {
        let down = status(500, "INTERNAL", "we are sorry");
        let ecr = Ecr::faulty(&[Fault::once(operation, down).times(u32::MAX)]);
        let run = refused(&ecr, &["--retries", retries, "--concurrency", "1"], 4);
        let run = run.stderr_has(&["HTTP 500 INTERNAL: we are sorry"]);
        assert_eq!(ecr.count(operation), tries, "one try and {retries} retries");
        assert_eq!(run.stderr.matches("; retry ").count(), tries - 1, "each pause is logged");
    }
}

#[test]
fn an_upload_that_keeps_failing_is_tried_as_often_as_asked() {
    let down = status(503, "UNAVAILABLE", "back soon");
    let ecr = Ecr::faulty(&[Fault::once("ecr:CompleteLayerUpload", down).times(u32::MAX)]);
    refused(&ecr, &["--retries", "1", "--concurrency", "1"], 4).stderr_has(&["HTTP 503", "back soon"]);
    assert_eq!(ecr.count("ecr:CompleteLayerUpload"), 2, "one try and one retry");
    assert_eq!(ecr.count("v2:CancelUpload"), ecr.count("ecr:InitiateLayerUpload"), "every session is closed");
}

#[test]
fn a_registry_that_stores_something_else_is_not_believed() {
    let invalid = status(400, "DIGEST_INVALID", "the digest did not match");
    let ecr = Ecr::faulty(&[Fault::once("ecr:CompleteLayerUpload", invalid.clone()).times(2)]);
    let run = refused(&ecr, &["--concurrency", "1"], 1);
    run.stderr_has(&[
        "cannot upload layer sha256:c37a06bee251 to team/app",
        "DIGEST_INVALID: the digest did not match",
    ]);
    assert_eq!(ecr.count("ecr:PutImage"), 0);
    // Said once, the layer is read and sent again.
    let ecr = Ecr::faulty(&[Fault::once("ecr:CompleteLayerUpload", invalid)]);
    let archive = testdata(ARCHIVE);
    let _run = ecr.run(&[&archive, "team/app:1"]).succeeds();
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 5, "three layers, a config, and one layer again");
}

#[test]
fn no_credentials_at_all() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let mut command = ecr.command(&[&archive, "team/app:1"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let run = finish(command, || ecr.story()).fails_with(3).stdout_is("");
    run.stderr_has(&["no AWS credentials were found", "hint: Set AWS_ACCESS_KEY_ID"]);
    assert!(ecr.log().is_empty());
}

#[test]
fn credentials_that_aws_does_not_know() {
    let unknown = status(400, "UnrecognizedClientException", "The security token included in the request is invalid.");
    let ecr = Ecr::faulty(&[Fault::once("ecr:GetAuthorizationToken", unknown)]);
    let run = refused(&ecr, &[], 3);
    run.stderr_has(&["UnrecognizedClientException: The security token", "check the credentials and the region"]);
}

#[test]
fn a_machine_without_certificates_is_no_reason_to_panic() {
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    let run = ecr.finish(command).output_has_none(&["panicked"]);
    match run.code {
        // Nothing here is asked over https.
        Some(0) => assert!(ecr.image("team/app", "1").is_some()),
        Some(4) => {
            run.stderr_has(&["hint: Install the CA certificates"]);
        }
        code => panic!("exit code {code:?}"),
    }
}

#[test]
fn a_quota_of_repositories_that_is_used_up_is_not_tried_again() {
    let full = status(400, "LimitExceededException", "The maximum number of repositories has been reached");
    let fault = Fault::once("ecr:CreateRepository", full).times(u32::MAX);
    let ecr = Ecr::with(&[], Rules { faults: vec![fault], ..Rules::default() });
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--create-repository"]).fails_with(1);
    assert_eq!(ecr.count("ecr:CreateRepository"), 1);
    run.stderr_has(&["cannot create the repository team/app", "The maximum number of repositories has been reached"]);
}

#[test]
fn plain_http_is_spoken_to_a_named_host_only_where_it_is_asked_for() {
    for (insecure, spoken) in [(&["--insecure"][..], true), (&[], false)] {
        // As a proxy the sandbox sees whether a request comes in plain text or as a tunnel. It serves neither.
        let ecr = Ecr::new();
        let mut command = ecr.env.command(&[&[testdata(ARCHIVE).as_str(), "registry.test/app:1"], insecure].concat());
        command.args(["--retries", "0"]).env("HTTP_PROXY", ecr.url()).env("HTTPS_PROXY", ecr.url());
        let run = ecr.finish(command);
        assert_ne!(run.code, Some(0));
        let plain = ecr.log().iter().any(|entry| entry.method == "GET" && entry.path.contains("/v2/app/manifests/"));
        assert_eq!(plain, spoken, "{insecure:?}");
    }
}

#[test]
fn the_detail_of_an_error_is_shown_and_no_secret_in_it() {
    for (detail, shown) in [
        (r#""Circuit Breaker Threshold Reached""#, "(detail: Circuit Breaker Threshold Reached)"),
        (r#"{"reason":"layer is quarantined","policy":7}"#, "(detail: policy: 7, reason: layer is quarantined)"),
        (r#"[{"Type":"repository","Name":"team/app"}]"#, "(detail: [Name: team/app, Type: repository])"),
        (r#"{"url":"https://a:b@s3.example/x?X-Amz-Signature=12"}"#, "(detail: url: https://***@s3.example/x?***)"),
    ] {
        let body =
            format!(r#"{{"errors":[{{"code":"MANIFEST_INVALID","message":"manifest invalid","detail":{detail}}}]}}"#);
        let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Answer { status: 400, body }).times(u32::MAX)]);
        refused(&ecr, &[], 1).stderr_has(&[&format!("HTTP 400 MANIFEST_INVALID: manifest invalid {shown}")]);
    }
}

#[test]
fn a_redirect_of_a_push_shows_where_it_leads() {
    for status in [301, 307, 308] {
        let address = server(move |first| match first.starts_with("POST ") {
            true => format!(
                "HTTP/1.1 {status} Moved\r\nContent-Length: 0\r\nLocation: https://new.example/v2/?sig=secret\r\n\r\n"
            ),
            false => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        });
        let run =
            TestEnv::new().run(&[&testdata(ARCHIVE), &format!("{address}/team/app:1")]).fails_with(1).stdout_is("");
        let run = run.stderr_has(&[
            &format!("HTTP {status}: "),
            " to https://new.example/v2/?***",
            "hint: Redirects of a push",
        ]);
        run.output_has_none(&["sig=secret", "rejected the request"]);
    }
}

#[test]
fn an_address_that_leads_to_a_metadata_service_or_a_file_is_not_followed() {
    for (location, why) in [
        ("http://[::ffff:0.0.0.0]:1/v2/", "of a metadata service"),
        ("file:///etc/passwd", "that is neither http nor https"),
    ] {
        let moved = Trouble::TellLocation(Some(location.to_owned()));
        let ecr = Ecr::faulty(&[Fault::once("ecr:InitiateLayerUpload", moved).times(u32::MAX)]);
        let run = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "--retries", "0"]);
        let run = finish(run, || ecr.story()).fails_with(1).stdout_is("");
        run.stderr_has(&[&format!("refers to a URL {why}")]).output_has_none(&["passwd"]);
    }
}

#[test]
fn a_service_that_fails_for_a_minute_is_outlived() {
    let down = status(503, "UNAVAILABLE", "sorry");
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", down).times(u32::MAX)]);
    let mut running = Running::start(ecr.command(&[&testdata(ARCHIVE), "team/app:1"]));
    // The fourth of five tries, before the longest pause.
    wait_until("four tries failed", || ecr.count("ecr:PutImage") == 4 || running.ended().is_some());
    std::thread::sleep(Duration::from_millis(500));
    assert!(running.ended().is_none(), "it is still waiting");
    let stderr = running.kill();
    let pauses =
        stderr.lines().filter_map(|line| line.rsplit_once(" in ")?.1.trim_end_matches(" s").parse::<f64>().ok());
    let sum: f64 = pauses.sum();
    assert!(sum > 60.0, "it waits for {sum} s: {stderr}");
}
