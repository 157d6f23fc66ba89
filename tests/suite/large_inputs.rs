//! What is larger or more than usual: configs, manifests, the number of layers.

use serde_json::{Value, json};

use super::archive_builder::{self, add};
use super::archive_contents::{Source, sha256};
use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST};
use super::harness::TestEnv;
use super::stored_image::StoredImage;

/// A `docker save` with a config of so many bytes.
fn with_config_of(path: &str, len: usize, layer: &[u8]) {
    let mut config: Value = serde_json::from_slice(&archive_builder::config(&[sha256(layer)])).unwrap();
    config["config"]["Labels"] = json!({"large": ""});
    let missing = len - config.to_string().len();
    config["config"]["Labels"]["large"] = "x".repeat(missing).into();
    assert_eq!(config.to_string().len(), len);
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    add(&mut tar, "layer.tar", layer);
    add(&mut tar, "config.json", config.to_string().as_bytes());
    let list = json!([{"Config": "config.json", "RepoTags": ["made/up:1"], "Layers": ["layer.tar"]}]);
    add(&mut tar, "manifest.json", list.to_string().as_bytes());
    tar.finish().unwrap();
}

#[test]
fn a_config_of_six_mebibytes_is_a_blob_like_others() {
    let (ecr, env) = (Ecr::new(), TestEnv::new());
    let archive = env.scratch("image.tar");
    with_config_of(&archive, 6 << 20, &archive_builder::tar_of("app", &archive_builder::prose(1, 50_000)));
    // In one request, and in two where a chunk has less.
    for (tag, options, parts) in [("1", &[][..], 0), ("2", &["--chunk-size", "5M", "--reuse", "off"], 1)] {
        let run = ecr.run(&[&[&archive[..], &format!("other/{tag}:1"), "--create-repository"], options].concat());
        run.succeeds()
            .stderr_has(&["warning: the config sha256:", "has 6.0 MiB: podman, buildah and skopeo read at most"]);
        assert_eq!(ecr.count("ecr:UploadLayerPart"), parts);
        StoredImage::of_sandbox(&ecr, &format!("other/{tag}"), "1").is(&Source::read(&archive, 0));
    }
    let Some(registry) = DockerRegistry::start() else { return };
    env.run(&[&archive, &registry.target("team/app:1")]).succeeds();
    let manifest: Value = serde_json::from_slice(&registry.manifest("team/app:1").unwrap()).unwrap();
    assert_eq!(manifest["config"]["size"], 6 << 20);
    // skopeo reads no such config. That it is there is what a second push finds.
    env.run(&[&archive, &registry.target("team/app:1")]).succeeds().stderr_has(&["1 reused"]);
}

/// Equal, tiny layers, for images of many.
fn docker_save_of(path: &str, count: usize) {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    let layer = archive_builder::tar_of("app", b"app");
    add(&mut tar, "l", &layer);
    archive_builder::finish_docker_save(&mut tar, &vec!["l".to_owned(); count], &vec![sha256(&layer); count]);
}

#[test]
fn more_layers_than_docker_runs_are_warned_of() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("image.tar");
    docker_save_of(&archive, 127);
    ecr.run(&[&archive, "team/app:1"]).succeeds().output_has_none(&["warning"]);
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 2, "the one layer and the config");
    docker_save_of(&archive, 128);
    let run = ecr.run(&[&archive, "team/app:2"]).fails_with(1);
    let run = run
        .stderr_has(&["has 128 layers: Docker and podman cannot run images with more than 127, and ECR may refuse it"]);
    run.stderr_has(&["Limit on number of layers per image exceeded", "hint: Build the image with fewer layers."]);
    ecr.has_no_image("2");
    let Some(registry) = DockerRegistry::start() else { return };
    TestEnv::new().run(&[&archive, &registry.target("team/app:1")]).succeeds().stderr_has(&["has 128 layers"]);
    registry.read_back("team/app", "1").is(&Source::read(&archive, 0));
}

#[test]
fn a_manifest_that_no_registry_takes_is_refused_before_the_first_byte() {
    let ecr = Ecr::new();
    let (saved, layout) = (ecr.env.scratch("image.tar"), ecr.env.scratch("layout"));
    docker_save_of(&saved, 25_000);
    let run = ecr.run(&[&saved, "team/app:1"]).fails_with(1);
    run.stderr_has(&["the manifest of 25000 layers takes about ", "hint: Registries take manifests of 4 MiB at most"]);

    archive_builder::oci_layout(&layout, &[archive_builder::tar_of("app", b"app")]);
    let note = |manifest: &mut Value, len: usize| {
        manifest["annotations"] = json!({"org.example": ""});
        let missing = len - manifest.to_string().len();
        manifest["annotations"]["org.example"] = "x".repeat(missing).into();
    };
    let digest = archive_builder::edit_manifest(&layout, |manifest| note(manifest, (4 << 20) + 1));
    let run = ecr.run(&[&layout, "team/app:1"]).fails_with(1);
    let name = digest.replace("sha256:", "blobs/sha256/");
    let run = run.stderr_has(&[&format!("{name} of the archive is 4194305 bytes long, and the limit is 4194304")]);
    run.stderr_has(&["hint: Registries take manifests of 4 MiB at most"]);
    assert_eq!(ecr.log().len(), 0, "no request is sent");

    let digest = archive_builder::edit_manifest(&layout, |manifest| note(manifest, 4 << 20));
    let run = ecr.run(&[&layout, "team/app:1"]).succeeds();
    run.stdout_is(&format!("{HOST}/team/app:1@{digest}\n"));
}
