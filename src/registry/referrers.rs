//! Manifests with a `subject`, and the index of referrers for registries without the referrers API.
//!
//! A registry with the referrers API responds to the PUT of a manifest with a `subject` with the header `OCI-Subject`.
//! Otherwise the client maintains the index itself, under the tag `sha256-HEX` of the subject
//! (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject>).

use bytes::Bytes;
use serde_json::{Value, json};

use super::client::Client;
use super::manifest::ManifestLookup;
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Document};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest that refers to another.
struct Referrer {
    subject: Digest,
    digest: Digest,
    /// Its descriptor in the index.
    descriptor: Value,
}

impl Referrer {
    /// Parses a manifest. `None` if it has no `subject`.
    fn of(bytes: &[u8], media_type: &str, digest: Digest) -> Option<Self> {
        let document = Document::parse(bytes).ok()?;
        let subject = document.subject()?;
        let Document { artifact_type, config, annotations, .. } = document;
        let artifact_type = artifact_type.filter(|text| !text.is_empty()).or_else(|| Some(config?.media_type));
        let mut descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        if let Some(artifact_type) = artifact_type.filter(|text| !text.is_empty()) {
            descriptor["artifactType"] = artifact_type.into();
        }
        if !annotations.is_empty() {
            descriptor["annotations"] = json!(annotations);
        }
        Some(Self { subject, digest, descriptor })
    }

    /// Returns the index with this referrer added, or `Some(None)` if it contains it already. `None` if it is not an index.
    fn add_to(self, mut index: Value) -> Option<Option<Value>> {
        let is_index = index.get("mediaType").is_none_or(|media_type| media_type == INDEX);
        let listed = index.get_mut("manifests").filter(|_| is_index)?;
        // Go writes empty lists as `null`.
        if listed.is_null() {
            *listed = json!([]);
        }
        let listed = listed.as_array_mut()?;
        let digest = self.digest.to_string();
        if listed.iter().any(|known| known.get("digest").and_then(Value::as_str) == Some(&digest)) {
            return Some(None);
        }
        listed.push(self.descriptor);
        Some(Some(index))
    }
}

impl Client {
    /// Puts a manifest or an index under a tag or under its digest. If it has a `subject` and the registry does not maintain
    /// the index of referrers, adds it to that index.
    ///
    /// # Errors
    /// Fails if the registry rejects the manifest, confirms another digest, or confirms none and does not have the manifest.
    /// Nothing else is required of the response: ECR's has no `Location` (apple/swift-container-plugin#27).
    pub(crate) async fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<()> {
        let headers = self.put(reference, media_type, digest, bytes.clone()).await?;
        match Referrer::of(&bytes, media_type, digest) {
            Some(referrer) if !headers.contains_key("oci-subject") => self.add_to_index(referrer).await,
            _ => Ok(()),
        }
    }

    /// Adds a referrer to the index of its subject, unless the index contains it. If two clients do so at the same time, one
    /// change may be lost: registries offer no conditional update.
    async fn add_to_index(&self, referrer: Referrer) -> Result<()> {
        let tag = format!("sha256-{}", referrer.subject.hex());
        let index = match self.lookup(&tag).await? {
            ManifestLookup::Found(found) => serde_json::from_slice(&found.bytes).unwrap_or_default(),
            ManifestLookup::NoImage | ManifestLookup::NoRepository | ManifestLookup::Unclear => {
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] })
            }
        };
        let what = || {
            let tag = format!("{}/{}:{tag}", self.name(), self.repository());
            Error::new(Kind::Refused, format!("cannot add a referrer to {tag}: it is not an index"))
                .hint("Remove that tag, then push again.")
        };
        match referrer.add_to(index).ok_or_else(what)? {
            Some(index) => {
                let bytes = index.to_string().into_bytes();
                self.put(&tag, INDEX, Digest::of(&bytes), bytes.into()).await.map(drop)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referrer() -> Referrer {
        let manifest = json!({ "subject": { "digest": Digest::of(b"image"), "size": 5 } }).to_string();
        Referrer::of(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json", Digest::of(b"sbom")).unwrap()
    }

    #[test]
    fn a_referrer_is_added_to_the_index_once() {
        for empty in [json!([]), Value::Null] {
            let index = json!({ "mediaType": INDEX, "manifests": empty, "x": "unknown" });
            let index = referrer().add_to(index).unwrap().unwrap();
            assert_eq!(index["manifests"][0]["digest"], json!(Digest::of(b"sbom")));
            assert_eq!((index["manifests"].as_array().unwrap().len(), &index["x"]), (1, &json!("unknown")));
            assert!(referrer().add_to(index).unwrap().is_none(), "it is listed already");
        }
    }

    #[test]
    fn only_an_index_is_changed() {
        let manifest = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "manifests": [] });
        for other in [Value::Null, json!([]), json!({}), json!({ "manifests": {} }), manifest] {
            assert!(referrer().add_to(other).is_none());
        }
    }
}
