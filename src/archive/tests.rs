//! Tests with archives of real tools, and the helpers of the other tests.

mod choosing;
mod hostile;
mod layouts;
mod parts;
mod properties;
mod referring;

use std::fmt::Write as _;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::compress::{ByteSource, Compression};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Family};

/// The image configs of most fixtures.
const APP: &str = "sha256:92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d";
const BASE: &str = "sha256:d62b83c4fc48157a6495a52d66489491c91fc798a6751efc7040ec5b7ddc9df7";
/// The diff_ids of the three layers; the first is the only one of the base.
const DIFF_IDS: [&str; 3] = [
    "sha256:c37a06bee251a276c594acb4f7ea571001c76d7b812dd018d3e8ba8c02e229cb",
    "sha256:fab827903802c34f6451aca904f6d63283939c25190fab47c45af91a13e9dfd9",
    "sha256:631cc2c4392a149e730f662b63ee3c9b5a968fd7ea3ba679c9416e54037b2cca",
];
/// The digests of the same layers, compressed by buildah.
const COMPRESSED: [&str; 3] = [
    "sha256:11eaad61269d39800f15258d798e24f6a607d0e7ad20b3fac92f2b8d942b4bb4",
    "sha256:ec06faa51900ca0aaac0cfc4582cd158d032a73eb16f71dce8aba3320ec357d7",
    "sha256:f6cf1ea59da35b692d5032a0af500d2f73b2aab1ff97d4ffd8004af9feacad7a",
];
const BUILDAH_MANIFEST: &str = "sha256:d206e745a324f6b593f5936964fae9ff8965ec2ae1d6758dbd16c2f4e6bdd797";

/// A folder that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ecr-push-image-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// Opens an archive.
fn open(path: &Path) -> Result<Archive> {
    let spool = Spool {
        folder: &std::env::temp_dir(),
        watch: &|_| ControlFlow::Continue(()),
        handler: None,
        processes: &ChildProcesses::default(),
    };
    super::open(&Source::Path(path.to_owned()), &spool).map(Arc::unwrap_or_clone)
}

fn all(range: &ByteSource) -> Vec<u8> {
    range.read_all(1 << 20).unwrap()
}

fn platforms(image: &Image) -> Vec<String> {
    image.content.platforms().iter().map(ToString::to_string).collect()
}

/// Returns a text with everything in an archive that affects a push.
fn summary(archive: &Archive) -> String {
    fn describe(content: &Content, text: &mut String, indent: usize) {
        let stated = content
            .original()
            .map_or_else(|| "-".into(), |it| format!("{} {} {}", it.digest, it.media_type, it.bytes.len()));
        match content {
            Content::Index(index) => {
                writeln!(text, "{:indent$}index {stated}", "").unwrap();
                index.children.iter().for_each(|child| describe(&child.content, text, indent + 2));
                let absent: Vec<_> = index.absent.iter().map(|absent| (&absent.role, absent.digest)).collect();
                writeln!(text, "{:indent$}  absent {absent:?}", "").unwrap();
            }
            Content::Manifest(it) => {
                writeln!(text, "{:indent$}manifest {stated} {:?}", "", it.provenance).unwrap();
                let Config { bytes, digest, media_type, platform } = &it.config;
                writeln!(text, "{:indent$}  config {digest} {media_type:?} {platform:?} {}", "", bytes.len()).unwrap();
                for layer in &it.layers {
                    let (start, len) = (layer.bytes.start(), layer.bytes.len());
                    let LayerFacts { diff_id, bytes: _, compression, digest, named_digest, media_type, origins, name } =
                        &**layer;
                    write!(text, "{:indent$}  {start}+{len} {compression:?} {diff_id:?} ", "").unwrap();
                    writeln!(text, "{digest:?} {named_digest:?} {media_type:?} {origins:?} {name}").unwrap();
                }
            }
        }
    }
    let mut text = format!("{}\n", archive.format);
    for image in &archive.images {
        writeln!(text, "{:?}", image.names).unwrap();
        describe(&image.content, &mut text, 2);
    }
    text
}

/// Returns the only manifest of the only image of a fixture without notes.
fn only(name: &str, format: &str) -> (Vec<String>, Manifest) {
    let archive = open(&fixture(name)).unwrap();
    assert_eq!(archive.format, format, "{name}");
    assert_eq!(archive.notes, [""; 0], "{name}");
    let image = archive.select(&ImageSelector::Only, &Selection::default()).unwrap();
    let Content::Manifest(manifest) = image.content else { panic!("{name} has an index") };
    assert_eq!(manifest.config.digest.to_string(), APP, "{name}");
    assert_eq!(manifest.config.platform, "linux/amd64".parse().ok(), "{name}");
    let diff_ids: Vec<_> = manifest.layers.iter().map(|layer| layer.diff_id.unwrap().to_string()).collect();
    assert_eq!(diff_ids, DIFF_IDS, "{name}");
    (image.names, *manifest)
}

/// Returns compression, stated digest, digest in the name, and real digest of each layer.
fn layers(manifest: &Manifest) -> Vec<(Compression, Option<String>, Option<String>, String)> {
    let text = |digest: Option<Digest>| digest.map(|digest| digest.to_string());
    let layers = manifest.layers.iter();
    layers
        .map(|it| (it.compression, text(it.digest), text(it.named_digest), Digest::of(&all(&it.bytes)).to_string()))
        .collect()
}

#[test]
fn docker_save_archives_without_an_index_state_diff_ids_only() {
    for name in ["docker-20.10-save.tar", "podman-docker-archive.tar"] {
        let (names, manifest) = only(name, "docker save archive");
        assert_eq!(names, ["localhost/fixture/app:v1"]);
        assert!(manifest.original.is_none() && manifest.provenance == Provenance::DockerSave);
        assert_eq!(
            layers(&manifest),
            DIFF_IDS.map(|id| (Compression::Uncompressed, None, None, id.to_owned())),
            "{name}"
        );
    }
}

#[test]
fn the_names_of_compressed_layers_contain_their_digests() {
    let (names, manifest) = only("crane-tarball.tar", "docker save archive");
    assert_eq!(names, ["127.0.0.1:5999/fixture/app:s2"]);
    assert_eq!(layers(&manifest), COMPRESSED.map(|id| (Compression::Gzip, None, Some(id.to_owned()), id.to_owned())));
}

#[test]
fn docker_save_with_an_index_states_the_manifest() {
    let uncompressed = DIFF_IDS.map(|id| (Compression::Uncompressed, Some(id.to_owned()), None, id.to_owned()));
    for (name, digest, family) in [
        (
            "docker-29-overlay2-save.tar",
            "sha256:86cf1e6cf9c5876ff3f564a4ac758809e93fa413eb91fb01f7977b37e7ca0145",
            Family::Oci,
        ),
        (
            "docker-29-containerd-save-loaded.tar",
            "sha256:3dd0c91008854f8c399f71d517be4b9bd91b2a85a27b11e7c1d713305b69eb11",
            Family::Docker,
        ),
    ] {
        let (names, manifest) = only(name, "docker save archive");
        assert_eq!(names, ["localhost/fixture/app:v1"]);
        assert_eq!(layers(&manifest), uncompressed, "{name}");
        let stated = manifest.original.unwrap();
        assert_eq!((stated.digest.to_string().as_str(), stated.media_type.as_str()), (digest, family.manifest()));
        assert_eq!(Digest::of(&stated.bytes), stated.digest);
        assert_eq!(manifest.config.media_type.as_deref(), Some(family.config()));
        assert_eq!(manifest.layers[0].media_type.as_deref(), family.layer(Compression::Uncompressed));
        assert_eq!(manifest.provenance, Provenance::DockerSave);
    }
}

#[test]
fn oci_layouts_state_everything() {
    let compressed = COMPRESSED.map(|id| (Compression::Gzip, Some(id.to_owned()), None, id.to_owned()));
    for (name, format, expected) in [
        ("podman-oci-archive.tar", "OCI layout in a tar", &["v1"][..]),
        ("buildah-oci-layout", "OCI layout folder", &["v1"]),
        ("crane-oci-layout", "OCI layout folder", &[]),
    ] {
        let (names, manifest) = only(name, format);
        assert_eq!(names, expected, "{name}");
        assert_eq!(layers(&manifest), compressed, "{name}");
        assert_eq!(manifest.provenance, Provenance::Layout);
        assert_eq!(manifest.original.unwrap().digest.to_string(), BUILDAH_MANIFEST);
    }
}

#[test]
fn an_index_is_an_image_and_index_json_is_not() {
    let archive = open(&fixture("skopeo-oci-layout-multiarch")).unwrap();
    let image = archive.select(&ImageSelector::Only, &Selection::default()).unwrap();
    assert_eq!(image.names, ["multi"]);
    let Content::Index(index) = &image.content else { panic!("no index") };
    let digest = "sha256:cf32e48a8e8b60252e86f86c1a2b1b1e7fc3744ce467122236f225c9c8968f09";
    assert_eq!(index.original.digest.to_string(), digest);
    assert_eq!(index.children.len(), 2);
    assert_eq!(platforms(&image), ["linux/amd64", "linux/arm64"]);
    let configs: Vec<_> = image.manifests().iter().map(|manifest| manifest.config.digest.to_string()).collect();
    assert_eq!(configs, [APP, "sha256:4a7df50e196ca27c504bcc6f725428a21050949a9f5d63b116d09c73ca3e13dc"]);
}

#[test]
fn many_images_share_layers_through_links() {
    let archive = open(&fixture("docker-20.10-save-many.tar")).unwrap();
    let [app, base] = archive.images.as_slice() else { panic!("not two images") };
    assert_eq!(app.names, ["localhost/fixture/app:v1", "localhost/fixture/app:stable"]);
    assert_eq!(base.names, ["localhost/fixture/base:1"]);
    assert_eq!([app, base].map(|image| image.content.id().to_string()), [APP, BASE]);
    // base's layer is a symbolic link to app's first.
    assert_eq!(base.manifests()[0].layers[0].bytes.start(), app.manifests()[0].layers[0].bytes.start());
}

#[test]
fn an_image_may_have_no_name() {
    let archive = open(&fixture("docker-20.10-save-by-id-untagged.tar")).unwrap();
    let image = archive.select(&ImageSelector::Only, &Selection::default()).unwrap();
    assert_eq!((image.names.len(), image.content.id().to_string()), (0, BASE.into()));
}

#[test]
fn the_error_about_an_incomplete_save_of_docker_explains_it() {
    let error = open(&fixture("docker-29-containerd-save-incomplete.tar")).unwrap_err();
    let blob = COMPRESSED[0].replace("sha256:", "blobs/sha256/");
    let expected = format!(
        "the archive does not contain {blob}, which its manifest.json names as a layer of 127.0.0.1:5999/fixture/app:amd64 \
         (3 more are missing)"
    );
    assert_eq!((error.kind(), error.to_string()), (Kind::Input, expected));
    assert!(error.advice().unwrap().to_string().contains("docker pull --platform"), "{error:?}");
}

/// Truncates real archives at every block, and near some: an error, or the same images.
#[test]
fn an_archive_that_is_cut_off_is_an_error_or_the_same() {
    let scratch = Scratch::new();
    let names = fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut tars: Vec<_> = names.filter(|name| name.ends_with(".tar") && !name.contains("incomplete")).collect();
    tars.sort_unstable();
    assert_eq!(tars.len(), 9, "{tars:?}");
    for name in tars {
        let whole = summary(&open(&fixture(&name)).unwrap());
        let path = scratch.write(&name, &fs::read(fixture(&name)).unwrap());
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let (mut cut_short, mut equal) = (0, 0);
        for block in (0..fs::metadata(&path).unwrap().len().div_ceil(512)).rev() {
            for odd in [511, 257, 100, 1, 0] {
                file.set_len(block * 512 + odd).unwrap();
                match open(&path) {
                    Ok(archive) => {
                        assert_eq!(summary(&archive), whole, "{name} cut at {block} blocks and {odd} bytes");
                        equal += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), Kind::Input, "{name} cut at {block} blocks and {odd} bytes");
                        cut_short += 1;
                    }
                }
            }
        }
        assert!(cut_short > equal, "{name}: {cut_short} errors, {equal} equal");
    }
}
