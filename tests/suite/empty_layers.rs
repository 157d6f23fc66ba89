//! Layers of nothing.

use serde_json::json;

use super::archive_builder;
use super::archive_contents::{Source, sha256};
use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST};
use super::harness::TestEnv;
use super::stored_image::StoredImage;

/// The layer of an instruction that changes no file, as old Dockers stored it: the end mark of a tar and nothing else.
const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

#[test]
fn empty_layers_of_a_docker_save_are_compressed_like_others() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("image.tar");
    let layers = [
        vec![0; 1024],
        archive_builder::tar_of("app", &archive_builder::prose(1, 50_000)),
        vec![],
        vec![0; 1024],
        vec![],
    ];
    assert_eq!(sha256(&layers[0]), EMPTY);
    archive_builder::docker_save(&archive, &layers);
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 4, "three layers, each once, and the config");
    let Some(registry) = DockerRegistry::start() else { return };
    TestEnv::new().run(&[&archive, &registry.target("team/app:1")]).succeeds();
    registry.read_back("team/app", "1").is(&Source::read(&archive, 0));
}

#[test]
fn a_layer_of_no_bytes_is_refused_where_ecr_could_not_store_it() {
    let ecr = Ecr::new();
    let (layout, saved) = (ecr.env.scratch("layout"), ecr.env.scratch("image.tar"));
    let layers = [archive_builder::tar_of("app", &archive_builder::noise(1, 50_000)), vec![]];
    let digest = archive_builder::oci_layout(&layout, &layers);
    archive_builder::docker_save(&saved, &layers);
    let empty = &sha256(b"")[..19];
    for arguments in [&[&layout[..], "team/app:1"][..], &[&saved, "team/app:1", "--compression", "keep"]] {
        for more in [&[][..], &["--dry-run"]] {
            let run = ecr.run(&[arguments, more].concat()).fails_with(1);
            let what = format!("layer {empty} is empty, and {HOST} stores no empty blobs");
            run.stderr_has(&[&what, "hint: ", "--compression gzip"]);
        }
    }
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 0, "before the first byte");
    ecr.run(&[&layout, "team/app:1", "--compression", "gzip"]).succeeds();
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source { digest: None, ..Source::read(&layout, 0) });

    // The config of an artifact is a blob, too.
    let artifact = ecr.env.scratch("artifact");
    archive_builder::oci_layout(&artifact, &layers[..1]);
    std::fs::write(format!("{artifact}/{}", sha256(b"").replace("sha256:", "blobs/sha256/")), b"").unwrap();
    archive_builder::edit_manifest(&artifact, |manifest| {
        manifest["config"] = json!({"mediaType": "application/vnd.example+json", "digest": sha256(b""), "size": 0});
    });
    let before = ecr.count("ecr:InitiateLayerUpload");
    let run = ecr.run(&[&artifact, "team/app:2"]).fails_with(1);
    run.stderr_has(&[&format!("the config {empty} is empty"), "hint: An artifact without a config uses `{}`"]);
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), before);

    // Others have nothing against it.
    let Some(registry) = DockerRegistry::start() else { return };
    let target = registry.target("team/app:1");
    TestEnv::new().run(&[&layout, &target]).succeeds().stdout_is(&format!("{target}@{digest}\n"));
    registry.read_back("team/app", "1").is(&Source::read(&layout, 0));
}
