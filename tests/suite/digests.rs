//! One image that has another digest at one target than at another.

use std::fs;

use ecr_push::sandbox::Rules;
use serde_json::{Value, json};

use super::ecr::{Ecr, HOST};
use super::harness::testdata;

const ARCHIVE: &str = "docker-20.10-save.tar";

/// Two repositories, of which the second holds the layers as another recipe compressed them.
fn compressed_another_way() -> Ecr {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let own = ecr.env.scratch("cache");
    ecr.run(&[&testdata(ARCHIVE), "team/other:1", "--compression-level", "6", "--cache", &own]).succeeds();
    ecr
}

#[test]
fn two_digests_of_one_image_are_warned_of_and_in_every_output() {
    let ecr = compressed_another_way();
    let archive = testdata(ARCHIVE);
    let (digest, metadata) = (ecr.env.scratch("digest"), ecr.env.scratch("metadata.json"));
    let variables = ecr.env.scratch("variables");
    let outputs = ["--digest-file", &digest, "--metadata-file", &metadata, "--output", "json"];
    let variable = ["--output-variable", "IMAGE", "--output-file", &variables];
    let targets = [archive.as_str(), "team/app:1", "team/other:1"];
    let run = ecr.run(&[&targets[..], &outputs, &variable].concat()).succeeds();
    let [app, other] = ["team/app", "team/other"].map(|repository| ecr.image(repository, "1").unwrap().0.to_string());
    assert_ne!(app, other);
    let named = [format!("{HOST}/team/app:1 has {app}"), format!("{HOST}/team/other:1 has {other}")];
    let run = run.stderr_has(&["warning: the image has 2 digests: ", &named[0], &named[1]]);
    let warnings = run.report()["warnings"].to_string();
    assert!(named.iter().all(|named| warnings.contains(named)), "{warnings}");
    assert_eq!(fs::read_to_string(&digest).unwrap(), format!("{app}\n{other}"));
    let seen: Value = serde_json::from_slice(&fs::read(&metadata).unwrap()).unwrap();
    let all = json!({format!("{HOST}/team/app:1"): app, format!("{HOST}/team/other:1"): other});
    assert_eq!((&seen["containerimage.digest"], &seen["ecr-push.digests"]), (&json!(app), &all));
    let set = fs::read_to_string(&variables).unwrap();
    let refs = format!("\nIMAGE_REFS={HOST}/team/app@{app},{HOST}/team/other@{other}\n");
    assert!(set.contains(&refs), "{set}");
}

#[test]
fn what_the_warning_advises_gives_one_digest() {
    let ecr = compressed_another_way();
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "team/other:1", "--reuse", "off"]).succeeds();
    let run = run.output_has_none(&["digests: "]);
    let digests = run.digests();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn one_digest_for_all_targets_costs_the_layers_that_differ() {
    let (ecr, archive) = (compressed_another_way(), testdata(ARCHIVE));
    let targets = [archive.as_str(), "team/app:1", "team/other:1", "--same-digest"];
    let from = ecr.log().len();
    let run = ecr.run(&targets).succeeds().output_has_none(&["digests: "]);
    let digests = run.digests();
    assert_eq!(digests[0], digests[1]);
    let sent = ecr.log()[from..].iter().filter(|entry| entry.operation == "ecr:CompleteLayerUpload").count();
    assert_eq!(sent, 3 + 4, "three layers that the one has from another level; all of the other, with its config");
    // Once all have the same, it is reused.
    let from = ecr.log().len();
    ecr.run(&targets).succeeds();
    assert!(ecr.log()[from..].iter().all(|entry| entry.operation != "ecr:InitiateLayerUpload"));
    // A target that fails is not waited for.
    let run = ecr.run(&[&archive, "team/missing:1", "team/app:2", "--same-digest"]).fails_with(1);
    run.stderr_has(&["1 of 2 targets"]);
    assert!(ecr.image("team/app", "2").is_some());
}
