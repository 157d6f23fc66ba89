//! Several targets and several tags in one run.

use ecr_push::sandbox::Rules;

use super::archive_contents::Source;
use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST};
use super::harness::{TestEnv, report, testdata};
use super::stored_image::StoredImage;

const ARCHIVE: &str = "docker-29-overlay2-save.tar";

fn two_repositories() -> Ecr {
    Ecr::with(&["team/app", "team/other"], Rules::default())
}

#[test]
fn two_repositories_get_the_same_image_from_one_run() {
    let (ecr, archive) = (two_repositories(), testdata(ARCHIVE));
    let written = ecr.env.scratch("report.json");
    let run = ecr.run(&[&archive, "team/app:1", "team/other:2", "--report", &written]).succeeds();
    let digest = run.digests()[0].clone();
    run.stdout_is(&format!("{HOST}/team/app:1@{digest}\n{HOST}/team/other:2@{digest}\n"));
    let source = Source::read(&archive, 0);
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&source);
    StoredImage::of_sandbox(&ecr, "team/other", "2").is(&source);
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 8, "three layers and a config, twice");
    assert_eq!(ecr.count("ecr:GetAuthorizationToken"), 1, "a registry is logged in to once");
    let seen = report(&written);
    for (target, name) in [(0, "team/app"), (1, "team/other")] {
        let target = &seen["targets"][target];
        assert_eq!(target["name"], format!("{HOST}/{name}"));
        assert_eq!(target["layers"].as_array().unwrap().len(), 3);
        assert!(target["error"].is_null());
    }
}

#[test]
fn repositories_of_ecr_and_another_registry_are_pushed_to_in_one_run() {
    let Some(registry) = DockerRegistry::start() else { return };
    let (ecr, archive) = (two_repositories(), testdata(ARCHIVE));
    let elsewhere = registry.target("third/app:3");
    let run = ecr.run(&[&archive, "team/app:1", &elsewhere, "team/other:2"]).succeeds();
    let digest = run.digests()[0].clone();
    run.stdout_is(&format!("{HOST}/team/app:1@{digest}\n{elsewhere}@{digest}\n{HOST}/team/other:2@{digest}\n"));
    let source = Source::read(&archive, 0);
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&source);
    StoredImage::of_sandbox(&ecr, "team/other", "2").is(&source);
    registry.read_back("third/app", "3").is(&source);
}

#[cfg(target_os = "linux")]
#[test]
fn a_layer_is_read_once_for_all_targets() {
    use ecr_push::sandbox::{Fault, Trouble};

    use super::archive_builder;
    use super::harness::{Running, wait_until};

    let ecr = two_repositories();
    let (archive, size) = (ecr.env.scratch("large.tar"), 12 << 20);
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("noise", &archive_builder::noise(5, size))]);
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", Trouble::Stall).times(2)]);
    let running = Running::start(ecr.command(&[&archive, "team/app:1", "team/other:2"]));
    // Now both are held where every layer has arrived.
    wait_until("both manifests are put", || ecr.count("ecr:PutImage") == 2);
    let io = std::fs::read_to_string(format!("/proc/{}/io", running.id())).unwrap();
    let read: usize = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    assert!((size..size * 3 / 2).contains(&read), "{read} bytes were read of an archive of {size}");
}

#[test]
fn a_target_that_fails_does_not_stop_the_others() {
    for targets in [["team/missing:1", "team/app:1"], ["team/app:1", "team/missing:1"]] {
        let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
        let written = ecr.env.scratch("report.json");
        let run = ecr.run(&[&[archive.as_str()], &targets[..], &["--report", &written]].concat()).fails_with(1);
        let digest = ecr.image("team/app", "1").expect("the other target was pushed").0;
        let run = run.stdout_is(&format!("{HOST}/team/app:1@{digest}\n"));
        run.stderr_has(&["the repository team/missing does not exist", "1 of 2 targets were pushed"]);
        assert_eq!(ecr.repositories(), ["team/app"]);
        let seen = report(&written);
        assert_eq!(seen["exit_code"], 1);
        let failed = |target: usize| seen["targets"][target]["error"].is_object();
        assert_eq!([failed(0), failed(1)], targets.map(|target| target == "team/missing:1"));
    }
}

#[test]
fn a_registry_that_does_not_answer_does_not_stop_the_others() {
    let Some(registry) = DockerRegistry::start() else { return };
    let (env, archive, target) = (TestEnv::new(), testdata(ARCHIVE), registry.target("team/app:1"));
    let closed = super::registry_errors::closed_port();
    let run = env.run(&[&archive, &format!("{closed}/team/app:1"), &target, "--retries", "0"]).fails_with(4);
    assert!(run.stdout.starts_with(&format!("{target}@sha256:")) && run.stdout.lines().count() == 1);
    registry.read_back("team/app", "1").is(&Source::read(&archive, 0));
}

#[test]
fn the_exit_code_does_not_depend_on_the_order_of_targets() {
    let closed = format!("{}/team/app:1", super::registry_errors::closed_port());
    for targets in [["team/missing:1", &closed], [&closed, "team/missing:1"]] {
        let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
        let written = ecr.env.scratch("report.json");
        let options = ["--retries", "0", "--report", &written];
        let run = ecr.run(&[&[archive.as_str()], &targets[..], &options].concat()).fails_with(1);
        run.stderr_has(&["the repository team/missing does not exist", "no response from"]);
        let seen = report(&written);
        assert_eq!(seen["error"]["code"], "repository_not_found");
    }
    // What a rerun can cure in every target has its code.
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    ecr.run(&[&archive, &closed, "team/app:1", "--retries", "0"]).fails_with(4);
}

#[test]
fn each_region_that_is_named_gets_the_image() {
    let (env, archive) = (TestEnv::new(), testdata(ARCHIVE));
    let regions = ["--region", "eu-west-1", "--region", "us-east-1"];
    let run = env.run(&[&["--sandbox", &archive, "team/app:1"], &regions[..]].concat()).succeeds();
    let digest = run.digests()[0].clone();
    let europe = HOST.replace("us-east-1", "eu-west-1");
    run.stdout_is(&format!("{europe}/team/app:1@{digest}\n{HOST}/team/app:1@{digest}\n"));
    let policy = env.run(&[&["policy", "team/app"], &regions[..]].concat()).succeeds();
    assert!(["eu-west-1", "us-east-1"].iter().all(|region| policy.stdout.contains(&format!(":ecr:{region}:*:"))));
}

#[test]
fn a_target_that_fails_in_mid_upload_does_not_stop_the_others() {
    let (ecr, archive) = (two_repositories(), testdata(ARCHIVE));
    let denied = super::ecr::status(403, "DENIED", "not today");
    ecr.set_rules(|rules| {
        rules.faults = vec![ecr_push::sandbox::Fault::once("ecr:CompleteLayerUpload", denied)];
    });
    let run =
        ecr.run(&[&archive, "team/app:1", "team/other:1"]).fails_with(3).stderr_has(&["not today", "1 of 2 targets"]);
    assert_eq!(run.digests().len(), 1);
    let there = ["team/app", "team/other"].map(|name| ecr.image(name, "1").is_some());
    assert_eq!(there.iter().filter(|there| **there).count(), 1);
}

#[test]
fn several_tags_take_one_upload() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "team/app:a", "--tag", "b", "--tag", "c", "-t", "a"]).succeeds();
    let digest = run.digests()[0].clone();
    let lines = ["a", "b", "c"].map(|tag| format!("{HOST}/team/app:{tag}@{digest}\n"));
    run.stdout_is(&lines.concat());
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 4);
    assert_eq!(ecr.manifests_put(), ["a", "b", "c"]);
    let digests = ["a", "b", "c"].map(|tag| ecr.image("team/app", tag).unwrap().0.to_string());
    assert_eq!(digests, [digest.clone(), digest.clone(), digest]);
}

#[test]
fn without_any_tag_it_is_latest() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "team/app"]).succeeds();
    assert!(run.stdout.starts_with(&format!("{HOST}/team/app:latest@sha256:")));
    assert_eq!(ecr.manifests_put(), ["latest"]);
}

#[test]
fn a_tag_option_replaces_the_target_s_tag() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "team/app", "--tag", "x"]).succeeds();
    assert!(run.stdout.starts_with(&format!("{HOST}/team/app:x@sha256:")));
    assert_eq!(ecr.manifests_put(), ["x"]);
}

#[test]
fn the_registry_s_host_can_be_named() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, &format!("{HOST}/team/app:1")]).succeeds();
    assert!(run.stdout.starts_with(&format!("{HOST}/team/app:1@sha256:")));
    assert!(ecr.image("team/app", "1").is_some());
}

#[test]
fn options_can_stand_in_the_environment() {
    let (ecr, archive) = (Ecr::empty(), testdata(ARCHIVE));
    let mut command = ecr.command(&[&archive, "team/app"]);
    command.env("ECR_PUSH_TAG", "a,b").env("ECR_PUSH_CREATE_REPOSITORY", "True").env("ECR_PUSH_IMAGE", "");
    ecr.finish(command).succeeds().stderr_has(&["created the repository"]);
    assert_eq!(ecr.manifests_put(), ["a", "b"]);
}

#[test]
fn two_tags_of_one_repository_named_as_targets_are_one_push() {
    let ecr = Ecr::new();
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "team/app:2"]).succeeds();
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 4, "three layers and a config");
    assert_eq!(ecr.count("ecr:GetAuthorizationToken"), 1);
    assert_eq!(ecr.manifests_put(), ["1", "2"]);
    assert_eq!(run.stdout.lines().count(), 2);
}
