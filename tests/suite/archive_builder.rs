//! Archives made to measure: as `docker save` writes them, and OCI layouts.

use std::fs::File;
use std::io::{Seek as _, Write};
use std::process::Command;

use serde_json::{Value, json};

use super::archive_contents::sha256;
use super::harness::{TestEnv, testdata};

/// Bytes that no packer makes smaller, the same for the same seed (splitmix64).
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Bytes that pack well, though not to nothing: lines of words in a changing order.
pub(crate) fn prose(seed: u64, len: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "layer", "digest", "config", "manifest", "index", "registry", "blob", "tag", "chunk", "upload", "archive",
        "tar", "image", "platform", "cache", "token",
    ];
    let mut bytes = Vec::with_capacity(len + 32);
    for (line, random) in noise(seed, len / 4 + 8).chunks(7).enumerate() {
        if bytes.len() >= len {
            break;
        }
        let words: Vec<_> = random.iter().map(|byte| WORDS[usize::from(byte % 16)]).collect();
        writeln!(bytes, "{line}: {}", words.join(" ")).unwrap();
    }
    bytes.resize(len, b'.');
    bytes
}

/// The bytes as one of the tools `gzip`, `zstd`, `xz` and `bzip2` compresses them, or where it is not installed, a crate.
pub(crate) fn packed(tool: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    match Command::new(tool).arg("-c").stdin(file).output() {
        Ok(done) if done.status.success() => return done.stdout,
        Ok(done) => panic!("{tool}: {done:?}"),
        Err(_) => {}
    }
    let mut packed = Vec::new();
    match tool {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap();
        }
        "zstd" => zstd::stream::copy_encode(bytes, &mut packed, 3).unwrap(),
        "xz" => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut encoder = lzma_rust2::XzWriter::new(&mut packed, options).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap();
        }
        "bzip2" => {
            let mut encoder = bzip2::write::BzEncoder::new(&mut packed, bzip2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap();
        }
        tool => panic!("no crate packs like {tool}"),
    }
    packed
}

/// Adds a file to a tar.
pub(crate) fn add(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes).unwrap();
}

/// A tar with one file.
pub(crate) fn tar_of(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, name, bytes);
    tar.into_inner().unwrap()
}

/// A config of an image with these layers.
pub(crate) fn config(diff_ids: &[String]) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

/// Writes an archive as `docker save` did before version 25: `ID/layer.tar`.
pub(crate) fn docker_save(path: &str, layers: &[Vec<u8>]) {
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    let mut names = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        let name = format!("{n:064x}/layer.tar");
        add(&mut tar, &name, layer);
        names.push(name);
    }
    let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
    finish_docker_save(&mut tar, &names, &diff_ids);
}

/// Writes a docker save of one layer, whose config has these fields. Other fields give another layer.
pub(crate) fn docker_save_with(path: &str, fields: &Value) {
    let layer = tar_of("file", &[fields.to_string().as_bytes(), &prose(1, 40_000)].concat());
    let mut config = fields.clone();
    config["rootfs"] = json!({"type": "layers", "diff_ids": [sha256(&layer)]});
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    add(&mut tar, "layer.tar", &layer);
    add(&mut tar, "config.json", config.to_string().as_bytes());
    let list = json!([{"Config": "config.json", "RepoTags": ["made/up:1"], "Layers": ["layer.tar"]}]);
    add(&mut tar, "manifest.json", list.to_string().as_bytes());
    tar.finish().unwrap();
}

/// Adds config and manifest.json.
pub(crate) fn finish_docker_save(tar: &mut tar::Builder<impl Write>, layers: &[String], diff_ids: &[String]) {
    let config = config(diff_ids);
    let config_name = format!("{}.json", sha256(&config).strip_prefix("sha256:").unwrap());
    add(tar, &config_name, &config);
    let manifest = json!([{"Config": config_name, "RepoTags": ["made/up:1"], "Layers": layers}]);
    add(tar, "manifest.json", manifest.to_string().as_bytes());
    tar.finish().unwrap();
}

/// Writes an OCI layout as a folder, with uncompressed layers, which are pushed unchanged. Returns the manifest's digest.
pub(crate) fn oci_layout(path: &str, layers: &[Vec<u8>]) -> String {
    let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
    let layers = layers.iter().map(|layer| ("application/vnd.oci.image.layer.v1.tar", layer.clone()));
    oci_layout_of(path, ("application/vnd.oci.image.config.v1+json", config(&diff_ids)), &layers.collect::<Vec<_>>())
}

/// A blob to be: its media type and its bytes.
type Part<'a> = (&'a str, Vec<u8>);

/// The same, of any config and any layers.
pub(crate) fn oci_layout_of(path: &str, config: Part<'_>, layers: &[Part<'_>]) -> String {
    std::fs::create_dir_all(format!("{path}/blobs/sha256")).unwrap();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": blob(path, config.0, &config.1),
        "layers": layers.iter().map(|(media_type, bytes)| blob(path, media_type, bytes)).collect::<Vec<_>>(),
    });
    let manifest = blob(path, manifest_type, manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(format!("{path}/index.json"), index.to_string()).unwrap();
    std::fs::write(format!("{path}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest["digest"].as_str().unwrap().to_owned()
}

/// Changes the manifest of an OCI layout in a folder, and returns its new digest.
pub(crate) fn edit_manifest(path: &str, change: impl FnOnce(&mut Value)) -> String {
    let json = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let file = |digest: &str| format!("{path}/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap());
    let mut index = json(&format!("{path}/index.json"));
    let root = &mut index["manifests"][0];
    let before = file(root["digest"].as_str().unwrap());
    let mut manifest = json(&before);
    change(&mut manifest);
    let (bytes, digest) = (manifest.to_string(), sha256(manifest.to_string().as_bytes()));
    std::fs::remove_file(before).unwrap();
    std::fs::write(file(&digest), &bytes).unwrap();
    *root = json!({"mediaType": manifest["mediaType"], "digest": digest, "size": bytes.len()});
    std::fs::write(format!("{path}/index.json"), index.to_string()).unwrap();
    digest
}

/// Writes a blob of an OCI layout, and returns its descriptor.
pub(crate) fn blob(path: &str, media_type: &str, bytes: &[u8]) -> Value {
    let digest = sha256(bytes);
    std::fs::write(format!("{path}/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// A copy of an archive of `testdata` with one bit changed in the middle of each of these entries.
#[track_caller]
pub(crate) fn changed(env: &TestEnv, archive: &str, entries: &[&str]) -> String {
    let mut bytes = std::fs::read(testdata(archive)).unwrap();
    for entry in entries {
        let mut tar = tar::Archive::new(bytes.as_slice());
        let is_it = |found: &tar::Entry<'_, &[u8]>| found.path_bytes().ends_with(entry.as_bytes()) && found.size() > 0;
        let found = tar.entries().unwrap().map(Result::unwrap).find(is_it).unwrap_or_else(|| panic!("no {entry}"));
        let middle = usize::try_from(found.raw_file_position() + found.size() / 2).unwrap();
        drop(found);
        bytes[middle] ^= 1;
    }
    let path = env.scratch("changed.tar");
    std::fs::write(&path, bytes).unwrap();
    path
}
