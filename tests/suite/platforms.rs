//! Platforms: the same one under every spelling, in an index and in a config, for reuse, mounts and `--platform`.

use ecr_push::sandbox::{BlobMounting, Rules};
use serde_json::{Value, json};

use super::archive_builder;
use super::ecr::{Ecr, put_manifest};
use super::harness::report;
use super::layout_builder::Layout;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Architecture, the variant that an index lists, the variant that the config states, and whether it is one platform.
const PAIRS: [(&str, &str, &str, bool); 9] = [
    ("arm64", "", "v8", true),
    ("arm64", "v8", "", true),
    ("arm64", "v8", "v8", true),
    ("amd64", "", "", true),
    ("amd64", "v1", "", true),
    ("amd64", "v2", "", false),
    ("arm", "", "v7", true),
    ("arm", "v7", "", true),
    ("arm", "v6", "v7", false),
];

fn platform(architecture: &str, variant: &str) -> Value {
    let mut platform = json!({"os": "linux", "architecture": architecture});
    if !variant.is_empty() {
        platform["variant"] = variant.into();
    }
    platform
}

/// A docker save of one layer, for a platform.
fn save(ecr: &Ecr, platform: &Value) -> String {
    let path = ecr.env.scratch("image.tar");
    archive_builder::docker_save_with(&path, platform);
    path
}

/// Puts an index that lists an image of the repository for a platform.
fn put_index(ecr: &Ecr, repository: &str, platform: &Value) {
    let (digest, manifest, media_type) = ecr.image(repository, "1").unwrap();
    let child =
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": manifest.len(), "platform": platform});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]});
    assert_eq!(put_manifest(ecr, repository, "index", INDEX, &index.to_string()), 201);
}

/// Pushes from a machine without a cache, and returns what happened to the layer.
fn action(ecr: &Ecr, arguments: &[&str]) -> String {
    let (written, cache) = (ecr.env.scratch("report.json"), ecr.env.scratch("no-cache.jsonl"));
    drop(std::fs::remove_file(&cache));
    ecr.run(&[arguments, &["--report", &written, "--cache", &cache]].concat()).succeeds();
    report(&written)["targets"][0]["layers"][0]["action"].as_str().unwrap().to_owned()
}

#[test]
fn layers_are_reused_and_mounted_by_any_spelling_of_a_platform() {
    for (architecture, listed, stated, is_same) in PAIRS {
        let rules = Rules { anonymous: true, blob_mounting: BlobMounting::Enabled, ..Rules::default() };
        let ecr = Ecr::with(&["team/app", "team/base", "team/empty"], rules);
        let archive = save(&ecr, &platform(architecture, stated));
        for repository in ["team/app", "team/base"] {
            ecr.run(&[&archive, &format!("{repository}:1")]).succeeds();
            put_index(&ecr, repository, &platform(architecture, listed));
        }
        let case = format!("{architecture}: {listed:?} in the index, {stated:?} in the config");
        let of = |done: &str| if is_same { done.to_owned() } else { "upload".to_owned() };
        assert_eq!(action(&ecr, &[&archive, "team/app:2", "--reuse-from", "index"]), of("reuse"), "{case}");
        assert_eq!(action(&ecr, &[&archive, "team/app:index"]), of("reuse"), "{case}");
        let mount = ["team/empty:1", "--mount-from", "team/base:index"];
        assert_eq!(action(&ecr, &[&[archive.as_str()], &mount[..]].concat()), of("mount"), "{case}");
    }
}

#[test]
fn a_platform_is_chosen_by_any_of_its_spellings() {
    for (architecture, listed, stated, is_same) in PAIRS {
        let ecr = Ecr::new();
        let layout = Layout::new(&ecr.env, "layout");
        let spelled = |variant: &str| {
            if variant.is_empty() { format!("linux/{architecture}") } else { format!("linux/{architecture}/{variant}") }
        };
        let (image, other) = (layout.image(&spelled(listed)), layout.image("linux/s390x"));
        layout.finish(&[layout.index(&[image.clone(), other])]);
        let run = ecr.run(&[&layout.path, "team/app:1", "--platform", &spelled(stated)]);
        if is_same {
            assert_eq!(run.succeeds().digest(), image["digest"].as_str().unwrap());
        } else {
            run.fails_with(2).stderr_has(&[&format!("is not for {}", spelled(stated))]);
        }
    }
}
