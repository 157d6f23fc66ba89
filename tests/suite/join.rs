//! `--join`: images of several archives as one multi-platform image.

use ecr_push::sandbox::Rules;
use serde_json::{Value, json};

use super::archive_builder;
use super::ecr::Ecr;
use super::harness::{Running, TestEnv};
use super::layout_builder::{Layout, digest};
use super::stored_image::StoredImage;

const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes a docker save of one layer, whose config has these fields.
fn save(env: &TestEnv, name: &str, fields: &Value) -> String {
    let path = env.scratch(name);
    archive_builder::docker_save_with(&path, fields);
    path
}

fn linux(architecture: &str) -> Value {
    json!({"os": "linux", "architecture": architecture})
}

/// Writes a layout with an image for a platform and its attestation below an index.
fn layout(env: &TestEnv, name: &str, platform: &str) -> String {
    let layout = Layout::new(env, name);
    let image = layout.image(platform);
    let attestation = layout.attestation(&image);
    layout.finish(&[layout.index(&[image, attestation])]);
    layout.path
}

/// Returns the index under a tag, after checking that every blob below it is there, with its digest and size.
fn index(ecr: &Ecr, repository: &str, tag: &str) -> Value {
    let image = StoredImage::of_sandbox(ecr, repository, tag);
    for manifest in image.manifests() {
        image.blob(&manifest["config"]);
        manifest["layers"].as_array().unwrap().iter().for_each(|layer| drop(image.blob(layer)));
    }
    serde_json::from_slice(&ecr.image(repository, tag).unwrap().1).unwrap()
}

/// Returns the platforms that an index lists.
fn platforms(index: &Value) -> Vec<String> {
    let platform = |entry: &Value| {
        let word = |field: &str| entry["platform"][field].as_str().unwrap_or("?").to_owned();
        format!("{}/{}", word("os"), word("architecture"))
    };
    index["manifests"].as_array().unwrap().iter().map(platform).collect()
}

#[test]
fn docker_saves_are_joined_to_a_docker_list_that_does_not_depend_on_their_order() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let (amd, arm) = (
        save(&ecr.env, "amd64.tar", &linux("amd64")),
        save(&ecr.env, "arm64.tar", &json!({"os": "linux", "architecture": "arm64", "variant": "v8"})),
    );
    let one = ecr.run(&[&arm, "--join", &amd, "team/app:1", "--tag", "latest"]).succeeds();
    let other = ecr.run(&[&amd, "team/other:1", "--join", &arm]).succeeds();
    let index = index(&ecr, "team/app", "1");
    assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64"]);
    assert_eq!(index["mediaType"], DOCKER_LIST);
    assert_eq!(one.digests()[0], other.digest());
    // Children by digest first, then each tag once.
    let put = ecr.manifests_put();
    assert!(put[..2].iter().all(|reference| reference.starts_with("sha256:")), "{put:?}");
    assert_eq!(put[2..4], ["1", "latest"], "{put:?}");
}

#[test]
fn a_second_run_puts_nothing_and_an_immutable_tag_can_be_pushed() {
    let ecr = Ecr::empty();
    let (amd, arm) = (save(&ecr.env, "amd64.tar", &linux("amd64")), layout(&ecr.env, "arm64", "linux/arm64"));
    let arguments = [&amd, "--join", &arm, "team/app:1", "--create-repository", "--tag-mutability", "immutable"];
    let first = ecr.run(&arguments).succeeds();
    let puts = ecr.count("ecr:PutImage");
    assert_eq!(index(&ecr, "team/app", "1")["mediaType"], OCI_INDEX);
    let before = ecr.log().len();
    let second = ecr.run(&arguments).succeeds();
    assert_eq!((second.digest(), ecr.count("ecr:PutImage")), (first.digest(), puts));
    let uploads = ecr.log()[before..].iter().filter(|entry| entry.operation.contains("Layer")).count();
    assert!(uploads <= 1, "{}", ecr.story());
}

#[test]
fn attestations_go_along_and_refer_to_what_is_pushed() {
    let ecr = Ecr::new();
    let (amd, arm) = (layout(&ecr.env, "amd64", "linux/amd64"), layout(&ecr.env, "arm64", "linux/arm64"));
    for compression in ["keep", "gzip"] {
        ecr.run(&[&arm, "--join", &amd, &format!("team/app:{compression}"), "--compression", compression]).succeeds();
        let index = index(&ecr, "team/app", compression);
        let entries = index["manifests"].as_array().unwrap();
        assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64", "unknown/unknown", "unknown/unknown"]);
        for (image, attestation) in [(0, 2), (1, 3)] {
            let about = &entries[attestation]["annotations"]["vnd.docker.reference.digest"];
            assert_eq!(*about, entries[image]["digest"], "{index:#}");
        }
    }
}

#[test]
fn referrers_of_the_joined_images_go_along_and_those_of_a_left_out_index_are_reported() {
    let ecr = Ecr::new();
    let arm = {
        let layout = Layout::new(&ecr.env, "arm64");
        let image = layout.image("linux/arm64");
        let index = layout.index(std::slice::from_ref(&image));
        let (of_image, of_index) =
            (layout.artifact(&image, "text/sbom", "image"), layout.artifact(&index, "text/sbom", "index"));
        layout.finish(&[index, of_image, of_index]);
        layout.path
    };
    let amd = save(&ecr.env, "amd64.tar", &linux("amd64"));
    ecr.run(&[&amd, "--join", &arm, "team/app:1", "--referrers"]).succeeds().stderr_has(&[
        "1 referrer (signatures, SBOMs) of this image is pushed with it",
        "not pushed: 1 referrer of the index",
    ]);
    let index = index(&ecr, "team/app", "1");
    assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64"]);
}

#[test]
fn windows_images_are_told_apart_by_their_version() {
    let ecr = Ecr::new();
    let windows = |version: &str| {
        let fields = json!({"os": "windows", "architecture": "amd64", "os.version": version});
        save(&ecr.env, &format!("{version}.tar"), &fields)
    };
    let (old, new) = (windows("10.0.17763.1"), windows("10.0.20348.12"));
    ecr.run(&[&new, "--join", &old, "team/app:1"]).succeeds();
    let index = index(&ecr, "team/app", "1");
    let versions: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|entry| &entry["platform"]["os.version"]).collect();
    assert_eq!(versions, ["10.0.17763.1", "10.0.20348.12"]);
    ecr.run(&[&new, "--join", &new, "team/app:2"]).fails_with(1).stderr_has(&["both are for windows/amd64"]);
}

#[test]
fn platforms_that_collide_or_are_missing_are_errors_that_name_both_archives() {
    let ecr = Ecr::new();
    let (amd, also) = (save(&ecr.env, "amd64.tar", &linux("amd64")), layout(&ecr.env, "also-amd64", "linux/amd64"));
    let none = save(&ecr.env, "none.tar", &json!({}));
    for (archives, cause) in [([&amd, &also], "both are for linux/amd64"), ([&amd, &none], "states no platform")] {
        let [one, other] = archives;
        ecr.run(&[one, "--join", other, "team/app:1"]).fails_with(1).stderr_has(&[one, other, cause]);
    }
    ecr.has_no_image("1");
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 0);
}

#[test]
fn a_failure_leaves_the_old_tag() {
    let ecr = Ecr::new();
    let (amd, arm) = (save(&ecr.env, "amd64.tar", &linux("amd64")), layout(&ecr.env, "arm64", "linux/arm64"));
    let before = ecr.run(&[&amd, "team/app:1"]).succeeds().digest();
    let blobs = std::path::Path::new(&arm).join("blobs/sha256");
    // The layer is the largest file; its bytes are no longer those of its digest.
    let largest = std::fs::read_dir(blobs).unwrap().map(|it| it.unwrap().path());
    let largest = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    bytes[20_000] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    ecr.run(&[&amd, "--join", &arm, "team/app:1"]).fails_with(1).stderr_has(&["does not match the digest"]);
    assert_eq!(ecr.image("team/app", "1").unwrap().0.to_string(), before);
}

#[test]
fn the_digest_of_a_joined_index_can_be_expected_if_no_layer_is_compressed() {
    let ecr = Ecr::new();
    let (amd, arm) = (layout(&ecr.env, "amd64", "linux/amd64"), layout(&ecr.env, "arm64", "linux/arm64"));
    let pushed = ecr.run(&[&amd, "--join", &arm, "team/app:1"]).succeeds().digest();
    ecr.run(&[&arm, "--join", &amd, "team/app:2", "--expect-digest", &pushed]).succeeds();
    let of_image = digest(&Layout::new(&ecr.env, "other").image("linux/amd64"));
    ecr.run(&[&arm, "--join", &amd, "team/app:3", "--expect-digest", &of_image]).fails_with(1);
    ecr.has_no_image("3");
}

#[test]
fn one_archive_of_a_join_may_be_a_pipe_and_not_two() {
    let ecr = Ecr::new();
    let (amd, arm) = (save(&ecr.env, "amd64.tar", &linux("amd64")), layout(&ecr.env, "arm64", "linux/arm64"));
    let command = ecr.command(&["-", "--join", &arm, "team/app:1"]);
    Running::fed(command, std::fs::File::open(&amd).unwrap()).end().succeeds();
    assert_eq!(platforms(&index(&ecr, "team/app", "1")), ["linux/amd64", "linux/arm64", "unknown/unknown"]);
    ecr.run(&["-", "--join", "-", "team/app:1"]).fails_with(2).stderr_has(&["two archives are on standard input"]);
}

#[test]
fn a_transport_selects_the_image_of_its_own_archive() {
    let ecr = Ecr::new();
    let many = {
        let layout = Layout::new(&ecr.env, "many");
        let name = |image: &Value, name: &str| {
            super::layout_builder::annotated(image, &json!({"org.opencontainers.image.ref.name": name}))
        };
        layout.finish(&[name(&layout.image("linux/arm64"), "arm"), name(&layout.image("linux/s390x"), "z")]);
        layout.path
    };
    let amd = save(&ecr.env, "amd64.tar", &linux("amd64"));
    ecr.run(&[&amd, "--join", &format!("oci:{many}:z"), "team/app:1"]).succeeds();
    assert_eq!(platforms(&index(&ecr, "team/app", "1")), ["linux/amd64", "linux/s390x"]);
    ecr.run(&[&amd, "--join", &many, "team/app:2"]).fails_with(2).stderr_has(&["contains 2 images"]);
}

/// Returns the descriptor of an image for Windows, whose config alone states the version.
fn windows(layout: &Layout, version: &str) -> Value {
    let layer = archive_builder::tar_of("version", version.as_bytes());
    let config = json!({"os": "windows", "architecture": "amd64", "os.version": version,
        "rootfs": {"type": "layers", "diff_ids": [super::archive_contents::sha256(&layer)]}});
    layout.manifest(json!({
        "config": layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()),
        "layers": [layout.blob("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))
}

#[test]
fn nested_windows_images_are_told_apart_by_their_configs() {
    let ecr = Ecr::new();
    let nested = |name: &str, version: &str| {
        let layout = Layout::new(&ecr.env, name);
        let inner = layout.index(&[windows(&layout, version)]);
        layout.finish(&[layout.index(&[inner])]);
        layout.path
    };
    let (old, new) = (nested("old", "10.0.17763.1"), nested("new", "10.0.20348.1"));
    ecr.run(&[&old, "--join", &new, "team/app:1"]).succeeds();
    let same = nested("same", "10.0.20348.1");
    ecr.run(&[&same, "--join", &new, "team/app:2"]).fails_with(1).stderr_has(&["both are for windows/amd64"]);
}

#[test]
fn the_platform_of_a_config_is_believed_over_that_of_an_index() {
    let ecr = Ecr::new();
    let amd = save(&ecr.env, "amd64.tar", &linux("amd64"));
    let layout = Layout::new(&ecr.env, "mislabeled");
    let mut image = layout.image("linux/amd64");
    image["platform"]["architecture"] = json!("arm64");
    layout.finish(&[layout.index(&[image])]);
    ecr.run(&[&amd, "--join", &layout.path, "team/app:1"]).fails_with(1).stderr_has(&["both are for linux/amd64"]);
    ecr.has_no_image("1");
}

#[test]
fn an_archive_without_an_image_cannot_be_joined() {
    let ecr = Ecr::new();
    let amd = save(&ecr.env, "amd64.tar", &linux("amd64"));
    let layout = Layout::new(&ecr.env, "chart");
    let image = layout.image("linux/amd64");
    layout.finish(&[layout.artifact(&image, "application/vnd.cncf.helm.config.v1+json", "chart")]);
    ecr.run(&[&amd, "--join", &layout.path, "team/app:1"]).fails_with(1).stderr_has(&["cannot join", "amd64.tar"]);
}
