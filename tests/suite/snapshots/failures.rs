//! Pushes that fail, one of each kind: what went wrong, why, what to do, as a whole.

use std::fs;

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::Snapshot;
use crate::archive_builder;
use crate::ecr::{Ecr, SECRET_KEY, status};
use crate::harness::{Run, TestEnv, testdata};
use crate::registry_errors::closed_port;

const ARCHIVE: &str = "docker-20.10-save.tar";
const SAME: [&str; 4] = ["--concurrency", "1", "--pack-threads", "2"];

fn push(ecr: &Ecr, archive: &str, arguments: &[&str]) -> Run {
    ecr.run(&[&[archive, "team/app:1"], arguments, &SAME].concat())
}

/// A push of an archive that is sound.
#[track_caller]
fn fails(ecr: &Ecr, arguments: &[&str], code: i32, name: &str) {
    Snapshot::of(&push(ecr, &testdata(ARCHIVE), arguments).exits_with(code)).is(name, &ecr.env);
}

#[test]
fn an_archive_that_is_broken() {
    let ecr = Ecr::new();
    let cut = ecr.env.scratch("cut.tar");
    let bytes = fs::read(testdata(ARCHIVE)).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    Snapshot::of(&push(&ecr, &cut, &[]).fails_with(1)).is("failure_1_cut_archive", &ecr.env);
    let text = ecr.env.scratch("text.tar");
    fs::write(&text, "this is no archive\n".repeat(99)).unwrap();
    Snapshot::of(&push(&ecr, &text, &[]).fails_with(1)).is("failure_1_no_archive", &ecr.env);
    let liar = ecr.env.scratch("liar");
    archive_builder::oci_layout(
        &liar,
        &[
            archive_builder::tar_of("a", b"what was there"),
            archive_builder::tar_of("b", &archive_builder::prose(1, 9000)),
        ],
    );
    let layer = crate::archive_contents::sha256(&archive_builder::tar_of("a", b"what was there"));
    let place = format!("{liar}/blobs/sha256/{}", layer.strip_prefix("sha256:").unwrap());
    fs::write(&place, archive_builder::tar_of("a", b"what is there!")).unwrap();
    Snapshot::of(&push(&ecr, &liar, &[]).fails_with(1)).is("failure_1_changed_layer", &ecr.env);
    let many = testdata("docker-20.10-save-many.tar");
    Snapshot::of(&push(&ecr, &many, &[]).fails_with(2)).is("failure_2_several_images", &ecr.env);
    let part = testdata("docker-29-containerd-save-incomplete.tar");
    Snapshot::of(&push(&ecr, &part, &[]).fails_with(1)).is("failure_1_missing_platforms", &ecr.env);
    let missing = ecr.env.scratch("missing.tar");
    Snapshot::of(&push(&ecr, &missing, &[]).fails_with(1)).is("failure_1_missing_archive", &ecr.env);
}

#[test]
fn a_registry_that_refuses() {
    let refusal = status(400, "MANIFEST_INVALID", "manifest invalid");
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", refusal).times(9)]);
    fails(&ecr, &[], 1, "failure_1_refused_manifest");
    let ecr = Ecr::empty();
    fails(&ecr, &[], 1, "failure_1_missing_repository");
    fails(&ecr, &["--dry-run"], 1, "failure_1_missing_repository_dry_run");
    let ecr = Ecr::with(&["team/app"], Rules { immutable: true, ..Rules::default() });
    push(&ecr, &testdata(ARCHIVE), &[]).succeeds();
    let other = testdata("docker-29-overlay2-save.tar");
    Snapshot::of(&push(&ecr, &other, &[]).fails_with(1)).is("failure_1_immutable_tag", &ecr.env);
    let other = large(&ecr);
    let options = ["--tag", "2", "--if-exists", "fail"];
    Snapshot::of(&push(&ecr, &other, &options).fails_with(1)).is("failure_1_tag_exists", &ecr.env);
    Snapshot::of(&push(&ecr, &other, &["--if-exists", "same-ok"]).fails_with(1)).is("failure_1_not_the_same", &ecr.env);
}

#[test]
fn a_command_line_that_makes_no_sense() {
    let ecr = Ecr::new();
    for (arguments, name) in [
        (&["--colour", "red"][..], "failure_2_unknown_option"),
        (&["--concurency", "2"], "failure_2_mistyped_option"),
        (&["--progress", "bar"], "failure_2_mistyped_value"),
        (&["--tag", "$(Build.BuildId)"], "failure_2_unexpanded_variable"),
        (&["--retries", "many"], "failure_2_no_number"),
        (&["--output-variable", "IMAGE"], "failure_2_variable_without_a_place"),
    ] {
        let archive = testdata(ARCHIVE);
        let run = ecr.env.run(&[&[archive.as_str(), "team/app:1"], arguments].concat()).fails_with(2);
        Snapshot::of(&run).is(name, &ecr.env);
    }
    Snapshot::of(&ecr.env.run(&[&testdata(ARCHIVE)]).fails_with(2)).is("failure_2_no_target", &ecr.env);
    let target = "000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app:1";
    let run = ecr.env.run(&[&testdata(ARCHIVE), target, "--region", "eu-west-1"]).fails_with(2);
    Snapshot::of(&run).is("failure_2_two_regions", &ecr.env);
    Snapshot::of(&ecr.env.run(&[]).fails_with(2)).is("failure_2_nothing", &ecr.env);
    Snapshot::of(&ecr.env.run(&["a.tar", "Team/App:1"]).fails_with(2)).is("failure_2_no_repository", &ecr.env);
    let mut command = ecr.env.command(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    Snapshot::of(&ecr.finish(command).fails_with(2)).is("failure_2_no_region", &ecr.env);
}

#[test]
fn a_right_or_a_login_that_is_missing() {
    let denied = |action: &str| Ecr::with(&["team/app"], Rules { deny: vec![action.into()], ..Rules::default() });
    fails(&denied("ecr:PutImage"), &[], 3, "failure_3_permission");
    fails(&denied("ecr:InitiateLayerUpload"), &[], 3, "failure_3_permission_to_upload");
    fails(&denied("ecr:GetAuthorizationToken"), &[], 3, "failure_3_permission_to_log_in");
    let ecr = Ecr::with(&[], Rules { deny: vec!["ecr:CreateRepository".into()], ..Rules::default() });
    fails(&ecr, &["--create-repository"], 3, "failure_3_permission_to_create");
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    Snapshot::of(&ecr.finish(command).fails_with(3)).is("failure_3_no_credentials", &ecr.env);
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "--output", "json"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    Snapshot::of(&ecr.finish(command).fails_with(3)).is("failure_3_no_credentials_json", &ecr.env);
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "--log-format", "json"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    Snapshot::of(&ecr.finish(command).fails_with(3)).is("failure_3_no_credentials_log_json", &ecr.env);
}

#[test]
fn a_network_that_gives_out() {
    let env = TestEnv::new();
    let target = format!("{}/team/app:1", closed_port());
    let run = env.run(&[&[testdata(ARCHIVE).as_str(), &target, "--retries", "1"], &SAME[..]].concat()).fails_with(4);
    Snapshot::of(&run).is("failure_4_nobody_answers", &env);
    let busy = status(503, "ServiceUnavailable", "Please try again later");
    let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", busy).times(99)]);
    let run = push(&ecr, &large(&ecr), &["--retries", "1"]).fails_with(4);
    Snapshot::of(&run).is("failure_4_service_is_busy", &ecr.env);
    let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(1 << 20)).times(99)]);
    let run = push(&ecr, &large(&ecr), &["--retries", "1"]).fails_with(4);
    // Which of its words the kernel chooses depends on what was in flight.
    let cut = r"(Connection reset by peer|Broken pipe) \(os error \d+\)";
    Snapshot::of(&run).without(cut, "CONNECTION CUT").is("failure_4_line_is_cut", &ecr.env);
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Stall).times(99)]);
    // Time for a busy machine to get as far as the manifest.
    fails(&ecr, &["--deadline", "5"], 4, "failure_4_deadline");
}

/// An archive with a layer of several chunks.
fn large(ecr: &Ecr) -> String {
    let archive = ecr.env.scratch("large.tar");
    archive_builder::docker_save(
        &archive,
        &[archive_builder::tar_of("noise", &archive_builder::noise(7, 17 << 20)), archive_builder::tar_of("a", b"a")],
    );
    archive
}

#[cfg(unix)]
#[test]
fn an_interruption() {
    use crate::faults::interrupt;
    use crate::harness::{Running, wait_until};

    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Stall).times(99)]);
    let command = ecr.command(&[&[testdata(ARCHIVE).as_str(), "team/app:1"], &SAME[..]].concat());
    let running = Running::start(command);
    wait_until("the manifest is put", || ecr.count("ecr:PutImage") == 1);
    interrupt(running.id());
    Snapshot::of(&running.end().fails_with(130)).is("failure_130_interrupted", &ecr.env);
}
