//! What programs get of a push: JSON on stdout, and files with the report, the digest, the metadata.

use std::fs;

use ecr_push::sandbox::Rules;
use serde_json::{Value, json};

use super::ecr::{Ecr, HOST};
use super::harness::{TestEnv, finish, report, testdata};
use super::layout_builder::Layout;

const ARCHIVE: &str = "docker-20.10-save.tar";

/// A sandbox that takes everything but manifests.
fn denying() -> Ecr {
    Ecr::with(&["team/app"], Rules { deny: vec!["ecr:PutImage".into()], ..Rules::default() })
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[test]
fn json_on_stdout_is_the_report_and_nothing_else() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let written = ecr.env.scratch("report.json");
    let options = ["team/app:1", "--output", "json", "--report", &written, "--display-name", "Ship  it"];
    let run = ecr.run(&[&[archive.as_str()], &options[..]].concat()).succeeds().stderr_has(&["3 of 3 layers uploaded"]);
    let seen = run.report();
    assert_eq!(seen, report(&written), "both are one");
    assert_eq!((&seen["display_name"], &seen["error"]), (&json!("Ship it"), &Value::Null));
    let digest = ecr.image("team/app", "1").unwrap().0;
    assert_eq!(seen["targets"][0]["references"], json!([format!("{HOST}/team/app:1@{digest}")]));
    let mut command = ecr.command(&[&archive, "team/app:1", "--dry-run"]);
    command.env("ECR_PUSH_OUTPUT", "json");
    let run = ecr.finish(command).succeeds();
    assert_eq!((&run.report()["dry_run"], &run.report()["totals"]["layers"]["reuse"]), (&json!(true), &json!(3)));
}

#[test]
fn json_on_stdout_reports_a_failure_too() {
    let (ecr, archive) = (denying(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "team/app:1", "--output", "json"]).fails_with(3).stderr_has(&["\nerror: cannot "]);
    let seen = run.report();
    assert_eq!((&seen["exit_code"], &seen["error"]), (&json!(3), &seen["targets"][0]["error"]));
    assert_eq!(seen["error"]["kind"], "permission");
    assert_eq!(seen["totals"]["layers"], json!({"upload": 3, "mount": 0, "reuse": 0}));
}

#[test]
fn a_command_line_that_makes_no_sense_is_reported_as_well() {
    let env = TestEnv::new();
    let (written, archive) = (env.scratch("report.json"), testdata(ARCHIVE));
    for (options, says) in [
        (&["--colour", "red"][..], "--colour"),
        (&["--concurrency", "0"], "--concurrency must be at least 1"),
        (&["--region", "eu/west"], "is not an AWS region"),
        (&["--username", "me", "--password-stdin"], "--username"),
        (&["--digest-file", "no/such/folder/digest"], "cannot write the digest to no/such/folder/digest"),
        (&["--tag", "$(Build.BuildId)"], "Build.BuildId"),
    ] {
        let arguments = [&[archive.as_str(), "team/app:1", "--output=json", "--report", &written], options].concat();
        let run = env.run(&arguments).fails_with(2).stderr_has(&["error: ", says]);
        let seen = run.report();
        assert!(seen["error"]["message"].as_str().unwrap().contains(says), "{seen}");
        assert_eq!((&seen["exit_code"], &seen["targets"], &seen["archive"]), (&json!(2), &json!([]), &Value::Null));
        assert_eq!(report(&written)["error"], seen["error"]);
        fs::remove_file(&written).unwrap();
    }
    let mut command = env.command(&["--colour", "red"]);
    command.env("ECR_PUSH_OUTPUT", "json").env("ECR_PUSH_DISPLAY_NAME", "Ship it");
    assert_eq!(finish(command, String::new).fails_with(2).report()["display_name"], "Ship it");
    // The digest of an archive is not that of a push.
    env.run(&["inspect", "--output", "json"]).fails_with(2).stdout_is("");
}

#[test]
fn a_report_of_nonsense_overwrites_nothing_that_was_named_for_something_else() {
    let env = TestEnv::new();
    let archive = env.scratch("image.tar");
    fs::copy(testdata(ARCHIVE), &archive).unwrap();
    let here = format!("{}/../scratch/image.tar", env.home().display());
    for report in [&archive, &here] {
        env.run(&[&archive, "team/app:1", "--report", report, "--colour", "red"]).fails_with(2);
    }
    let mut command = env.command(&["team/app:1", "--report", &archive]);
    command.env("ECR_PUSH_OUTPUT_FILE", &archive);
    finish(command, String::new).fails_with(2);
    assert!(fs::read(&archive).unwrap() == fs::read(testdata(ARCHIVE)).unwrap(), "the archive is what it was");
}

#[test]
fn the_digest_file_has_the_digest_of_a_push_that_went_well() {
    let (ecr, archive) = (Ecr::with(&["team/app", "team/other"], Rules::default()), testdata(ARCHIVE));
    let (digest, metadata) = (ecr.env.scratch("digest"), ecr.env.scratch("metadata.json"));
    let files = ["--digest-file", &digest, "--metadata-file", &metadata];
    let run =
        ecr.run(&[&[archive.as_str(), "team/app:1", "team/other:2", "--tag", "b"], &files[..]].concat()).succeeds();
    assert_eq!(read(&digest).unwrap(), run.digests()[0], "no line end, as others write it");
    // A push with a failed target is a failed push, a plan is not a push, and neither leaves an earlier file.
    for (options, code) in [(&["team/app:1", "team/missing:2"][..], 1), (&["team/app:1", "--dry-run"], 0)] {
        fs::write(&digest, "sha256:0000").unwrap();
        fs::write(&metadata, "{}").unwrap();
        ecr.run(&[&[archive.as_str()], options, &files[..]].concat()).exits_with(code);
        assert_eq!((read(&digest), read(&metadata)), (None, None), "{options:?}");
    }
}

#[test]
fn the_metadata_are_those_of_buildx() {
    let (ecr, archive) = (Ecr::with(&["team/app", "team/other"], Rules::default()), testdata(ARCHIVE));
    let written = ecr.env.scratch("metadata.json");
    let push = |arguments: &[&str]| {
        let run = ecr.run(&[arguments, &["--metadata-file", &written]].concat()).succeeds();
        let seen: Value = serde_json::from_str(&read(&written).unwrap()).unwrap();
        (run.digests()[0].clone(), seen)
    };
    let (digest, seen) = push(&[&archive, "team/app:1", "team/other:2", "--tag", "b"]);
    let (_, manifest, media_type) = ecr.image("team/app", "1").unwrap();
    let config: Value = serde_json::from_slice(&manifest).unwrap();
    let (app, other) = (format!("{HOST}/team/app"), format!("{HOST}/team/other"));
    let expected = json!({
        "containerimage.config.digest": config["config"]["digest"],
        "containerimage.descriptor": {
            "mediaType": media_type,
            "digest": digest,
            "size": manifest.len(),
            "platform": {"architecture": "amd64", "os": "linux"},
        },
        "containerimage.digest": digest,
        "image.name": format!("{app}:1,{app}:b,{other}:2,{other}:b"),
    });
    assert_eq!(seen, expected);
    // An index has neither a config nor a platform.
    let (digest, seen) = push(&[&testdata("skopeo-oci-layout-multiarch"), "team/app:2"]);
    let (_, index, media_type) = ecr.image("team/app", "2").unwrap();
    let expected = json!({
        "containerimage.descriptor": {"mediaType": media_type, "digest": digest, "size": index.len()},
        "containerimage.digest": digest,
        "image.name": format!("{app}:2"),
    });
    assert_eq!(seen, expected);
    // A variant is one.
    let layout = Layout::new(&ecr.env, "arm");
    layout.finish(&[layout.image("linux/arm/v6")]);
    let (_, seen) = push(&[&ecr.env.scratch("arm"), "team/app:3"]);
    let platform = json!({"architecture": "arm", "os": "linux", "variant": "v6"});
    assert_eq!(seen["containerimage.descriptor"]["platform"], platform);
    // A tag that was left alone points at something of which no more is known.
    let (digest, seen) = push(&[&archive, "team/app:3", "--tag", "4", "--if-exists", "skip"]);
    assert_eq!((&seen["containerimage.digest"], &seen["image.name"]), (&json!(digest), &json!(format!("{app}:3"))));
    assert!(seen.get("containerimage.config.digest").is_none(), "{seen}");
}

#[test]
fn a_push_that_fails_leaves_neither() {
    let (ecr, archive) = (denying(), testdata(ARCHIVE));
    let (digest, metadata) = (ecr.env.scratch("digest"), ecr.env.scratch("metadata.json"));
    fs::write(&digest, "sha256:0000").unwrap();
    let files = ["--digest-file", &digest, "--metadata-file", &metadata];
    ecr.run(&[&[archive.as_str(), "team/app:1"], &files[..]].concat()).fails_with(3);
    assert_eq!((read(&digest), read(&metadata)), (None, None));
}

#[test]
fn a_file_that_cannot_be_written_is_reported_before_the_push_or_after_it() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    for (option, what) in [("--digest-file", "digest"), ("--metadata-file", "metadata")] {
        let run = ecr.run(&[&archive, "team/app:1", option, "no/such/folder/file"]).fails_with(2).stdout_is("");
        run.stderr_has(&[&format!("cannot write the {what} to no/such/folder/file"), "hint: "]);
        assert!(ecr.log().is_empty(), "no request is sent");
    }
    if cfg!(target_os = "linux") {
        let written = ecr.env.scratch("report.json");
        let options = ["--digest-file", "/dev/full", "--report", &written, "--output", "json"];
        let run = ecr.run(&[&[archive.as_str(), "team/app:1"], &options[..]].concat()).fails_with(1);
        let run =
            run.stderr_has(&["error: cannot write the digest to /dev/full", "because: No space left", "was pushed"]);
        let seen = report(&written);
        assert_eq!((&seen["exit_code"], &seen["error"]["kind"]), (&json!(1), &json!("input")));
        assert_eq!((&seen["targets"][0]["error"], &run.report()), (&Value::Null, &seen));
        let run = ecr.run(&[&archive, "team/app:1", "--output", "json", "--report", "/dev/full"]).fails_with(1);
        assert!(run.report()["error"]["message"].as_str().unwrap().contains("the report to /dev/full"));
    }
}

#[test]
fn each_file_is_one_of_its_own() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let options = ["--report", "--digest-file", "--metadata-file", "--output-file"];
    let variable = ["--output-variable", "IMAGE"];
    for option in options {
        let run = ecr.run(&[&["own.tar", "team/app:1", option, "own.tar"], &variable[..]].concat()).fails_with(2);
        run.stderr_has(&[&format!("{option} would overwrite the archive")]);
        let run = ecr.run(&[&[archive.as_str(), "team/app:1", option, "-"], &variable[..]].concat()).fails_with(2);
        run.stderr_has(&[&format!("{option} needs a file: it cannot write to - (stdout)"), "hint: "]);
        for other in options.iter().filter(|other| **other != option) {
            let files = [option, "same", other, "same"];
            let run = ecr.run(&[&[archive.as_str(), "team/app:1"], &files[..], &variable[..]].concat()).fails_with(2);
            run.stderr_has(&["write to the same file", option, other]);
        }
    }
    assert!(ecr.log().is_empty() && ecr.env.written().is_empty(), "{:?}", ecr.env.written());
}

#[cfg(unix)]
#[test]
fn a_file_is_the_same_by_whatever_name() {
    let ecr = Ecr::new();
    let (archive, link, summary) = (ecr.env.scratch("a.tar"), ecr.env.scratch("link"), ecr.env.scratch("s.md"));
    fs::copy(testdata(ARCHIVE), &archive).unwrap();
    std::os::unix::fs::symlink(&archive, &link).unwrap();
    for option in ["--report", "--digest-file", "--metadata-file"] {
        let run = ecr.run(&[&archive, "team/app:1", option, &link]).fails_with(2);
        run.stderr_has(&["is the same file as", "hint: "]);
        let mut command = ecr.command(&[&archive, "team/app:1", option, &summary]);
        fs::write(&summary, "before").unwrap();
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
        ecr.finish(command).fails_with(2).stderr_has(&["is the same file as"]);
        assert!(read(&summary).unwrap().starts_with("before"));
    }
    let run = ecr.run(&[&archive, "team/app:1", "--report", "x", "--digest-file", "./x"]).fails_with(2);
    run.stderr_has(&["is the same file as"]);
    assert!(fs::read(&archive).unwrap() == fs::read(testdata(ARCHIVE)).unwrap(), "the archive is what it was");
    assert!(ecr.log().is_empty());
}

#[test]
fn stdout_is_json_or_teamcity_s() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let options = ["--output", "json", "--output-variable", "IMAGE"];
    let command = |more: &[&str]| {
        let mut command = ecr.command(&[&[archive.as_str(), "team/app:1"], &options[..], more].concat());
        command.env("TEAMCITY_VERSION", "2025");
        command
    };
    let run = ecr.finish(command(&[])).fails_with(2).stderr_has(&["cannot both go to stdout", "--output-file"]);
    assert!(ecr.log().is_empty() && run.report()["exit_code"] == 2);
    let file = ecr.env.scratch("variables");
    let run = ecr.finish(command(&["--output-file", &file])).succeeds();
    assert!(run.report()["targets"][0]["digest"].is_string() && read(&file).unwrap().starts_with("IMAGE="));
}
