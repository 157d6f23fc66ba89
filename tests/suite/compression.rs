//! How plain layers are packed, where somebody asks for it.

use std::io::Write as _;

use serde_json::Value;

use super::bench::{Bench, testdata};
use super::build;
use super::ecr::Ecr;
use super::pushed::Pushed;
use super::registry::Registry;
use super::source::{Source, sha256};

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
        let run = ecr.run(&[&archive, "team/app:1", "--compression", "zstd"]).exits(0);
        let run = run.says(&["new, packed with zstd"]);
        let pushed = Pushed::of_sandbox(&ecr, "team/app", "1");
        assert_eq!(types(&pushed.manifests()[0]), (OCI.into(), vec![ZSTD.into(); 3]));
        // Its manifest is another than the archive's, and all else is as it was.
        let source = Source { digest: None, ..Source::read(&archive, 0) };
        pushed.is(&source);
        let again = ecr.run(&[&archive, "team/app:2", "--compression", "zstd"]).exits(0).says(&["3 reused"]);
        assert_eq!(again.digest(), run.digest());
        // Who asks for gzip gets no zstd, and the other way round.
        drop(ecr.run(&[&archive, "team/app:1", "--compression", "gzip"]).exits(0).says(&["3 of 3 layers uploaded"]));
        let Some(registry) = Registry::start() else { continue };
        let bench = Bench::new();
        drop(bench.run(&[&archive, &registry.target("team/app:1"), "--compression", "zstd"]).exits(0));
        registry.read_back("team/app", "1").is(&source);
    }
}

#[test]
fn a_layout_with_plain_layers_is_packed_only_if_somebody_asks() {
    let ecr = Ecr::new();
    let layout = ecr.bench.scratch("layout");
    build::oci_layout(&layout, &[build::tar_of("words", &build::prose(1, 3 << 20)), build::tar_of("a", b"a")]);
    for (options, kind) in [(&[][..], "tar"), (&["--compression=keep"], "tar"), (&["--compression=gzip"], "tar+gzip")] {
        drop(ecr.run(&[&[&layout[..], "team/app:1"], options].concat()).exits(0));
        let pushed = Pushed::of_sandbox(&ecr, "team/app", "1");
        let (_, layers) = types(&pushed.manifests()[0]);
        let expected = format!("application/vnd.oci.image.layer.v1.{kind}");
        assert!(layers.iter().all(|layer| *layer == expected), "{options:?}: {layers:?}");
        pushed.is(&Source { digest: None, ..Source::read(&layout, 0) });
    }
}

#[test]
fn keep_sends_the_plain_layers_of_a_docker_save_as_they_lie() {
    let (ecr, archive) = (Ecr::new(), testdata("docker-20.10-save.tar"));
    drop(ecr.run(&[&archive, "team/app:1", "--compression", "keep"]).exits(0).says(&["new, as it lies"]));
    let pushed = Pushed::of_sandbox(&ecr, "team/app", "1");
    let (_, layers) = types(&pushed.manifests()[0]);
    assert_eq!(layers, ["application/vnd.docker.image.rootfs.diff.tar"; 3]);
    pushed.is(&Source::read(&archive, 0));
}

#[test]
fn a_higher_level_makes_less_of_it() {
    let ecr = Ecr::new();
    let archive = ecr.bench.scratch("words.tar");
    build::docker_save(&archive, &[build::tar_of("words", &build::prose(1, 3 << 20))]);
    let size = |options: &[&str]| {
        drop(ecr.run(&[&[&archive[..], "team/app:1", "--reuse=off"], options].concat()).exits(0));
        Pushed::of_sandbox(&ecr, "team/app", "1").manifests()[0]["layers"][0]["size"].as_u64().unwrap()
    };
    assert!(size(&["--compression-level=9"]) < size(&["--compression-level=2"]));
    assert!(size(&["--compression=zstd", "--compression-level=19"]) < size(&["--compression=zstd"]));
}

#[test]
fn layers_packed_in_every_way_are_judged_by_their_bytes_and_not_by_their_names() {
    let (ecr, plain) = (Ecr::new(), |n: u64| build::tar_of("words", &build::prose(n, 60_000)));
    let archive = ecr.bench.scratch("mixed.tar");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain(1)).unwrap();
    let layers = [
        ("one/layer.tar", gzip.finish().unwrap(), plain(1)),
        ("two.tar.gz", zstd::encode_all(plain(2).as_slice(), 3).unwrap(), plain(2)),
        ("three.tar.zst", plain(3), plain(3)),
    ];
    let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    layers.iter().for_each(|(name, bytes, _)| build::add(&mut tar, name, bytes));
    let (names, diff_ids): (Vec<_>, Vec<_>) =
        layers.iter().map(|(name, _, plain)| ((*name).to_owned(), sha256(plain))).unzip();
    build::finish_docker_save(&mut tar, &names, &diff_ids);
    drop(tar);

    let run = ecr.run(&[&archive, "team/app:1"]).exits(0).never_says(&["warning"]);
    let pushed = Pushed::of_sandbox(&ecr, "team/app", "1");
    // A Docker manifest could not name the second.
    let layer = |kind: &str| format!("application/vnd.oci.image.layer.v1.tar+{kind}");
    assert_eq!(types(&pushed.manifests()[0]), (OCI.into(), ["gzip", "zstd", "gzip"].map(layer).to_vec()));
    let source = Source::read(&archive, 0);
    pushed.is(&source);
    // On a fresh machine nothing but the tag tells what the layers have become.
    let again = ecr.run(&[&archive, "team/app:1", "--cache", &ecr.bench.scratch("fresh")]).exits(0);
    let again = again.says(&["already there; nothing was sent", "3 reused"]);
    assert_eq!(again.digest(), run.digest());
    drop((run, again));

    let Some(registry) = Registry::start() else { return };
    drop(Bench::new().run(&[&archive, &registry.target("team/app:1")]).exits(0));
    registry.read_back("team/app", "1").is(&source);
}
