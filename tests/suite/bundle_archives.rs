//! Archives of several images as other tools write them.

use std::fs;
use std::process::Command;

use super::archive_builder::packed;
use super::bundles::{mirror, mirror_listed, stored};
use super::docker_registry::second_opinion;
use super::ecr::Ecr;
use super::harness::testdata;

/// The tags of the archives.
const TAGS: [&str; 4] = ["1", "v1", "stable", "latest"];

/// Pushes all images of an archive, and returns what is in the registry.
fn pushed(archive: &str) -> Vec<String> {
    let ecr = Ecr::empty();
    let run = mirror(&ecr, archive, &[]).succeeds();
    let stored = stored(&ecr, &TAGS);
    assert_eq!(run.stdout.lines().count(), stored.len(), "{}", run.stdout);
    stored
}

/// Two images with three names.
const ALL: [&str; 3] = ["mirror/fixture/app:v1", "mirror/fixture/app:stable", "mirror/fixture/base:1"];

#[test]
fn a_docker_save_of_several_images_is_a_bundle() {
    assert_eq!(pushed(&testdata("docker-20.10-save-many.tar")), ALL);
    assert_eq!(pushed(&testdata("docker-29-overlay2-save.tar")), ["mirror/fixture/app:v1"]);
}

#[test]
fn a_podman_save_of_several_images_is_a_bundle() {
    assert_eq!(pushed(&testdata("podman-4.3-save-many.tar")), ALL);
}

#[test]
fn a_layout_into_which_skopeo_copies_several_images_is_a_bundle() {
    if !second_opinion("skopeo") {
        return;
    }
    let ecr = Ecr::empty();
    let layout = ecr.env.scratch("layout");
    let save = testdata("docker-20.10-save-many.tar");
    for (name, target) in [
        ("localhost/fixture/app:v1", "quay.io/fixture/app:v1"),
        ("localhost/fixture/app:stable", "quay.io/fixture/app:stable"),
        ("localhost/fixture/base:1", "quay.io/fixture/base:1"),
        // A name that is only a tag is read as that of a repository.
        ("localhost/fixture/base:1", "v2"),
    ] {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy"]).arg(format!("docker-archive:{save}:{name}"));
        let output = command.arg(format!("oci:{layout}:{target}")).env("HOME", ecr.env.home()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    mirror(&ecr, &layout, &[]).succeeds();
    assert_eq!(stored(&ecr, &TAGS), [&ALL[..], &["mirror/v2:latest"]].concat());
    // The layers are compressed in the layout: they are pushed unchanged, and so are the manifests.
    let index: serde_json::Value = serde_json::from_slice(&fs::read(format!("{layout}/index.json")).unwrap()).unwrap();
    let digests: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|it| it["digest"].as_str().unwrap()).collect();
    let (digest, ..) = ecr.image("mirror/fixture/app", "stable").unwrap();
    assert!(digests.contains(&digest.to_string().as_str()), "{digest} {digests:?}");
}

#[test]
fn a_compressed_bundle_with_its_list_is_pushed_as_vendors_ship_it() {
    let ecr = Ecr::empty();
    let bundle = ecr.env.scratch("images-amd64.tar.zst");
    fs::write(&bundle, packed("zstd", &fs::read(testdata("docker-20.10-save-many.tar")).unwrap())).unwrap();
    // As an editor of Windows saves it.
    let list = "\u{feff}localhost/fixture/base:1\r\nlocalhost/fixture/app:stable\r\n";
    mirror_listed(&ecr, &bundle, list, &[]).succeeds();
    assert_eq!(stored(&ecr, &TAGS), [ALL[1], ALL[2]]);
}
