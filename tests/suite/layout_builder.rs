//! OCI layouts made to measure, where no tool is at hand that writes them: indexes with attestations as BuildKit has them
//! (<https://docs.docker.com/build/metadata/attestations/attestation-storage/>), signatures as cosign has them
//! (<https://github.com/sigstore/cosign/blob/main/pkg/oci/layout/write.go>), artifacts as the image specification has them.

use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::sha256;
use super::harness::TestEnv;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A layout under construction, in a folder of a env.
pub(crate) struct Layout {
    pub(crate) path: String,
}

/// The digest of a descriptor.
pub(crate) fn digest(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

/// The hex digits of a descriptor's digest.
pub(crate) fn hex(descriptor: &Value) -> String {
    digest(descriptor).split_off("sha256:".len())
}

/// A descriptor with annotations.
pub(crate) fn annotated(descriptor: &Value, annotations: &Value) -> Value {
    let mut descriptor = descriptor.clone();
    descriptor["annotations"] = annotations.clone();
    descriptor
}

impl Layout {
    pub(crate) fn new(env: &TestEnv, name: &str) -> Self {
        let path = env.scratch(name);
        std::fs::create_dir_all(format!("{path}/blobs/sha256")).unwrap();
        std::fs::write(format!("{path}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { path }
    }

    fn place(&self, descriptor: &Value) -> String {
        format!("{}/blobs/sha256/{}", self.path, hex(descriptor))
    }

    /// The bytes that a descriptor points at.
    pub(crate) fn bytes(&self, descriptor: &Value) -> Vec<u8> {
        std::fs::read(self.place(descriptor)).unwrap()
    }

    pub(crate) fn remove(&self, descriptor: &Value) {
        std::fs::remove_file(self.place(descriptor)).unwrap();
    }

    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let descriptor = json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()});
        std::fs::write(self.place(&descriptor), bytes).unwrap();
        descriptor
    }

    /// A manifest with these fields.
    pub(crate) fn manifest(&self, mut fields: Value) -> Value {
        fields["schemaVersion"] = json!(2);
        fields["mediaType"] = json!(MANIFEST);
        self.blob(MANIFEST, fields.to_string().as_bytes())
    }

    /// An index of these entries.
    pub(crate) fn index(&self, entries: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries,
            "annotations": {"org.example.unchanged": "yes"}});
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// An image for a platform, with one plain layer.
    pub(crate) fn image(&self, platform: &str) -> Value {
        self.image_with(platform, &json!({}))
    }

    /// An image for a platform whose manifest has further fields.
    pub(crate) fn image_with(&self, platform: &str, fields: &Value) -> Value {
        let words: Vec<_> = platform.split('/').collect();
        let mut stated = json!({"os": words[0], "architecture": words[1]});
        if let Some(variant) = words.get(2) {
            stated["variant"] = json!(variant);
        }
        let layer =
            archive_builder::tar_of("platform", &[platform.as_bytes(), &archive_builder::prose(7, 40_000)].concat());
        let mut config = stated.clone();
        config["rootfs"] = json!({"type": "layers", "diff_ids": [sha256(&layer)]});
        let mut manifest = fields.clone();
        manifest["config"] = self.blob(CONFIG, config.to_string().as_bytes());
        manifest["layers"] = json!([self.blob("application/vnd.oci.image.layer.v1.tar", &layer)]);
        let mut descriptor = self.manifest(manifest);
        descriptor["platform"] = stated;
        descriptor
    }

    /// BuildKit's attestation of a manifest.
    pub(crate) fn attestation(&self, about: &Value) -> Value {
        let statement = json!({"_type": "https://in-toto.io/Statement/v0.1",
            "subject": [{"name": "app", "digest": {"sha256": hex(about)}}], "filler": "x".repeat(3000)});
        let statement = statement.to_string().into_bytes();
        let config = json!({"architecture": "unknown", "os": "unknown",
            "rootfs": {"type": "layers", "diff_ids": [sha256(&statement)]}});
        let mut descriptor = self.manifest(json!({
            "config": self.blob(CONFIG, config.to_string().as_bytes()),
            "layers": [self.blob("application/vnd.in-toto+json", &statement)],
        }));
        descriptor["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        annotated(
            &descriptor,
            &json!({"vnd.docker.reference.digest": digest(about), "vnd.docker.reference.type": "attestation-manifest"}),
        )
    }

    /// What refers to something by its `subject`, with the empty config of artifacts.
    pub(crate) fn artifact(&self, subject: &Value, artifact_type: &str, text: &str) -> Value {
        self.manifest(json!({
            "artifactType": artifact_type,
            "config": self.blob("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [self.blob(artifact_type, text.as_bytes())],
            "subject": {"mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"]},
            "annotations": {"org.example.about": text},
        }))
    }

    /// A signature of a manifest as cosign stores it under a tag: an image config, and what was signed for a layer.
    pub(crate) fn signature(&self, of: &Value) -> Value {
        let signed = json!({"critical": {"identity": {"docker-reference": "registry.example/app"},
            "image": {"docker-manifest-digest": digest(of)}, "type": "cosign container image signature"}, "optional": null});
        let signed = signed.to_string().into_bytes();
        let config = json!({"architecture": "", "created": "0001-01-01T00:00:00Z", "history": [{"created":
            "0001-01-01T00:00:00Z"}], "os": "", "rootfs": {"type": "layers", "diff_ids": [sha256(&signed)]}, "config": {}});
        let layer = annotated(
            &self.blob("application/vnd.dev.cosign.simplesigning.v1+json", &signed),
            &json!({"dev.cosignproject.cosign/signature": "MEUCIQDo1"}),
        );
        self.manifest(json!({"config": self.blob(CONFIG, config.to_string().as_bytes()), "layers": [layer]}))
    }

    /// An in-toto attestation of a manifest as cosign stores it under a tag.
    pub(crate) fn dsse(&self, of: &Value) -> Value {
        let envelope = json!({"payloadType": "application/vnd.in-toto+json", "payload": hex(of), "signatures": []});
        let envelope = envelope.to_string().into_bytes();
        let config =
            json!({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": [sha256(&envelope)]}});
        let layer = annotated(
            &self.blob("application/vnd.dsse.envelope.v1+json", &envelope),
            &json!({"dev.cosignproject.cosign/signature": "", "predicateType": "https://slsa.dev/provenance/v0.2"}),
        );
        self.manifest(json!({"config": self.blob(CONFIG, config.to_string().as_bytes()), "layers": [layer]}))
    }

    /// Writes index.json.
    pub(crate) fn finish(&self, roots: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": roots});
        std::fs::write(format!("{}/index.json", self.path), index.to_string()).unwrap();
    }

    /// Writes index.json and packs everything into a tar with a manifest.json that names the image of this manifest, as
    /// `docker save` does with the containerd image store. Returns the tar's path.
    pub(crate) fn finish_docker_save(&self, name: &str, root: &Value, saved: &Value) -> String {
        let full = json!({"io.containerd.image.name": format!("docker.io/library/{name}"),
            "org.opencontainers.image.ref.name": name.rsplit(':').next()});
        self.finish(&[annotated(root, &full)]);
        let view: Value = serde_json::from_slice(&self.bytes(saved)).unwrap();
        let blob = |descriptor: &Value| format!("blobs/sha256/{}", hex(descriptor));
        let layers: Vec<_> = view["layers"].as_array().unwrap().iter().map(blob).collect();
        let list = json!([{"Config": blob(&view["config"]), "RepoTags": [name], "Layers": layers}]);
        std::fs::write(format!("{}/manifest.json", self.path), list.to_string()).unwrap();
        let path = format!("{}.tar", self.path);
        let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
        tar.append_dir_all("", &self.path).unwrap();
        tar.finish().unwrap();
        path
    }
}
