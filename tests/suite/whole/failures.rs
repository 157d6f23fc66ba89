//! Pushes that fail, one of each kind: what went wrong, why, what to do, as a whole.

use std::fs;

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::Whole;
use crate::bench::{Bench, Run, testdata};
use crate::build;
use crate::ecr::{Ecr, SECRET_KEY, status};
use crate::errors_of_registries::closed_port;

const ARCHIVE: &str = "docker-20.10-save.tar";
const SAME: [&str; 4] = ["--concurrency", "1", "--pack-threads", "2"];

fn push(ecr: &Ecr, archive: &str, arguments: &[&str]) -> Run {
    ecr.run(&[&[archive, "team/app:1"], arguments, &SAME].concat())
}

/// A push of an archive that is sound.
#[track_caller]
fn fails(ecr: &Ecr, arguments: &[&str], code: i32, name: &str) {
    Whole::of(&push(ecr, &testdata(ARCHIVE), arguments).exits(code)).is(name, &ecr.bench);
}

#[test]
fn an_archive_that_is_broken() {
    let ecr = Ecr::new();
    let cut = ecr.bench.scratch("cut.tar");
    let bytes = fs::read(testdata(ARCHIVE)).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    Whole::of(&push(&ecr, &cut, &[]).exits(1)).is("failure_1_cut_archive", &ecr.bench);
    let text = ecr.bench.scratch("text.tar");
    fs::write(&text, "this is no archive\n".repeat(99)).unwrap();
    Whole::of(&push(&ecr, &text, &[]).exits(1)).is("failure_1_no_archive", &ecr.bench);
    let liar = ecr.bench.scratch("liar");
    build::oci_layout(&liar, &[build::tar_of("a", b"what was there"), build::tar_of("b", &build::prose(1, 9000))]);
    let layer = crate::source::sha256(&build::tar_of("a", b"what was there"));
    let place = format!("{liar}/blobs/sha256/{}", layer.strip_prefix("sha256:").unwrap());
    fs::write(&place, build::tar_of("a", b"what is there!")).unwrap();
    Whole::of(&push(&ecr, &liar, &[]).exits(1)).is("failure_1_changed_layer", &ecr.bench);
    let many = testdata("docker-20.10-save-many.tar");
    Whole::of(&push(&ecr, &many, &[]).exits(2)).is("failure_2_several_images", &ecr.bench);
    let part = testdata("docker-29-containerd-save-incomplete.tar");
    Whole::of(&push(&ecr, &part, &[]).exits(1)).is("failure_1_missing_platforms", &ecr.bench);
    let missing = ecr.bench.scratch("missing.tar");
    Whole::of(&push(&ecr, &missing, &[]).exits(1)).is("failure_1_missing_archive", &ecr.bench);
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
    drop(push(&ecr, &testdata(ARCHIVE), &[]).exits(0));
    let other = testdata("docker-29-overlay2-save.tar");
    Whole::of(&push(&ecr, &other, &[]).exits(1)).is("failure_1_immutable_tag", &ecr.bench);
    let other = large(&ecr);
    let options = ["--tag", "2", "--if-exists", "fail"];
    Whole::of(&push(&ecr, &other, &options).exits(1)).is("failure_1_tag_exists", &ecr.bench);
    Whole::of(&push(&ecr, &other, &["--if-exists", "same-ok"]).exits(1)).is("failure_1_not_the_same", &ecr.bench);
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
        let run = ecr.bench.run(&[&[archive.as_str(), "team/app:1"], arguments].concat()).exits(2);
        Whole::of(&run).is(name, &ecr.bench);
    }
    Whole::of(&ecr.bench.run(&[&testdata(ARCHIVE)]).exits(2)).is("failure_2_no_target", &ecr.bench);
    let target = "000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app:1";
    let run = ecr.bench.run(&[&testdata(ARCHIVE), target, "--region", "eu-west-1"]).exits(2);
    Whole::of(&run).is("failure_2_two_regions", &ecr.bench);
    Whole::of(&ecr.bench.run(&[]).exits(2)).is("failure_2_nothing", &ecr.bench);
    Whole::of(&ecr.bench.run(&["a.tar", "Team/App:1"]).exits(2)).is("failure_2_no_repository", &ecr.bench);
    let mut command = ecr.bench.command(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    Whole::of(&ecr.finish(command).exits(2)).is("failure_2_no_region", &ecr.bench);
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
    Whole::of(&ecr.finish(command).exits(3)).is("failure_3_no_credentials", &ecr.bench);
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "--output", "json"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    Whole::of(&ecr.finish(command).exits(3)).is("failure_3_no_credentials_json", &ecr.bench);
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "--log-format", "json"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    Whole::of(&ecr.finish(command).exits(3)).is("failure_3_no_credentials_log_json", &ecr.bench);
}

#[test]
fn a_network_that_gives_out() {
    let bench = Bench::new();
    let target = format!("{}/team/app:1", closed_port());
    let run = bench.run(&[&[testdata(ARCHIVE).as_str(), &target, "--retries", "1"], &SAME[..]].concat()).exits(4);
    Whole::of(&run).is("failure_4_nobody_answers", &bench);
    let busy = status(503, "ServiceUnavailable", "Please try again later");
    let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", busy).times(99)]);
    let run = push(&ecr, &large(&ecr), &["--retries", "2"]).exits(4);
    Whole::of(&run).is("failure_4_service_is_busy", &ecr.bench);
    let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(1 << 20)).times(99)]);
    let run = push(&ecr, &large(&ecr), &["--retries", "1"]).exits(4);
    Whole::of(&run).is("failure_4_line_is_cut", &ecr.bench);
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Stall).times(99)]);
    fails(&ecr, &["--deadline", "1"], 4, "failure_4_deadline");
}

/// An archive with a layer of several chunks.
fn large(ecr: &Ecr) -> String {
    let archive = ecr.bench.scratch("large.tar");
    build::docker_save(&archive, &[build::tar_of("noise", &build::noise(7, 17 << 20)), build::tar_of("a", b"a")]);
    archive
}

#[cfg(unix)]
#[test]
fn an_interruption() {
    use crate::bench::{Running, wait_until};
    use crate::faults::interrupt;

    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", Trouble::Stall).times(99)]);
    let command = ecr.command(&[&[testdata(ARCHIVE).as_str(), "team/app:1"], &SAME[..]].concat());
    let running = Running::start(command);
    wait_until("the manifest is put", || ecr.count("ecr:PutImage") == 1);
    interrupt(running.id());
    Whole::of(&running.end().exits(130)).is("failure_130_interrupted", &ecr.bench);
}
