//! Archives in the forms of writers that are not run here, as their documentation or source gives them, which is linked to.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::archive_builder::{self, add};
use super::archive_contents::sha256;
use super::docker_registry::{second_opinion, skopeo_copy};
use super::harness::{TestEnv, testdata, text};

/// Files of an archive, by their names.
type Files = BTreeMap<String, Vec<u8>>;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    sha256(bytes).strip_prefix("sha256:").unwrap().to_owned()
}

/// The plain layers of the images that are made here.
fn layers() -> Vec<Vec<u8>> {
    vec![
        archive_builder::tar_of("words", &archive_builder::prose(1, 60_000)),
        archive_builder::tar_of("noise", &archive_builder::noise(2, 20_000)),
    ]
}

fn diff_ids(layers: &[Vec<u8>]) -> Vec<String> {
    layers.iter().map(|layer| sha256(layer)).collect()
}

/// Writes a tar with the files in their alphabetical order.
fn tar(env: &TestEnv, files: &Files) -> String {
    let path = env.scratch("image.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    files.iter().for_each(|(name, bytes)| add(&mut tar, name, bytes));
    tar.finish().unwrap();
    path
}

/// Writes a folder.
fn folder(env: &TestEnv, files: &Files) -> String {
    let root = env.scratch("image");
    for (name, bytes) in files {
        let path = Path::new(&root).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    root
}

const OCI: [&str; 3] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
];
const DOCKER: [&str; 3] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Adds a blob to an OCI layout and returns its descriptor.
fn blob(files: &mut Files, media_type: &str, bytes: &[u8]) -> Value {
    files.insert(format!("blobs/sha256/{}", hex(bytes)), bytes.to_vec());
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

/// Adds an image with layers packed by gzip, and returns its manifest's descriptor.
fn image(files: &mut Files, types: [&str; 3], config: &[u8], layers: &[Vec<u8>]) -> Value {
    let packed: Vec<Value> = layers.iter().map(|layer| blob(files, types[2], &gzip(layer))).collect();
    let config = blob(files, types[1], config);
    let manifest = json!({"schemaVersion": 2, "mediaType": types[0], "config": config, "layers": packed});
    blob(files, types[0], manifest.to_string().as_bytes())
}

/// The same for a platform.
fn image_for(files: &mut Files, architecture: &str, layers: &[Vec<u8>]) -> Value {
    let mut config: Value = serde_json::from_slice(&archive_builder::config(&diff_ids(layers))).unwrap();
    config["architecture"] = architecture.into();
    let mut descriptor = image(files, OCI, config.to_string().as_bytes(), layers);
    descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
    descriptor
}

/// Adds what makes files an OCI layout.
fn finish_layout(files: &mut Files, manifest: Value) {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    files.insert("index.json".into(), index.to_string().into_bytes());
    files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
}

/// Adds BuildKit's statement about how an image was built: an image for no platform, whose one layer is JSON
/// (<https://docs.docker.com/build/metadata/attestations/attestation-storage/>).
fn attestation(files: &mut Files, about: &Value) -> Value {
    let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "predicate": {"buildType": "x"}}).to_string();
    let mut layer = blob(files, "application/vnd.in-toto+json", statement.as_bytes());
    layer["annotations"] = json!({"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"});
    let config = json!({"architecture": "unknown", "os": "unknown", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [sha256(statement.as_bytes())]}});
    let config = blob(files, OCI[1], config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI[0], "config": config, "layers": [layer]});
    let mut descriptor = blob(files, OCI[0], manifest.to_string().as_bytes());
    descriptor["annotations"] =
        json!({"vnd.docker.reference.digest": about["digest"], "vnd.docker.reference.type": "attestation-manifest"});
    descriptor["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    descriptor
}

/// Adds an index of an image and BuildKit's statement about it.
fn attested(files: &mut Files) -> Value {
    let image = image_for(files, "amd64", &layers());
    let statement = attestation(files, &image);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image, statement]});
    blob(files, INDEX, index.to_string().as_bytes())
}

fn name(descriptor: &mut Value, name: &str) {
    let tag = name.rsplit(':').next().unwrap();
    descriptor["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
}

/// Adds the `manifest.json` that containerd's exporter writes beside a layout for old Dockers: the image for this platform
/// (<https://github.com/containerd/containerd/blob/main/core/images/archive/exporter.go>).
fn compatible(files: &mut Files, manifest: &Value) {
    let path = |digest: &Value| digest.as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let bytes = &files[&path(&manifest["digest"])];
    let manifest: Value = serde_json::from_slice(bytes).unwrap();
    let layers: Vec<String> =
        manifest["layers"].as_array().unwrap().iter().map(|layer| path(&layer["digest"])).collect();
    let list = json!([{"Config": path(&manifest["config"]["digest"]), "RepoTags": ["made/up:1"], "Layers": layers}]);
    files.insert("manifest.json".into(), list.to_string().into_bytes());
}

/// `docker save` of what BuildKit built into the containerd store: containerd's exporter, with the whole index.
pub(crate) fn docker_save_containerd(env: &TestEnv) -> String {
    let mut files = Files::new();
    let mut root = attested(&mut files);
    name(&mut root, "docker.io/made/up:1");
    let index: Value = serde_json::from_slice(&files[&format!("blobs/sha256/{}", hex_of(&root))]).unwrap();
    compatible(&mut files, &index["manifests"][0]);
    finish_layout(&mut files, root);
    tar(env, &files)
}

/// `nerdctl save --all-platforms`, `ctr images export`: containerd's exporter.
pub(crate) fn nerdctl_save(env: &TestEnv) -> String {
    let mut files = Files::new();
    let manifests = ["amd64", "arm64"].map(|architecture| image_for(&mut files, architecture, &layers()));
    compatible(&mut files, &manifests[0]);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let mut root = blob(&mut files, INDEX, index.to_string().as_bytes());
    name(&mut root, "docker.io/made/up:1");
    finish_layout(&mut files, root);
    tar(env, &files)
}

fn hex_of(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap()
}

/// Written by skopeo itself, if it is here. Without it there is no registry to push to either.
pub(crate) fn skopeo_dir(env: &TestEnv, [transport, archive]: [&str; 2], options: &[&str]) -> String {
    if !second_opinion("skopeo") {
        return String::new();
    }
    let copy = env.scratch("copy");
    let source = format!("{transport}:{}", testdata(archive));
    std::fs::create_dir(&copy).unwrap();
    skopeo_copy(copy.as_ref(), &[options, &[source.as_str()]].concat());
    text(&Path::new(&copy).join("image"))
}

/// The same, carried in a tar.
pub(crate) fn skopeo_dir_in_a_tar(env: &TestEnv) -> String {
    let written = skopeo_dir(env, ["oci", "skopeo-oci-layout-multiarch"], &["--all"]);
    let path = env.scratch("image.tar");
    if !written.is_empty() {
        let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
        tar.append_dir_all(".", written).unwrap();
        tar.finish().unwrap();
    }
    path
}

/// The config, and layers in files named after their digests: what ggcr writes
/// (<https://github.com/google/go-containerregistry/blob/main/pkg/v1/tarball/write.go>), which kaniko, ko and crane use.
pub(crate) fn kaniko_tar_path(env: &TestEnv) -> String {
    let (mut files, layers) = (Files::new(), layers());
    let config = archive_builder::config(&diff_ids(&layers));
    files.insert(sha256(&config), config.clone());
    let mut names = Vec::new();
    for packed in layers.iter().map(|layer| gzip(layer)) {
        names.push(format!("{}.tar.gz", hex(&packed)));
        files.insert(format!("{}.tar.gz", hex(&packed)), packed);
    }
    let list = json!([{"Config": sha256(&config), "RepoTags": ["made/up:1"], "Layers": names}]);
    files.insert("manifest.json".into(), list.to_string().into_bytes());
    tar(env, &files)
}

/// ggcr's other form, in a folder, without a name
/// (<https://github.com/google/go-containerregistry/blob/main/pkg/v1/layout/write.go>). kaniko builds images of Docker's
/// types on bases that have them.
pub(crate) fn kaniko_oci_layout_path(env: &TestEnv) -> String {
    let (mut files, layers) = (Files::new(), layers());
    let manifest = image(&mut files, DOCKER, &archive_builder::config(&diff_ids(&layers)), &layers);
    finish_layout(&mut files, manifest);
    folder(env, &files)
}

/// `--output type=docker`: containerd's exporter, one image, Docker's types
/// (<https://docs.docker.com/build/exporters/oci-docker/>).
pub(crate) fn buildkit_docker(env: &TestEnv) -> String {
    let (mut files, layers) = (Files::new(), layers());
    let mut manifest = image(&mut files, DOCKER, &archive_builder::config(&diff_ids(&layers)), &layers);
    compatible(&mut files, &manifest);
    name(&mut manifest, "docker.io/made/up:1");
    finish_layout(&mut files, manifest);
    tar(env, &files)
}

/// `--output type=oci`, with the statement that is made by default.
pub(crate) fn buildkit_oci(env: &TestEnv) -> String {
    let mut files = Files::new();
    let mut root = attested(&mut files);
    name(&mut root, "docker.io/made/up:1");
    finish_layout(&mut files, root);
    tar(env, &files)
}

/// `oci_image` of rules_oci: a layout whose blobs are links out of it, and whose index has no annotations
/// (<https://github.com/bazel-contrib/rules_oci/blob/main/oci/private/image.sh>).
pub(crate) fn rules_oci_image(env: &TestEnv) -> String {
    let layout = kaniko_oci_layout_path(env);
    #[cfg(unix)]
    for entry in std::fs::read_dir(format!("{layout}/blobs/sha256")).unwrap() {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name().into_string().unwrap())).unwrap();
        std::fs::rename(&from, env.scratch(&format!("{name}.tar"))).unwrap();
        std::os::unix::fs::symlink(format!("../../../{name}.tar"), from).unwrap();
    }
    layout
}

/// `oci_load` of rules_oci (<https://github.com/bazel-contrib/rules_oci/blob/main/oci/private/tarball.sh.tpl>).
pub(crate) fn rules_oci_load(env: &TestEnv) -> String {
    let (mut files, layers) = (Files::new(), layers());
    let config = archive_builder::config(&diff_ids(&layers));
    let mut names = Vec::new();
    for packed in layers.iter().map(|layer| gzip(layer)) {
        names.push(format!("blobs/sha256/{}.tar.gz", hex(&packed)));
        files.insert(format!("blobs/sha256/{}.tar.gz", hex(&packed)), packed);
    }
    let name = format!("blobs/sha256/{}", hex(&config));
    let list = json!([{"Config": name, "RepoTags": ["made/up:1"], "Layers": names}]);
    files.insert(name, config);
    files.insert("manifest.json".into(), list.to_string().into_bytes());
    tar(env, &files)
}

/// `dockerTools.buildLayeredImage` and `streamLayeredImage`: plain layers in folders named after their hashes. Before it is
/// packed it is a stream, so manifest.json comes last
/// (<https://github.com/NixOS/nixpkgs/blob/master/pkgs/build-support/docker/stream_layered_image.py>).
pub(crate) fn nix_build_layered_image(env: &TestEnv) -> String {
    let path = env.scratch("image.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let layers = layers();
    let names: Vec<String> = layers.iter().map(|layer| format!("{}/layer.tar", hex(layer))).collect();
    names.iter().zip(&layers).for_each(|(name, layer)| add(&mut tar, name, layer));
    archive_builder::finish_docker_save(&mut tar, &names, &diff_ids(&layers));
    path
}

/// `dockerTools.buildImage`: the old form, packed by `tar` out of a folder, each layer with `VERSION` and `json` beside it,
/// and `repositories` (<https://github.com/NixOS/nixpkgs/blob/master/pkgs/build-support/docker/default.nix>).
pub(crate) fn nix_build_image(env: &TestEnv) -> String {
    let path = env.scratch("image.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let layers = layers();
    let ids: Vec<String> = layers.iter().map(|layer| hex(&layer[..100])).collect();
    for (id, layer) in ids.iter().zip(&layers) {
        add(&mut tar, &format!("./{id}/VERSION"), b"1.0");
        add(&mut tar, &format!("./{id}/json"), b"{}");
        add(&mut tar, &format!("./{id}/layer.tar"), layer);
    }
    add(&mut tar, "./repositories", br#"{"made/up":{"1":"0"}}"#);
    let names: Vec<String> = ids.iter().map(|id| format!("{id}/layer.tar")).collect();
    archive_builder::finish_docker_save(&mut tar, &names, &diff_ids(&layers));
    path
}

/// `jibBuildTar`: names without folders, `config.json`, packed layers
/// (<https://github.com/GoogleContainerTools/jib/blob/master/jib-core/src/main/java/com/google/cloud/tools/jib/image/ImageTarball.java>).
pub(crate) fn jib_docker_tar(env: &TestEnv) -> String {
    let (mut files, layers) = (Files::new(), layers());
    let mut names = Vec::new();
    for packed in layers.iter().map(|layer| gzip(layer)) {
        names.push(format!("{}.tar.gz", hex(&packed)));
        files.insert(format!("{}.tar.gz", hex(&packed)), packed);
    }
    files.insert("config.json".into(), archive_builder::config(&diff_ids(&layers)));
    let list = json!([{"Config": "config.json", "RepoTags": ["made/up:1"], "Layers": names}]);
    files.insert("manifest.json".into(), list.to_string().into_bytes());
    tar(env, &files)
}

/// The same with `container.format = OCI`: a layout in a tar, with `blobs/sha256/HEX` and a name in the index.
pub(crate) fn jib_oci_tar(env: &TestEnv) -> String {
    let (mut files, layers) = (Files::new(), layers());
    let mut manifest = image(&mut files, OCI, &archive_builder::config(&diff_ids(&layers)), &layers);
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "made/up:1"});
    finish_layout(&mut files, manifest);
    tar(env, &files)
}
