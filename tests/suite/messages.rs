//! Messages that are true, said once, and name what is in effect.

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::ecr::{Ecr, status};
use super::harness::{Run, TestEnv, testdata};

const ARCHIVE: &str = "docker-20.10-save.tar";
const OTHER: &str = "docker-29-overlay2-save.tar";

#[test]
fn a_push_of_what_is_there_announces_no_upload_and_no_manifest() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    ecr.run(&[&archive, "team/app:1"]).succeeds().stderr_has(&["; uploading the manifest"]);
    let again = ecr.run(&[&archive, "team/app:1"]).succeeds().stderr_has(&["already up to date; nothing was sent"]);
    again.output_has_none(&["layers uploaded", "; uploading the manifest"]);
}

#[test]
fn a_tag_is_not_reported_as_moved_before_the_registry_moves_it() {
    let deny = vec!["ecr:DescribeRepositories".into()];
    let ecr = Ecr::with(&["team/app"], Rules { immutable: true, deny, ..Rules::default() });
    ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).succeeds();
    let run = ecr.run(&[&testdata(OTHER), "team/app:1"]).fails_with(1).stderr_has(&["was not checked"]);
    run.output_has_none(&[" moved from "]);
    // Where it may, that is said when it has.
    let ecr = Ecr::new();
    ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).succeeds();
    let planned = ecr.run(&[&testdata(OTHER), "team/app:1", "--dry-run"]).succeeds();
    planned.stderr_has(&["tag 000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app:1 would move from sha256:"]);
    ecr.run(&[&testdata(OTHER), "team/app:1"]).succeeds().stderr_has(&["team/app:1 moved from sha256:"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_cache_that_cannot_be_written_is_reported_once() {
    let ecr = Ecr::new();
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--cache", "/proc/nonexistent/layers"]).succeeds();
    let run = run.stderr_has(&["note: layer cache disabled: cannot write /proc/nonexistent/layers: No such file"]);
    assert_eq!(run.stderr.matches("cache").count(), 2, "one line, with its option");
}

#[test]
fn a_replaced_endpoint_is_named_whenever_it_is_in_effect() {
    let ecr = Ecr::new();
    let here = ecr.url().replace("http://", "");
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).succeeds();
    run.stderr_has(&[&format!("note: AWS endpoints are overridden by {here} (AWS_ENDPOINT_URL_ECR, ")]);
    // It has no effect on a push to another registry.
    let closed = super::registry_errors::closed_port();
    let run = ecr.run(&[&testdata(ARCHIVE), &format!("{closed}/team/app:1"), "--retries", "0"]).fails_with(4);
    run.output_has_none(&["are overridden by"]);
}

#[test]
fn a_retry_has_its_count() {
    let busy = status(503, "ServiceUnavailable", "Please try again later");
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", busy).times(2)]);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--retries", "3"]).succeeds();
    run.stderr_has(&["Please try again later; retry 1 of 3 in ", "Please try again later; retry 2 of 3 in "]);
}

#[cfg(unix)]
#[test]
fn an_interruption_while_a_manifest_is_put_leaves_a_doubt_that_is_named() {
    use super::harness::{Running, wait_until};

    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Stall).times(99)]);
    let running = Running::start(ecr.command(&[&testdata(ARCHIVE), "team/app:1"]));
    wait_until("the manifest is put", || ecr.count("ecr:PutImage") == 1);
    super::faults::interrupt(running.id());
    let doubt = "no answer came to the manifest 1 of 000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app: \
                 the registry may have accepted it";
    running.end().fails_with(130).stderr_has(&[doubt]);
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Stall).times(99)]);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--deadline", "3s"]).fails_with(4);
    run.stderr_has(&["its deadline", "the registry may have accepted it"]);
}

#[test]
fn an_empty_profile_is_answered_as_what_it_is() {
    let run =
        TestEnv::new().run(&[&testdata(ARCHIVE), "team/app:1", "--region", "us-east-1", "--profile", ""]).fails_with(2);
    run.stderr_has(&["--profile is empty", "Is a shell variable unset?"]);
}

#[test]
fn an_error_line_has_an_end() {
    let option = format!("--{}", "x".repeat(100_000));
    let run = TestEnv::new()
        .run(&[&testdata(ARCHIVE), "team/app:1", &option])
        .fails_with(2)
        .stderr_has(&["unknown option --xxx"]);
    assert!(run.stderr.len() < 10_000, "{} bytes", run.stderr.len());
    let long = status(400, "UNSUPPORTED", &"no ".repeat(20_000));
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", long).times(9)]);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).fails_with(1).stderr_has(&["UNSUPPORTED"]);
    assert!(run.stderr.len() < 20_000, "{} bytes", run.stderr.len());
}

#[test]
fn each_error_has_its_stable_code() {
    let archive = testdata(ARCHIVE);
    let code = |run: &Run| run.report()["error"]["code"].as_str().unwrap().to_owned();
    let json = |ecr: &Ecr, arguments: &[&str]| {
        let run = ecr.run(&[arguments, &["--output", "json", "--retries", "0"]].concat());
        code(&run)
    };
    let ecr = Ecr::new();
    let closed = format!("{}/team/app:1", super::registry_errors::closed_port());
    for (arguments, expected) in [
        (&[archive.as_str(), "team/app:1", "--colour", "red"][..], "option_unknown"),
        (&[&archive, "team/app:1", "--deadline", "1", "--deadline", "2"], "option_repeated"),
        (&[&archive, "team/app:1", "--image", "a", "--image-id", "12"], "option_conflict"),
        (&[&archive, "team/app:1", "--deadline", "x"], "value_invalid"),
        (&[&archive, "team/app:$(Tag)"], "variable_unexpanded"),
        (&[&archive], "argument_missing"),
        (&[&archive, "Team/App"], "target_invalid"),
        (&["none.tar", "team/app:1"], "archive_unreadable"),
        (&[&testdata("docker-20.10-save-many.tar"), "team/app:1"], "image_ambiguous"),
        (&[&archive, "team/app:1", "--image", "missing/none"], "image_not_found"),
        (&[&archive, "team/app:1", "--platform", "linux/s390x"], "platform_not_found"),
        (&[&archive, "team/missing:1"], "repository_not_found"),
        (&[&archive, &closed], "unreachable"),
    ] {
        assert_eq!(json(&ecr, arguments), expected, "{arguments:?}");
    }
    let after = |rules: Rules| json(&Ecr::with(&["team/app"], rules), &[&archive, "team/app:1"]);
    assert_eq!(after(Rules { deny: vec!["ecr:PutImage".into()], ..Rules::default() }), "permission_denied");
    for (fault, expected) in [
        (status(503, "ServiceUnavailable", "later"), "server_error"),
        (status(429, "TOOMANYREQUESTS", "slower"), "throttled"),
        (status(400, "MANIFEST_INVALID", "no"), "manifest_rejected"),
    ] {
        let faults = vec![Fault::once("ecr:PutImage", fault).times(9)];
        assert_eq!(after(Rules { faults, ..Rules::default() }), expected);
    }
}

#[test]
fn the_report_counts_requests_and_names_those_of_manifests() {
    let slower = Trouble::Throttle { retry_after: None };
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", slower)]);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--tag", "2", "--output", "json"]).succeeds();
    let seen = run.report();
    let requests = &seen["requests"];
    assert_eq!(requests["requests"], ecr.log().len(), "every request is counted");
    assert_eq!(requests["throttled"], 1);
    let count = |operation: &str| {
        let all = requests["operations"].as_array().unwrap();
        all.iter().find(|it| it["operation"] == operation).map_or(0, |it| it["requests"].as_u64().unwrap())
    };
    assert_eq!([count("put_manifest"), count("ecr:GetAuthorizationToken"), count("start_upload")], [3, 1, 4]);
    let puts = seen["targets"][0]["manifests"].as_array().unwrap();
    let answers: Vec<_> = puts.iter().map(|put| (put["reference"].as_str().unwrap(), put["status"].as_u64())).collect();
    assert_eq!(answers, [("1", Some(429)), ("1", Some(201)), ("2", Some(201))]);
    // The sandbox names the requests that it refuses.
    assert!(puts[0]["request_id"].as_str().is_some_and(|id| id.len() == 36), "{puts:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_exceeds_the_limit_of_its_size_is_a_failed_write() {
    let ecr = Ecr::new();
    let (report, program) = (ecr.env.scratch("report.json"), super::harness::program());
    let archive = testdata(ARCHIVE);
    let pushing = ecr.command(&[&archive, "team/app:1", "--report", &report]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 1; exec \"$@\"", "sh"]).arg(program).args(pushing.get_args());
    command.env_clear().envs(pushing.get_envs().filter_map(|(name, value)| Some((name, value?))));
    ecr.finish(command).fails_with(1).stderr_has(&["cannot write the report", "File too large"]);
    assert!(ecr.image("team/app", "1").is_some());
    // Cut off, it is not a report.
    std::fs::remove_file(report).unwrap();
}

#[test]
fn a_dry_run_leaves_the_upload_journal_alone() {
    use std::time::{Duration, SystemTime};

    let ecr = Ecr::new();
    let cache = ecr.env.scratch("layers");
    let folder = ecr.env.scratch("layers.uploads");
    std::fs::create_dir(&folder).unwrap();
    let entry = format!("{folder}/0123456789ab.json");
    let old = SystemTime::now() - Duration::from_secs(30 * 24 * 60 * 60);
    std::fs::File::create(&entry).unwrap().set_modified(old).unwrap();
    ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--cache", &cache, "--dry-run"]).succeeds();
    assert!(std::path::Path::new(&entry).exists(), "a plan removes nothing");
    ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--cache", &cache]).succeeds();
    assert!(!std::path::Path::new(&entry).exists(), "a push does");
}
