//! What people and pipelines get to see: plans, progress, silence, the report.

use ecr_push::sandbox::Rules;
use serde_json::Value;

use super::ecr::{Ecr, HOST};
use super::harness::{TestEnv, report, testdata};

const ARCHIVE: &str = "docker-20.10-save.tar";
const DIFF_IDS: [&str; 3] = ["sha256:c37a06bee251", "sha256:fab827903802", "sha256:631cc2c4392a"];

/// The operations that a look without a touch may take.
const READING: [&str; 5] = [
    "ecr:GetAuthorizationToken",
    "ecr:DescribeRepositories",
    "ecr:DescribeRepositoryCreationTemplates",
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
];

fn only_read(ecr: &Ecr, from: usize) {
    let log = &ecr.log()[from..];
    assert!(!log.is_empty());
    assert!(log.iter().all(|entry| READING.contains(&entry.operation.as_str())), "more than reading");
}

#[test]
fn a_dry_run_names_every_layer_and_sends_nothing() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "team/app:1", "--dry-run"]).succeeds().stdout_is("");
    only_read(&ecr, 0);
    for diff_id in DIFF_IDS {
        let line = run.stderr.lines().find(|line| line.starts_with("layer ") && line.contains(diff_id));
        let line = line.unwrap_or_else(|| panic!("no line about {diff_id}"));
        assert!(line.contains("upload: new, compressed with gzip"), "{line}");
    }
    let run = run
        .stderr_has(&["3 of 3 layers would be uploaded", "of the archive; nothing was sent"])
        .output_has_none(&["reused"]);
    assert_eq!(run.stderr.matches("upload: ").count(), 3, "each layer once: {}", run.stderr);
    assert_eq!(ecr.env.written(), Vec::<String>::new());
}

#[test]
fn a_dry_run_knows_what_would_be_reused() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    let before = ecr.log().len();
    let run = ecr.run(&[&archive, "team/app:2", "--dry-run"]).succeeds().stdout_is("");
    only_read(&ecr, before);
    for diff_id in DIFF_IDS {
        let line = run.stderr.lines().find(|line| line.starts_with("layer ") && line.contains(diff_id));
        assert!(line.unwrap().ends_with("reuse: exists in the repository, known from the layer cache"));
    }
    run.stderr_has(&[
        "0 of 3 layers would be uploaded",
        "\nwould save compressing and sending 443.0 KiB of the archive: ",
        "3 reused; about ",
    ]);
    assert!(ecr.image("team/app", "2").is_none());
}

#[test]
fn a_dry_run_creates_no_repository() {
    let (ecr, archive) = (Ecr::empty(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "team/app:1", "--dry-run", "--create-repository"]).succeeds().stdout_is("");
    run.stderr_has(&["does not exist and would be created"]);
    only_read(&ecr, 0);
    assert_eq!(ecr.repositories(), Vec::<String>::new());
}

#[test]
fn a_dry_run_fails_where_the_push_would() {
    let (ecr, archive) = (Ecr::empty(), testdata(ARCHIVE));
    ecr.run(&[&archive, "team/app:1", "--dry-run"]).fails_with(1).stdout_is("").stderr_has(&["--create-repository"]);
    only_read(&ecr, 0);
}

#[test]
fn a_dry_run_ends_as_the_push_would_where_the_registry_cannot_be_used() {
    let (env, archive) = (TestEnv::new(), testdata(ARCHIVE));
    let closed = format!("{}/team/app:1", super::registry_errors::closed_port());
    let wants_login = Ecr::with(&["team/app"], Rules::default());
    let denied = format!("{}/team/app:1", wants_login.address());
    for reuse in ["tag", "cache", "off"] {
        for (target, code) in [(&closed, 4), (&denied, 3)] {
            for dry_run in [&[][..], &["--dry-run"]] {
                let arguments = [&[archive.as_str(), target, "--retries", "0", "--reuse", reuse], dry_run].concat();
                env.run(&arguments).fails_with(code).stdout_is("");
            }
        }
    }
    assert_eq!(wants_login.open_uploads(), 0);
}

#[test]
fn a_quiet_push_logs_no_success() {
    for quiet in [&["-q"][..], &["--quiet"], &["--progress", "none"]] {
        let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
        let run = ecr.run(&[&[archive.as_str(), "team/app:1"], quiet].concat()).succeeds();
        assert_eq!(run.stderr, "");
        assert_eq!(run.stdout.lines().count(), 1);
    }
}

#[test]
fn a_quiet_push_still_logs_errors() {
    let ecr = Ecr::new();
    let run = ecr.run(&["missing.tar", "team/app:1", "-q"]).fails_with(1).stdout_is("");
    assert!(run.stderr.starts_with("error: cannot find the file missing.tar"));
}

#[test]
fn plain_progress_is_lines_without_control_characters() {
    for progress in [&["--progress", "plain"][..], &[]] {
        let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
        let run = ecr.run(&[&[archive.as_str(), "team/app:1"], progress].concat()).succeeds();
        assert!(!run.stderr.contains(['\r', '\x1b']), "lines only");
        for diff_id in DIFF_IDS {
            let about = |what: &str| run.stderr.lines().any(|line| line.contains(diff_id) && line.contains(what));
            assert!(about("upload: new, compressed with gzip") && about("  sent"), "{diff_id}");
        }
        run.stderr_has(&[
            "localhost/fixture/app:v1 (docker save archive, linux/amd64)",
            "linux/amd64): 3 layers",
            "3 of 3 layers uploaded",
        ]);
    }
}

#[test]
fn bars_are_no_part_of_the_result() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "team/app:1", "--progress", "bars"]).succeeds();
    assert!(run.stdout.starts_with(HOST) && run.stdout.lines().count() == 1);
}

#[test]
fn the_report_of_a_push_has_its_results() {
    let (ecr, archive) = (Ecr::empty(), testdata(ARCHIVE));
    let written = ecr.env.scratch("report.json");
    let options = ["--create-repository", "--tag", "b", "--report", &written];
    let run = ecr.run(&[&[archive.as_str(), "team/app:a"], &options[..]].concat()).succeeds();
    let seen = report(&written);
    assert_eq!(seen["version"], 1);
    assert_eq!(seen["tool"]["name"], "ecr-push");
    assert_eq!(seen["archive"], archive);
    assert_eq!((&seen["dry_run"], &seen["exit_code"]), (&Value::from(false), &Value::from(0)));
    assert_eq!(seen["image"]["names"], serde_json::json!(["localhost/fixture/app:v1"]));
    assert_eq!(seen["image"]["platforms"], serde_json::json!(["linux/amd64"]));
    let target = &seen["targets"][0];
    assert_eq!(target["name"], format!("{HOST}/team/app"));
    assert_eq!(target["created_repository"], true);
    assert_eq!(target["pushed_tags"], serde_json::json!(["a", "b"]));
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(target["references"], serde_json::json!(lines));
    let (digest, _, media_type) = ecr.image("team/app", "a").unwrap();
    assert_eq!((&target["digest"], &target["media_type"]), (&digest.to_string().into(), &media_type.into()));
    let layers = target["layers"].as_array().unwrap();
    let total: u64 = layers.iter().map(|layer| layer["bytes_sent"].as_u64().unwrap()).sum();
    assert_eq!(target["bytes_sent"], total);
    for layer in layers {
        let digest = layer["digest"].as_str().unwrap().parse().unwrap();
        let blob = ecr.blob("team/app", &digest).unwrap();
        assert_eq!((&layer["size"], &layer["bytes_sent"]), (&blob.len().into(), &blob.len().into()));
        assert!(DIFF_IDS.iter().any(|diff_id| layer["diff_id"].as_str().unwrap().starts_with(diff_id)));
    }
}

#[test]
fn the_report_of_a_failure_has_the_error_and_what_was_done() {
    let ecr = Ecr::with(&["team/app"], Rules { deny: vec!["ecr:PutImage".into()], ..Rules::default() });
    let written = ecr.env.scratch("report.json");
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--report", &written]).fails_with(3).stdout_is("");
    let seen = report(&written);
    assert_eq!((&seen["version"], &seen["exit_code"]), (&1.into(), &3.into()));
    let target = &seen["targets"][0];
    assert_eq!(target["pushed_tags"], serde_json::json!([]));
    assert!(target["digest"].is_null());
    assert_eq!(target["layers"].as_array().unwrap().len(), 3, "the layers arrived");
    let error = &target["error"];
    assert_eq!((&error["kind"], &error["exit_code"]), (&"permission".into(), &3.into()));
    let message = error["message"].as_str().unwrap();
    assert!(run.stderr.contains(&format!("error: {message}\n")), "the same words");
    assert!(error["causes"][0].as_str().unwrap().contains("not authorized to perform: ecr:PutImage"));
    assert!(error["hint"].as_str().unwrap().contains("ecr:PutImage"));
    let text = std::fs::read_to_string(&written).unwrap();
    assert!(!text.contains(super::ecr::SECRET_KEY) && !text.contains("QVdTO"), "a report holds no secret");
}

#[test]
fn the_report_of_an_invalid_archive_names_every_target() {
    let ecr = Ecr::new();
    let written = ecr.env.scratch("report.json");
    let run = ecr.run(&["missing.tar", "team/app:1", "team/other:2", "--report", &written]).fails_with(1);
    let seen = report(&written);
    assert!(seen["image"].is_null());
    for (target, name) in [(0, "team/app:1"), (1, "team/other:2")] {
        let target = &seen["targets"][target];
        assert_eq!((&target["name"], &target["error"]["kind"]), (&name.into(), &"input".into()));
    }
    assert_eq!(run.stderr.matches("cannot find the file missing.tar").count(), 1, "said once");
    assert!(ecr.log().is_empty(), "no request is sent for an archive that cannot be read");
}

#[test]
fn a_report_that_cannot_be_written_is_found_out_before_the_push() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "team/app:1", "--report", "no/such/folder/report.json"]).fails_with(2);
    run.stderr_has(&["cannot write the report to no/such/folder/report.json", "hint: "]);
    assert!(ecr.log().is_empty());
    // A disk may still be full at the end.
    if cfg!(target_os = "linux") {
        let run = ecr.run(&[&archive, "team/app:1", "--report", "/dev/full"]).fails_with(1);
        run.stderr_has(&[
            "cannot write the report to /dev/full",
            "because: No space left",
            "hint: The image was pushed.",
        ]);
        let missing = ecr.run(&[&archive, "team/missing:1", "--report", "/dev/full"]).fails_with(1);
        missing.stderr_has(&["cannot write the report to /dev/full"]).output_has_none(&["was pushed"]);
    }
}
