//! Manifests, indexes and image configs, parsed once.
//!
//! The types are stricter than oci-client's on purpose: a digest is parsed and a size is unsigned, so that an invalid value
//! is rejected with its line and column. The original bytes are pushed ([`OriginalManifest`]): every change is made by
//! [`OriginalManifest::edit`], which preserves unknown fields.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{DiffId, Digest, DocumentKind, MediaType, Platform};
use crate::error::{Error, Result};

/// A manifest or an index with its original bytes, which are pushed unchanged.
#[derive(Clone, Debug)]
pub struct OriginalManifest {
    /// The bytes.
    pub bytes: Bytes,
    /// Their digest, computed here.
    pub digest: Digest,
    /// The media type, from the descriptor that refers to it or from the bytes.
    pub media_type: String,
    /// The digest of its `subject`, if it has one.
    pub subject: Option<Digest>,
}

impl OriginalManifest {
    /// Serializes a new manifest or index. The order of its keys is fixed by its type, so equal input gives equal bytes.
    ///
    /// # Errors
    /// Fails with [`Kind::Internal`](crate::error::Kind::Internal) if it cannot be serialized.
    pub fn serialize(json: &impl serde::Serialize, media_type: impl Into<String>) -> Result<Self> {
        let bytes =
            serde_json::to_vec(json).map_err(|error| Error::internal("cannot serialize a manifest").because(error))?;
        Ok(Self { digest: Digest::of(&bytes), bytes: bytes.into(), media_type: media_type.into(), subject: None })
    }

    /// Returns a copy whose JSON `edit` has changed. Preserves all other fields. `edit` returns `None` if the JSON does not
    /// have the required form.
    ///
    /// # Errors
    /// Fails if it cannot be edited.
    pub fn edit(&self, edit: impl FnOnce(&mut Value) -> Option<()>) -> Result<Self> {
        let failed = || Error::input(format!("cannot edit the archive's manifest {}", self.digest.short()));
        let mut json: Value = serde_json::from_slice(&self.bytes).map_err(|error| failed().because(error))?;
        edit(&mut json).ok_or_else(failed)?;
        let media_type = json.get("mediaType").and_then(Value::as_str).unwrap_or(&self.media_type).to_owned();
        Ok(Self { subject: self.subject, ..Self::serialize(&json, media_type)? })
    }
}

/// The digest in a descriptor, of an algorithm that may not be supported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum DescriptorDigest {
    /// A SHA-256.
    Sha256(Digest),
    /// `sha512:...` and any other digest that the grammar of the specification allows
    /// (<https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests>).
    Unsupported(String),
}

impl DescriptorDigest {
    /// Returns the digest if it is a SHA-256.
    pub(crate) fn sha256(&self) -> Option<Digest> {
        self.supported().ok()
    }

    /// Returns the digest.
    ///
    /// # Errors
    /// Returns the digest's text if its algorithm is not supported.
    pub(crate) fn supported(&self) -> std::result::Result<Digest, &str> {
        match self {
            Self::Sha256(digest) => Ok(*digest),
            Self::Unsupported(text) => Err(text),
        }
    }
}

impl fmt::Display for DescriptorDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Unsupported(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for DescriptorDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        match (text.parse(), text.split_once(':')) {
            (Ok(digest), _) => Ok(Self::Sha256(digest)),
            (Err(_), Some((algorithm, encoded))) if is_algorithm(algorithm) && is_encoded(encoded) => {
                Ok(Self::Unsupported(text.into_owned()))
            }
            (Err(error), _) => Err(serde::de::Error::custom(error)),
        }
    }
}

/// Returns whether a text can be the name of an algorithm other than SHA-256, whose digests have a known form.
fn is_algorithm(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+._-".contains(&byte);
    text != "sha256" && !text.is_empty() && text.len() <= 32 && text.bytes().all(allowed)
}

fn is_encoded(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"=_-".contains(&byte);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(allowed)
}

/// A reference to content by digest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// The media type. Empty if none is stated.
    #[serde(default, deserialize_with = "null_as_default")]
    pub media_type: String,
    /// The digest.
    pub digest: DescriptorDigest,
    /// The size in bytes.
    pub size: u64,
    /// The URLs at which the content can also be downloaded.
    #[serde(default, deserialize_with = "null_as_default")]
    pub urls: Vec<String>,
    platform: Option<StatedPlatform>,
    /// The annotations. One whose value is `null` counts as absent.
    #[serde(default, deserialize_with = "annotations")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct StatedPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl StatedPlatform {
    fn platform(&self) -> Option<Platform> {
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        Platform::new(&word(&self.os), &word(&self.architecture), &word(&self.variant))
    }
}

impl Descriptor {
    /// Creates a descriptor of content that no document describes.
    pub(crate) fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest: DescriptorDigest::Sha256(digest),
            size,
            urls: Vec::new(),
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Returns the media type.
    pub(crate) fn media_type(&self) -> MediaType<'_> {
        MediaType(&self.media_type)
    }

    /// Returns the value of an annotation that is not empty.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the platform that it states. `None` also for `unknown/unknown`, which attestations have.
    pub(crate) fn platform(&self) -> Option<Platform> {
        self.platform.as_ref()?.platform()
    }

    /// Returns whether it states the platform `unknown/unknown`, which means that it is not an image.
    pub(crate) fn is_of_unknown_platform(&self) -> bool {
        let is_unknown = |word: &Option<String>| word.as_deref() == Some("unknown");
        self.platform.as_ref().is_some_and(|it| is_unknown(&it.os) && is_unknown(&it.architecture))
    }

    /// Returns whether its content need not be in archives and registries, because it has URLs. Without a URL it is treated
    /// like any other layer, since it could not be pulled otherwise.
    pub(crate) fn is_non_distributable(&self) -> bool {
        self.media_type().is_non_distributable() && !self.urls.is_empty()
    }
}

/// A manifest or an index, parsed. Its kind depends on its media type, which only its descriptor may state.
///
/// Go writes empty lists as `null`: such a list counts as empty, not as absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Document {
    /// `2` in every supported format.
    pub schema_version: Option<u64>,
    /// The media type that it states itself.
    pub media_type: Option<String>,
    /// The type of artifact, if it states one.
    pub artifact_type: Option<String>,
    /// A manifest's config.
    pub config: Option<Descriptor>,
    /// A manifest's layers.
    pub layers: Option<Vec<Descriptor>>,
    /// An index's children.
    pub manifests: Option<Vec<Descriptor>>,
    subject: Option<Subject>,
    /// The annotations. One whose value is `null` counts as absent.
    #[serde(deserialize_with = "annotations")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Subject {
    digest: DescriptorDigest,
}

impl Document {
    /// Parses a manifest or an index.
    ///
    /// # Errors
    /// Fails if the JSON is malformed or a field does not have the form that the specification requires.
    pub(crate) fn parse(bytes: &[u8]) -> std::result::Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Returns the digest of its `subject`. `None` also if the algorithm is not supported.
    pub(crate) fn subject(&self) -> Option<Digest> {
        self.subject.as_ref()?.digest.sha256()
    }

    /// Returns its media type if no descriptor states one. OCI documents need not state it themselves.
    pub(crate) fn own_media_type(&self) -> &str {
        let unstated = if self.manifests.is_some() { MediaType::INDEX.0 } else { super::Family::Oci.manifest() };
        self.media_type.as_deref().unwrap_or(unstated)
    }

    /// Returns whether it is also valid as a document of the other kind, so that readers may disagree about its content
    /// (<https://github.com/opencontainers/image-spec/security/advisories/GHSA-77vh-xpmg-72qh>).
    pub(crate) fn is_ambiguous(&self, kind: DocumentKind) -> bool {
        match kind {
            DocumentKind::Index => self.config.is_some() || self.layers.is_some(),
            DocumentKind::Manifest => self.manifests.is_some(),
        }
    }
}

/// An image config, as far as a push needs it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImageConfig {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    rootfs: Option<RootFs>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    diff_ids: Option<Vec<DiffId>>,
}

impl ImageConfig {
    /// Parses an image config.
    ///
    /// # Errors
    /// Fails if the JSON is malformed or a field does not have the form that the specification requires.
    pub(crate) fn parse(bytes: &[u8]) -> std::result::Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Returns the platform, if it states one.
    pub(crate) fn platform(&self) -> Option<Platform> {
        let Self { os, architecture, variant, .. } = self.clone();
        StatedPlatform { os, architecture, variant }.platform()
    }

    /// Returns the diff_ids of the layers, lowest first. `None` without `rootfs`: then it is not the config of an image,
    /// whatever its media type.
    pub(crate) fn diff_ids(&self) -> Option<&[DiffId]> {
        Some(self.rootfs.as_ref()?.diff_ids.as_deref().unwrap_or_default())
    }
}

fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    let stated: BTreeMap<String, Option<String>> = null_as_default(deserializer)?;
    Ok(stated.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn descriptor(json: Value) -> std::result::Result<Descriptor, serde_json::Error> {
        serde_json::from_value(json)
    }

    #[test]
    fn a_null_in_a_descriptor_counts_as_absent() {
        let json = json!({"mediaType": null, "digest": Digest::of(b""), "size": 0, "urls": null,
            "annotations": {"a": null, "b": "c"}, "platform": null});
        let read = descriptor(json).unwrap();
        assert_eq!(read.annotations, BTreeMap::from([("b".to_owned(), "c".to_owned())]));
        assert!(read.media_type.is_empty() && read.urls.is_empty() && read.platform().is_none());
    }

    #[test]
    fn a_digest_of_another_algorithm_is_parsed_and_a_malformed_one_is_rejected() {
        let read = |digest: &str| descriptor(json!({"digest": digest, "size": 0})).map(|it| it.digest);
        let sha512 = format!("sha512:{}", "ab".repeat(64));
        assert_eq!(read(&sha512).unwrap(), DescriptorDigest::Unsupported(sha512));
        for malformed in ["", "sha256:", "sha256:AB", "sha512", "sha512:", "SHA512:ab", "a:../../etc/passwd"] {
            assert!(read(malformed).is_err(), "{malformed}");
        }
    }

    #[test]
    fn an_edit_preserves_unknown_fields_and_changes_the_digest() {
        let json = json!({"schemaVersion": 2, "config": {}, "unknown": {"a": [1, 2.5]}});
        let original = OriginalManifest::serialize(&json, "x/y").unwrap();
        let edited = original.edit(|json| {
            json.get_mut("config")?.as_object_mut()?.insert("size".into(), 1.into()).map_or(Some(()), |_| None)
        });
        let edited = edited.unwrap();
        let read: Value = serde_json::from_slice(&edited.bytes).unwrap();
        assert_eq!(read, json!({"schemaVersion": 2, "config": {"size": 1}, "unknown": {"a": [1, 2.5]}}));
        assert!(edited.digest != original.digest && edited.media_type == "x/y");
        assert!(original.edit(|json| json.get_mut("layers").map(drop)).is_err());
    }
}
