//! What refers to a manifest, where the registry keeps no list of it.
//!
//! A registry with the referrers API answers the PUT of a manifest that has a `subject` with `OCI-Subject`. Where it does
//! not, the client keeps the list: an index under the tag `sha256-HEX` of the subject
//! (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject>).

use serde_json::{Value, json};

use super::client::Client;
use super::manifest::ManifestLookup;
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Document};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest that refers to another.
pub(super) struct Referrer {
    subject: Digest,
    digest: Digest,
    /// How the list describes it.
    descriptor: Value,
}

impl Referrer {
    /// What a list says about these bytes, if they refer to something.
    pub(super) fn of(bytes: &[u8], media_type: &str, digest: Digest) -> Option<Self> {
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

    /// The list with this on it, or `Some(None)` where it is on it already. `None` if it is no list.
    fn join(self, mut list: Value) -> Option<Option<Value>> {
        let is_index = list.get("mediaType").is_none_or(|media_type| media_type == INDEX);
        let listed = list.get_mut("manifests").filter(|_| is_index)?;
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
        Some(Some(list))
    }
}

impl Client {
    /// Adds a referrer to the list of its subject, unless it is on it. Of two clients that do so at the same moment one
    /// may win: registries have no way to tell them.
    pub(super) async fn list_referrer(&self, referrer: Referrer) -> Result<()> {
        let tag = format!("sha256-{}", referrer.subject.hex());
        let list = match self.lookup(&tag).await? {
            ManifestLookup::Found(found) => serde_json::from_slice(&found.bytes).unwrap_or_default(),
            ManifestLookup::NoImage | ManifestLookup::NoRepository | ManifestLookup::Unclear => {
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] })
            }
        };
        let what = || {
            let what = format!("{}/{}:{tag} should list what refers to a manifest", self.name(), self.repository());
            Error::new(Kind::Refused, format!("{what}, and is no index")).hint("Remove that tag, and push again.")
        };
        match referrer.join(list).ok_or_else(what)? {
            Some(list) => {
                let bytes = list.to_string().into_bytes();
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
    fn a_list_grows_by_what_is_not_on_it() {
        for empty in [json!([]), Value::Null] {
            let list =
                referrer().join(json!({ "mediaType": INDEX, "manifests": empty, "x": "kept" })).unwrap().unwrap();
            assert_eq!(list["manifests"][0]["digest"], json!(Digest::of(b"sbom")));
            assert_eq!((list["manifests"].as_array().unwrap().len(), &list["x"]), (1, &json!("kept")));
            assert!(referrer().join(list).unwrap().is_none(), "it is on it");
        }
    }

    #[test]
    fn what_is_no_list_is_left_alone() {
        let manifest = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "manifests": [] });
        for other in [Value::Null, json!([]), json!({}), json!({ "manifests": {} }), manifest] {
            assert!(referrer().join(other).is_none());
        }
    }
}
