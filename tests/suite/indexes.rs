//! Images for several platforms: one of them, all of them, or what the archive has of them.

use serde_json::{Value, json};

use super::archive_contents::sha256;
use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST};
use super::harness::Run;
use super::layout_builder::{Layout, digest};
use super::stored_image::StoredImage;

/// What a tag of `team/app` points at.
#[track_caller]
fn tagged(ecr: &Ecr, tag: &str) -> Value {
    serde_json::from_slice(&ecr.image("team/app", tag).unwrap_or_else(|| panic!("there is no tag {tag}")).1).unwrap()
}

/// Refused before anybody was asked anything.
#[track_caller]
fn refused_at_once(arguments: &[&str], code: i32) -> Run {
    let ecr = Ecr::new();
    let run = ecr.run(&[arguments, &["team/app:1"]].concat()).exits_with(code).stdout_is("");
    assert!(ecr.log().is_empty(), "no request was sent");
    run
}

/// What Docker 29 saves of an image for three platforms of which one was pulled: the index with everything it lists, and
/// the blobs of that one.
struct Pulled {
    layout: Layout,
    archive: String,
    amd64: Value,
    index: Value,
}

fn pulled(ecr: &Ecr) -> Pulled {
    let layout = Layout::new(&ecr.env, "pulled");
    let [amd64, arm64, s390x] = ["linux/amd64", "linux/arm64/v8", "linux/s390x"].map(|it| layout.image(it));
    let [about_amd64, about_arm64, about_s390x] = [&amd64, &arm64, &s390x].map(|it| layout.attestation(it));
    let entries = [&amd64, &arm64, &s390x, &about_amd64, &about_arm64, &about_s390x].map(Clone::clone);
    let index = layout.index(&entries);
    [arm64, s390x, about_amd64, about_arm64, about_s390x].iter().for_each(|it| layout.remove(it));
    let archive = layout.finish_docker_save("app:1", &index, &amd64);
    Pulled { layout, archive, amd64, index }
}

#[test]
fn one_platform_of_an_index_goes_up_with_its_manifest_as_it_is() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let (amd64, arm64) = (layout.image("linux/amd64"), layout.image("linux/arm64/v8"));
    let index = layout.index(&[amd64.clone(), arm64.clone()]);
    layout.finish(std::slice::from_ref(&index));
    for platform in ["linux/arm64", "linux/arm64/v8", "linux/aarch64"] {
        let run = ecr.run(&[&layout.path, "team/app:arm", "--platform", platform]).succeeds();
        let run = run.stdout_is(&format!("{HOST}/team/app:arm@{}\n", digest(&arm64)));
        run.stderr_has(&[&format!("note: the digest of the archive's index, {}, becomes", digest(&index))]);
    }
    assert!(ecr.image("team/app", &digest(&amd64)).is_none(), "the others are not pushed");
    let id = &digest(&index)[7..19];
    ecr.run(&[&layout.path, "team/app:amd", "--image-id", id, "--platform", "linux/amd64"]).succeeds();
    assert_eq!(ecr.image("team/app", "amd").unwrap().0.to_string(), digest(&amd64));

    let run = refused_at_once(&[&layout.path, "--platform", "linux/riscv64"], 2);
    run.stderr_has(&[
        "is not for linux/riscv64",
        "hint: Select one:\n  --platform linux/amd64\n  --platform linux/arm64\n",
    ]);
    refused_at_once(&[&layout.path, "--platform", "arm64"], 2).stderr_has(&["is not a platform", "linux/amd64"]);
    refused_at_once(&[&layout.path, "--platform", "linux/arm64", "--present-platforms"], 2)
        .stderr_has(&["--platform", "--present-platforms"]);
}

#[test]
fn an_index_is_pushed_whole_children_first() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let (amd64, arm64) = (layout.image("linux/amd64"), layout.image("linux/arm64"));
    let about = layout.attestation(&amd64);
    let index = layout.index(&[amd64.clone(), arm64.clone(), about.clone()]);
    layout.finish(std::slice::from_ref(&index));
    // Also where plain layers are packed if that is asked for; what is no layer is not.
    let run = ecr.run(&[&layout.path, "team/app:1"]).succeeds();
    run.stdout_is(&format!("{HOST}/team/app:1@{}\n", digest(&index)));
    assert_eq!(ecr.manifests_put(), [digest(&amd64), digest(&arm64), digest(&about), "1".into()]);
}

#[test]
fn platforms_that_were_never_pulled_are_named_and_nothing_is_pushed() {
    let ecr = Ecr::new();
    let Pulled { archive, amd64, .. } = pulled(&ecr);
    let run = refused_at_once(&[&archive], 1);
    let run = run.stderr_has(&[
        "error: the index of app:1 lists linux/arm64, linux/s390x, which the archive does not contain\n",
    ]);
    let run = run.stderr_has(&[
        "because: the archive does not contain blobs/sha256/",
        "--platform linux/amd64",
        "--present-platforms",
    ]);
    run.stderr_has(&["\n  docker pull --platform linux/arm64 "]);
    let run = refused_at_once(&[&archive, "--platform", "linux/arm64"], 2);
    run.stderr_has(&[
        "app:1 lists linux/arm64, which the archive does not contain",
        "Select one:\n  --platform linux/amd64\n",
    ]);

    let run = ecr.run(&[&archive, "team/app:1", "--platform", "linux/amd64", "--compression", "keep"]).succeeds();
    run.stdout_is(&format!("{HOST}/team/app:1@{}\n", digest(&amd64)));
}

#[test]
fn what_is_there_of_an_index_is_pushed_as_a_new_one() {
    let ecr = Ecr::new();
    let Pulled { layout, archive, amd64, index } = pulled(&ecr);
    let options = ["--present-platforms", "--compression", "keep"];
    let run = ecr.run(&[&[archive.as_str(), "team/app:1"], &options[..]].concat()).succeeds();
    let mut expected: Value = serde_json::from_slice(&layout.bytes(&index)).unwrap();
    expected["manifests"] = json!([amd64]);
    assert_eq!(tagged(&ecr, "1"), expected, "it is an index still, and everything else in it is unchanged");
    let new = sha256(expected.to_string().as_bytes());
    let note = format!("note: the digest of the archive's index, {}, becomes {new}\n", digest(&index));
    run.stderr_has(&[&note, "note: a new index of app:1 is pushed, with what the archive contains: linux/amd64\n"]);
    assert_eq!(ecr.manifests_put(), [digest(&amd64), "1".into()]);

    let Some(registry) = DockerRegistry::start() else { return };
    let target = registry.target("team/app:1");
    let run = ecr.env.run(&[&[archive.as_str(), &target], &options[..]].concat()).succeeds();
    run.stdout_is(&format!("{target}@{new}\n"));
    assert_eq!(registry.read_back("team/app", "1").digest(), new);
}

#[test]
fn an_image_whose_attestations_were_not_pulled_goes_up_alone() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let amd64 = layout.image("linux/amd64");
    let about = layout.attestation(&amd64);
    let index = layout.index(&[amd64.clone(), about.clone()]);
    layout.remove(&about);
    let archive = layout.finish_docker_save("app:1", &index, &amd64);
    let run = ecr.run(&[&archive, "team/app:1", "--compression", "keep"]).succeeds();
    let run = run.stdout_is(&format!("{HOST}/team/app:1@{}\n", digest(&amd64)));
    run.stderr_has(&["note: the archive does not contain all attestations of app:1, so its image is pushed alone\n"]);
}

#[test]
fn attestations_are_left_out_and_a_single_image_loses_its_index() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let (amd64, arm64) = (layout.image("linux/amd64"), layout.image("linux/arm64"));
    let (about_amd64, about_arm64) = (layout.attestation(&amd64), layout.attestation(&arm64));
    layout.finish(&[layout.index(&[amd64.clone(), about_amd64.clone()])]);
    let run = ecr.run(&[&layout.path, "team/app:1", "--no-attestations"]).succeeds();
    run.stdout_is(&format!("{HOST}/team/app:1@{}\n", digest(&amd64)))
        .stderr_has(&["the digest of the archive's index"]);
    assert_eq!(ecr.manifests_put(), ["1"]);

    let index = layout.index(&[amd64.clone(), arm64.clone(), about_amd64, about_arm64]);
    layout.finish(std::slice::from_ref(&index));
    let run = ecr.run(&[&layout.path, "team/app:2", "--no-attestations"]).succeeds();
    let mut expected: Value = serde_json::from_slice(&layout.bytes(&index)).unwrap();
    expected["manifests"] = json!([amd64, arm64]);
    assert_eq!(tagged(&ecr, "2"), expected);
    let new = sha256(expected.to_string().as_bytes());
    let note = format!("note: the digest of the archive's index, {}, becomes {new}\n", digest(&index));
    run.stderr_has(&[&note, "without attestations: linux/amd64, linux/arm64"]);
}

#[test]
fn an_index_lists_the_digests_of_its_compressed_images() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let amd64 = layout.image("linux/amd64");
    let about = layout.attestation(&amd64);
    let index = layout.index(&[amd64.clone(), about.clone()]);
    let archive = layout.finish_docker_save("app:1", &index, &amd64);
    let run = ecr.run(&[&archive, "team/app:1"]).succeeds();
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
    let view = tagged(&ecr, "1");
    let packed = &view["manifests"][0];
    assert_ne!(digest(packed), digest(&amd64));
    let mut expected: Value = serde_json::from_slice(&layout.bytes(&index)).unwrap();
    expected["manifests"][0]["digest"] = packed["digest"].clone();
    expected["manifests"][0]["size"] = packed["size"].clone();
    expected["manifests"][1]["annotations"]["vnd.docker.reference.digest"] = packed["digest"].clone();
    assert_eq!(view, expected, "the attestation is about the packed image, and is what it was");
    let layer_types = |manifest: &Value| manifest["layers"][0]["mediaType"].as_str().unwrap().to_owned();
    let types: Vec<_> = pushed.manifests().iter().map(layer_types).collect();
    assert_eq!(types, ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.in-toto+json"]);
    assert!(ecr.image("team/app", &digest(&about)).is_some());
    let short = |digest: &str| digest[..19].to_owned();
    let warning = format!("warning: compressing layers changes {}", short(&digest(&amd64)));
    let note = format!(
        "note: uncompressed layers were compressed, so the index {} of the archive becomes {}\n",
        short(&digest(&index)),
        short(&pushed.digest())
    );
    run.stderr_has(&[&warning, "which invalidates what refers to it: 1 attestation; --compression keep", &note]);
}
