//! Manifests with false statements, or with what ECR rejects: reported before the push, and repaired on request.

use std::io::Write as _;

use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::{Source, sha256};
use super::docker_registry::{DockerRegistry, skopeo_copy};
use super::ecr::{Ecr, HOST};
use super::harness::{TestEnv, testdata};
use super::layout_builder::{Layout, digest};
use super::stored_image::StoredImage;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

fn manifest(ecr: &Ecr, reference: &str) -> Value {
    serde_json::from_slice(&ecr.image("team/app", reference).unwrap().1).unwrap()
}

fn short(digest: &str) -> &str {
    &digest[..19]
}

/// A layout with `platform` in the descriptor of its config, as Docker 25.0 writes it, and its manifest's digest.
fn with_platform(path: &str) -> String {
    archive_builder::oci_layout(path, &[archive_builder::tar_of("app", &archive_builder::noise(1, 50_000))]);
    archive_builder::edit_manifest(path, |manifest| {
        manifest["config"]["platform"] = json!({"architecture": "amd64", "os": "linux"});
        manifest["annotations"] = json!({"org.example.unchanged": "yes"});
    })
}

/// A layout with a gzip layer that is called plain, a plain one that is called gzip, and one that is called right.
fn mislabelled(path: &str) -> String {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let plain = archive_builder::tar_of("packed", &archive_builder::prose(1, 50_000));
    gzip.write_all(&plain).unwrap();
    let packed = gzip.finish().unwrap();
    let others = [
        archive_builder::tar_of("plain", &archive_builder::noise(1, 40_000)),
        archive_builder::tar_of("right", &archive_builder::noise(2, 30_000)),
    ];
    archive_builder::oci_layout(path, &[packed, others[0].clone(), others[1].clone()]);
    archive_builder::edit_manifest(path, |manifest| {
        let diff_ids = [&plain, &others[0], &others[1]].map(|layer| sha256(layer));
        let config = archive_builder::config(&diff_ids);
        let file = sha256(&config).replace("sha256:", "blobs/sha256/");
        std::fs::write(format!("{path}/{file}"), &config).unwrap();
        manifest["config"]["digest"] = sha256(&config).into();
        manifest["config"]["size"] = config.len().into();
        manifest["layers"][1]["mediaType"] = GZIP.into();
    })
}

#[test]
fn what_ecr_rejects_is_reported_before_the_push_and_explained_after_it() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("layout");
    let digest = with_platform(&archive);
    let run = ecr.run(&[&archive, "team/app:1"]).fails_with(1).stdout_is("");
    let warning = format!("warning: the manifest {} has `platform` in the descriptor of the config", short(&digest));
    let run = run.stderr_has(&[
        &warning,
        "ECR rejects: --repair removes it",
        "405 UNSUPPORTED",
        "hint: ECR rejects manifests with unknown fields",
    ]);
    let (before, after) = (run.stderr.find("warning: ").unwrap(), run.stderr.find("layer sha256:").unwrap());
    assert!(before < after, "it is reported before anything is sent");
    ecr.has_no_image("1");

    // Others take it, and are not warned of.
    let Some(registry) = DockerRegistry::start() else { return };
    let target = registry.target("team/app:1");
    let run = TestEnv::new().run(&[&archive, &target]).succeeds().output_has_none(&["warning"]);
    run.stdout_is(&format!("{target}@{digest}\n"));
}

#[test]
fn repair_takes_out_the_platform_and_nothing_else() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("layout");
    let digest = with_platform(&archive);
    let run = ecr.run(&[&archive, "team/app:1", "--repair"]).succeeds().output_has_none(&["warning"]);
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
    let note = format!(
        "note: errors were corrected, so the manifest {} of the archive becomes {}",
        short(&digest),
        short(&pushed.digest())
    );
    run.stderr_has(&[&note]).stdout_is(&format!("{HOST}/team/app:1@{}\n", pushed.digest()));
    pushed.is(&Source { digest: None, ..Source::read(&archive, 0) });
    let mut expected = Value::Null;
    archive_builder::edit_manifest(&archive, |manifest| {
        manifest["config"].as_object_mut().unwrap().remove("platform");
        expected = manifest.clone();
    });
    assert_eq!(manifest(&ecr, "1"), expected);
    // Now nothing is wrong with it, and it is there already.
    ecr.run(&[&archive, "team/app:1", "--repair"])
        .succeeds()
        .output_has_none(&["was corrected"])
        .stderr_has(&["1 reused"]);
}

#[test]
fn an_index_above_a_repaired_manifest_is_rewritten() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("layout");
    let flawed = with_platform(&archive);
    let path = |digest: &str| format!("{archive}/{}", digest.replace("sha256:", "blobs/sha256/"));
    let read = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let mut good = read(&path(&flawed));
    good["config"].as_object_mut().unwrap().remove("platform");
    good["annotations"] = json!({"org.example.other": "yes"});
    let mut children = Vec::new();
    for manifest in [read(&path(&flawed)), good] {
        let bytes = manifest.to_string();
        std::fs::write(path(&sha256(bytes.as_bytes())), &bytes).unwrap();
        children.push(json!({"mediaType": manifest["mediaType"], "digest": sha256(bytes.as_bytes()),
            "size": bytes.len(), "platform": {"os": "linux", "architecture": "amd64"}}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children, "annotations": {"a": "b"}});
    let before = sha256(index.to_string().as_bytes());
    std::fs::write(path(&before), index.to_string()).unwrap();
    let root = json!({"mediaType": INDEX, "digest": before, "size": index.to_string().len()});
    std::fs::write(format!("{archive}/index.json"), json!({"schemaVersion": 2, "manifests": [root]}).to_string())
        .unwrap();

    ecr.run(&[&archive, "team/app:1"]).fails_with(1);
    ecr.has_no_image("1");
    let run = ecr.run(&[&archive, "team/app:1", "--repair"]).succeeds();
    let pushed = manifest(&ecr, "1");
    let after = pushed["manifests"][0]["digest"].as_str().unwrap();
    let notes = [
        format!("so the manifest {} of the archive becomes {}", short(&flawed), short(after)),
        format!("so the index {} of the archive becomes {}", short(&before), short(&run.digest())),
    ];
    run.stderr_has(&[&notes[0], &notes[1]]);
    assert_eq!(pushed["manifests"][1], index["manifests"][1], "the good one stays");
    assert_eq!(pushed["manifests"][0]["platform"], index["manifests"][0]["platform"]);
    assert_eq!(pushed["annotations"], index["annotations"]);
    assert_eq!(manifest(&ecr, after)["config"]["platform"], Value::Null);
}

#[test]
fn a_docker_save_with_compressed_layers_is_repaired_too() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("layout");
    with_platform(&archive);
    let layer = archive_builder::tar_of("app", &archive_builder::noise(1, 50_000));
    let config = archive_builder::config(&[sha256(&layer)]);
    let path = |bytes: &[u8]| sha256(bytes).replace("sha256:", "blobs/sha256/");
    let list = json!([{"Config": path(&config), "RepoTags": ["made/up:1"], "Layers": [path(&layer)]}]);
    std::fs::write(format!("{archive}/manifest.json"), list.to_string()).unwrap();
    let run = ecr.run(&[&archive, "team/app:1"]).fails_with(1);
    run.stderr_has(&["--repair removes it", "hint: "]);
    ecr.run(&[&archive, "team/app:1", "--repair"]).succeeds();
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
    pushed.is(&Source::read(&archive, 0));
    assert_eq!(pushed.manifests()[0]["config"]["platform"], Value::Null);
    assert_eq!(pushed.manifests()[0]["layers"][0]["mediaType"], GZIP);
}

#[test]
fn a_media_type_that_the_bytes_contradict_is_reported_and_repaired_on_request() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("layout");
    let digest = mislabelled(&archive);
    let stated = Source::read(&archive, 0);
    let layers = manifest_of(&archive)["layers"].clone();
    let name = |at: usize| short(layers[at]["digest"].as_str().unwrap()).to_owned();
    let run = ecr.run(&[&archive, "team/app:1"]).succeeds().stdout_is(&format!("{HOST}/team/app:1@{digest}\n"));
    let plain = format!("layer {} is plain, but the manifest declares it as {GZIP}", name(1));
    let gzip =
        format!("layer {} is gzip, but the manifest declares it as application/vnd.oci.image.layer.v1.tar", name(0));
    let run =
        run.stderr_has(&["warning: ", &plain, &gzip, "--repair corrects that", "; --compression gzip compresses it"]);
    assert_eq!(run.stderr.matches("warning: ").count(), 2, "nothing is wrong with the third layer");

    let run = ecr.run(&[&archive, "team/app:2", "--repair"]).succeeds().output_has_none(&["warning"]);
    run.stderr_has(&[&format!("so the manifest {} of the archive becomes", short(&digest))]);
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "2");
    pushed.is(&Source { digest: None, ..stated });
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 4, "no layer is sent again");

    // Packing the plain one leaves only the other.
    let run = ecr.run(&[&archive, "team/app:3", "--compression", "gzip"]).succeeds().stderr_has(&[&gzip]);
    run.output_has_none(&[&plain]);
}

fn manifest_of(layout: &str) -> Value {
    let read = |path: String| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let index = read(format!("{layout}/index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    read(format!("{layout}/{}", digest.replace("sha256:", "blobs/sha256/")))
}

#[test]
fn layers_that_docker_s_types_cannot_name_move_the_manifest_to_oci_s() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("layout");
    let layers = [
        archive_builder::tar_of("a", &archive_builder::prose(1, 50_000)),
        archive_builder::tar_of("b", &archive_builder::noise(1, 50_000)),
    ];
    let zstd = zstd::encode_all(layers[0].as_slice(), 3).unwrap();
    archive_builder::oci_layout(&archive, &[zstd, layers[1].clone()]);
    archive_builder::edit_manifest(&archive, |manifest| {
        let config = archive_builder::config(&[sha256(&layers[0]), sha256(&layers[1])]);
        std::fs::write(format!("{archive}/{}", sha256(&config).replace("sha256:", "blobs/sha256/")), &config).unwrap();
        manifest["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
        manifest["config"] = json!({"mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": sha256(&config), "size": config.len()});
        manifest["layers"][0]["mediaType"] = DOCKER_GZIP.into();
        manifest["layers"][1]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar".into();
    });
    let run = ecr.run(&[&archive, "team/app:1"]).succeeds();
    run.stderr_has(&[&format!("is zstd, but the manifest declares it as {DOCKER_GZIP}")]);
    ecr.run(&[&archive, "team/app:2", "--repair"]).succeeds();
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "2");
    pushed.is(&Source { digest: None, ..Source::read(&archive, 0) });
    let view = &pushed.manifests()[0];
    assert_eq!(view["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(view["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(view["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    assert_eq!(view["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar");

    if let Some(registry) = DockerRegistry::start() {
        TestEnv::new().run(&[&archive, &registry.target("team/app:1"), "--repair"]).succeeds();
        registry.read_back("team/app", "1").is(&Source { digest: None, ..Source::read(&archive, 0) });
    }

    // An index says what its children are.
    let read =
        || -> Value { serde_json::from_slice(&std::fs::read(format!("{archive}/index.json")).unwrap()).unwrap() };
    let bytes = json!({"schemaVersion": 2, "manifests": read()["manifests"]}).to_string();
    let root = json!({"mediaType": INDEX, "digest": sha256(bytes.as_bytes()), "size": bytes.len()});
    std::fs::write(format!("{archive}/{}", sha256(bytes.as_bytes()).replace("sha256:", "blobs/sha256/")), bytes)
        .unwrap();
    std::fs::write(format!("{archive}/index.json"), json!({"schemaVersion": 2, "manifests": [root]}).to_string())
        .unwrap();
    ecr.run(&[&archive, "team/app:3", "--repair"]).succeeds();
    let entry = manifest(&ecr, "3")["manifests"][0].clone();
    assert_eq!(entry["digest"], pushed.digest());
    assert_eq!(entry["mediaType"], view["mediaType"]);
}

/// Out of a `docker-archive:` skopeo 1.9 writes a `dir:` whose plain layers it calls gzip.
#[test]
fn what_skopeo_makes_of_a_docker_archive_is_put_right() {
    let Some(registry) = DockerRegistry::start() else { return };
    let env = TestEnv::new();
    let copy = env.scratch("copy");
    std::fs::create_dir(&copy).unwrap();
    skopeo_copy(copy.as_ref(), &[&format!("docker-archive:{}", testdata("docker-20.10-save.tar"))]);
    let (archive, target) = (format!("{copy}/image"), registry.target("team/app:1"));
    let run = env.run(&[&archive, &target]).succeeds();
    run.stderr_has(&[", but the manifest declares it as", DOCKER_GZIP, "--repair corrects that"]);
    env.run(&[&archive, &target, "--repair"]).succeeds().output_has_none(&["warning"]);
    registry.read_back("team/app", "1").is(&Source { digest: None, ..Source::read(&archive, 0) });
}

#[test]
fn what_attests_a_repaired_manifest_follows_it() {
    let ecr = Ecr::new();
    let layout = Layout::new(&ecr.env, "layout");
    let (image, other) = (layout.image("linux/amd64"), layout.image("linux/arm64"));
    let mut changed: Value = serde_json::from_slice(&layout.bytes(&image)).unwrap();
    changed["config"]["platform"] = image["platform"].clone();
    let mut flawed = layout.manifest(changed);
    flawed["platform"] = image["platform"].clone();
    let about = layout.attestation(&flawed);
    let index = layout.index(&[flawed.clone(), other.clone(), about.clone()]);
    layout.finish(&[index]);

    let run = ecr.run(&[&layout.path, "team/app:1", "--repair"]).succeeds();
    let of = digest(&flawed);
    let warning =
        format!("warning: the repair changes {}, which invalidates what refers to it: 1 attestation", short(&of));
    run.stderr_has(&[&warning]);
    let pushed = manifest(&ecr, "1");
    let expected = digest(&image);
    assert_eq!(pushed["manifests"][0]["digest"], expected, "without the flaw it is the very bytes of that image");
    assert_eq!(pushed["manifests"][1], other);
    assert_eq!(pushed["manifests"][2]["digest"], digest(&about));
    assert_eq!(pushed["manifests"][2]["annotations"]["vnd.docker.reference.digest"], expected);

    // With the archive's digest expected, no other is pushed.
    let again = Ecr::new();
    let run =
        again.run(&[&layout.path, "team/app:1", "--image-id", &of, "--repair", "--expect-digest", &of]).fails_with(1);
    run.stderr_has(&[
        &format!("the repair changes the digest to {}, and {of} is expected", expected.as_str()),
        "hint: Push it without the repair",
    ]);
    assert!(again.log().is_empty(), "no request was sent");
    // The result is known before the push, for an index as well.
    let new = StoredImage::of_sandbox(&ecr, "team/app", "1").digest();
    again.run(&[&layout.path, "team/app:1", "--repair", "--expect-digest", &new]).succeeds();
    again.run(&[&layout.path, "team/app:2", "--image-id", &of, "--repair", "--expect-digest", &expected]).succeeds();
    assert_eq!(again.image("team/app", "1").unwrap().0.to_string(), new);
}
