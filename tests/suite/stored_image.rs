//! What a registry holds, to be compared with what an archive held.

use std::path::PathBuf;

use ecr_push::sandbox::Sandbox;
use serde_json::Value;

use super::archive_contents::{Part, Source, plain, sha256};

/// Where to get what a descriptor names.
enum Store<'a> {
    /// A folder with blobs by the digits of their digests, and manifests as `DIGITS.manifest.json`.
    Skopeo(PathBuf),
    /// A repository of a sandbox.
    Sandbox(&'a Sandbox, String),
}

/// An image in a registry.
pub(crate) struct StoredImage<'a> {
    root: Vec<u8>,
    store: Store<'a>,
}

impl<'a> StoredImage<'a> {
    /// A manifest, with what skopeo left in a folder.
    pub(crate) fn of_skopeo(root: Vec<u8>, folder: PathBuf) -> Self {
        Self { root, store: Store::Skopeo(folder) }
    }

    /// What a sandbox has.
    #[track_caller]
    pub(crate) fn of_sandbox(sandbox: &'a Sandbox, repository: &str, tag: &str) -> Self {
        let found = sandbox.image(repository, tag);
        let (digest, root, media_type) = found.unwrap_or_else(|| panic!("{repository} has no tag {tag}"));
        assert_eq!(digest.to_string(), sha256(&root));
        let view: Value = serde_json::from_slice(&root).unwrap();
        if let Some(stated) = view["mediaType"].as_str() {
            assert_eq!(media_type, stated, "the manifest was put with another media type than it states");
        }
        Self { root, store: Store::Sandbox(sandbox, repository.to_owned()) }
    }

    /// The digest of what the tag points at.
    pub(crate) fn digest(&self) -> String {
        sha256(&self.root)
    }

    /// The manifests, one a platform.
    pub(crate) fn manifests(&self) -> Vec<Value> {
        let root: Value = serde_json::from_slice(&self.root).unwrap();
        match root["manifests"].as_array() {
            None => vec![root],
            Some(children) => children.iter().map(|child| self.child(child)).collect(),
        }
    }

    /// The platforms, as the configs say.
    pub(crate) fn platforms(&self) -> Vec<String> {
        let config = |manifest: &Value| serde_json::from_slice::<Value>(&self.blob(&manifest["config"])).unwrap();
        let name =
            |config: Value| format!("{}/{}", config["os"].as_str().unwrap(), config["architecture"].as_str().unwrap());
        self.manifests().iter().map(|manifest| name(config(manifest))).collect()
    }

    /// Asserts that this is the archive's image: the same configs, the same content in the same order, digests and
    /// sizes that are true, and everything the archive stated still so.
    #[track_caller]
    pub(crate) fn is(&self, source: &Source) {
        if let Some(stated) = &source.digest {
            assert_eq!(&self.digest(), stated, "the manifest is another than the archive's");
        }
        let manifests = self.manifests();
        assert_eq!(manifests.len(), source.parts.len(), "as many platforms");
        for (manifest, part) in manifests.iter().zip(&source.parts) {
            self.is_part(manifest, part);
        }
    }

    #[track_caller]
    fn is_part(&self, manifest: &Value, part: &Part) {
        assert_eq!(self.blob(&manifest["config"]), part.config, "the config is another than the archive's");
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), part.layers.len(), "as many layers");
        for (descriptor, layer) in layers.iter().zip(&part.layers) {
            let bytes = self.blob(descriptor);
            let plain = sha256(&plain(&bytes));
            assert_eq!(plain, layer.diff_id, "the layer has the diff_id that the config states");
            assert_eq!(plain, layer.plain, "the layer has the archive's bytes");
            if let Some(packed) = &layer.packed {
                assert_eq!(&sha256(&bytes), packed, "the layer was packed and stays as it was");
            }
            let media_type = descriptor["mediaType"].as_str().unwrap();
            assert_eq!(media_type.ends_with("gzip"), bytes.starts_with(&[0x1f, 0x8b]), "{media_type} is the truth");
            assert_eq!(media_type.ends_with("zstd"), bytes.starts_with(&[0x28, 0xb5]), "{media_type} is the truth");
        }
    }

    /// The bytes that a descriptor names, of the size and the digest that it states.
    #[track_caller]
    pub(crate) fn blob(&self, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = match &self.store {
            Store::Skopeo(folder) => std::fs::read(folder.join(digest.strip_prefix("sha256:").unwrap())).unwrap(),
            Store::Sandbox(sandbox, repository) => sandbox.blob(repository, &digest.parse().unwrap()).unwrap(),
        };
        assert_eq!((bytes.len() as u64, sha256(&bytes).as_str()), (descriptor["size"].as_u64().unwrap(), digest));
        bytes
    }

    #[track_caller]
    fn child(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = match &self.store {
            Store::Skopeo(folder) => {
                let hex = digest.strip_prefix("sha256:").unwrap();
                std::fs::read(folder.join(format!("{hex}.manifest.json"))).unwrap()
            }
            Store::Sandbox(sandbox, repository) => sandbox.image(repository, digest).unwrap().1,
        };
        assert_eq!((bytes.len() as u64, sha256(&bytes).as_str()), (descriptor["size"].as_u64().unwrap(), digest));
        serde_json::from_slice(&bytes).unwrap()
    }
}
