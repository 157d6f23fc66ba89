//! What an archive holds, read by other means than the program's: all of it in memory, and nothing checked but
//! what the tests compare.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::harness::text;

/// `sha256:HEX`
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The plain bytes of a layer: unpacked if it is zstd, or a gzip of one member.
pub(crate) fn plain(bytes: &[u8]) -> Vec<u8> {
    if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return zstd::decode_all(bytes).unwrap();
    }
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.to_vec();
    }
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain).unwrap();
    assert!(decoder.into_inner().is_empty(), "something follows the gzip member");
    plain
}

/// An image of an archive.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its names, as the archive has them.
    pub(crate) names: Vec<String>,
    /// The digest of what a tag has to point at, where the archive states it.
    pub(crate) digest: Option<String>,
    /// The digest of what the archive's index lists, whether it is pushed or not.
    pub(crate) listed: Option<String>,
    /// One a platform, in their order.
    pub(crate) parts: Vec<Part>,
}

/// An image for one platform.
#[derive(Debug)]
pub(crate) struct Part {
    /// What index.json leads to, if there is one.
    pub(crate) manifest: Option<Vec<u8>>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Layer>,
}

/// A layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// What the config says.
    pub(crate) diff_id: String,
    /// How many bytes are in the archive.
    pub(crate) len: usize,
    /// The hash of the plain bytes.
    pub(crate) plain: String,
    /// The hash of the bytes in the archive, if they are compressed there: then they stay so.
    pub(crate) packed: Option<String>,
}

enum Entry {
    File(Vec<u8>),
    Link(String),
}

struct Files(BTreeMap<String, Entry>);

impl Files {
    fn read(path: &Path) -> Self {
        let mut files = BTreeMap::new();
        if path.is_dir() {
            folder(path, path, &mut files);
            return Self(files);
        }
        let mut tar = tar::Archive::new(std::fs::File::open(path).unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = text(&entry.path().unwrap()).trim_start_matches("./").to_owned();
            let kind = entry.header().entry_type();
            if kind.is_symlink() {
                let target = text(&entry.link_name().unwrap().unwrap());
                let target = target.strip_prefix("../").expect("links of testdata lead to the folder above").to_owned();
                files.insert(name, Entry::Link(target));
            } else if kind.is_file() {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                files.insert(name, Entry::File(bytes));
            }
        }
        Self(files)
    }

    #[track_caller]
    fn get(&self, name: &str) -> &[u8] {
        match self.0.get(name) {
            Some(Entry::File(bytes)) => bytes,
            Some(Entry::Link(target)) => self.get(target),
            None => panic!("the archive has no {name}"),
        }
    }

    /// A blob of an OCI layout, or of what skopeo calls `dir:`.
    #[track_caller]
    fn blob(&self, digest: &Value) -> &[u8] {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        let names = [format!("blobs/sha256/{hex}"), hex.to_owned(), format!("{hex}.manifest.json")];
        let name = names.iter().find(|name| self.0.contains_key(*name));
        self.get(name.unwrap_or(&names[0]))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(self.get(name)).unwrap()
    }
}

fn folder(root: &Path, at: &Path, files: &mut BTreeMap<String, Entry>) {
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            folder(root, &path, files);
        } else {
            files.insert(text(path.strip_prefix(root).unwrap()), Entry::File(std::fs::read(&path).unwrap()));
        }
    }
}

impl Source {
    /// Reads the image at `index` of an archive.
    pub(crate) fn read(path: &str, index: usize) -> Self {
        let files = Files::read(Path::new(path));
        let mut parts = Vec::new();
        let list = files.0.contains_key("manifest.json").then(|| files.json("manifest.json"));
        if list.as_ref().is_some_and(Value::is_object) {
            let root = files.get("manifest.json");
            part(&files, root, &mut parts);
            let digest = Some(sha256(root));
            return Self { names: Vec::new(), digest: digest.clone(), listed: digest, parts };
        }
        let listed = files.0.contains_key("index.json").then(|| files.json("index.json")["manifests"][index].clone());
        let listed = listed.and_then(|root| root["digest"].as_str().map(str::to_owned));
        if let Some(root) = &listed {
            part(&files, files.blob(&root.as_str().into()), &mut parts);
        }
        let Some(list) = list else {
            let name =
                &files.json("index.json")["manifests"][index]["annotations"]["org.opencontainers.image.ref.name"];
            let names = name.as_str().into_iter().map(str::to_owned).collect();
            return Self { names, digest: listed.clone(), listed, parts };
        };
        // One image of an index is what old Dockers find.
        if parts.len() <= 1 {
            let saved = &list[index];
            let config = files.get(saved["Config"].as_str().unwrap());
            let layers = saved["Layers"].as_array().unwrap().iter().map(|name| files.get(name.as_str().unwrap()));
            let manifest = listed.as_ref().map(|root| files.blob(&root.as_str().into()));
            parts = vec![Part::new(manifest, config, layers)];
        }
        let names = list[index]["RepoTags"].as_array().into_iter().flatten();
        let names = names.map(|name| name.as_str().unwrap().to_owned()).collect();
        Self { names, digest: None, listed, parts }
    }
}

/// Reads a manifest, or all those of an index.
fn part(files: &Files, bytes: &[u8], parts: &mut Vec<Part>) {
    let manifest: Value = serde_json::from_slice(bytes).unwrap();
    if let Some(children) = manifest["manifests"].as_array() {
        children.iter().for_each(|child| part(files, files.blob(&child["digest"]), parts));
        return;
    }
    let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| files.blob(&layer["digest"]));
    parts.push(Part::new(Some(bytes), files.blob(&manifest["config"]["digest"]), layers));
}

impl Part {
    fn new<'a>(manifest: Option<&[u8]>, config: &[u8], layers: impl Iterator<Item = &'a [u8]>) -> Self {
        let view: Value = serde_json::from_slice(config).unwrap();
        let diff_ids = view["rootfs"]["diff_ids"].as_array().unwrap().clone();
        let layers: Vec<_> = layers.collect();
        assert_eq!(layers.len(), diff_ids.len(), "the archive has a layer for each diff_id");
        let layer = |(bytes, diff_id): (&[u8], Value)| {
            let inside = plain(bytes);
            Layer {
                diff_id: diff_id.as_str().unwrap().to_owned(),
                len: bytes.len(),
                packed: (inside.len() != bytes.len()).then(|| sha256(bytes)),
                plain: sha256(&inside),
            }
        };
        let manifest = manifest.map(<[u8]>::to_vec);
        Self { manifest, config: config.to_vec(), layers: layers.into_iter().zip(diff_ids).map(layer).collect() }
    }
}
