//! Indexes that few have seen: one in another, one that lists something twice, and lists of referrers that others wrote.

use serde_json::{Value, json};

use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST};
use super::layout_builder::{Layout, annotated, digest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const ATTESTED: &str = "vnd.docker.reference.digest";

/// What a tag or digest of `team/app` leads to.
#[track_caller]
fn read(ecr: &Ecr, reference: &str) -> Value {
    serde_json::from_slice(&ecr.image("team/app", reference).unwrap_or_else(|| panic!("no {reference}")).1).unwrap()
}

#[test]
fn what_an_index_lists_twice_is_put_once() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let amd64 = layout.image("linux/amd64");
    let index = layout.index(&[amd64.clone(), annotated(&amd64, &json!({"again": "yes"})), layout.attestation(&amd64)]);
    layout.finish(std::slice::from_ref(&index));
    let run = ecr.run(&[&layout.path, "team/app:1"]).succeeds();
    run.stdout_is(&format!("{HOST}/team/app:1@{}\n", digest(&index)));
    let put = ecr.manifests_put();
    assert_eq!((put.len(), put.iter().filter(|put| **put == digest(&amd64)).count()), (3, 1), "{put:?}");
    // It is a single image still.
    let run = ecr.run(&[&layout.path, "team/app:2", "--no-attestations"]).succeeds();
    run.stdout_is(&format!("{HOST}/team/app:2@{}\n", digest(&amd64)));
    ecr.run(&[&layout.path, "team/app:3", "--platform", "linux/amd64"]).succeeds();
    assert_eq!(ecr.image("team/app", "3").unwrap().0.to_string(), digest(&amd64));
}

#[test]
fn names_of_an_image_in_an_inner_index_follow_it() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let amd64 = layout.image("linux/amd64");
    let inner = layout.index(std::slice::from_ref(&amd64));
    let outer = layout.index(&[inner, layout.attestation(&amd64)]);
    let archive = layout.finish_docker_save("app:1", &outer, &amd64);
    ecr.run(&[&archive, "team/app:1"]).succeeds().stderr_has(&["which invalidates what refers to it: 1 attestation"]);
    let outer = read(&ecr, "1");
    let inner = read(&ecr, &digest(&outer["manifests"][0]));
    let packed = digest(&inner["manifests"][0]);
    assert_ne!(packed, digest(&amd64));
    assert_eq!(outer["manifests"][1]["annotations"][ATTESTED], packed);
}

#[test]
fn what_stood_in_a_descriptor_of_other_bytes_goes_with_them() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let plain = layout.image("linux/amd64");
    let with = |of: &Value| {
        let mut of = of.clone();
        (of["data"], of["urls"]) = (json!("e30="), json!(["https://example.com/blob"]));
        of
    };
    let mut changed: Value = serde_json::from_slice(&layout.bytes(&plain)).unwrap();
    changed["layers"][0] = with(&changed["layers"][0]);
    let mut amd64 = layout.manifest(changed);
    amd64["platform"] = plain["platform"].clone();
    let index = layout.index(&[with(&amd64), with(&layout.attestation(&amd64))]);
    let archive = layout.finish_docker_save("app:1", &index, &amd64);
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    let index = read(&ecr, "1");
    let manifest = read(&ecr, &digest(&index["manifests"][0]));
    let has_both = |of: &Value| (of.get("data").is_some(), of.get("urls").is_some());
    assert_eq!(has_both(&index["manifests"][0]), (false, false));
    assert_eq!(has_both(&manifest["layers"][0]), (false, false));
    assert_eq!(has_both(&index["manifests"][1]), (true, true), "what is not touched keeps them");
}

#[test]
fn platforms_that_are_missing_in_an_inner_index_are_named_and_left_out() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let [amd64, arm64, s390x] = ["linux/amd64", "linux/arm64/v8", "linux/s390x"].map(|it| layout.image(it));
    let inner = layout.index(&[amd64.clone(), arm64.clone()]);
    let gone = layout.index(std::slice::from_ref(&s390x));
    let outer = layout.index(&[inner, gone, layout.attestation(&amd64), layout.attestation(&arm64)]);
    [&arm64, &s390x].into_iter().for_each(|it| layout.remove(it));
    layout.finish(std::slice::from_ref(&outer));
    ecr.run(&[&layout.path, "team/app:1"]).fails_with(1).stderr_has(&["linux/arm64", "--present-platforms"]);
    assert!(ecr.manifests_put().is_empty());
    ecr.run(&[&layout.path, "team/app:1", "--present-platforms"]).succeeds();
    let outer = read(&ecr, "1");
    assert_eq!(outer["manifests"].as_array().unwrap().len(), 2, "{outer}");
    assert_eq!(read(&ecr, &digest(&outer["manifests"][0]))["manifests"], json!([amd64]));
    assert_eq!(outer["manifests"][1]["annotations"][ATTESTED], digest(&amd64));

    // Of one that has none of them nothing can be pushed.
    layout.remove(&amd64);
    let run = ecr.run(&[&layout.path, "team/app:2", "--present-platforms"]).fails_with(1);
    run.stderr_has(&["the archive does not contain blobs/sha256/"]);
    ecr.has_no_image("2");
}

#[test]
fn an_index_that_is_a_referrer_needs_no_media_type() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let (image, part) = (layout.image("linux/amd64"), layout.image("linux/arm64"));
    let subject = json!({"mediaType": MANIFEST, "digest": digest(&image), "size": image["size"]});
    let list = json!({"schemaVersion": 2, "manifests": [part], "subject": subject});
    let list = layout.blob(INDEX, list.to_string().as_bytes());
    // Nothing names it.
    layout.finish(std::slice::from_ref(&image));
    ecr.run(&[&layout.path, "team/app:1", "--referrers"]).succeeds().stderr_has(&["note: 1 referrer "]);
    assert_eq!(read(&ecr, &digest(&list))["manifests"], json!([part]));
}

#[test]
fn what_is_odd_here_is_read_back_from_a_docker_registry() {
    let Some(registry) = DockerRegistry::start() else { return };
    let ecr = Ecr::empty();
    let layout = Layout::new(&ecr.env, "layout");
    let (amd64, arm64) = (layout.image("linux/amd64"), layout.image("linux/arm64"));
    let inner = layout.index(&[amd64.clone(), arm64, layout.attestation(&amd64), amd64.clone()]);
    let outer = layout.index(&[inner.clone(), layout.attestation(&amd64)]);
    layout.finish(std::slice::from_ref(&outer));
    let target = registry.target("team/app:1");
    let run = ecr.env.run(&[&layout.path, &target]).succeeds();
    run.stdout_is(&format!("{target}@{}\n", digest(&outer)));
    for index in [&outer, &inner] {
        assert_eq!(registry.manifest(&format!("team/app@{}", digest(index))).unwrap(), layout.bytes(index));
    }
}

/// BuildKit's attestations as OCI artifacts: an index lists them, and each has the image that it is about for a `subject`.
#[test]
fn what_an_index_lists_is_a_referrer_of_its_image_if_it_says_so() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let (amd64, arm64) = (layout.image("linux/amd64"), layout.image("linux/arm64"));
    let attestation = |of: &Value| {
        let about = layout.artifact(of, "application/vnd.docker.attestation.manifest.v1+json", &digest(of));
        let mut about =
            annotated(&about, &json!({ATTESTED: digest(of), "vnd.docker.reference.type": "attestation-manifest"}));
        about["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        about
    };
    let (about_amd64, about_arm64) = (attestation(&amd64), attestation(&arm64));
    let index = layout.index(&[amd64.clone(), arm64, about_amd64.clone(), about_arm64.clone()]);
    layout.finish(std::slice::from_ref(&index));
    let run = ecr.run(&[&layout.path, "team/app:1", "--platform", "linux/amd64", "--referrers"]).succeeds();
    run.stderr_has(&["note: 1 referrer "]).output_has_none(&["warning"]);
    assert_eq!(ecr.manifests_put(), [digest(&amd64), digest(&about_amd64), "1".into()]);
    assert!(ecr.image("team/app", &digest(&about_arm64)).is_none());

    // With the whole index it is there anyway.
    ecr.run(&[&layout.path, "team/app:2"]).succeeds().output_has_none(&["referrer"]);
    assert_eq!(ecr.manifests_put().len(), 3 + 5);
    let archive = layout.finish_docker_save("app:1", &index, &amd64);
    let run = ecr.run(&[&archive, "team/app:3"]).succeeds();
    run.stderr_has(&["which invalidates what refers to it: 1 attestation;"]);
    // One that has nothing but its subject to say so is a referrer.
    let sbom = layout.artifact(&amd64, "application/spdx+json", "an SBOM");
    layout.remove(&about_amd64);
    let archive = layout.finish_docker_save("app:1", &layout.index(&[amd64.clone(), sbom, amd64.clone()]), &amd64);
    let run =
        ecr.run(&[&archive, "team/app:4"]).succeeds().stderr_has(&["which invalidates what refers to it: 1 referrer;"]);
    assert_eq!(run.stderr.matches("which invalidates what refers to it").count(), 1, "{}", run.stderr);
}

#[test]
fn an_image_with_a_subject_is_chosen_by_its_name() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let base = layout.image("linux/amd64");
    let subject = json!({"mediaType": MANIFEST, "digest": digest(&base), "size": base["size"]});
    let app = layout.image_with("linux/arm64", &json!({"subject": subject}));
    let named = |of: &Value, name: &str| annotated(of, &json!({"org.opencontainers.image.ref.name": name}));
    layout.finish(&[named(&base, "base:1"), named(&app, "app:1")]);
    for (tag, options) in [("1", ["--image", "app:1"]), ("2", ["--image-id", &digest(&app)])] {
        let target = format!("team/app:{tag}");
        let run = ecr.run(&[&[layout.path.as_str(), &target], &options[..]].concat()).succeeds();
        run.stdout_is(&format!("{HOST}/{target}@{}\n", digest(&app)));
    }
    // It is not one of several images to choose from.
    ecr.run(&[&layout.path, "team/app:3"]).succeeds().stdout_is(&format!("{HOST}/team/app:3@{}\n", digest(&base)));
    ecr.run(&[&layout.path, "team/app:4", "--image", "other:1"])
        .fails_with(1)
        .stderr_has(&["contains no image other:1"]);
}
