//! Non-distributable layers, as old base images of Windows have them.

use serde_json::{Value, json};

use super::archive_builder::{self, add};
use super::archive_contents::sha256;
use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST, status};
use super::harness::TestEnv;
use super::layout_builder::{Layout, digest};
use ecr_push::sandbox::Fault;

const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const URL: &str = "https://example.com/windows";

/// What `LayerSources` or a manifest states about a layer that is elsewhere.
fn descriptor(layer: &[u8]) -> Value {
    json!({"mediaType": FOREIGN, "digest": sha256(layer), "size": layer.len(), "urls": [URL]})
}

/// The two layers of the images here: Windows, and what stands on it.
fn layers() -> [Vec<u8>; 2] {
    [
        archive_builder::tar_of("windows", &archive_builder::noise(1, 50_000)),
        archive_builder::tar_of("app", &archive_builder::prose(1, 50_000)),
    ]
}

/// A `docker save` as Docker on Windows wrote it: `LayerSources` states where the first layer is.
fn docker_save(path: &str) {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    let [windows, app] = layers();
    add(&mut tar, "windows/layer.tar", &windows);
    add(&mut tar, "app/layer.tar", &app);
    let config = archive_builder::config(&[sha256(&windows), sha256(&app)]);
    add(&mut tar, "config.json", &config);
    let source = json!({sha256(&windows): descriptor(b"as Microsoft packs it")});
    let list = json!([{"Config": "config.json", "RepoTags": ["made/up:1"],
        "Layers": ["windows/layer.tar", "app/layer.tar"], "LayerSources": source}]);
    add(&mut tar, "manifest.json", list.to_string().as_bytes());
    tar.finish().unwrap();
}

/// An OCI layout with the same image, and its manifest with its digest.
fn layout(path: &str) -> (String, Value) {
    let layers = layers();
    archive_builder::oci_layout(path, &layers);
    let mut changed = Value::Null;
    let digest = archive_builder::edit_manifest(path, |manifest| {
        manifest["layers"][0] = descriptor(&layers[0]);
        changed = manifest.clone();
    });
    (digest, changed)
}

fn manifest(ecr: &Ecr) -> Value {
    serde_json::from_slice(&ecr.image("team/app", "1").unwrap().1).unwrap()
}

#[test]
fn a_docker_save_s_layer_sources_stand_in_the_new_manifest() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("windows.tar");
    docker_save(&archive);
    let run = ecr.run(&[&archive, "team/app:1"]).succeeds();
    run.stderr_has(&[
        "is non-distributable and not uploaded: it stays at https://example.com/windows; --foreign-layers uploads it",
    ]);
    let pushed = manifest(&ecr);
    assert_eq!(pushed["layers"].as_array().unwrap().len(), 2);
    assert_eq!(pushed["layers"][0], descriptor(b"as Microsoft packs it"));
    assert_eq!(pushed["layers"][1]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 2, "one layer and the config");

    // A second push knows it again, and one that wants all of it sends it.
    ecr.run(&[&archive, "team/app:1"]).succeeds().stderr_has(&["1 reused"]);
    ecr.run(&[&archive, "team/app:1", "--foreign-layers"]).succeeds().output_has_none(&["is non-distributable"]);
    let pushed = manifest(&ecr);
    for layer in pushed["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
        assert_eq!(layer["urls"], Value::Null);
    }
    super::stored_image::StoredImage::of_sandbox(&ecr, "team/app", "1")
        .is(&super::archive_contents::Source::read(&archive, 0));
}

#[test]
fn a_layout_s_manifest_stays_with_or_without_the_layer() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("layout");
    let (digest, stated) = layout(&archive);
    let expected = format!("{HOST}/team/app:1@{digest}\n");
    ecr.run(&[&archive, "team/app:1"]).succeeds().stdout_is(&expected);
    assert_eq!(manifest(&ecr), stated);
    let foreign = sha256(&layers()[0]);
    assert!(ecr.blob("team/app", &foreign.parse().unwrap()).is_none(), "it is not sent");
    // The tag is right already, and the layer is not there yet.
    ecr.run(&[&archive, "team/app:1", "--foreign-layers"]).succeeds().stdout_is(&expected);
    assert_eq!(ecr.blob("team/app", &foreign.parse().unwrap()), Some(layers()[0].clone()));

    std::fs::remove_file(format!("{archive}/blobs/sha256/{}", foreign.strip_prefix("sha256:").unwrap())).unwrap();
    let run = ecr.run(&[&archive, "team/app:2", "--foreign-layers"]).succeeds();
    run.stderr_has(&["stays at https://example.com/windows; the archive does not contain it"]);
}

#[test]
fn compression_leaves_a_non_distributable_layer_unchanged() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("layout");
    let (_, stated) = layout(&archive);
    ecr.run(&[&archive, "team/app:1", "--compression", "gzip"]).succeeds();
    let pushed = manifest(&ecr);
    assert_eq!(pushed["layers"][0], stated["layers"][0]);
    assert_eq!(pushed["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    ecr.run(&[&archive, "team/app:1", "--compression", "gzip", "--foreign-layers"]).succeeds();
    assert_eq!(manifest(&ecr)["layers"][0]["urls"], Value::Null, "compressed again it is nowhere else");
}

#[test]
fn a_registry_that_accepts_none_is_recognized() {
    let words = "invalid URL on layer";
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", status(400, "MANIFEST_INVALID", words))]);
    let archive = ecr.env.scratch("windows.tar");
    docker_save(&archive);
    let run = ecr.run(&[&archive, "team/app:1"]).fails_with(1);
    run.stderr_has(&[words, "hint: The image has non-distributable layers", ": --foreign-layers"]);
}

#[test]
fn others_take_it_too() {
    let Some(registry) = DockerRegistry::start() else { return };
    let env = TestEnv::new();
    let archive = env.scratch("windows.tar");
    docker_save(&archive);
    env.run(&[&archive, &registry.target("team/app:1")]).succeeds();
    let pushed: Value = serde_json::from_slice(&registry.manifest("team/app:1").unwrap()).unwrap();
    assert_eq!(pushed["layers"][0], descriptor(b"as Microsoft packs it"));
    env.run(&[&archive, &registry.target("team/app:2"), "--foreign-layers"]).succeeds();
    registry.read_back("team/app", "2").is(&super::archive_contents::Source::read(&archive, 0));
}

/// containerd's exporter lists it in manifest.json, and leaves it out of the tar.
#[test]
fn a_manifest_json_may_list_what_the_manifest_beside_it_calls_foreign() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("save");
    let (digest, stated) = layout(&archive);
    let path = |digest: &Value| digest.as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let layers: Vec<String> = stated["layers"].as_array().unwrap().iter().map(|it| path(&it["digest"])).collect();
    let list = json!([{"Config": path(&stated["config"]["digest"]), "RepoTags": ["made/up:1"], "Layers": layers}]);
    std::fs::write(format!("{archive}/manifest.json"), list.to_string()).unwrap();
    std::fs::remove_file(format!("{archive}/{}", layers[0])).unwrap();
    let run = ecr.run(&[&archive, "team/app:1", "--compression", "keep"]).succeeds();
    run.stdout_is(&format!("{HOST}/team/app:1@{digest}\n"));
    // What is not foreign is missed.
    std::fs::remove_file(format!("{archive}/{}", layers[1])).unwrap();
    ecr.run(&[&archive, "team/app:2"]).fails_with(1).stderr_has(&["the archive does not contain blobs/sha256/"]);
}

#[test]
fn an_index_is_whole_without_the_foreign_layers_of_its_images() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let [windows, app] = layers();
    let config = archive_builder::config(&[sha256(&windows), sha256(&app)]);
    let mut image = layout.manifest(json!({
        "config": layout.blob("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor(&windows), layout.blob("application/vnd.oci.image.layer.v1.tar", &app)],
    }));
    image["platform"] = json!({"os": "windows", "architecture": "amd64"});
    let index = layout.index(&[image, layout.image("linux/arm64")]);
    layout.finish(std::slice::from_ref(&index));
    let run = ecr
        .run(&[&layout.path, "team/app:1"])
        .succeeds()
        .stderr_has(&["is non-distributable and not uploaded: it stays at", "the archive does not contain it"]);
    run.stdout_is(&format!("{HOST}/team/app:1@{}\n", digest(&index)));
}
