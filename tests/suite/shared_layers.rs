//! A layer that several images of a run share is sent to a registry once, wherever that is possible.

use std::fs::File;

use ecr_push::sandbox::{BlobMounting, Rules};
use serde_json::{Value, json};

use super::archive_builder::{add, prose, tar_of};
use super::archive_contents::sha256;
use super::bundles::mirror;
use super::ecr::{Ecr, HOST};
use super::harness::TestEnv;

/// How many layers all images share.
const SHARED: usize = 3;

/// Writes a docker save of images with these names. They share layers, and each has one of its own.
fn save(env: &TestEnv, names: &[String]) -> String {
    let shared: Vec<_> = (0..SHARED).map(|n| tar_of("base", &prose(n as u64 + 1, 90_000))).collect();
    save_with(env, names, &shared)
}

/// Writes a docker save of images with these names, which have these layers, and each one of its own.
pub(crate) fn save_with(env: &TestEnv, names: &[String], shared: &[Vec<u8>]) -> String {
    let path = env.scratch("images.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let layer_name = |n: usize| format!("base-{n}/layer.tar");
    shared.iter().enumerate().for_each(|(n, layer)| add(&mut tar, &layer_name(n), layer));
    let mut list = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let own = tar_of("own", &prose(at as u64 + 100, 30_000));
        let diff_ids: Vec<_> = shared.iter().chain([&own]).map(|layer| sha256(layer)).collect();
        let config =
            json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        add(&mut tar, &format!("{at}/layer.tar"), &own);
        add(&mut tar, &format!("{at}.json"), config.to_string().as_bytes());
        let layers: Vec<_> = (0..shared.len()).map(layer_name).chain([format!("{at}/layer.tar")]).collect();
        list.push(json!({"Config": format!("{at}.json"), "RepoTags": [name], "Layers": layers}));
    }
    add(&mut tar, "manifest.json", Value::from(list).to_string().as_bytes());
    tar.finish().unwrap();
    path
}

/// A sandbox that mounts blobs or not, or has no such setting.
fn ecr(blob_mounting: BlobMounting) -> Ecr {
    Ecr::with(&[], Rules { blob_mounting, ..Rules::default() })
}

/// How many blobs were sent, and how many were mounted.
fn sent_and_mounted(ecr: &Ecr) -> (usize, usize) {
    let is_mount = |path: &str| path.contains("mount=");
    let mounted = ecr.log().iter().filter(|entry| is_mount(&entry.path) && entry.status == 201).count();
    let sent = ecr.asked("ecr:CompleteLayerUpload").iter().filter(|entry| entry.status == 201).count();
    (sent, mounted)
}

/// Asserts that every image is there with all its layers.
#[track_caller]
fn has_all(ecr: &Ecr, names: &[String]) {
    for name in names {
        let (repository, tag) = name.split_once(':').unwrap();
        let (_, manifest, _) = ecr.image(&format!("mirror/{repository}"), tag).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), SHARED + 1);
    }
}

#[test]
fn images_of_one_repository_send_it_once() {
    let ecr = ecr(BlobMounting::Disabled);
    let names: Vec<_> = (0..8).map(|n| format!("app:{n}")).collect();
    let archive = save(&ecr.env, &names);
    mirror(&ecr, &archive, &[]).succeeds();
    // Each image has a layer and a config of its own.
    assert_eq!(sent_and_mounted(&ecr), (SHARED + 2 * 8, 0), "{}", ecr.story());
    // The archive states that images share layers, not that they go to one repository.
    assert_eq!(ecr.count("ecr:GetAccountSetting"), 1);
    has_all(&ecr, &names);
}

#[test]
fn other_repositories_mount_it_if_the_account_allows_it() {
    let ecr = ecr(BlobMounting::Enabled);
    let names: Vec<_> = (0..8).map(|n| format!("app-{n}:1")).collect();
    let archive = save(&ecr.env, &names);
    mirror(&ecr, &archive, &[]).succeeds().output_has_none(&["not mounted"]);
    assert_eq!(sent_and_mounted(&ecr), (SHARED + 2 * 8, SHARED * 7), "{}", ecr.story());
    assert_eq!((ecr.count("ecr:GetAccountSetting"), ecr.count("ecr:GetAuthorizationToken")), (1, 1));
    has_all(&ecr, &names);
}

#[test]
fn no_mount_is_tried_if_the_account_forbids_it() {
    let ecr = ecr(BlobMounting::Disabled);
    let names: Vec<_> = (0..5).map(|n| format!("app-{n}:1")).collect();
    let archive = save(&ecr.env, &names);
    mirror(&ecr, &archive, &[]).succeeds();
    assert_eq!(sent_and_mounted(&ecr), ((SHARED + 2) * 5, 0), "{}", ecr.story());
    assert!(ecr.count("ecr:GetAccountSetting") == 1 && !ecr.story().contains("mount="), "{}", ecr.story());
    has_all(&ecr, &names);
}

#[test]
fn a_mount_is_tried_where_the_setting_cannot_be_read() {
    let rules =
        Rules { blob_mounting: BlobMounting::Enabled, deny: vec!["ecr:GetAccountSetting".into()], ..Rules::default() };
    let ecr = Ecr::with(&[], rules);
    let names: Vec<_> = (0..12).map(|n| format!("app-{n}:1")).collect();
    let archive = save(&ecr.env, &names);
    mirror(&ecr, &archive, &[]).succeeds();
    let (sent, mounted) = sent_and_mounted(&ecr);
    // The first four send it, since they know of no mount.
    assert!(sent <= SHARED * 4 + 2 * 12 && sent + mounted == (SHARED + 2) * 12, "{sent} {mounted}\n{}", ecr.story());
    has_all(&ecr, &names);
}

#[test]
fn two_targets_in_one_registry_send_it_once() {
    let ecr = Ecr::with(&["one", "two"], Rules { blob_mounting: BlobMounting::Enabled, ..Rules::default() });
    let archive = save(&ecr.env, &["app:1".to_owned()]);
    let seen = ecr.env.scratch("report.json");
    ecr.run(&[&archive, "one:1", &format!("{HOST}/two:1"), "--report", &seen]).succeeds();
    assert_eq!(sent_and_mounted(&ecr), (SHARED + 1 + 2, SHARED + 1), "{}", ecr.story());
    let report = super::harness::report(&seen);
    let actions = |target: usize| -> Vec<String> {
        let layers = report["targets"][target]["layers"].as_array().unwrap().iter();
        layers.map(|layer| format!("{}: {}", layer["action"], layer["reason"])).collect()
    };
    let mounted = |from: &str| vec![format!("\"mount\": \"from {from}: seen in another push of this run\""); 4];
    assert!(actions(0) == mounted("two") || actions(1) == mounted("one"), "{report:#}");
}

#[test]
fn a_single_push_writes_no_temporary_file() {
    let ecr = Ecr::with(&["one", "two"], Rules { blob_mounting: BlobMounting::Disabled, ..Rules::default() });
    let names: Vec<_> = (0..2).map(|n| format!("app-{n}:1")).collect();
    let archive = save_with(&ecr.env, &names, &[tar_of("base", &vec![7; 2 << 20])]);
    let missing = ecr.env.scratch("missing");
    let tried = ["layers that several images have are compressed for each: cannot write layer"];
    let options = ["--temp-dir", missing.as_str(), "--verbose"];
    // The targets share a reading, and the other image is not pushed.
    let targets = [archive.as_str(), "one:1", "two:1", "--image", &names[0]];
    ecr.run(&[&targets[..], &options[..]].concat()).succeeds().output_has_none(&tried);
    mirror(&ecr, &archive, &options).succeeds().stderr_has(&tried);
}

#[test]
fn an_image_that_fails_takes_no_other_along() {
    let rules = Rules { blob_mounting: BlobMounting::Enabled, ..Rules::default() };
    let names: Vec<_> = (0..8).map(|n| format!("app-{n}:1")).collect();
    let ecr = Ecr::with(&[], rules);
    ecr.set_rules(|rules| {
        let rejected = super::ecr::status(400, "MANIFEST_INVALID", "no");
        rules.faults = vec![ecr_push::sandbox::Fault::once("ecr:PutImage", rejected)];
    });
    let archive = save(&ecr.env, &names);
    mirror(&ecr, &archive, &[]).fails_with(1).stderr_has(&["8 images: 7 pushed, 0 already up to date, 1 failed"]);
    ecr.run(&[&archive, "mirror/", "--all-images"])
        .succeeds()
        .stderr_has(&["8 images: 1 pushed, 7 already up to date, 0 failed"]);
    has_all(&ecr, &names);
}

#[test]
fn a_blob_that_is_lost_on_the_way_is_sent_again() {
    let rules = Rules { blob_mounting: BlobMounting::Enabled, ..Rules::default() };
    let names: Vec<_> = (0..6).map(|n| format!("app:{n}")).collect();
    let ecr = Ecr::with(&[], rules);
    ecr.set_rules(|rules| {
        rules.faults = vec![ecr_push::sandbox::Fault::once("ecr:PutImage", ecr_push::sandbox::Trouble::LoseLayer)];
    });
    let archive = save(&ecr.env, &names);
    mirror(&ecr, &archive, &[]).succeeds();
    has_all(&ecr, &names);
}
