//! How uncompressed layers are compressed, with the options for it.

use std::io::Write as _;

use serde_json::Value;

use super::archive_builder;
use super::archive_contents::{Source, sha256};
use super::docker_registry::DockerRegistry;
use super::ecr::Ecr;
use super::harness::{TestEnv, testdata};
use super::stored_image::StoredImage;

/// The media types of the manifest and of its layers.
fn types(manifest: &Value) -> (String, Vec<String>) {
    let text = |value: &Value| value["mediaType"].as_str().unwrap().to_owned();
    (text(manifest), manifest["layers"].as_array().unwrap().iter().map(text).collect())
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

#[test]
fn zstd_makes_an_oci_image_that_others_read() {
    for archive in ["docker-20.10-save.tar", "docker-29-overlay2-save.tar"] {
        let (ecr, archive) = (Ecr::new(), testdata(archive));
        let run = ecr.run(&[&archive, "team/app:1", "--compression", "zstd"]).succeeds();
        let run = run.stderr_has(&["new, compressed with zstd"]);
        let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
        assert_eq!(types(&pushed.manifests()[0]), (OCI.into(), vec![ZSTD.into(); 3]));
        // Its manifest is another than the archive's, and all else is as it was.
        let source = Source { digest: None, ..Source::read(&archive, 0) };
        pushed.is(&source);
        let again = ecr.run(&[&archive, "team/app:2", "--compression", "zstd"]).succeeds().stderr_has(&["3 reused"]);
        assert_eq!(again.digest(), run.digest());
        // Who asks for gzip gets no zstd, and the other way round.
        ecr.run(&[&archive, "team/app:1", "--compression", "gzip"]).succeeds().stderr_has(&["3 of 3 layers uploaded"]);
        let Some(registry) = DockerRegistry::start() else { continue };
        let env = TestEnv::new();
        env.run(&[&archive, &registry.target("team/app:1"), "--compression", "zstd"]).succeeds();
        registry.read_back("team/app", "1").is(&source);
    }
}

#[test]
fn a_layout_with_uncompressed_layers_is_compressed_only_with_the_option() {
    let ecr = Ecr::new();
    let layout = ecr.env.scratch("layout");
    archive_builder::oci_layout(
        &layout,
        &[archive_builder::tar_of("words", &archive_builder::prose(1, 3 << 20)), archive_builder::tar_of("a", b"a")],
    );
    for (options, kind) in [(&[][..], "tar"), (&["--compression=keep"], "tar"), (&["--compression=gzip"], "tar+gzip")] {
        ecr.run(&[&[&layout[..], "team/app:1"], options].concat()).succeeds();
        let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
        let (_, layers) = types(&pushed.manifests()[0]);
        let expected = format!("application/vnd.oci.image.layer.v1.{kind}");
        assert!(layers.iter().all(|layer| *layer == expected), "{options:?}: {layers:?}");
        pushed.is(&Source { digest: None, ..Source::read(&layout, 0) });
    }
}

#[test]
fn keep_sends_the_uncompressed_layers_of_a_docker_save_unchanged() {
    let (ecr, archive) = (Ecr::new(), testdata("docker-20.10-save.tar"));
    ecr.run(&[&archive, "team/app:1", "--compression", "keep"]).succeeds().stderr_has(&["new, unchanged"]);
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
    let (_, layers) = types(&pushed.manifests()[0]);
    assert_eq!(layers, ["application/vnd.docker.image.rootfs.diff.tar"; 3]);
    pushed.is(&Source::read(&archive, 0));
}

#[test]
fn a_higher_level_makes_less_of_it() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("words.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("words", &archive_builder::prose(1, 3 << 20))]);
    let size = |options: &[&str]| {
        ecr.run(&[&[&archive[..], "team/app:1", "--reuse=off"], options].concat()).succeeds();
        StoredImage::of_sandbox(&ecr, "team/app", "1").manifests()[0]["layers"][0]["size"].as_u64().unwrap()
    };
    assert!(size(&["--compression-level=9"]) < size(&["--compression-level=2"]));
    assert!(size(&["--compression=zstd", "--compression-level=19"]) < size(&["--compression=zstd"]));
}

#[test]
fn layers_of_every_compression_are_recognized_by_their_bytes_and_not_by_their_names() {
    let (ecr, plain) = (Ecr::new(), |n: u64| archive_builder::tar_of("words", &archive_builder::prose(n, 60_000)));
    let archive = ecr.env.scratch("mixed.tar");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain(1)).unwrap();
    let layers = [
        ("one/layer.tar", gzip.finish().unwrap(), plain(1)),
        ("two.tar.gz", zstd::encode_all(plain(2).as_slice(), 3).unwrap(), plain(2)),
        ("three.tar.zst", plain(3), plain(3)),
    ];
    let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    layers.iter().for_each(|(name, bytes, _)| archive_builder::add(&mut tar, name, bytes));
    let (names, diff_ids): (Vec<_>, Vec<_>) =
        layers.iter().map(|(name, _, plain)| ((*name).to_owned(), sha256(plain))).unzip();
    archive_builder::finish_docker_save(&mut tar, &names, &diff_ids);
    drop(tar);

    let run = ecr.run(&[&archive, "team/app:1"]).succeeds().output_has_none(&["warning"]);
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
    // A Docker manifest could not name the second.
    let layer = |kind: &str| format!("application/vnd.oci.image.layer.v1.tar+{kind}");
    assert_eq!(types(&pushed.manifests()[0]), (OCI.into(), ["gzip", "zstd", "gzip"].map(layer).to_vec()));
    let source = Source::read(&archive, 0);
    pushed.is(&source);
    // On a fresh machine only the tag shows the digests of the compressed layers.
    let again = ecr.run(&[&archive, "team/app:1", "--cache", &ecr.env.scratch("fresh")]).succeeds();
    let again = again.stderr_has(&["already up to date; nothing was sent", "3 reused"]);
    assert_eq!(again.digest(), run.digest());

    let Some(registry) = DockerRegistry::start() else { return };
    TestEnv::new().run(&[&archive, &registry.target("team/app:1")]).succeeds();
    registry.read_back("team/app", "1").is(&source);
}
