//! `inspect --output json`: every key states what the archive holds, and a push keeps exactly the digests that it announces.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::{Source, sha256};
use super::ecr::Ecr;
use super::harness::{TestEnv, report, testdata};
use super::inspect::{ARCHIVES, json_of};

/// Asserts that an object has these keys and no others.
#[track_caller]
pub(crate) fn has_keys(object: &Value, keys: &str) {
    let found: BTreeSet<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, keys.split(' ').collect());
}

#[test]
fn every_key_of_the_json_says_what_the_archive_holds() {
    let env = TestEnv::new();
    for (archive, images) in ARCHIVES {
        let path = testdata(archive);
        for options in [&[][..], &["--verify"]] {
            let verified = !options.is_empty();
            let seen = json_of(&env, &path, options, 0);
            has_keys(&seen, "version tool archive format notes verified exit_code listed images referrers unusable");
            assert_eq!((&seen["listed"], &seen["referrers"]), (&json!(images), &json!([])));
            assert_eq!(seen["version"], 1);
            assert_eq!(seen["tool"], json!({"name": "ecr-push", "version": env!("CARGO_PKG_VERSION")}));
            let format = match () {
                () if !archive.ends_with(".tar") => "OCI layout folder",
                () if archive.contains("oci") => "OCI layout in a tar",
                () => "docker save archive",
            };
            assert_eq!((&seen["archive"], &seen["format"]), (&json!(path), &json!(format)));
            assert_eq!((&seen["notes"], &seen["unusable"], &seen["exit_code"]), (&json!([]), &json!([]), &json!(0)));
            assert_eq!(seen["verified"], if verified { json!(true) } else { Value::Null });
            assert_eq!(seen["images"].as_array().unwrap().len(), images, "{archive}");
            for (index, image) in seen["images"].as_array().unwrap().iter().enumerate() {
                is_image(image, &Source::read(&path, index), verified);
            }
        }
    }
}

/// Asserts that an image is that of the archive.
#[track_caller]
fn is_image(image: &Value, source: &Source, verified: bool) {
    has_keys(image, "names image_id part_of platforms indexes manifests");
    assert_eq!(image["part_of"], Value::Null);
    assert_eq!(image["names"], json!(source.names));
    let configs: Vec<Value> = source.parts.iter().map(|part| serde_json::from_slice(&part.config).unwrap()).collect();
    let platform =
        |config: &Value| format!("{}/{}", config["os"].as_str().unwrap(), config["architecture"].as_str().unwrap());
    assert_eq!(image["platforms"], json!(configs.iter().map(platform).collect::<Vec<_>>()));
    let manifests = image["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), source.parts.len());
    if source.parts.len() > 1 {
        let index = &image["indexes"][0];
        has_keys(index, "digest media_type size digest_kept reason lists absent");
        assert_eq!(index["absent"], json!([]));
        assert_eq!((&index["digest"], &image["image_id"]), (&json!(source.digest), &json!(source.digest)));
        assert_eq!(index["media_type"], "application/vnd.oci.image.index.v1+json");
        let lists = source.parts.iter().map(|part| sha256(part.manifest.as_ref().unwrap()));
        assert_eq!(index["lists"], json!(lists.collect::<Vec<_>>()));
    } else {
        assert_eq!((&image["indexes"], &image["image_id"]), (&json!([]), &json!(sha256(&source.parts[0].config))));
    }
    for ((manifest, part), config) in manifests.iter().zip(&source.parts).zip(&configs) {
        has_keys(
            manifest,
            "listed_for digest media_type size digest_kept reason role platform attests config layers foreign",
        );
        assert_eq!((&manifest["role"], &manifest["attests"]), (&json!("image"), &Value::Null));
        assert_eq!(manifest["foreign"], json!([]));
        assert_eq!(manifest["platform"], platform(config));
        let stated: Value = part.manifest.as_ref().map_or(Value::Null, |bytes| serde_json::from_slice(bytes).unwrap());
        let digest = part.manifest.as_ref().map(|bytes| sha256(bytes));
        assert_eq!((&manifest["digest"], &manifest["media_type"]), (&json!(digest), &stated["mediaType"]));
        assert_eq!(manifest["size"], json!(part.manifest.as_ref().map(Vec::len)));
        let media_type = &stated["config"]["mediaType"];
        let config = json!({"digest": sha256(&part.config), "media_type": media_type, "size": part.config.len()});
        assert_eq!(manifest["config"], config);
        for (n, (layer, held)) in manifest["layers"].as_array().unwrap().iter().zip(&part.layers).enumerate() {
            has_keys(layer, "name size in_archive packing media_type digest diff_id origins found");
            assert_eq!((&layer["size"], &layer["diff_id"]), (&json!(held.len), &json!(held.diff_id)));
            assert_eq!(layer["packing"], if held.packed.is_some() { "gzip" } else { "plain" });
            let stated = &stated["layers"][n];
            assert_eq!((&layer["digest"], &layer["media_type"]), (&stated["digest"], &stated["mediaType"]));
            let bytes = held.packed.as_ref().unwrap_or(&held.plain);
            let found = json!({"digest": bytes, "diff_id": held.plain, "error": null});
            assert_eq!(layer["found"], if verified { found } else { Value::Null });
            assert!(!layer["name"].as_str().unwrap().is_empty());
        }
    }
}

/// The digest and the media type that a push of the first image gives, and the images of the archive.
fn pushed(path: &str) -> (Value, Value, Value) {
    let ecr = Ecr::new();
    let written = ecr.env.scratch("report.json");
    let seen = json_of(&ecr.env, path, &[], 0);
    let image = &seen["images"][0];
    let id = image["image_id"].as_str().unwrap();
    ecr.run(&[path, "team/app:1", "--image-id", id, "--report", &written]).succeeds();
    let target = report(&written)["targets"][0].take();
    (target["digest"].clone(), target["media_type"].clone(), image.clone())
}

#[test]
fn a_push_keeps_the_digests_that_are_reported_as_kept_and_no_others() {
    for (archive, _) in ARCHIVES {
        let (digest, media_type, image) = pushed(&testdata(archive));
        let root = if image["indexes"] == json!([]) { &image["manifests"][0] } else { &image["indexes"][0] };
        assert_eq!(root["digest_kept"], root["digest"] == digest, "{archive}");
        let reason = match (&root["digest"], root["digest_kept"].as_bool().unwrap()) {
            (_, true) => "unchanged, byte for byte",
            (Value::Null, false) => "created as Docker schema 2: the archive has no manifest",
            (_, false) => "gets a new digest: uncompressed layers of a docker save are compressed",
        };
        assert_eq!(root["reason"], reason, "{archive}");
        if root["digest"].is_null() {
            assert_eq!(media_type, "application/vnd.docker.distribution.manifest.v2+json", "{archive}");
        }
    }
}

#[test]
fn a_manifest_for_zstd_is_made_of_oci() {
    let env = TestEnv::new();
    let path = env.scratch("zstd.tar");
    let plain = archive_builder::tar_of("words", &archive_builder::prose(1, 90_000));
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    archive_builder::add(&mut tar, "layer.tar.zst", &zstd::encode_all(plain.as_slice(), 3).unwrap());
    archive_builder::finish_docker_save(&mut tar, &["layer.tar.zst".into()], &[sha256(&plain)]);
    drop(tar);
    let (_, media_type, image) = pushed(&path);
    assert_eq!(media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(image["manifests"][0]["reason"], "created as OCI, for zstd: the archive has no manifest");
    assert_eq!(json_of(&env, &path, &["--verify"], 0)["images"][0]["manifests"][0]["layers"][0]["packing"], "zstd");
}

/// A `docker save` of an index of one manifest, of a plain layer.
fn save_of_an_index(env: &TestEnv) -> String {
    let (folder, path) = (env.scratch("layout"), env.scratch("index.tar"));
    let layer = archive_builder::tar_of("words", &archive_builder::prose(1, 90_000));
    archive_builder::oci_layout(&folder, std::slice::from_ref(&layer));
    let media_type = "application/vnd.oci.image.index.v1+json";
    let mut index: Value = serde_json::from_slice(&std::fs::read(format!("{folder}/index.json")).unwrap()).unwrap();
    index["mediaType"] = media_type.into();
    let mut root = archive_builder::blob(&folder, media_type, index.to_string().as_bytes());
    root["annotations"] = json!({"io.containerd.image.name": "made/up:1"});
    let root = json!({"schemaVersion": 2, "manifests": [root]});
    std::fs::write(format!("{folder}/index.json"), root.to_string()).unwrap();
    let file = |bytes: &[u8]| sha256(bytes).replace(':', "/");
    let config = file(&archive_builder::config(&[sha256(&layer)]));
    let saved = json!([{
        "Config": format!("blobs/{config}"),
        "RepoTags": ["made/up:1"],
        "Layers": [format!("blobs/{}", file(&layer))],
    }]);
    std::fs::write(format!("{folder}/manifest.json"), saved.to_string()).unwrap();
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    tar.append_dir_all("", &folder).unwrap();
    tar.finish().unwrap();
    path
}

#[test]
fn an_index_above_a_manifest_that_is_changed_is_changed() {
    let env = TestEnv::new();
    let (digest, _, image) = pushed(&save_of_an_index(&env));
    let (index, manifest) = (&image["indexes"][0], &image["manifests"][0]);
    assert_ne!(index["digest"], digest);
    assert_eq!((&index["digest_kept"], &manifest["digest_kept"]), (&json!(false), &json!(false)));
    assert_eq!(index["reason"], "gets a new digest: a manifest that it lists gets one");
    assert_eq!(manifest["reason"], "gets a new digest: uncompressed layers of a docker save are compressed");
}
